//! One table: the product beside `direct` and the floor, measured in the same
//! rounds, with the ratio that each goal is written in.

mod programs;
mod results;
mod rows;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use results::Results;

/// Which results to compare.
#[derive(Args, Clone, Debug)]
pub struct CompareOptions {
    /// Folder of result files.
    pub dir: PathBuf,
    /// The system that latencies are counted from.
    #[arg(long, default_value = "direct")]
    pub base: String,
    /// The system that ratios are taken against.
    #[arg(long, default_value = "nats-floor")]
    pub floor: String,
    /// The system in question.
    #[arg(long, default_value = "orchion")]
    pub product: String,
}

/// A comparison.
pub struct Comparison {
    /// The table and what is to be said about it, in Markdown.
    pub text: String,
    /// Answers of the product that were not what was asked: defects, never noise.
    pub wrong: u64,
}

/// Compares the results of a run.
///
/// # Errors
///
/// When the results cannot be read, or there are none of the product.
pub fn compare(options: &CompareOptions) -> Result<Comparison> {
    let results = Results::read(&options.dir)?;
    table::render(&results, options)
}
