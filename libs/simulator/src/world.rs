//! One life of a cluster: events in order of time until all is over.

mod faults;
mod gateways;
mod serve;

use crate::agent::{Agent, replica};
use crate::check::{Oracle, Property, Violation};
use crate::client::Client;
use crate::counts::Counts;
use crate::gateway::{Fed, Gateway};
use crate::mutant::Mutant;
use crate::names;
use crate::net::{Event, Net, PATIENCE, QUICK};
use crate::outcome::Outcome;
use crate::purpose::Purpose;
use crate::random::Random;
use crate::registry::Registry;
use crate::scenario::{ACTIVE, Role, Scenario, What};
use crate::scheduler::Scheduler;
use crate::server::Stored;
use crate::wire::{
    Answer, Ask, Call, Key, Life, MS, News, Packet, Parcel, Reader, SECOND, Time, Value, Whom,
};
use orchion_contract::JobId;
use orchion_contract::job::Door;
use orchion_contract::node::Continuation;
use orchion_contract::transcript::Entry;
use orchion_scheduler_core::{FullPolicy, PoolPolicy, Settings};

/// How long after the last fault everything must have ended.
const DRAIN: Time = 100 * SECOND;
const SAMPLE: Time = 250 * MS;

/// How a life went.
#[derive(Debug, Clone)]
pub struct Lived {
    /// What was covered.
    pub counts: Counts,
    /// The first promise that was not kept.
    pub violation: Option<Violation>,
    /// What happened to the job that was watched.
    pub story: Vec<String>,
}

enum Body {
    None,
    Scheduler(Box<Scheduler>),
    Registry(Box<Registry>),
    Gateway(Box<Gateway>),
    Agent(Box<Agent>),
}

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) net: Net,
    bodies: Vec<Body>,
    pub(crate) clients: Vec<Client>,
    continuations: Vec<Continuation>,
}

/// Lives a scenario to its end.
#[must_use]
pub fn live(scenario: &Scenario, mutant: Option<Mutant>) -> Lived {
    watch(scenario, mutant, None)
}

/// The same, with the story of one job.
#[must_use]
pub fn watch(scenario: &Scenario, mutant: Option<Mutant>, job: Option<usize>) -> Lived {
    #[cfg(feature = "planted-faults")]
    {
        use orchion_scheduler_core::planted;
        planted::forget_reservations(mutant == Some(Mutant::ReservationForgotten));
        planted::admit_unrecorded(mutant == Some(Mutant::AdmittedUnrecorded));
    }
    let mut world = World::new(scenario.clone(), mutant);
    world.net.watched = job.map(names::job);
    world.run();
    let mut counts = world.net.counts.clone();
    counts.lives = 1;
    for fault in &scenario.faults {
        *counts.faults.entry(fault.what.kind()).or_default() += 1;
    }
    Lived {
        counts,
        violation: world.net.oracle.first.clone(),
        story: world.net.story,
    }
}

impl World {
    fn new(scenario: Scenario, mutant: Option<Mutant>) -> Self {
        let mut random = Random::new(scenario.seed, 2);
        let mut net = Net::new(Random::new(scenario.seed, 3), mutant, Oracle::default());
        let roles = [
            (Role::Scheduler, scenario.schedulers),
            (Role::Registry, scenario.registries),
            (Role::Gateway, scenario.gateways),
            (Role::Agent, scenario.slots.len()),
        ];
        for (role, count) in roles {
            for n in 0..count {
                let process = net.add(role, n);
                net.at(random.between(0, 200) * MS, Event::Start(process));
            }
        }
        for (n, fault) in scenario.faults.iter().enumerate() {
            net.at(fault.at_ms * MS, Event::Begin(n));
            net.at((fault.at_ms + fault.for_ms) * MS, Event::End(n));
        }
        let mut clients: Vec<Client> = Vec::new();
        for n in 0..scenario.jobs {
            // Each job of its own: fewer jobs leave the others as they are.
            let mut random = Random::new(scenario.seed, 100 + n as u64);
            let at = random.between(300, ACTIVE / MS) * MS;
            net.lengths.push(match random.chance(200) {
                true => (random.between(1, 3), QUICK),
                false => (random.between(1, 16), random.between(20, 120) * MS),
            });
            let number = clients.len();
            let mut client = Client::new(number, n, &mut random);
            if random.chance(100) {
                client.leaves_at = Some(at + random.between(1, 2_000) * MS);
            }
            let (leaves, is_task) = (client.leaves_at, client.door == Door::Task);
            clients.push(client);
            net.at(at, Event::Client(number, 0));
            if let Some(leaves) = leaves {
                net.at(leaves, Event::Client(number, 1));
            }
            if is_task && random.chance(150) {
                let number = clients.len();
                let from = random.between(0, 3);
                clients.push(Client::viewer(number, n, from, &mut random));
                net.at(at + random.between(1, 3_000) * MS, Event::Client(number, 0));
            }
        }
        let continuation = |_| {
            if random.chance(900) {
                Continuation::Text
            } else {
                Continuation::None
            }
        };
        let continuations = scenario.slots.iter().map(continuation).collect();
        if scenario.loses_its_tail() {
            // What a power cut took from records that were written to their end
            // shows when somebody reads them all.
            for n in 0..scenario.schedulers {
                net.at(ACTIVE + 5 * SECOND, Event::Restart(n));
            }
        }
        net.at(SAMPLE, Event::Sample);
        let bodies = net.links.iter().map(|_| Body::None).collect();
        Self {
            scenario,
            net,
            bodies,
            clients,
            continuations,
        }
    }

