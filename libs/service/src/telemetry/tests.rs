//! What becomes of a record on its way to stdout and into the feed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tracing::{debug, error, info, info_span, trace, warn};
use tracing_subscriber::fmt::MakeWriter;

use super::*;

const IGNORED: &[&str] = &["async_nats", "orchion_bus::log"];

#[test]
fn a_record_is_one_readable_json_object() {
    let output = logged("info", |_| {
        let span = info_span!("job", job.id = "j1", node.id = tracing::field::Empty);
        span.record("node.id", "n1");
        let _job = span.enter();
        let cause: anyhow::Error =
            anyhow::Error::from(std::io::Error::other("disk full")).context("write record");
        warn!(
            duration_ms = 12,
            ok = false,
            error = &*cause as &dyn std::error::Error,
            "job j1 is slow"
        );
    });
    let mut record = output.json().remove(0);
    assert!(
        record["id"].is_string() && record["ts_ms"].is_u64(),
        "{record}"
    );
    record["id"] = "[uuid]".into();
    record["ts_ms"] = 0.into();
    insta::assert_json_snapshot!(record, @r#"
    {
      "fields": {
        "duration_ms": 12,
        "error": "write record: disk full",
        "job.id": "j1",
        "node.id": "n1",
        "ok": false
      },
      "id": "[uuid]",
      "instance": "i1",
      "level": "warn",
      "message": "job j1 is slow",
      "source": "tester",
      "ts_ms": 0
    }
    "#);
}

#[test]
fn ids_are_unique_and_times_are_now() {
    let output = logged("info", |_| (0..100).for_each(|n| info!("line {n}"))).json();
    let mut ids: Vec<&str> = output
        .iter()
        .map(|record| record["id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 100);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let then = Duration::from_millis(output[0]["ts_ms"].as_u64().unwrap());
    assert!(now - then < Duration::from_secs(60));
}

#[test]
fn the_client_of_nats_is_heard_only_when_one_listens_for_it() {
    let said = |level: &str| {
        let output = logged(level, |_| {
            error!(target: "async_nats::connector", "authorization violation");
            info!("ours");
        });
        output.json().len()
    };
    assert_eq!(said("info"), 1);
    assert_eq!(said("info,orchion_bus=debug"), 1);
    assert_eq!(said("debug"), 2);
    assert_eq!(said("info,async_nats=info"), 2);
}

#[test]
fn secrets_and_prompts_are_left_out_by_the_name_of_their_field() {
    let output = logged("info", |_| {
        info!(
            nats.password = "hunter2",
            prompt = "hunter2",
            auth.token = "hunter2",
            tokens = 7,
            "connected"
        );
    });
    let fields = &output.json()[0]["fields"];
    assert_eq!(
        (&fields["prompt"], &fields["tokens"]),
        (&Value::from("***"), &Value::from(7))
    );
    assert!(!output.text().contains("hunter2"));
}

#[test]
fn the_level_filters_by_target_and_spans_keep_their_fields() {
    let output = logged("warn,orchion_service=debug", |_| {
        let span = info_span!(target: "orchion_scheduler", "job", job.id = "j1");
        let _job = span.enter();
        debug!("seen");
        trace!("not seen");
        info!(target: "orchion_scheduler", "not seen");
        warn!(target: "orchion_scheduler", "seen");
    });
    let records = output.json();
    assert_eq!(records.len(), 2, "{}", output.text());
    assert!(
        records
            .iter()
            .all(|record| record["message"] == "seen" && record["fields"]["job.id"] == "j1")
    );
}

#[test]
fn text_is_for_people() {
    let output = written("info", Render::Text { colour: false }, |_| {
        error!(node.id = "n1", reason = "no answer", "node n1 is lost");
    });
    let text = output.text();
    let (time, rest) = text.split_once(' ').unwrap();
    assert_eq!(
        (time.len(), rest),
        (
            12,
            "ERROR tester node n1 is lost node.id=n1 reason=\"no answer\"\n"
        )
    );
}

#[test]
fn the_feed_has_the_same_lines_from_the_start_on() {
    let mut feed = None;
    let output = logged("trace", |source| {
        info!("before anybody reads");
        feed = Some(source.feed().open(IGNORED));
        warn!("after");
        trace!("never in the feed");
        info!(target: "async_nats::connector", "never in the feed");
        info!(target: "orchion_bus::log::publish", "never in the feed");
    });
    let lines = drain(&feed.unwrap());
    let read: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_slice(&line.json).unwrap())
        .collect();
    assert_eq!(read, output.json()[..2]);
    let heads: Vec<_> = lines
        .iter()
        .map(|line| (&*line.service, &*line.instance, line.level))
        .collect();
    assert_eq!(heads, [("tester", "i1", "info"), ("tester", "i1", "warn")]);
}

#[test]
fn a_full_feed_counts_what_finds_no_room() {
    let mut feed = None;
    logged("info", |source| {
        feed = Some(source.feed().open(&[]));
        (0..5000).for_each(|n| info!("line {n}"));
    });
    let feed = feed.unwrap();
    let kept = drain(&feed);
    assert_eq!(
        (kept.len(), feed.take_dropped(), feed.take_dropped()),
        (4096, 904, 0)
    );
    assert!(
        String::from_utf8_lossy(&kept[0].json).contains("line 0"),
        "the oldest lines are kept"
    );
}

#[test]
fn a_feed_of_long_lines_is_bounded_too() {
    let mut feed = None;
    let long = "x".repeat(100_000);
    logged("info", |source| {
        feed = Some(source.feed().open(&[]));
        (0..40).for_each(|_| info!("{long}"));
    });
    let feed = feed.unwrap();
    assert_eq!((drain(&feed).len(), feed.take_dropped()), (20, 20));
}

#[tokio::test]
async fn a_reader_waits_for_the_next_line() {
    let source = Source::with_instance("tester", "i1");
    let feed = source.feed().open(&[]);
    let (subscriber, _output) = capture("info", Render::Json, &source);
    let write = async {
        tokio::task::yield_now().await;
        tracing::subscriber::with_default(subscriber, || info!("late"));
    };
    let (line, ()) = tokio::join!(feed.recv(), write);
    assert!(String::from_utf8_lossy(&line.json).contains("late"));
}

#[tokio::test]
async fn each_service_of_a_process_has_its_own_records() {
    let process = Source::with_instance("orchion", "p");
    let (subscriber, output) = capture("info", Render::Json, &process);
    let _default = tracing::subscriber::set_default(subscriber);
    let gateway = crate::Supervisor::new("gateway", Duration::from_secs(1));
    let (tasks, stop) = (gateway.tasks().clone(), gateway.stop());
    let (done, finished) = tokio::sync::oneshot::channel();

    tasks.spawn_work("request", async move {
        info!("from a request");
        let _ = done.send(());
    });
    finished.await.unwrap();
    tasks.scoped(async { info!("from a handler") }).await;
    info!("from the process");
    stop.request();
    gateway.run(async |_| Ok(())).await.unwrap();

    let sources: Vec<(String, String)> = output
        .json()
        .iter()
        .map(|record| {
            (
                record["source"].as_str().unwrap().into(),
                record["message"].as_str().unwrap().into(),
            )
        })
        .collect();
    for expected in [
        ("gateway", "from a request"),
        ("gateway", "from a handler"),
        ("orchion", "from the process"),
    ] {
        assert!(
            sources.contains(&(expected.0.into(), expected.1.into())),
            "{sources:?}"
        );
    }
    assert_eq!(
        drain(&tasks.log_feed(&[])).len(),
        2,
        "only its own lines are in its feed"
    );
}

#[test]
fn a_level_that_does_not_exist_is_a_problem() {
    let problems = |level: &str| {
        Settings {
            level: level.to_owned(),
            ..Settings::default()
        }
        .validate()
    };
    for good in [
        "info",
        "WARN",
        "off",
        "info,orchion_bus=debug",
        "error, orchion_bus::log=trace",
    ] {
        assert_eq!(problems(good), Vec::<String>::new());
    }
    assert!(problems("inf")[0].starts_with("telemetry.level: `inf` is not a level; write error"));
    assert_eq!(problems("loud,orchion_bus=very,=info").len(), 3);
}

#[test]
fn a_witness_is_shown_what_goes_to_the_log() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let witness = Box::new(move |record: &Record<'_>| {
        kept.lock()
            .unwrap()
            .push((record.level, record.message.clone()));
    });
    let source = Source::with_instance("tester", "i1");
    let (settings, output) = (Settings::default(), Output::default());
    let subscriber = subscriber(
        &settings,
        source,
        Render::Json,
        output.clone(),
        Some(witness),
    )
    .unwrap();

    tracing::subscriber::with_default(subscriber, || {
        tracing::debug!("below the level");
        tracing::warn!("look here");
    });

    assert_eq!(*seen.lock().unwrap(), [("warn", "look here".to_owned())]);
    assert_eq!(output.json().len(), 1);
}

/// Logs as service `tester`, instance `i1`, and gives what came to stdout.
fn logged(level: &str, log: impl FnOnce(&Arc<Source>)) -> Output {
    written(level, Render::Json, log)
}

fn written(level: &str, render: Render, log: impl FnOnce(&Arc<Source>)) -> Output {
    let source = Source::with_instance("tester", "i1");
    let (subscriber, output) = capture(level, render, &source);
    tracing::subscriber::with_default(subscriber, || log(&source));
    output
}

fn capture(
    level: &str,
    render: Render,
    source: &Arc<Source>,
) -> (impl tracing::Subscriber + Send + Sync, Output) {
    let settings = Settings {
        level: level.to_owned(),
        ..Settings::default()
    };
    let output = Output::default();
    let subscriber = subscriber(&settings, source.clone(), render, output.clone(), None).unwrap();
    (subscriber, output)
}

fn drain(feed: &Feed) -> Vec<LogLine> {
    std::iter::from_fn(|| feed.try_recv()).collect()
}

/// Stands for stdout.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn json(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl std::io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Output {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
