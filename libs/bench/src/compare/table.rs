//! The table itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::programs;
use super::results::Results;
use super::rows::{ROWS, Row};
use super::{CompareOptions, Comparison};
use crate::stats::median;

pub(super) fn render(results: &Results, options: &CompareOptions) -> Result<Comparison> {
    let product = &options.product;
    if !results.has(product) {
        bail!("no results of {product} in {}", options.dir.display());
    }
    let mut text = format!(
        "| scenario | figure | {} | {} | {product} | ÷ floor | over {} rounds | goal | |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---|\n",
        options.base,
        options.floor,
        results.rounds()
    );
    let (mut met, mut asked) = (0, 0);
    for row in ROWS
        .iter()
        .filter(|row| results.find(row.scenario, product).is_some())
    {
        let (line, is_met) = line(row, results, options);
        text += &line;
        asked += usize::from(is_met.is_some());
        met += usize::from(is_met == Some(true));
    }
    write!(text, "\n{met} of {asked} goals met.\n{}", results.noise())?;
    let errors = results.errors();
    if !errors.is_empty() {
        write!(text, "\n{errors}")?;
    }
    let programs = programs::render(results, product);
    if !programs.is_empty() {
        write!(text, "\n{programs}")?;
    }
    let wrong = results.wrong(product);
    Ok(Comparison { text, wrong })
}

fn line(row: &Row, results: &Results, options: &CompareOptions) -> (String, Option<bool>) {
    let base = results.find(row.scenario, &options.base);
    let product = row.series(results.find(row.scenario, &options.product), base);
    let floor = row.series(results.find(row.scenario, &options.floor), base);
    let whole = row.whole().series(base, None);
    let ratios = ratios(&product, &floor);
    let (ratio, mine) = (median(&ratios), median(&values(&product)));
    let is_met = row.is_met(mine, ratio);
    let verdict = match is_met {
        None => "",
        Some(true) => "met",
        Some(false) => "**not yet**",
    };
    let line = format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {verdict} |\n",
        row.scenario,
        row.title(),
        row.show(median(&values(&whole)), false),
        row.show(median(&values(&floor)), row.is_added()),
        row.show(mine, row.is_added()),
        ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")),
        spread(&ratios),
        row.goal(),
    );
    (line, is_met)
}

fn values(series: &BTreeMap<u64, f64>) -> Vec<f64> {
    series.values().copied().collect()
}

/// Ratios of the rounds that both have; none where the floor is not above zero.
fn ratios(product: &BTreeMap<u64, f64>, floor: &BTreeMap<u64, f64>) -> Vec<f64> {
    let of = |(round, value): (&u64, &f64)| {
        let floor = *floor.get(round)?;
        (floor > 0.0).then(|| value / floor)
    };
    product.iter().filter_map(of).collect()
}

fn spread(ratios: &[f64]) -> String {
    if ratios.len() < 2 {
        return String::new();
    }
    let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = ratios.iter().copied().fold(0.0, f64::max);
    format!("{lowest:.2}–{highest:.2}")
}
