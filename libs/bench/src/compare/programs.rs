//! Where the product's CPU time goes, program by program.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::results::{Results, Rounds, number};
use crate::stats::median;

/// What is divided by what: a scenario and the count of its result.
const SHARES: [(&str, &str, &str); 4] = [
    ("plain-c1", "request", "ok"),
    ("plain-c64", "request", "ok"),
    ("stream-256", "token", "tokens"),
    ("stream-1000", "token", "tokens"),
];

/// Microseconds of CPU, a line for each scenario and a column for each program;
/// nothing when no result tells programs apart.
pub(super) fn render(results: &Results, product: &str) -> String {
    let rows: Vec<_> = SHARES
        .into_iter()
        .filter_map(|(scenario, unit, count)| {
            let costs = costs(results.find(scenario, product)?, count);
            (!costs.is_empty()).then_some((scenario, unit, costs))
        })
        .collect();
    let programs: BTreeSet<&String> = rows.iter().flat_map(|(_, _, costs)| costs.keys()).collect();
    if programs.is_empty() {
        return String::new();
    }
    let mut text = "| CPU us |".to_owned();
    programs
        .iter()
        .for_each(|name| text += &format!(" {name} |"));
    text += &format!("\n|---|{}\n", "---:|".repeat(programs.len()));
    for (scenario, unit, costs) in &rows {
        text += &format!("| {scenario}, a {unit} |");
        for name in &programs {
            text += &format!(" {:.1} |", costs.get(*name).copied().unwrap_or(0.0));
        }
        text += "\n";
    }
    text
}

/// Microseconds for each program, the median over the rounds.
fn costs(rounds: &Rounds, count: &str) -> BTreeMap<String, f64> {
    let mut series: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for result in rounds.values() {
        let Some(done) = number(result, count).filter(|done| *done > 0.0) else {
            continue;
        };
        let spent = result.pointer("/sut/cpu_s_by_program");
        for (name, cpu_s) in spent.and_then(Value::as_object).into_iter().flatten() {
            let cost = cpu_s.as_f64().unwrap_or(0.0) * 1e6 / done;
            series.entry(name.clone()).or_default().push(cost);
        }
    }
    series
        .into_iter()
        .filter_map(|(name, costs)| Some((name, median(&costs)?)))
        .collect()
}
