//! Whether an engine's message quotes the request: engines that check types
//! like to quote what they stumble over, and a prompt must not get into an error.

use memchr::memmem;

/// Length of the runs that are looked for.
const RUN: usize = 10;
/// Runs begin this far apart.
const STEP: usize = 5;
/// So many neighbouring runs give the request away: 20 characters in a row.
const NEIGHBOURS: usize = 3;

/// Whether `message` holds 20 characters or more of `request` in a row.
pub(super) fn holds_part_of(message: &str, request: &str) -> bool {
    let is_there = |run: &[u8]| memmem::find(request.as_bytes(), run).is_some();
    let runs = message.as_bytes().windows(RUN).step_by(STEP);
    let mut in_a_row = 0;
    runs.map(is_there).any(|hit| {
        in_a_row = if hit { in_a_row + 1 } else { 0 };
        in_a_row == NEIGHBOURS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str =
        r#"{"messages":[{"role":"user","content":"my secret plan is to sail to Iceland"}]}"#;

    #[test]
    fn a_message_that_quotes_the_request_is_noticed() {
        let message = "expected a list, got 'my secret plan is to sail to Iceland'";
        assert!(holds_part_of(message, REQUEST));
    }

    #[test]
    fn an_honest_message_passes() {
        let message = "the prompt has 900 tokens, the context holds 512: shorten the prompt";
        assert!(!holds_part_of(message, REQUEST));
        assert!(!holds_part_of("field `messages` has no `role`", REQUEST));
    }
}
