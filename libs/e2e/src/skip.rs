//! What cannot run here must not look as if it had run.

use std::io::Write as _;

/// Says that a test does not run here, and why; `ORCHION_SKIPPED` names a file
/// that gets a line, so that whoever started the tests can count.
///
/// # Panics
///
/// With `CI=true`: there every test must run.
pub fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}");
    let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!is_ci, "{line}, which CI must not");
    if let Some(path) = std::env::var_os("ORCHION_SKIPPED") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.expect("note a skipped test");
    }
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
