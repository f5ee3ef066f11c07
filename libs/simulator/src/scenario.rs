//! A cluster and what befalls it, as a text that can be kept and played again.

use crate::net::PATIENCE;
use crate::random::Random;
use crate::wire::{MS, SECOND, Time};
use anyhow::{Context as _, bail, ensure};
use orchion_contract::lease::SERVICE_TTL_S;
use std::fmt;
use std::str::FromStr;

/// How long faults and new jobs come.
pub(crate) const ACTIVE: Time = 30 * SECOND;

/// A cluster, its work and its faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Decides delays, jobs and everything else that is left to chance.
    pub seed: u64,
    /// Schedulers; one of them is in charge.
    pub schedulers: usize,
    /// Registries; one of them is active.
    pub registries: usize,
    /// Gateways.
    pub gateways: usize,
    /// Slots of each node.
    pub slots: Vec<u32>,
    /// Jobs submitted.
    pub jobs: usize,
    /// Jobs that may wait.
    pub queue_capacity: usize,
    /// What befalls it.
    pub faults: Vec<Fault>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When it begins, in milliseconds.
    pub at_ms: u64,
    /// How long it lasts.
    pub for_ms: u64,
    /// What happens.
    pub what: What,
}

/// A kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A scheduler.
    Scheduler,
    /// A registry.
    Registry,
    /// A gateway.
    Gateway,
    /// A node-agent.
    Agent,
}

const ROLES: [(Role, &str); 4] = [
    (Role::Scheduler, "scheduler"),
    (Role::Registry, "registry"),
    (Role::Gateway, "gateway"),
    (Role::Agent, "agent"),
];

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A process dies and is started again.
    Kill(Role, usize),
    /// A process stands still.
    Pause(Role, usize),
    /// Its connection is closed.
    Cut(Role, usize),
    /// Nothing passes its connection, and nobody is told.
    Stall(Role, usize),
    /// What a process sends arrives only at the end; what it is sent arrives at once.
    Late(Role, usize),
    /// The engine of a node dies and is started again.
    Engine(usize),
    /// The engine of a node lives, and answers every new request with this HTTP status.
    Sick(usize, u16),
    /// So many messages in a thousand are lost.
    Loss(u64),
    /// So many in a thousand come twice.
    Twice(u64),
    /// Messages take up to so many milliseconds.
    Slow(u64),
    /// The server is killed, and has lost what it stored in the last milliseconds.
    Nats(u64),
    /// The streams take nothing.
    Full,
}

impl What {
    /// The word under which it is counted.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Kill(Role::Scheduler, _) => "kill scheduler",
            Self::Kill(Role::Registry, _) => "kill registry",
            Self::Kill(Role::Gateway, _) => "kill gateway",
            Self::Kill(Role::Agent, _) => "kill agent",
            Self::Pause(..) => "pause",
            Self::Cut(..) => "cut",
            Self::Stall(..) => "stall",
            Self::Late(..) => "late",
            Self::Engine(_) => "engine",
            Self::Sick(..) => "sick engine",
            Self::Loss(_) => "loss",
            Self::Twice(_) => "twice",
            Self::Slow(_) => "slow",
            Self::Nats(0) => "nats",
            Self::Nats(_) => "nats without tail",
            Self::Full => "full",
        }
    }
}

