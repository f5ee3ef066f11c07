//! What a caller sees of a job.

use orchion_contract::transcript::{Entry, Final};
use orchion_testkit::wire::Ask;

/// What is in a transcript.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) entries: Vec<Entry>,
    pub(crate) text: String,
    pub(crate) pieces: usize,
    pub(crate) end: Option<Final>,
}

impl Seen {
    /// Every token of the answer, in order, none missing, none doubled.
    pub(crate) fn assert_whole(&self, ask: &Ask) {
        let indexes: Vec<u32> = self
            .text
            .split_whitespace()
            .map(|token| {
                let mut parts = token.split('.');
                let nonce = parts.next().unwrap();
                assert_eq!(nonce, format!("{:08x}", ask.nonce), "a foreign token");
                parts.next().unwrap().parse().unwrap()
            })
            .collect();
        assert_eq!(indexes, (0..ask.tokens).collect::<Vec<_>>());
    }

    /// The engines that wrote it, in order of appearance.
    pub(crate) fn engines(&self) -> Vec<String> {
        let mut engines: Vec<String> = self
            .text
            .split_whitespace()
            .filter_map(|token| token.split('.').nth(3).map(str::to_owned))
            .collect();
        engines.dedup();
        engines
    }
}
