//! What the end-to-end tests share.
//!
//! They look at the product from outside: the separate binaries as they are
//! shipped, a real nats-server, HTTP. Nothing in here knows a service from inside.

#![expect(
    clippy::expect_used,
    reason = "a helper that cannot do its work must fail its test on the spot"
)]

mod llama;
mod noise;
mod python;
mod skip;

use std::collections::BTreeMap;
use std::time::Duration;

use orchion_testkit::judge::{Order, Verdict, chat};
use orchion_testkit::{HttpClient, eventually};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

pub use llama::{LlamaServer, llama_server, tiny_model};
pub use noise::Noise;
pub use python::python_with_openai;
pub use skip::skip;

/// Far above what is expected, for a machine that is busy.
pub const SOON: Duration = Duration::from_secs(30);

static ALONE: Mutex<()> = Mutex::const_new(());

/// Waits until no other test of this process runs: each starts a dozen processes
/// and some measure time.
pub async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// A job as `gateway` shows it, once its end is known: whoever keeps jobs hears of
/// an end a moment after the client does.
///
/// # Panics
///
/// When it does not end.
pub async fn ended(gateway: &HttpClient, job: &str) -> Value {
    let path = format!("/api/jobs/{job}");
    eventually("the end of the job", SOON, async || {
        let answer = gateway
            .get(&path)
            .await
            .map_err(|error| error.to_string())?;
        let job: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let is_over = job["end"].is_object();
        if is_over { Ok(job) } else { Err(answer.text()) }
    })
    .await
}

/// Answers that are under way.
#[derive(Debug, Default)]
pub struct Chats {
    /// What was asked for, to see how far each is.
    pub orders: Vec<Order>,
    streams: JoinSet<(usize, Verdict)>,
}

impl Chats {
    /// Asks `client` for one streamed chat more.
    pub fn ask(&mut self, client: &HttpClient, order: Order) {
        let number = self.orders.len();
        self.orders.push(order.clone());
        let client = client.clone();
        self.streams
            .spawn(async move { (number, chat(&client, &order).await) });
    }

    /// Whether every client has seen at least so many tokens.
    pub fn have(&self, tokens: u32) -> bool {
        let mut all = self.orders.iter();
        all.all(|order| order.progress().tokens() >= tokens)
    }

    /// Reads all answers to their ends; in the order in which they were asked for.
    ///
    /// # Panics
    ///
    /// When one of them is not good, with what is wrong.
    pub async fn all_good(mut self) -> Vec<Verdict> {
        let mut verdicts = BTreeMap::new();
        while let Some(ended) = self.streams.join_next().await {
            let (number, verdict) = ended.expect("follow a stream");
            verdicts.insert(number, verdict);
        }
        let verdicts: Vec<_> = verdicts.into_values().collect();
        let bad = verdicts
            .iter()
            .filter(|verdict| !verdict.is_good())
            .collect::<Vec<_>>();
        assert!(
            bad.is_empty(),
            "{} of {}: {bad:#?}",
            bad.len(),
            verdicts.len()
        );
        verdicts
    }
}
