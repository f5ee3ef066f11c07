//! `orchion doctor`: looks at everything that has to be right and says what to do.

mod machine;
mod network;

use anstyle::Style;
use orchion_service::config::variable;
use serde::Serialize;

use super::Context;
use crate::args::Doctor;
use crate::exit::{Failure, Kind, Result};
use crate::terminal::{BAD, CARE, DIM, GOOD, Terminal};

/// Where NATS is when nobody says.
pub(crate) const DEFAULT_NATS_URL: &str = "nats://localhost:4222";

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, or it will be needed later.
    Warn,
    /// Something will not work.
    Fail,
}

/// One line of the report.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, found)
    }

    fn warn(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(name, Verdict::Warn, found).then(next)
    }

    fn fail(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(name, Verdict::Fail, found).then(next)
    }

    /// What a request failed with.
    fn failed(name: &'static str, failure: Failure) -> Self {
        Self {
            next: failure.next,
            ..Self::new(name, Verdict::Fail, failure.message)
        }
    }

    fn new(name: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict,
            found: found.into(),
            next: None,
        }
    }

    fn then(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

pub(super) async fn run(context: &Context, options: Doctor) -> Result<()> {
    let nats_url = options
        .nats_url
        .or_else(|| variable("ORCHION_NATS_URL"))
        .unwrap_or_else(|| DEFAULT_NATS_URL.to_owned());
    let mut checks = vec![
        Check::ok("version", format!("orchion {}", env!("CARGO_PKG_VERSION"))),
        machine::nats_server(),
        machine::data_dir(),
        machine::disk(),
    ];
    let nats = network::nats(&nats_url).await;
    let gateway = network::gateway(&context.gateway).await;
    checks.push(nats);
    checks.extend(gateway);
    checks.push(network::engines(&context.gateway).await);
    report(context.terminal, &checks)
}

fn report(terminal: Terminal, checks: &[Check]) -> Result<()> {
    let count = |verdict| {
        checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .count()
    };
    let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
    if terminal.json {
        terminal.document(&checks)?;
    } else {
        terminal.line(&text(checks, terminal.colour()))?;
        terminal.line(&match (failed, warned) {
            (0, 0) => "\nAll is well.".to_owned(),
            (0, _) => format!("\nIt works; look at what is marked warn ({warned})."),
            _ => format!("\nSomething is missing: do what is said at fail ({failed})."),
        })?;
    }
    if failed == 0 {
        Ok(())
    } else {
        // The report has said it all.
        Err(Failure::new(Kind::Unavailable, ""))
    }
}

fn text(checks: &[Check], colour: bool) -> String {
    let paint = |style: Style, text: &str| crate::terminal::paint(colour, style, text);
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut lines = Vec::new();
    for check in checks {
        let (style, word) = match check.verdict {
            Verdict::Ok => (GOOD, "ok  "),
            Verdict::Warn => (CARE, "warn"),
            Verdict::Fail => (BAD, "fail"),
        };
        let name = format!("{:width$}", check.name);
        lines.push(format!("{}  {name}  {}", paint(style, word), check.found));
        if let Some(next) = &check.next {
            lines.push(format!(
                "{:indent$}{}",
                "",
                paint(DIM, next),
                indent = width + 8
            ));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_what_to_do() {
        let checks = [
            Check::ok("disk", "80 GiB free"),
            Check::warn("engines", "none on the usual ports", "start one"),
            Check::fail(
                "nats",
                "nobody answers at localhost:4222",
                "run `orchion up`",
            ),
        ];
        insta::assert_snapshot!(text(&checks, false), @r"
        ok    disk     80 GiB free
        warn  engines  none on the usual ports
                       start one
        fail  nats     nobody answers at localhost:4222
                       run `orchion up`
        ");
    }
}
