//! The database alone, on a real file.

use super::*;
use orchion_contract::JobId;
use orchion_contract::log::LogQuery;
use serde_json::{Map, json};
use tempfile::TempDir;

const KEEP: Retention = Retention {
    max_age: Duration::from_secs(3600),
    max_rows: 1_000_000,
};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &TempDir) -> Store {
    Store::open(&folder.path().join("sink/logs.db")).unwrap()
}

fn reader(folder: &TempDir) -> Reader {
    Reader::open(&folder.path().join("sink/logs.db")).unwrap()
}

fn record(number: u64) -> LogRecord {
    LogRecord {
        id: number.to_string(),
        ts_ms: number,
        level: Level::Info,
        source: "gateway".to_owned(),
        instance: "g1".to_owned(),
        message: "a request was answered".to_owned(),
        fields: Map::from_iter([("model.name".to_owned(), json!("tiny"))]),
    }
}

fn entries(numbers: impl IntoIterator<Item = u64>) -> Vec<Entry> {
    let records = numbers.into_iter().map(record);
    records.map(|record| Entry::Log(Box::new(record))).collect()
}

fn stored(folder: &TempDir) -> Vec<u64> {
    let query = LogQuery {
        limit: Some(1000),
        ..LogQuery::default()
    };
    let page = reader(folder).query(&query).unwrap();
    page.records.iter().map(|record| record.ts_ms).collect()
}

#[test]
fn a_record_stored_twice_is_kept_once_as_it_came_first() {
    let folder = folder();
    let mut store = open(&folder);
    store.insert(&entries([1, 2])).unwrap();
    let mut again = record(2);
    again.message = "something else".to_owned();
    store.insert(&[Entry::Log(Box::new(again))]).unwrap();
    let page = reader(&folder).query(&LogQuery::default()).unwrap();
    assert_eq!(page.records, [record(1), record(2)]);
}

#[test]
fn a_reopened_database_holds_what_was_committed() {
    let folder = folder();
    open(&folder).insert(&entries([1])).unwrap();
    open(&folder).insert(&entries([2])).unwrap();
    assert_eq!(stored(&folder), [1, 2]);
}

#[test]
fn too_many_rows_are_removed_oldest_first() {
    let folder = folder();
    let mut store = open(&folder);
    store.insert(&entries(0..10)).unwrap();
    let few = Retention {
        max_rows: 3,
        ..KEEP
    };
    let expected = Cleaned {
        rows: 7,
        more: false,
    };
    assert_eq!(store.clean(few).unwrap(), expected);
    assert_eq!(stored(&folder), [7, 8, 9]);
    assert_eq!(store.clean(few).unwrap().rows, 0);
}

#[test]
fn what_is_too_old_is_removed_by_our_own_clock() {
    let folder = folder();
    let mut store = open(&folder);
    // The writers' clocks stand at 1970; nothing is removed for that.
    store.insert(&entries(0..5)).unwrap();
    assert_eq!(store.clean(KEEP).unwrap().rows, 0);
    let old = "UPDATE logs SET ingest_ms = ingest_ms - 3600001 WHERE ts_ms < 3";
    store.connection.execute(old, []).unwrap();
    assert_eq!(store.clean(KEEP).unwrap().rows, 3);
    assert_eq!(stored(&folder), [3, 4]);
}

#[test]
fn cleaning_goes_in_steps() {
    let folder = folder();
    let mut store = open(&folder);
    store.insert(&entries(0..STEP + 10)).unwrap();
    let none = Retention {
        max_age: Duration::ZERO,
        ..KEEP
    };
    let later = "UPDATE logs SET ingest_ms = ingest_ms - 1";
    store.connection.execute(later, []).unwrap();
    assert!(store.clean(none).unwrap().more);
    let rest = store.clean(none).unwrap();
    assert_eq!((rest.rows, rest.more), (10, false));
}

#[test]
fn a_row_that_cannot_be_read_is_passed_over() {
    let folder = folder();
    let mut store = open(&folder);
    store.insert(&entries(0..3)).unwrap();
    let break_one = "UPDATE logs SET fields = '{' WHERE ts_ms = 1";
    store.connection.execute(break_one, []).unwrap();
    assert_eq!(stored(&folder), [0, 2]);
}

#[test]
fn each_way_of_asking_finds_an_index() {
    let folder = folder();
    let store = open(&folder);
    let by_job = LogQuery {
        job: Some(JobId::now()),
        ..LogQuery::default()
    };
    let by_source = LogQuery {
        source: Some("gateway".to_owned()),
        level: Some(Level::Info),
        ..LogQuery::default()
    };
    let by_level = LogQuery {
        level: Some(Level::Error),
        ..LogQuery::default()
    };
    for (query, index) in [
        (by_job, "logs_by_job"),
        (by_source, "logs_by_source"),
        (by_level, "logs_by_weight"),
        (LogQuery::default(), "logs_by_time"),
    ] {
        let plan = read::plan(&store.connection, &query).unwrap();
        assert!(
            plan.contains(index) && !plan.contains("TEMP B-TREE"),
            "{plan}"
        );
    }
}

#[test]
fn a_file_that_is_no_database_is_named_with_what_to_do() {
    let folder = folder();
    let path = folder.path().join("logs.db");
    std::fs::write(
        &path,
        "not a database, and longer than a header: ".repeat(100),
    )
    .unwrap();
    let error = Store::open(&path).err().unwrap();
    let said = format!("{error:#}");
    assert!(
        said.contains("logs.db") && said.contains("move it away"),
        "{said}"
    );
}

#[test]
fn a_database_of_another_version_is_left_alone() {
    let folder = folder();
    let store = open(&folder);
    store
        .connection
        .pragma_update(None, "user_version", 9)
        .unwrap();
    let error = Store::open(&folder.path().join("sink/logs.db"))
        .err()
        .unwrap();
    assert!(error.to_string().contains("schema 9"), "{error}");
}
