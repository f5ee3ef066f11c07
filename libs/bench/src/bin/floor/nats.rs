//! NATS round trips and message rates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt as _;
use orchion_bench::Hist;
use orchion_testkit::clock::mono_ns;
use tokio::task::JoinSet;

/// What `floor nats` measures.
#[derive(Args)]
pub(super) struct NatsOptions {
    #[arg(long, default_value = "127.0.0.1:4222")]
    nats: String,
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    /// Messages of the one-way rate test.
    #[arg(long, default_value_t = 1_000_000)]
    flood: u64,
}

/// Answers `floor.echo` until stopped.
pub(super) async fn echo(nats: &str) -> Result<()> {
    let client = async_nats::connect(nats).await?;
    let mut requests = client.subscribe("floor.echo").await?;
    while let Some(message) = requests.next().await {
        if let Some(reply) = message.reply {
            client.publish(reply, message.payload).await?;
        }
    }
    Ok(())
}

pub(super) async fn measure(options: &NatsOptions) -> Result<()> {
    let client = async_nats::connect(&options.nats).await?;
    let payload = Bytes::from(vec![b'x'; options.bytes]);
    one_at_a_time(&client, &payload, options).await?;
    for users in [16, 64, 256] {
        many_at_a_time(&client, &payload, users, options.count).await?;
    }
    flood(&client, &payload, options).await
}

async fn one_at_a_time(
    client: &async_nats::Client,
    payload: &Bytes,
    options: &NatsOptions,
) -> Result<()> {
    let mut hist = Hist::default();
    for i in 0..options.count + options.count / 10 {
        let start = mono_ns();
        client.request("floor.echo", payload.clone()).await?;
        if i >= options.count / 10 {
            hist.record(mono_ns() - start);
        }
    }
    let name = format!("NATS request/reply, {} B, one at a time", options.bytes);
    super::show(&name, &hist)
}

async fn many_at_a_time(
    client: &async_nats::Client,
    payload: &Bytes,
    users: u64,
    count: u64,
) -> Result<()> {
    let start = mono_ns();
    let each = (count * 4 / users).max(1);
    let mut tasks = JoinSet::new();
    for _ in 0..users {
        let (client, payload) = (client.clone(), payload.clone());
        tasks.spawn(async move {
            let mut hist = Hist::default();
            for _ in 0..each {
                let start = mono_ns();
                client.request("floor.echo", payload.clone()).await?;
                hist.record(mono_ns() - start);
            }
            anyhow::Ok(hist)
        });
    }
    let mut hist = Hist::default();
    while let Some(part) = tasks.join_next().await {
        hist.merge(&part??);
    }
    let rate = (each * users) as f64 / ((mono_ns() - start) as f64 / 1e9);
    let name = format!("NATS request/reply, {users} at a time: {rate:.0}/s");
    super::show(&name, &hist)
}

async fn flood(client: &async_nats::Client, payload: &Bytes, options: &NatsOptions) -> Result<()> {
    let reader = async_nats::connect(&options.nats).await?;
    let mut inbox = reader.subscribe("floor.flood").await?;
    reader.flush().await?;
    let total = options.flood;
    let received = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&received);
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        let mut first = 0;
        for i in 0..total {
            if inbox.next().await.is_none() {
                break;
            }
            if i == 0 {
                first = mono_ns();
            }
            counter.store(i + 1, Relaxed);
        }
        (mono_ns() - first) as f64 / 1e9
    });
    // The client drops messages once a subscription has 65,536 waiting, so a
    // fair flood keeps the number under way well below that.
    for i in 0..total {
        client.publish("floor.flood", payload.clone()).await?;
        if i % 256 == 255 {
            client.flush().await?;
            while i - received.load(Relaxed) > 16_384 {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
    }
    client.flush().await?;
    let read = tokio::time::timeout(Duration::from_secs(60), reading.join_next());
    let seconds = read.await.context("messages were lost")?;
    let seconds = seconds.context("nobody read")??;
    let name = format!("NATS one way, {} B, one publisher", options.bytes);
    super::say(&format!(
        "{name:<44} {:.0} messages/s",
        total as f64 / seconds
    ))
}
