//! The table, from result files to verdicts.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::path::Path;

use orchion_bench::{CompareOptions, compare};
use serde_json::{Value, json};

fn put(folder: &Path, scenario: &str, label: &str, round: u32, result: &Value) {
    let document = json!({"scenario": scenario, "label": label, "round": round, "result": result});
    let path = folder.join(format!("{scenario}.{label}.{round}.json"));
    std::fs::write(path, document.to_string()).unwrap();
}

fn latency(p50: f64) -> Value {
    json!({
        "ok": 9, "latency_us": {"p50": p50, "p99": p50}, "sut_cpu_us_per_request": 50.0,
        "window_s": 2.0, "foreign_cpu_s": 0.1,
    })
}

fn options(folder: &Path) -> CompareOptions {
    CompareOptions {
        dir: folder.to_owned(),
        base: "direct".to_owned(),
        floor: "nats-floor".to_owned(),
        product: "orchion".to_owned(),
    }
}

#[test]
fn added_latency_is_counted_from_direct_and_divided_by_the_floor() {
    let folder = tempfile::tempdir().unwrap();
    for (round, product) in [(1, 340.0), (2, 400.0), (3, 370.0)] {
        put(folder.path(), "plain-c1", "direct", round, &latency(100.0));
        put(
            folder.path(),
            "plain-c1",
            "nats-floor",
            round,
            &latency(300.0),
        );
        put(
            folder.path(),
            "plain-c1",
            "orchion",
            round,
            &latency(product),
        );
    }
    let comparison = compare(&options(folder.path())).unwrap();
    let row =
        "| plain-c1 | added latency p50 us | 100 | +200 | +270 | 1.35 | 1.20–1.50 | ≤ 1.6× | met |";
    assert!(comparison.text.contains(row), "{}", comparison.text);
    assert!(comparison.text.contains("3 of 3 goals met."));
    assert!(comparison.text.contains("in 0 of 9 measurements"));
    assert_eq!(comparison.wrong, 0);
}

#[test]
fn a_wrong_answer_of_the_product_is_counted_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let mut result = latency(100.0);
    result["errors"] = json!({"content:missing_token": 2, "connect": 1});
    result["foreign_cpu_s"] = 1.0.into();
    put(folder.path(), "plain-c64", "orchion", 1, &result);
    put(folder.path(), "plain-c64", "nats-floor", 1, &result);
    let comparison = compare(&options(folder.path())).unwrap();
    assert_eq!(comparison.wrong, 2);
    let listed = "- plain-c64, orchion: errors connect x1; errors content:missing_token x2";
    assert!(comparison.text.contains(listed), "{}", comparison.text);
    assert!(comparison.text.contains("plain-c64 orchion 1: 0.50"));
}

#[test]
fn what_was_not_measured_meets_no_goal() {
    let folder = tempfile::tempdir().unwrap();
    let failover = json!({
        "ok": 5, "broken_in_flight": {"reset:mid_answer": 2}, "saved_in_flight": 0,
        "saved_delay_ms_max": 0.0, "failed_new": {}, "back_in_rotation_ms": null,
    });
    put(folder.path(), "kill-streams", "orchion", 1, &failover);
    let text = compare(&options(folder.path())).unwrap().text;
    for row in [
        "| kill-streams | broken in flight | – | – | 2 | – |  | ≤ 0 | **not yet** |",
        "| kill-streams | saved % | – | – | 0 | – |  | ≥ 100 | **not yet** |",
        "| kill-streams | saved, late by ms | – | – | – | – |  | ≤ 100 | **not yet** |",
        "| kill-streams | failed new | – | – | 0 | – |  | ≤ 0 | met |",
    ] {
        assert!(text.contains(row), "{row}\n{text}");
    }
}

#[test]
fn no_results_of_the_product_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "plain-c1", "direct", 1, &latency(1.0));
    assert!(compare(&options(folder.path())).is_err());
}
