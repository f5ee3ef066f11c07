//! Which faults there are, when they begin and end, and how they are done.

use crate::draw::Draw;
use orchion_testkit::cluster::Part;
use orchion_testkit::{Cluster, Proxy};
use std::collections::BTreeMap;
use std::time::Duration;

/// A process that may be hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Engine(usize),
    Agent(usize),
    Gateway(usize),
    Scheduler(usize),
    Registry,
    LogSink,
    Nats,
}

/// How it is hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// SIGKILL; it is started again at the end.
    Kill,
    /// SIGSTOP, and SIGCONT at the end.
    Freeze,
    /// Its connections to NATS are closed and refused until the end.
    Cut,
    /// Its connections to NATS stay open and pass nothing until the end.
    Stall,
}

/// One fault, with its times from the beginning of its round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) target: Target,
    pub(crate) way: Way,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// How many of each part there are.
pub(crate) const AGENTS: usize = 3;
pub(crate) const SCHEDULERS: usize = 2;
pub(crate) const GATEWAYS: usize = 2;

impl Target {
    fn all() -> Vec<Self> {
        let mut all: Vec<Self> = (0..AGENTS).map(Self::Engine).collect();
        all.extend((0..AGENTS).map(Self::Agent));
        all.extend((0..GATEWAYS).map(Self::Gateway));
        all.extend((0..SCHEDULERS).map(Self::Scheduler));
        // As often as the others, which there are several of.
        all.extend([Self::Registry, Self::LogSink, Self::Nats, Self::Nats]);
        all
    }

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Engine(_) => "engine",
            Self::Agent(_) => "node-agent",
            Self::Gateway(_) => "gateway",
            Self::Scheduler(_) => "scheduler",
            Self::Registry => "registry",
            Self::LogSink => "log-sink",
            Self::Nats => "nats-server",
        }
    }

    /// The part's name in a cluster, when it has a connection to NATS of its own.
    fn connected(self) -> Option<String> {
        match self {
            Self::Agent(n) => Some(format!("agent-{}", ["a", "b", "c"][n])),
            Self::Gateway(n) => Some(format!("gateway-{}", n + 1)),
            Self::Scheduler(n) => Some(format!("scheduler-{}", n + 1)),
            Self::Registry => Some("registry-1".to_owned()),
            Self::LogSink => Some("log-sink-1".to_owned()),
            Self::Engine(_) | Self::Nats => None,
        }
    }

    fn ways(self) -> &'static [Way] {
        match self {
            Self::Engine(_) | Self::Nats => &[Way::Kill, Way::Kill, Way::Freeze],
            Self::Agent(_)
            | Self::Gateway(_)
            | Self::Scheduler(_)
            | Self::Registry
            | Self::LogSink => &[Way::Kill, Way::Kill, Way::Freeze, Way::Cut, Way::Stall],
        }
    }
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Freeze => "frozen",
            Self::Cut => "cut off",
            Self::Stall => "stalled",
        }
    }
}

impl Fault {
    /// What may pass between two tokens, by the design: beside the pace of the
    /// stream, and with what the fault itself takes where nothing else is there
    /// to go on meanwhile. None where no bound is given.
    pub(crate) fn bound(self) -> Option<Duration> {
        let lasts = self.to.saturating_sub(self.from);
        let ms = Duration::from_millis;
        match (self.target, self.way) {
            (Target::Engine(_) | Target::Agent(_), Way::Kill) | (Target::Agent(_), Way::Cut) => {
                Some(ms(1000))
            }
            (Target::Agent(_), Way::Freeze | Way::Stall) => Some(ms(4000)),
            (Target::Gateway(_), Way::Kill) => Some(ms(50)),
            (Target::Scheduler(_) | Target::Registry | Target::LogSink, _) => Some(ms(100)),
            (Target::Nats, Way::Kill) => Some(ms(3000)),
            (Target::Nats, _) => Some(lasts + ms(3000)),
            (Target::Engine(_), _) | (Target::Gateway(_), _) => Some(lasts + ms(1000)),
        }
    }
}