impl Scenario {
    /// The life that belongs to a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        let nodes = random.between(2, 5);
        let slots: Vec<u32> = (0..nodes).map(|_| random.between(1, 4) as u32).collect();
        let all: u32 = slots.iter().sum();
        let mut scenario = Self {
            seed,
            schedulers: random.between(1, 3) as usize,
            registries: random.between(1, 2) as usize,
            gateways: random.between(1, 3) as usize,
            jobs: (random.between(10, 24) as usize) * all as usize,
            queue_capacity: if random.chance(150) { 4 } else { 1024 },
            slots,
            faults: Vec::new(),
        };
        // Calm lives too: what fails in them is easier to understand.
        let count = match random.between(0, 9) {
            0 => 0,
            1..=3 => random.between(1, 4),
            4..=7 => random.between(5, 15),
            _ => random.between(16, 40),
        };
        let tail = random.chance(120);
        for _ in 0..count {
            let fault = scenario.fault(&mut random, tail);
            scenario.faults.push(fault);
        }
        let mut random = Random::new(seed, 4);
        if count > 0 && random.chance(500) {
            let fault = scenario.late(&mut random);
            scenario.faults.push(fault);
        }
        let mut random = Random::new(seed, 5);
        if count > 0 && random.chance(300) {
            let fault = scenario.sick(&mut random);
            scenario.faults.push(fault);
        }
        scenario.faults.sort_by_key(|fault| fault.at_ms);
        scenario
    }

    /// An engine that is broken for whatever it is asked, or says "later".
    fn sick(&self, random: &mut Random) -> Fault {
        let status = if random.chance(500) { 500 } else { 503 };
        Fault {
            at_ms: random.between(500, ACTIVE / MS),
            for_ms: random.between(100, 10_000),
            what: What::Sick(random.below(self.slots.len()), status),
        }
    }

    /// What a scheduler sends arrives after its lease, when its successor has begun.
    fn late(&self, random: &mut Random) -> Fault {
        let lease_ms = SERVICE_TTL_S * SECOND / MS;
        Fault {
            at_ms: random.between(2_000, ACTIVE / MS),
            for_ms: random.between(lease_ms, PATIENCE / MS - 50),
            what: What::Late(Role::Scheduler, random.below(self.schedulers)),
        }
    }

    fn fault(&self, random: &mut Random, tail: bool) -> Fault {
        let at_ms = random.between(500, ACTIVE / MS);
        let (what, for_ms) = match random.between(0, 99) {
            0..=11 => (
                What::Kill(Role::Scheduler, random.below(self.schedulers)),
                random.between(1, 4000),
            ),
            12..=16 => (
                What::Pause(Role::Scheduler, random.below(self.schedulers)),
                pause(random),
            ),
            17..=21 => (
                What::Cut(Role::Scheduler, random.below(self.schedulers)),
                random.between(1, 6000),
            ),
            22..=25 => (
                What::Stall(Role::Scheduler, random.below(self.schedulers)),
                random.between(1, 5000),
            ),
            26..=37 => (
                What::Kill(Role::Agent, random.below(self.slots.len())),
                random.between(1, 5000),
            ),
            38..=42 => (
                What::Pause(Role::Agent, random.below(self.slots.len())),
                pause(random),
            ),
            43..=48 => (
                What::Cut(Role::Agent, random.below(self.slots.len())),
                random.between(1, 8000),
            ),
            49..=53 => (
                What::Stall(Role::Agent, random.below(self.slots.len())),
                random.between(1, 8000),
            ),
            54..=60 => (
                What::Engine(random.below(self.slots.len())),
                random.between(1, 3000),
            ),
            61..=66 => (
                What::Kill(Role::Gateway, random.below(self.gateways)),
                random.between(1, 5000),
            ),
            67..=69 => (
                What::Cut(Role::Gateway, random.below(self.gateways)),
                random.between(1, 5000),
            ),
            70..=71 => (
                What::Pause(Role::Gateway, random.below(self.gateways)),
                random.between(1, 4000),
            ),
            72..=75 => (
                What::Kill(Role::Registry, random.below(self.registries)),
                random.between(1, 4000),
            ),
            76..=78 => (
                What::Cut(Role::Registry, random.below(self.registries)),
                random.between(1, 4000),
            ),
            79..=83 => (
                What::Loss(random.between(5, 200)),
                random.between(100, 6000),
            ),
            84..=87 => (
                What::Twice(random.between(5, 300)),
                random.between(100, 6000),
            ),
            88..=91 => (
                What::Slow(random.between(5, 600)),
                random.between(100, 6000),
            ),
            92..=97 => {
                let lost = if tail { random.between(1, 3000) } else { 0 };
                (What::Nats(lost), outage(random))
            }
            _ => (What::Full, random.between(50, 4000)),
        };
        Fault {
            at_ms,
            for_ms,
            what,
        }
    }

    /// Whether the store forgets what it had acknowledged.
    #[must_use]
    pub fn loses_its_tail(&self) -> bool {
        self.faults
            .iter()
            .any(|fault| matches!(fault.what, What::Nats(lost) if lost > 0))
    }
}

/// Mostly short, sometimes longer than any lease.
fn outage(random: &mut Random) -> u64 {
    if random.chance(150) {
        random.between(10_500, 14_000)
    } else {
        random.between(20, 3_000)
    }
}

