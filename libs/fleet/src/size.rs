//! One size of fleet: started, left alone, given work, measured.

use crate::agent::{Agent, Arrivals, BEAT};
use crate::{cost, step};
use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt};
use orchion_bus::{Bus, Config, Identity};
use orchion_contract::log::ServiceName;
use orchion_contract::node::NodeState;
use orchion_contract::rpc::SUBMIT;
use orchion_contract::{InstanceId, JobId};
use orchion_service::Stop;
use orchion_testkit::Cluster;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Connections that are opened at a time.
const AT_ONCE: usize = 64;
/// How long heartbeats are watched.
const WATCHED: Duration = Duration::from_secs(15);
/// Jobs asked for, and how far apart.
const JOBS: usize = 300;
const APART: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) nodes: usize,
    /// From the first connection until all nodes are online.
    pub(crate) joined: Duration,
    /// Processor time per heartbeat, in microseconds.
    pub(crate) beat_registry_us: f64,
    pub(crate) beat_scheduler_us: f64,
    pub(crate) beat_nats_us: f64,
    /// Resident memory, in bytes.
    pub(crate) nats_memory: f64,
    pub(crate) registry_memory: f64,
    pub(crate) scheduler_memory: f64,
    /// From the asking to the arrival of the order, sorted.
    pub(crate) dispatch: Vec<Duration>,
    /// Processor time of the scheduler per job, in microseconds.
    pub(crate) job_scheduler_us: f64,
    pub(crate) steps: step::Steps,
}

pub(crate) async fn measure(nodes: usize) -> anyhow::Result<Measured> {
    let cluster = Cluster::builder().agents(0).gateways(0).start().await;
    let url = cluster.nats.url();
    let asking = asking(&url).await?;
    let arrivals = Arrivals::default();
    let begin = Instant::now();
    let mut living = JoinSet::new();
    let mut agents = futures_util::stream::iter(0..nodes)
        .map(|number| Agent::start(&url, number, arrivals.clone()))
        .buffer_unordered(AT_ONCE);
    while let Some(agent) = agents.try_next().await.context("start an agent")? {
        living.spawn(agent.live());
    }
    until_online(&asking, nodes).await?;
    let joined = begin.elapsed();
    // One more heartbeat of each: the bustle of joining is over.
    tokio::time::sleep(BEAT).await;
    let mut measured = Measured {
        nodes,
        joined,
        steps: step::measure(nodes, 2000)?,
        ..Measured::default()
    };
    beats(&cluster, &mut measured).await?;
    measured.nats_memory = cost::of(cluster.nats.pid())?.memory as f64;
    jobs(&cluster, &asking, &arrivals, &mut measured).await?;
    if let Some(ended) = living.try_join_next() {
        ended?.context("an agent gave up")?;
    }
    Ok(measured)
}

async fn asking(url: &str) -> anyhow::Result<Bus> {
    let config = Config {
        url: url.to_owned(),
        ..Config::default()
    };
    let identity = Identity {
        client: "fleet".to_owned(),
        service: ServiceName::new("fleet")?,
        instance: InstanceId::random(),
    };
    Ok(Bus::connect(&config, identity, &Stop::new()).await?)
}

async fn until_online(bus: &Bus, wanted: usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE * 3;
    // Asked until it is so; a fleet that joins is not to be measured by its asker.
    loop {
        let nodes = bus.all_nodes(Duration::from_secs(5)).await;
        let online = nodes.map(|nodes| {
            nodes
                .iter()
                .filter(|node| node.state == NodeState::Online)
                .count()
        });
        match online {
            Ok(online) if online >= wanted => return Ok(()),
            other if Instant::now() > until => {
                anyhow::bail!("of {wanted} nodes, these are online: {other:?}")
            }
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// What heartbeats cost while nothing else happens.
async fn beats(cluster: &Cluster, measured: &mut Measured) -> anyhow::Result<()> {
    let processes = processes(cluster)?;
    let before = processes.map(cost::of);
    let start = Instant::now();
    // The window itself: figures are per heartbeat that falls into it.
    tokio::time::sleep(WATCHED).await;
    let beats = measured.nodes as f64 * start.elapsed().as_secs_f64() / BEAT.as_secs_f64();
    let mut costs = [0.0; 3];
    for ((cost_us, process), before) in costs.iter_mut().zip(processes).zip(before) {
        let used = cost::of(process)?.cpu.saturating_sub(before?.cpu);
        *cost_us = used.as_secs_f64() * 1e6 / beats;
    }
    [
        measured.beat_registry_us,
        measured.beat_scheduler_us,
        measured.beat_nats_us,
    ] = costs;
    measured.registry_memory = cost::of(processes[0])?.memory as f64;
    measured.scheduler_memory = cost::of(processes[1])?.memory as f64;
    Ok(())
}

fn processes(cluster: &Cluster) -> anyhow::Result<[u32; 3]> {
    let registry = cluster.registry.running().context("find the registry")?;
    let scheduler = cluster.schedulers[0]
        .running()
        .context("find the scheduler")?;
    Ok([registry.pid(), scheduler.pid(), cluster.nats.pid()])
}

/// Jobs at a steady pace: how soon their orders arrive.
async fn jobs(
    cluster: &Cluster,
    bus: &Bus,
    arrivals: &Arrivals,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let [_, scheduler, _] = processes(cluster)?;
    let before = cost::of(scheduler)?;
    let start = Instant::now();
    let mut asked: Vec<(JobId, Instant)> = Vec::new();
    let mut asking = JoinSet::new();
    let mut pace = tokio::time::interval(APART);
    for number in 0..JOBS {
        pace.tick().await;
        let submit = step::submit(number)?;
        asked.push((submit.job, Instant::now()));
        let bus = bus.clone();
        asking.spawn(async move { bus.ask_patiently(&SUBMIT, &(), &submit, PATIENCE).await });
    }
    while let Some(admitted) = asking.join_next().await {
        admitted?.context("ask for a job")?;
    }
    let until = Instant::now() + PATIENCE;
    let has_ended = |(job, _): &(JobId, Instant)| {
        arrivals
            .of(job)
            .is_some_and(|arrival| arrival.ended.is_some())
    };
    while !asked.iter().all(has_ended) {
        anyhow::ensure!(Instant::now() < until, "not every job has ended");
        // Looked at seldom: the figures are of the jobs, not of the looking.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let used = cost::of(scheduler)?
        .cpu
        .saturating_sub(before.cpu)
        .as_secs_f64()
        * 1e6;
    let beats = measured.nodes as f64 * start.elapsed().as_secs_f64() / BEAT.as_secs_f64();
    let of_beats = beats * measured.beat_scheduler_us;
    measured.job_scheduler_us = (used - of_beats).max(0.0) / JOBS as f64;
    let waits = asked
        .iter()
        .filter_map(|(job, at)| Some(arrivals.of(job)?.ordered - *at));
    measured.dispatch = waits.collect();
    measured.dispatch.sort_unstable();
    Ok(())
}
