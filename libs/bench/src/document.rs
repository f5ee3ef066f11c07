//! What a measurement leaves behind: a file of JSON, a line on the terminal.

use std::fs;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::options::Common;

/// The file that `--json` names.
#[derive(Serialize)]
struct Document<'a, T> {
    label: &'a str,
    scenario: &'a str,
    round: u32,
    kind: &'static str,
    url: &'a str,
    result: &'a T,
}

/// Writes a result to the file that was named, if one was.
pub(crate) fn save<T: Serialize>(common: &Common, kind: &'static str, result: &T) -> Result<()> {
    let Some(path) = &common.json else {
        return Ok(());
    };
    let document = Document {
        label: &common.label,
        scenario: &common.scenario,
        round: common.round,
        kind,
        url: &common.url,
        result,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let json = serde_json::to_vec_pretty(&document)?;
    fs::write(path, json).with_context(|| format!("write {}", path.display()))
}

/// Writes text to stdout.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