/// Mostly short, sometimes long enough that a successor takes over meanwhile.
fn pause(random: &mut Random) -> u64 {
    if random.chance(500) {
        random.between(5_000, 12_000)
    } else {
        random.between(1, 3_000)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ROLES.iter().find(|(role, _)| role == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(role, n) => write!(f, "kill {role} {n}"),
            Self::Pause(role, n) => write!(f, "pause {role} {n}"),
            Self::Cut(role, n) => write!(f, "cut {role} {n}"),
            Self::Stall(role, n) => write!(f, "stall {role} {n}"),
            Self::Late(role, n) => write!(f, "late {role} {n}"),
            Self::Engine(n) => write!(f, "engine {n}"),
            Self::Sick(n, status) => write!(f, "sick {n} {status}"),
            Self::Loss(n) => write!(f, "loss {n}"),
            Self::Twice(n) => write!(f, "twice {n}"),
            Self::Slow(n) => write!(f, "slow {n}"),
            Self::Nats(n) => write!(f, "nats {n}"),
            Self::Full => write!(f, "full 0"),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots: Vec<String> = self.slots.iter().map(u32::to_string).collect();
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "schedulers {}", self.schedulers)?;
        writeln!(f, "registries {}", self.registries)?;
        writeln!(f, "gateways {}", self.gateways)?;
        writeln!(f, "slots {}", slots.join(" "))?;
        writeln!(f, "jobs {}", self.jobs)?;
        writeln!(f, "queue {}", self.queue_capacity)?;
        for fault in &self.faults {
            writeln!(f, "at {} for {} {}", fault.at_ms, fault.for_ms, fault.what)?;
        }
        Ok(())
    }
}

impl FromStr for Scenario {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut scenario = Self {
            seed: 0,
            schedulers: 1,
            registries: 1,
            gateways: 1,
            slots: vec![1],
            jobs: 1,
            queue_capacity: 1024,
            faults: Vec::new(),
        };
        for (n, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            scenario
                .line(&words)
                .with_context(|| format!("line {} of the scenario, '{line}'", n + 1))?;
        }
        for fault in &scenario.faults {
            let (role, n) = match fault.what {
                What::Kill(role, n)
                | What::Pause(role, n)
                | What::Cut(role, n)
                | What::Stall(role, n)
                | What::Late(role, n) => (role, n),
                What::Engine(n) | What::Sick(n, _) => (Role::Agent, n),
                What::Loss(_) | What::Twice(_) | What::Slow(_) | What::Nats(_) | What::Full => {
                    continue;
                }
            };
            let count = match role {
                Role::Scheduler => scenario.schedulers,
                Role::Registry => scenario.registries,
                Role::Gateway => scenario.gateways,
                Role::Agent => scenario.slots.len(),
            };
            ensure!(
                n < count,
                "there is no {role} {n}: there are {count}, counted from 0"
            );
        }
        Ok(scenario)
    }
}

impl Scenario {
    fn line(&mut self, words: &[&str]) -> anyhow::Result<()> {
        match words {
            [] => {}
            [word, ..] if word.starts_with('#') => {}
            ["seed", n] => self.seed = n.parse()?,
            ["schedulers", n] => self.schedulers = n.parse()?,
            ["registries", n] => self.registries = n.parse()?,
            ["gateways", n] => self.gateways = n.parse()?,
            ["jobs", n] => self.jobs = n.parse()?,
            ["queue", n] => self.queue_capacity = n.parse()?,
            ["slots", slots @ ..] => {
                self.slots = slots
                    .iter()
                    .map(|slots| slots.parse())
                    .collect::<Result<_, _>>()?;
            }
            ["at", at, "for", length, what @ ..] => self.faults.push(Fault {
                at_ms: at.parse()?,
                for_ms: length.parse()?,
                what: what_of(what)?,
            }),
            _ => bail!("nobody knows this line"),
        }
        Ok(())
    }
}

fn what_of(words: &[&str]) -> anyhow::Result<What> {
    let role = |name: &str| {
        let found = ROLES.iter().find(|(_, known)| *known == name);
        found
            .map(|(role, _)| *role)
            .context("nobody knows this process")
    };
    Ok(match words {
        ["kill", name, n] => What::Kill(role(name)?, n.parse()?),
        ["pause", name, n] => What::Pause(role(name)?, n.parse()?),
        ["cut", name, n] => What::Cut(role(name)?, n.parse()?),
        ["stall", name, n] => What::Stall(role(name)?, n.parse()?),
        ["late", name, n] => What::Late(role(name)?, n.parse()?),
        ["engine", n] => What::Engine(n.parse()?),
        ["sick", n, status] => What::Sick(n.parse()?, status.parse()?),
        ["loss", n] => What::Loss(n.parse()?),
        ["twice", n] => What::Twice(n.parse()?),
        ["slow", n] => What::Slow(n.parse()?),
        ["nats", n] => What::Nats(n.parse()?),
        ["full", _] => What::Full,
        _ => bail!("nobody knows this fault"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_read_as_it_was_written() {
        for seed in 0..200 {
            let scenario = Scenario::of(seed);
            assert_eq!(scenario.to_string().parse::<Scenario>().unwrap(), scenario);
        }
    }

    #[test]
    fn a_fault_of_nobody_is_refused() {
        let error = "slots 1 2\nat 5 for 10 kill agent 2"
            .parse::<Scenario>()
            .unwrap_err();
        assert!(error.to_string().contains("no agent 2"));
    }
}
