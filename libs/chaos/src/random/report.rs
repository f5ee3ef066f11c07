//! What is shown of a random run.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program's output is its purpose"
)]

use super::Round;
use super::load::Kind;
use crate::client::{Report, Silence};
use crate::history::{Ending, Violation, judge};
use orchion_testkit::HttpClient;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The last token before a fault may have come so long before.
const BEFORE: Duration = Duration::from_millis(100);

/// Tells that a round is over.
pub(crate) fn progress(rounds: &[Round]) {
    if let Some(round) = rounds.last() {
        eprintln!(
            "round {}: {}; everything worked {} ms later",
            rounds.len(),
            names(round),
            round.whole_after.as_millis()
        );
    }
}

fn names(round: &Round) -> String {
    let name = |fault: &super::Fault| {
        format!(
            "{:?} {} for {} ms",
            fault.target,
            fault.way.name(),
            (fault.to - fault.from).as_millis()
        )
    };
    round.faults.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Prints everything; whether nothing was wrong.
pub(crate) fn print(rounds: &[Round], reports: &[(Kind, Report)], took: Duration) -> bool {
    println!(
        "\n{} jobs in {} s, {} rounds",
        reports.len(),
        took.as_secs(),
        rounds.len()
    );
    for kind in Kind::ALL {
        let count = reports.iter().filter(|(of, _)| of == kind).count();
        println!("  {count} {}", kind.name());
    }
    println!("faults:");
    for ((kind, way), count) in count_faults(rounds) {
        println!("  {count} × {kind} {way}");
    }
    let is_good = violations(reports);
    endings(reports);
    pauses(rounds, reports);
    is_good
}

fn count_faults(rounds: &[Round]) -> BTreeMap<(&'static str, &'static str), u32> {
    let mut counts = BTreeMap::new();
    for fault in rounds.iter().flat_map(|round| &round.faults) {
        *counts
            .entry((fault.target.kind(), fault.way.name()))
            .or_default() += 1;
    }
    counts
}

fn violations(reports: &[(Kind, Report)]) -> bool {
    let mut counts: BTreeMap<Violation, Vec<&str>> = BTreeMap::new();
    for (_, report) in reports {
        for violation in judge(&report.history) {
            let job = report.job.as_deref().unwrap_or("(never admitted)");
            counts.entry(violation).or_default().push(job);
        }
    }
    let all = [
        Violation::Lost,
        Violation::Doubled,
        Violation::Reordered,
        Violation::Foreign,
        Violation::NoEnd,
        Violation::SecondEnd,
        Violation::Disagree,
        Violation::WrongLength,
        Violation::CanceledByNobody,
        Violation::TokenAfterCancel,
    ];
    println!("violations:");
    for violation in all {
        let jobs = counts.get(&violation).map_or(&[][..], Vec::as_slice);
        println!(
            "  {} {violation} {}",
            jobs.len(),
            jobs[..jobs.len().min(5)].join(" ")
        );
    }
    for (kind, report) in reports {
        let found = judge(&report.history);
        if !found.is_empty() {
            let views = report.history.views.iter();
            let views = views.map(|view| (view.tokens(), view.ending(), view.is_cut));
            println!(
                "  {kind:?} {:?} of {} tokens: {found:?}; viewers {:?}; {:?}",
                report.job,
                report.history.tokens,
                views.collect::<Vec<_>>(),
                report.trouble
            );
        }
    }
    counts.is_empty()
}

fn endings(reports: &[(Kind, Report)]) {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for (_, report) in reports {
        let ending = report.history.views.iter().find_map(|view| view.ending());
        let name = match ending {
            Some(Ending::Completed(_)) => "completed".to_owned(),
            Some(Ending::Canceled) => "canceled".to_owned(),
            Some(Ending::Failed(code)) => format!("failed with {code}"),
            None => "without an end".to_owned(),
        };
        *counts.entry(name).or_default() += 1;
    }
    let again: u32 = reports.iter().map(|(_, report)| report.again).sum();
    let resumes: u32 = reports.iter().map(|(_, report)| report.resumes).sum();
    println!(
        "ends: {counts:?}; asked again {again} times, taken up at another gateway {resumes} times"
    );
}

/// The longest silence of a round, and what it may be.
type Pause = (Duration, Option<Duration>);

/// The longest silence of each round with one fault, by kind.
fn pauses(rounds: &[Round], reports: &[(Kind, Report)]) {
    let mut rows: BTreeMap<(&str, &str), Vec<Pause>> = BTreeMap::new();
    let mut wholes: Vec<Duration> = rounds.iter().map(|round| round.whole_after).collect();
    for (at, round) in rounds.iter().enumerate() {
        let until = rounds.get(at + 1).map(|next| next.from - BEFORE);
        let (key, bound) = match round.faults.as_slice() {
            [fault] => ((fault.target.kind(), fault.way.name()), fault.bound()),
            _ => (("several", "at once"), None),
        };
        rows.entry(key)
            .or_default()
            .push((longest(round, until, reports), bound));
    }
    println!("\n| fault | times | longest silence, median | p99 | worst | bound | over it |");
    println!("|---|---|---|---|---|---|---|");
    for ((kind, way), mut pauses) in rows {
        pauses.sort_unstable();
        let over = pauses
            .iter()
            .filter(|(pause, bound)| bound.is_some_and(|bound| *pause > bound));
        let bounds: Vec<u128> = pauses
            .iter()
            .filter_map(|(_, bound)| Some((*bound)?.as_millis()))
            .collect();
        let bound = match (bounds.iter().min(), bounds.iter().max()) {
            (Some(least), Some(most)) if least == most => format!("{least} ms"),
            (Some(least), Some(most)) => format!("{least} to {most} ms"),
            _ => "-".to_owned(),
        };
        let over = over.count();
        let at = |share: usize| pauses[(pauses.len() - 1) * share / 100].0.as_millis();
        println!(
            "| {kind} {way} | {} | {} ms | {} ms | {} ms | {bound} | {over} |",
            pauses.len(),
            at(50),
            at(99),
            at(100),
        );
    }
    resumes(reports);
    wholes.sort_unstable();
    if let (Some(median), Some(worst)) = (wholes.get(wholes.len() / 2), wholes.last()) {
        println!(
            "\neverything worked again {} ms after the end of a round in the median, {} ms at worst",
            median.as_millis(),
            worst.as_millis()
        );
    }
}

/// Silences in which clients connected anew, whatever was hurt meanwhile.
fn resumes(reports: &[(Kind, Report)]) {
    let silences = reports.iter().flat_map(|(_, report)| &report.silences);
    let resumed = silences.filter(|silence| silence.is_resume);
    let mut resumed: Vec<Duration> = resumed.map(|silence| silence.to - silence.from).collect();
    resumed.sort_unstable();
    if let Some(most) = resumed.len().checked_sub(1) {
        let at = |share: usize| resumed[most * share / 100].as_millis();
        println!(
            "\n{} silences over a resume: median {} ms, p99 {} ms, worst {} ms",
            resumed.len(),
            at(50),
            at(99),
            at(100)
        );
    }
}

/// The longest silence, beyond the pace, that began in a round. Who connects anew
/// asks more than the stream, so that counts where a gateway is hurt only.
fn longest(round: &Round, until: Option<Instant>, reports: &[(Kind, Report)]) -> Duration {
    let hurts_gateway = round
        .faults
        .iter()
        .any(|fault| fault.target.kind() == "gateway");
    let is_of_it = |silence: &&Silence| {
        (hurts_gateway || !silence.is_resume)
            && silence.from + BEFORE >= round.from
            && until.is_none_or(|until| silence.from < until)
    };
    let beyond = |report: &Report| {
        let silences = report.silences.iter().filter(is_of_it);
        let longest = silences.map(|silence| silence.to - silence.from).max();
        longest.unwrap_or_default().saturating_sub(report.pace)
    };
    reports
        .iter()
        .map(|(_, report)| beyond(report))
        .max()
        .unwrap_or_default()
}

/// What the services logged of the jobs that went wrong.
pub(crate) async fn logs(gateways: &[HttpClient], reports: &[(Kind, Report)]) {
    let wrong = reports
        .iter()
        .filter(|(_, report)| !judge(&report.history).is_empty());
    let jobs = wrong.filter_map(|(_, report)| report.job.as_ref());
    for job in jobs.take(5) {
        println!("\nlogs of {job}:");
        for gateway in gateways {
            let path = format!("/api/logs?job_id={job}&limit=100");
            match gateway.get(&path).await {
                Ok(answer) => {
                    println!("{}", answer.text());
                    break;
                }
                Err(error) => println!("{error}"),
            }
        }
    }
}
