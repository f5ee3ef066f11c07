//! A NATS server, the real program beside it, and somebody who logs.

use orchion_bus::{Bus, Identity};
use orchion_contract::job::JobSummary;
use orchion_contract::log::{Level, LogQuery, LogRecord, ServiceName};
use orchion_contract::rpc::QUERY_LOGS;
use orchion_contract::subjects::LOG;
use orchion_contract::{InstanceId, JobId};
use orchion_service::Stop;
use orchion_testkit::{NatsServer, Program, Running, eventually};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// Far above what is expected, for a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) nats: NatsServer,
    pub(crate) data: TempDir,
    pub(crate) bus: Bus,
}

impl World {
    pub(crate) async fn new() -> Self {
        let nats = NatsServer::start().await;
        let config = orchion_bus::Config {
            url: nats.url(),
            ..orchion_bus::Config::default()
        };
        let identity = Identity {
            client: "test".to_owned(),
            service: ServiceName::new("gateway").unwrap(),
            instance: InstanceId::new("g1").unwrap(),
        };
        let bus = Bus::connect(&config, identity, &Stop::new()).await.unwrap();
        bus.ensure_all().await.unwrap();
        Self {
            nats,
            data: tempfile::tempdir().unwrap(),
            bus,
        }
    }

    /// Starts the program; it is killed when it is dropped.
    pub(crate) fn start(&self) -> Running {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, env: &[(&str, &str)]) -> Running {
        let program = Program::at(Path::new(env!("CARGO_BIN_EXE_orchion-log-sink")))
            .args(["--nats-url", &self.nats.url()])
            .env("ORCHION_DATA_DIR", self.data.path())
            .dir(self.data.path());
        let set = |program: Program, (key, value): &(&str, &str)| program.env(key, value);
        env.iter().fold(program, set).start()
    }

    /// Logs a record of the gateway.
    pub(crate) async fn log(&self, record: &LogRecord) {
        let service = ServiceName::new(&record.source).unwrap();
        let address = (service, InstanceId::new("g1").unwrap(), record.level);
        self.bus
            .store_once(&LOG, &address, &record.id, record)
            .await
            .unwrap();
    }

    /// The records that match, without those of the program itself.
    pub(crate) async fn query(&self, query: &LogQuery) -> Vec<LogRecord> {
        let page = self.bus.ask_patiently(&QUERY_LOGS, &(), query, SOON).await;
        let mut records = page.unwrap().records;
        records.retain(|record| record.source != "log-sink");
        records
    }

    /// Waits until so many records of the gateway are stored; more is wrong.
    pub(crate) async fn holds(&self, expected: usize) {
        let query = LogQuery {
            source: Some("gateway".to_owned()),
            limit: Some(1000),
            ..LogQuery::default()
        };
        eventually("the records to be stored", SOON, async || {
            let found = self.query(&query).await.len();
            if found == expected {
                Ok(())
            } else {
                Err(found)
            }
        })
        .await;
    }

    /// Whether the program has come so far as to make its tables.
    pub(crate) fn has_table(&self) -> bool {
        let database = self.data.path().join("log-sink/logs.db");
        let connection = rusqlite::Connection::open(database).unwrap();
        let found = "SELECT count(*) FROM sqlite_master WHERE name = 'jobs_by_ingest'";
        connection
            .query_row(found, [], |row| row.get::<_, u32>(0))
            .unwrap()
            == 1
    }

    /// How often each id of the gateway is in the database, read beside the program.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let database = self.data.path().join("log-sink/logs.db");
        let connection = rusqlite::Connection::open(database).unwrap();
        let mut select = connection
            .prepare("SELECT id FROM logs WHERE source = 'gateway'")
            .unwrap();
        let ids = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let mut counts = BTreeMap::new();
        for id in ids {
            *counts.entry(id.unwrap()).or_default() += 1;
        }
        counts
    }

    /// The stored summary of a job, and how many jobs there are.
    pub(crate) fn jobs(&self) -> Vec<JobSummary> {
        let database = self.data.path().join("log-sink/logs.db");
        let connection = rusqlite::Connection::open(database).unwrap();
        let mut select = connection.prepare("SELECT summary FROM jobs").unwrap();
        let summaries = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        summaries
            .map(|summary| serde_json::from_str(&summary.unwrap()).unwrap())
            .collect()
    }
}

/// A record of the gateway; its number is its time.
pub(crate) fn record(number: u64, level: Level, job: Option<JobId>) -> LogRecord {
    let mut fields = Map::from_iter([("duration_ms".to_owned(), json!(3))]);
    if let Some(job) = job {
        fields.insert("job.id".to_owned(), json!(job.to_string()));
    }
    LogRecord {
        id: format!("record-{number}"),
        ts_ms: number,
        level,
        source: "gateway".to_owned(),
        instance: "g1".to_owned(),
        message: format!("request {number} \"answered\""),
        fields,
    }
}
