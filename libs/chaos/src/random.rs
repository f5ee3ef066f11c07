//! Random faults of any process, several at a time, under load.
//!
//! Rounds of one to three faults follow each other; each is drawn from the
//! seed. Meanwhile clients ask for chats and tasks without pause, cancel some,
//! and leave their gateway for the other. After each round everything is alive
//! again and works. The histories that clients wrote down are judged at the end.

mod fault;
mod load;
mod report;

use crate::draw::Draw;
use crate::table::say;
use fault::{AGENTS, Cables, Fault, GATEWAYS, SCHEDULERS};
use orchion_testkit::cluster::Login;
use orchion_testkit::{Cluster, NatsServer};
use std::time::{Duration, Instant};

/// Calm between two rounds.
const CALM: Duration = Duration::from_millis(400);

/// How long, how much, and with which seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) lasts: Duration,
    pub(crate) seed: u64,
    /// Clients at a time.
    pub(crate) clients: usize,
}

/// Faults that happened together, and when.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) faults: Vec<Fault>,
    pub(crate) from: Instant,
    /// From the end of the faults until everything worked.
    pub(crate) whole_after: Duration,
}

/// Runs it; whether nothing was lost.
pub(crate) async fn run(options: Options) -> anyhow::Result<bool> {
    say(&format!(
        "seed {}: {} clients for {} s; the same faults again with --seed {}",
        options.seed,
        options.clients,
        options.lasts.as_secs(),
        options.seed
    ));
    let mut draw = Draw::new(options.seed);
    let nats = NatsServer::start().await;
    let (cables, urls) = Cables::lay(nats.addr());
    let mut builder = Cluster::builder()
        .nats(nats, Login::default())
        .agents(AGENTS)
        .schedulers(SCHEDULERS)
        .gateways(GATEWAYS);
    for (part, url) in &urls {
        builder = builder.nats_url(part, url);
    }
    let mut cluster = builder.start().await;
    let load = load::Load::start(&cluster.clients(), options.clients, &mut draw);
    let begin = Instant::now();
    let mut rounds = Vec::new();
    while begin.elapsed() < options.lasts {
        let faults = fault::round(&mut draw);
        rounds.push(one(&mut cluster, &cables, faults).await);
        report::progress(&rounds);
        tokio::time::sleep(CALM).await;
    }
    let reports = load.stop().await;
    let is_good = report::print(&rounds, &reports, begin.elapsed());
    if !is_good {
        report::logs(&cluster.clients(), &reports).await;
    }
    Ok(is_good)
}

/// Does the faults of a round, undoes them, and waits until everything works.
async fn one(cluster: &mut Cluster, cables: &Cables, faults: Vec<Fault>) -> Round {
    let mut steps: Vec<(Duration, bool, Fault)> = Vec::new();
    for fault in &faults {
        steps.push((fault.from, true, *fault));
        steps.push((fault.to, false, *fault));
    }
    steps.sort_by_key(|(at, is_begin, _)| (*at, !is_begin));
    let start = tokio::time::Instant::now();
    let first = steps.first().map_or(Duration::ZERO, |(at, _, _)| *at);
    for (at, is_begin, fault) in steps {
        tokio::time::sleep_until(start + at).await;
        match is_begin {
            true => fault::begin(cluster, cables, fault),
            false => fault::end(cluster, cables, fault).await,
        }
    }
    let to = Instant::now();
    cluster.heal().await;
    Round {
        faults,
        from: start.into_std() + first,
        whole_after: to.elapsed(),
    }
}
