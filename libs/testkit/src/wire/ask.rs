//! The marker: what a request asks of the mock engine.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use memchr::memmem;

use super::{Continuation, Fault, FaultKind, hex8};
use crate::clock::mono_ns;

const MARKER: &[u8] = b"orchion-bench nonce=";
/// No marker is longer.
const LONGEST: usize = 400;

/// What a request asks of the mock engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Names the answer.
    pub nonce: u32,
    /// Tokens of the whole answer.
    pub tokens: u32,
    /// Time to the first token, in microseconds.
    pub ttft_us: u64,
    /// Time between tokens, in microseconds.
    pub itl_us: u64,
    /// Write token by token even when `itl_us` is zero.
    pub flush: bool,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// How a continued answer goes on; the engine's own way when absent.
    pub continuation: Option<Continuation>,
}

/// Returns a nonce that no other request of this process has, and hardly one of
/// another.
pub fn fresh_nonce() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static SEED: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        let clock = (mono_ns() as u32).wrapping_mul(2_654_435_761);
        clock ^ std::process::id().rotate_left(16)
    });
    SEED.wrapping_add(NEXT.fetch_add(1, Relaxed))
}

impl Ask {
    /// Asks for an answer of `tokens` tokens, as fast as can be, under a fresh
    /// nonce.
    pub fn new(tokens: u32) -> Self {
        Self {
            nonce: fresh_nonce(),
            tokens,
            ttft_us: 0,
            itl_us: 0,
            flush: true,
            fault: None,
            continuation: None,
        }
    }

    /// Sets the time between tokens, in microseconds.
    #[must_use]
    pub fn pace_us(mut self, itl_us: u64) -> Self {
        self.itl_us = itl_us;
        self
    }

    /// Asks for a failure.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// The text to write into the prompt.
    pub fn marker(&self) -> String {
        let mut text = format!(
            "orchion-bench nonce={:08x} tokens={} ttft_us={} itl_us={} flush={}",
            self.nonce,
            self.tokens,
            self.ttft_us,
            self.itl_us,
            u8::from(self.flush)
        );
        if let Some(fault) = &self.fault {
            let _ = write!(text, " {fault}");
        }
        if let Some(continuation) = self.continuation {
            let _ = write!(text, " continuation={continuation}");
        }
        text.push_str(" end");
        text
    }

    /// Reads the last marker out of a request body; none when there is none.
    /// What it does not say is taken from `default`.
    pub fn parse(body: &[u8], default: &Self) -> Option<Self> {
        let rest = &body[memmem::rfind(body, MARKER)? + MARKER.len()..];
        let end = memmem::find(&rest[..rest.len().min(LONGEST)], b" end")?;
        let mut fields = std::str::from_utf8(&rest[..end]).ok()?.split(' ');
        let mut ask = Self {
            nonce: u32::from_str_radix(fields.next()?, 16).ok()?,
            ..default.clone()
        };
        for field in fields {
            let (key, value) = field.split_once('=')?;
            ask.set(key, value)?;
        }
        Some(ask)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        if let Some(condition) = key.strip_prefix("fault_") {
            return set_condition(self.fault.as_mut()?, condition, value);
        }
        match key {
            "tokens" => self.tokens = value.parse().ok()?,
            "ttft_us" => self.ttft_us = value.parse().ok()?,
            "itl_us" => self.itl_us = value.parse().ok()?,
            "flush" => self.flush = value != "0",
            "fault" => self.fault = Some(Fault::new(value.parse::<FaultKind>().ok()?)),
            "continuation" => self.continuation = Some(value.parse().ok()?),
            _ => {}
        }
        Some(())
    }
}

fn set_condition(fault: &mut Fault, condition: &str, value: &str) -> Option<()> {
    match condition {
        "at" => fault.at = Some(value.parse().ok()?),
        "ms" => fault.late_ms = Some(value.parse().ok()?),
        "times" => fault.times = Some(value.parse().ok()?),
        "engine" => fault.engine = Some(value.to_owned()),
        _ => {}
    }
    Some(())
}

/// Returns the index of the token that follows the last one of answer `nonce` in
/// `text`; 0 when there is none.
pub fn resume_point(text: &[u8], nonce: u32) -> u32 {
    let mut needle = [b'.'; 9];
    needle[..8].copy_from_slice(&hex8(nonce));
    let Some(at) = memmem::rfind(text, &needle) else {
        return 0;
    };
    let digits = text[at + 9..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let index = digits.fold(0_u32, |index, byte| {
        index.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'))
    });
    index.wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::push_token;

    fn read(body: &str) -> Option<Ask> {
        Ask::parse(body.as_bytes(), &Ask::new(16))
    }

    #[test]
    fn a_marker_reads_back() {
        let plain = Ask::new(64).pace_us(20_000);
        let faulty = Ask {
            ttft_us: 5,
            flush: false,
            continuation: Some(Continuation::Ignore),
            ..Ask::new(9).fault(
                Fault::new(FaultKind::EndEarly)
                    .at(3)
                    .times(1)
                    .on("b")
                    .late_ms(7),
            )
        };
        for ask in [plain, faulty] {
            let body = format!("{{\"content\":\"{} padding\"}}", ask.marker());
            assert_eq!(read(&body), Some(ask));
        }
        assert_eq!(read("{}"), None);
    }

    #[test]
    fn the_last_marker_counts() {
        let (first, last) = (Ask::new(1), Ask::new(2));
        let body = format!("{} and {}", first.marker(), last.marker());
        assert_eq!(read(&body), Some(last));
    }

    #[test]
    fn a_marker_with_an_unknown_fault_is_none() {
        let text = "orchion-bench nonce=1 tokens=3 fault=explode end";
        assert_eq!(read(text), None);
    }

    #[test]
    fn an_answer_goes_on_behind_its_last_token() {
        let mut text = Vec::new();
        assert_eq!(resume_point(&text, 0xbeef), 0);
        for index in [0, 1, 12] {
            push_token(&mut text, 0xbeef, index, 1_234, "a", None);
        }
        assert_eq!(resume_point(&text, 0xbeef), 13);
        assert_eq!(resume_point(&text, 0xdead), 0);
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(fresh_nonce(), fresh_nonce());
    }
}
