//! One kill under many streams.

use crate::finals::Finals;
use anyhow::Context;
use orchion_testkit::judge::{Order, Verdict, chat, task};
use orchion_testkit::wire::Ask;
use orchion_testkit::{Cluster, HttpClient, eventually};
use std::time::Duration;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Victim {
    /// Nothing: what the machine itself does to the streams.
    Nothing,
    /// The engine that generates for half of the streams.
    Engine,
    /// The agent of that engine.
    Agent,
    /// The gateway that all clients talk to; they resume at the other one.
    Gateway,
    /// The scheduler in charge.
    Scheduler,
    /// nats-server, started again at once.
    Nats,
}

impl Victim {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Nothing,
        Self::Engine,
        Self::Agent,
        Self::Gateway,
        Self::Scheduler,
        Self::Nats,
    ];

    /// What may pass between two tokens in the median, beside the pace of the
    /// stream itself.
    pub(crate) fn bound(self) -> Option<Duration> {
        match self {
            Self::Nothing => None,
            Self::Engine | Self::Agent => Some(Duration::from_secs(1)),
            Self::Gateway => Some(Duration::from_millis(50)),
            // Running streams do not notice; this much is the noise of a machine.
            Self::Scheduler => Some(Duration::from_millis(100)),
            Self::Nats => Some(Duration::from_secs(3)),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Engine => "engine",
            Self::Agent => "node-agent",
            Self::Gateway => "gateway",
            Self::Scheduler => "scheduler",
            Self::Nats => "nats-server",
        }
    }
}

/// What runs while something is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) streams: u32,
    pub(crate) tokens: u32,
    pub(crate) pace_ms: u64,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) verdicts: Vec<Verdict>,
    /// Jobs whose transcript does not have exactly one final.
    pub(crate) wrong_finals: u32,
}

/// Starts the streams, kills the victim when all of them are in the middle,
/// waits for the ends, and makes the cluster whole again.
pub(crate) async fn run(
    cluster: &mut Cluster,
    finals: &Finals,
    victim: Victim,
    load: Load,
) -> anyhow::Result<Outcome> {
    let ask = || Ask::new(load.tokens).pace_us(load.pace_ms * 1000);
    let orders: Vec<Order> = (0..load.streams).map(|_| Order::new(ask())).collect();
    let clients = cluster.clients();
    let mut streams = tokio::task::JoinSet::new();
    for order in &orders {
        streams.spawn(stream(victim, clients.clone(), order.clone()));
    }
    let under_way = || async {
        orders
            .iter()
            .all(|order| order.progress().tokens() >= load.tokens / 5)
    };
    eventually(
        "all streams are under way",
        Duration::from_secs(30),
        under_way,
    )
    .await;
    kill(cluster, victim, 1).await?;
    let mut verdicts = Vec::new();
    while let Some(verdict) = streams.join_next().await {
        verdicts.push(verdict.context("follow a stream")?);
    }
    cluster.heal().await;
    let wrong_finals = count_wrong(finals, &verdicts).await;
    Ok(Outcome {
        verdicts,
        wrong_finals,
    })
}

async fn stream(victim: Victim, clients: Vec<HttpClient>, order: Order) -> Verdict {
    match victim {
        Victim::Gateway => task(&clients, &order).await,
        Victim::Nothing | Victim::Engine | Victim::Agent | Victim::Scheduler | Victim::Nats => {
            chat(&clients[1], &order).await
        }
    }
}

/// Kills; `node`: whose engine or agent.
pub(crate) async fn kill(cluster: &mut Cluster, victim: Victim, node: usize) -> anyhow::Result<()> {
    match victim {
        Victim::Nothing => {}
        Victim::Engine => cluster.engines[node].kill(),
        Victim::Agent => cluster.agents[node].kill(),
        Victim::Gateway => cluster.gateways[0].kill(),
        Victim::Scheduler => {
            let active = cluster
                .active_scheduler()
                .context("find the scheduler in charge")?;
            cluster.schedulers[active].kill();
        }
        Victim::Nats => {
            cluster.nats.kill();
            cluster.nats.restart().await;
        }
    }
    Ok(())
}

/// Waits until each job has a final, as long as one may still be on its way.
async fn count_wrong(finals: &Finals, verdicts: &[Verdict]) -> u32 {
    let jobs: Vec<&str> = verdicts
        .iter()
        .filter_map(|verdict| verdict.job.as_deref())
        .collect();
    for _ in 0..500 {
        if jobs.iter().all(|job| finals.of(job) > 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let wrong = jobs.iter().filter(|job| finals.of(job) != 1).count() + verdicts.len() - jobs.len();
    u32::try_from(wrong).unwrap_or(u32::MAX)
}
