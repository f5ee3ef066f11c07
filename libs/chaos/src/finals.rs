//! Counts the finals of every job, as they stand in the store.

use orchion_bus::{Bus, Config, From, Identity};
use orchion_contract::log::ServiceName;
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::subjects::TRANSCRIPT;
use orchion_contract::transcript::Entry;
use orchion_contract::{InstanceId, JobId};
use orchion_service::Stop;
use orchion_testkit::Cluster;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Finals seen so far, by job.
#[derive(Clone, Default)]
pub(crate) struct Finals(Arc<Mutex<HashMap<JobId, u32>>>);

impl Finals {
    /// Begins to read every transcript there is and will be.
    pub(crate) async fn watch(cluster: &Cluster) -> anyhow::Result<Self> {
        let config = Config {
            url: cluster.nats.url(),
            ..Config::default()
        };
        let identity = Identity {
            client: "chaos".to_owned(),
            service: ServiceName::new("chaos")?,
            instance: InstanceId::random(),
        };
        let bus = Bus::connect(&config, identity, &Stop::new()).await?;
        let mut reading = bus
            .read(TRANSCRIPTS.name, &TRANSCRIPT.any(), From::Beginning)
            .await?;
        let finals = Self::default();
        let seen = finals.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "a watcher that lives as long as the run"
        )]
        tokio::spawn(async move {
            let mut last = 0;
            while let Ok(stored) = reading.next().await {
                if stored.sequence <= last {
                    continue;
                }
                last = stored.sequence;
                let job = TRANSCRIPT.parse(&stored.subject).map(|(_, job)| job);
                let entry = serde_json::from_slice(&stored.payload);
                if let (Some(job), Ok(Entry::Final(_))) = (job, entry) {
                    *seen
                        .0
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .entry(job)
                        .or_default() += 1;
                }
            }
        });
        Ok(finals)
    }

    /// Finals of one job.
    pub(crate) fn of(&self, job: &str) -> u32 {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        job.parse()
            .ok()
            .and_then(|job: JobId| seen.get(&job).copied())
            .unwrap_or_default()
    }
}
