//! Where the records of the services go: all of them to a file, warnings to the
//! terminal, which has something else to say.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use orchion_service::telemetry::{self, Source};

use super::data::DataDir;
use super::plan::Plan;
use crate::exit::Result;
use crate::terminal::Terminal;

/// A log that is larger than this at the start becomes the old one.
const ROTATE_AT: u64 = 16 << 20;

/// Starts telemetry for this process.
pub(super) fn start(plan: &Plan, data: &DataDir, terminal: Terminal) -> Result<()> {
    let file = open(&data.log())?;
    let verbose = plan.verbose;
    telemetry::start_in_file(
        &plan.telemetry,
        Source::new("orchion"),
        file,
        move |record| {
            if verbose || matches!(record.level, "warn" | "error") {
                terminal.over_status(&record.to_text(terminal.error_colour()));
            }
        },
    )?;
    Ok(())
}

/// Opens a log for appending; one that has grown large is put aside first.
pub(super) fn open(path: &Path) -> std::io::Result<File> {
    if fs::metadata(path).is_ok_and(|found| found.len() > ROTATE_AT) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}