    fn run(&mut self) {
        while let Some(event) = self.net.next() {
            self.net.counts.events += 1;
            if matches!(event, Event::Sample) {
                if self.sample() {
                    break;
                }
            } else {
                self.happen(event);
            }
            if self.net.oracle.first.is_some() {
                return;
            }
        }
        self.judge();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { from, conn, packet } => {
                let link = &mut self.net.links[from.process];
                if link.is_paused && link.holds_back && link.number == from.number {
                    link.frozen.push(Event::Arrive { from, conn, packet });
                    return;
                }
                let arrives = self.net.server_is_up && link.conn == conn && !link.is_severed;
                if arrives {
                    self.arrive(from, packet);
                }
            }
            Event::Deliver { to, conn, parcel } => {
                let link = &mut self.net.links[to.process];
                if !link.is_alive || link.number != to.number || link.conn != conn || !link.is_up {
                    return;
                }
                if link.is_paused {
                    link.frozen.push(Event::Deliver { to, conn, parcel });
                    return;
                }
                self.deliver(to, parcel);
            }
            Event::TimeOut(op) => {
                let Some(owner) = self.net.owner_of(op) else {
                    return;
                };
                let link = &mut self.net.links[owner.process];
                if link.is_paused {
                    link.frozen.push(Event::TimeOut(op));
                    return;
                }
                self.settled(op, Outcome::TimedOut);
            }
            Event::Wake(life) => {
                if !self.net.lives(life) {
                    return;
                }
                let link = &mut self.net.links[life.process];
                if link.is_paused {
                    link.frozen.push(Event::Wake(life));
                    return;
                }
                if self.net.is_awake(life) {
                    self.wake(life);
                }
            }
            Event::Expire(key, revision) => {
                if self.net.server_is_up
                    && self
                        .net
                        .server
                        .expire(key, revision, self.net.now)
                        .is_some()
                {
                    self.net.changed(key);
                }
            }
            Event::Begin(n) => self.begin(n),
            Event::End(n) => self.end(n),
            Event::Start(process) => self.start(process),
            Event::Restart(scheduler) => {
                let process = self.process(Role::Scheduler, scheduler);
                self.kill(process);
                self.start(process);
            }
            Event::Reconnect(process) => self.connect(process),
            Event::GiveUp(process, conn) => {
                let link = &self.net.links[process];
                let is_silent = link.is_silent(self.net.now);
                if link.conn == conn && link.is_up && is_silent {
                    self.net.disconnect(process, false);
                    if !self.net.links[process].is_paused {
                        self.connect_soon(process);
                    }
                }
            }
            Event::Client(n, 0) => self.clients[n].come(&mut self.net),
            Event::Client(n, _) => self.clients[n].leave(&mut self.net),
            Event::Sample => {}
        }
    }

    // Processes.

    fn start(&mut self, process: usize) {
        let link = &mut self.net.links[process];
        if link.is_alive {
            return;
        }
        link.is_alive = true;
        link.number += 1;
        link.last_bad = self.net.now;
        link.last_own = self.net.now;
        let (role, index) = (link.role, link.index);
        if self.net.server_is_up && self.net.links[process].cut_until <= self.net.now {
            self.net.connect(process);
        } else {
            self.connect_soon(process);
        }
        let life = self.net.life(process);
        let net = &mut self.net;
        self.bodies[process] = match role {
            Role::Scheduler => {
                let usual_pool = PoolPolicy {
                    capacity: self.scenario.queue_capacity,
                    full_policy: match self.scenario.seed % 3 {
                        0 => FullPolicy::Reject,
                        1 => FullPolicy::DropLru,
                        _ => FullPolicy::ShedLowPriority,
                    },
                    ..PoolPolicy::default()
                };
                let settings = Settings {
                    usual_pool,
                    ..Settings::default()
                };
                Body::Scheduler(Box::new(Scheduler::new(net, life, settings)))
            }
            Role::Registry => Body::Registry(Box::new(Registry::new(net, life))),
            Role::Gateway => Body::Gateway(Box::new(Gateway::new(net, life))),
            Role::Agent => {
                let serves = replica(self.scenario.slots[index], self.continuations[index]);
                Body::Agent(Box::new(Agent::new(net, life, index, serves)))
            }
        };
    }

    fn kill(&mut self, process: usize) {
        let life = self.net.life(process);
        if !self.net.links[process].is_alive {
            return;
        }
        self.net.kill(process);
        self.bodies[process] = Body::None;
        for client in &mut self.clients {
            client.gateway_died(&mut self.net, life);
        }
    }

    fn connect_soon(&mut self, process: usize) {
        let pause = self.net.random.between(5, 120) * MS;
        self.net.at(self.net.now + pause, Event::Reconnect(process));
    }

    fn connect(&mut self, process: usize) {
        let link = &self.net.links[process];
        if !link.is_alive || link.is_up {
            return;
        }
        let may = self.net.server_is_up
            && link.cut_until <= self.net.now
            && link.stalled_until <= self.net.now
            && !link.is_paused;
        if !may {
            if !link.is_paused {
                self.connect_soon(process);
            }
            return;
        }
        self.net.connect(process);
        match &mut self.bodies[process] {
            Body::Agent(agent) => agent.reconnected(&mut self.net),
            Body::Gateway(gateway) => gateway.reconnected(&mut self.net),
            Body::Scheduler(_) | Body::Registry(_) | Body::None => {}
        }
    }

    fn wake(&mut self, life: Life) {
        match &mut self.bodies[life.process] {
            Body::Scheduler(scheduler) => scheduler.wake(&mut self.net),
            Body::Registry(registry) => registry.wake(&mut self.net),
            Body::Gateway(gateway) => gateway.wake(&mut self.net),
            Body::Agent(agent) => agent.wake(&mut self.net),
            Body::None => {}
        }
    }

    fn deliver(&mut self, to: Life, parcel: Parcel) {
        match parcel {
            Parcel::Answer(op, answer) => self.settled(op, Outcome::Answer(answer)),
            Parcel::Said(op, said) => self.settled(op, Outcome::Said(said)),
            Parcel::Nobody(op) => self.settled(op, Outcome::Nobody),
            parcel => match &mut self.bodies[to.process] {
                Body::Scheduler(scheduler) => scheduler.parcel(&mut self.net, parcel),
                Body::Registry(registry) => registry.parcel(&mut self.net, parcel),
                Body::Agent(agent) => agent.parcel(&mut self.net, parcel),
                Body::Gateway(_) => self.gateway_hears(to, parcel),
                Body::None => {}
            },
        }
    }

    /// An answer came, or did not.
    fn settled(&mut self, op: u64, outcome: Outcome) {
        let Some((owner, purpose)) = self.net.take(op) else {
            return;
        };
        if !self.net.lives(owner) {
            return;
        }
        if let Purpose::Client(n, errand) = purpose {
            self.clients[n].answered(&mut self.net, errand, outcome);
            return;
        }
        let fed = match &mut self.bodies[owner.process] {
            Body::Scheduler(scheduler) => {
                scheduler.answered(&mut self.net, purpose, outcome);
                Vec::new()
            }
            Body::Registry(registry) => {
                registry.answered(&mut self.net, purpose, outcome);
                Vec::new()
            }
            Body::Agent(agent) => {
                agent.answered(&mut self.net, op, purpose, outcome);
                Vec::new()
            }
            Body::Gateway(gateway) => gateway.answered(&mut self.net, purpose, outcome),
            Body::None => Vec::new(),
        };
        self.feed(owner, fed);
    }

    // Looking.

    /// Looks at the whole; whether everything is over.
    fn sample(&mut self) -> bool {
        let now = self.net.now;
        let least = if self.scenario.loses_its_tail() { 8 } else { 1 };
        let over = now > ACTIVE + least * SECOND && self.unfinished().is_none();
        if over {
            return true;
        }
        if now > ACTIVE + DRAIN {
            let what = self.unfinished();
            self.net.broken(Property::Ends, || what.unwrap_or_default());
            return true;
        }
        self.net.at(now + SAMPLE, Event::Sample);
        false
    }

    pub(crate) fn schedulers(&self) -> impl Iterator<Item = &Scheduler> {
        self.bodies.iter().filter_map(|body| match body {
            Body::Scheduler(scheduler) => Some(&**scheduler),
            Body::Registry(_) | Body::Gateway(_) | Body::Agent(_) | Body::None => None,
        })
    }

    pub(crate) fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.bodies.iter().filter_map(|body| match body {
            Body::Agent(agent) => Some(&**agent),
            Body::Registry(_) | Body::Gateway(_) | Body::Scheduler(_) | Body::None => None,
        })
    }
}
