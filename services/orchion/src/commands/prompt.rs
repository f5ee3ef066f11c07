//! Where a prompt comes from: the command line, a pipe, or a person.

use std::io::{IsTerminal, Read, Write};

use crate::args::Sampling;
use crate::exit::{Failure, Kind, Result};
use crate::task::{Message, Task};

/// Largest prompt that is read from a pipe; the gateway refuses sooner.
const MAX_PROMPT_BYTES: u64 = 8 * 1024 * 1024;

/// Whether a person sits at stdin.
pub(super) fn is_person() -> bool {
    std::io::stdin().is_terminal()
}

/// The prompt given, else everything on stdin.
pub(super) fn given_or_piped(given: Option<String>) -> Result<String> {
    let prompt = match given {
        Some(prompt) => prompt,
        None if is_person() => String::new(),
        None => {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .take(MAX_PROMPT_BYTES)
                .read_to_string(&mut text)
                .map_err(|error| {
                    Failure::new(Kind::Usage, format!("cannot read the prompt: {error}"))
                })?;
            text
        }
    };
    if prompt.trim().is_empty() {
        return Err(Failure::new(Kind::Usage, "there is no prompt")
            .then("give one as an argument, or pipe one in"));
    }
    Ok(prompt)
}

/// One line from a person; `None` when there are no more. Leaves its thread
/// behind when nobody waits for it any more.
pub(super) async fn line(mark: &str) -> Result<Option<String>> {
    let mut out = std::io::stdout().lock();
    write!(out, "{mark}")?;
    out.flush()?;
    drop(out);
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let bytes = std::io::stdin().read_line(&mut line)?;
        Ok::<_, std::io::Error>((bytes > 0).then_some(line))
    });
    let line = read.await.map_err(anyhow::Error::new)??;
    Ok(line)
}

/// A task of this model with these settings, and no conversation yet.
pub(super) fn task(model: String, sampling: &Sampling) -> Task {
    Task {
        model,
        messages: sampling.system.iter().map(Message::system).collect(),
        max_tokens: sampling.max_tokens,
        temperature: sampling.temperature,
        seed: sampling.seed,
        ..Task::default()
    }
}
