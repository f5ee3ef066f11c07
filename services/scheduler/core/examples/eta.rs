//! Prints how far the predictions of waiting jobs are off, for each trace.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a tool for developers"
)]

#[path = "../tests/eta/replay.rs"]
mod replay;

use std::process::ExitCode;

use replay::{LESSONS, Measured, Trace, measure, synthetic};

fn main() -> ExitCode {
    let files = std::env::args().skip(1);
    let recorded = files.map(|file| {
        let text = std::fs::read_to_string(&file).expect("read the trace");
        serde_json::from_str::<Trace>(&text).expect("the file is a trace")
    });
    println!("error of the predicted wait, told when a job comes, after {LESSONS} jobs\n");
    let mut worst: f64 = 0.0;
    for trace in recorded.chain([synthetic()]) {
        let measured = measure(&trace);
        worst = worst.max(measured.at(50));
        print(&trace, &measured);
    }
    if worst > 0.25 {
        println!("\na median is over the promised 25 %");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn print(trace: &Trace, measured: &Measured) {
    println!(
        "{}\n  {} jobs, {} predictions: median {:.1} %, 75th {:.1} %, 90th {:.1} %; {} were too long",
        trace.source,
        trace.jobs.len(),
        measured.errors.len(),
        measured.at(50) * 100.0,
        measured.at(75) * 100.0,
        measured.at(90) * 100.0,
        measured.too_long,
    );
}