/// Draws the faults of a round: mostly one, sometimes two or three at a time.
pub(crate) fn round(draw: &mut Draw) -> Vec<Fault> {
    let count = match draw.between(0, 100) {
        0..60 => 1,
        60..85 => 2,
        _ => 3,
    };
    let mut faults: Vec<Fault> = Vec::new();
    while faults.len() < count {
        let target = draw.of(&Target::all());
        let fault = one(target, draw);
        if faults.iter().all(|other| other.target != target) {
            faults.push(fault);
        }
    }
    faults
}

fn one(target: Target, draw: &mut Draw) -> Fault {
    let way = draw.of(target.ways());
    let lasts = match way {
        Way::Kill => draw.between(0, 1500),
        Way::Freeze if target == Target::Nats => draw.between(200, 1500),
        Way::Freeze | Way::Cut | Way::Stall => draw.between(300, 5000),
    };
    let from = draw.between(0, 700);
    Fault {
        target,
        way,
        from: Duration::from_millis(from),
        to: Duration::from_millis(from + lasts),
    }
}

/// The cables between parts and NATS.
pub(crate) struct Cables(BTreeMap<Target, Proxy>);

impl Cables {
    /// Lays one for every part that has a connection of its own, and tells where.
    pub(crate) fn lay(nats: std::net::SocketAddr) -> (Self, Vec<(String, String)>) {
        let mut all = BTreeMap::new();
        let mut urls = Vec::new();
        for target in Target::all() {
            if let Some(name) = target.connected() {
                let proxy = Proxy::start(nats);
                urls.push((name, format!("nats://{}", proxy.addr())));
                all.insert(target, proxy);
            }
        }
        (Self(all), urls)
    }
}

/// Does a fault.
pub(crate) fn begin(cluster: &mut Cluster, cables: &Cables, fault: Fault) {
    match (fault.way, part(cluster, fault.target)) {
        (Way::Kill, Some(part)) => part.kill(),
        (Way::Kill, None) => cluster.nats.kill(),
        (Way::Freeze, Some(part)) => {
            if let Some(running) = part.running() {
                running.freeze();
            }
        }
        (Way::Freeze, None) => cluster.nats.freeze(),
        (Way::Cut, _) => cable(cables, fault.target, Proxy::cut),
        (Way::Stall, _) => cable(cables, fault.target, Proxy::stall),
    }
}

/// Undoes it.
pub(crate) async fn end(cluster: &mut Cluster, cables: &Cables, fault: Fault) {
    match (fault.way, part(cluster, fault.target)) {
        (Way::Kill, Some(part)) => part.revive(),
        (Way::Kill, None) => cluster.nats.restart().await,
        (Way::Freeze, Some(part)) => {
            if let Some(running) = part.running() {
                running.thaw();
            }
        }
        (Way::Freeze, None) => cluster.nats.thaw(),
        (Way::Cut | Way::Stall, _) => cable(cables, fault.target, Proxy::resume),
    }
}

fn cable(cables: &Cables, target: Target, change: impl Fn(&Proxy)) {
    if let Some(proxy) = cables.0.get(&target) {
        change(proxy);
    }
}

/// The process; none for nats-server, which is another kind of thing.
fn part(cluster: &mut Cluster, target: Target) -> Option<&mut Part> {
    match target {
        Target::Engine(n) => Some(&mut cluster.engines[n]),
        Target::Agent(n) => Some(&mut cluster.agents[n]),
        Target::Gateway(n) => Some(&mut cluster.gateways[n]),
        Target::Scheduler(n) => Some(&mut cluster.schedulers[n]),
        Target::Registry => Some(&mut cluster.registry),
        Target::LogSink => Some(&mut cluster.log_sink),
        Target::Nats => None,
    }
}
