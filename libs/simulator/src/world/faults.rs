//! What befalls the cluster, and how it passes.

use super::*;

impl World {
    pub(super) fn process(&self, role: Role, index: usize) -> usize {
        let found = self
            .net
            .links
            .iter()
            .position(|link| link.role == role && link.index == index);
        found.unwrap_or(0)
    }

    pub(super) fn begin(&mut self, n: usize) {
        let fault = self.scenario.faults[n].clone();
        let (now, length) = (self.net.now, fault.for_ms * MS);
        match fault.what {
            What::Kill(role, n) => self.kill(self.process(role, n)),
            What::Pause(role, n) => {
                let process = self.process(role, n);
                let holds_back = self.net.random.chance(500);
                let link = &mut self.net.links[process];
                if link.is_alive && !link.is_paused {
                    link.is_paused = true;
                    link.holds_back = holds_back;
                    link.last_bad = now + length;
                    link.last_own = now + length;
                    let conn = link.conn;
                    self.net.at(now + PATIENCE, Event::GiveUp(process, conn));
                }
            }
            What::Cut(role, n) => {
                let process = self.process(role, n);
                self.net.links[process].cut_until = now + length;
                self.net.disconnect(process, false);
                self.connect_soon(process);
            }
            What::Stall(role, n) => {
                let process = self.process(role, n);
                let link = &mut self.net.links[process];
                link.stalled_until = now + length;
                link.last_bad = now + length;
                link.last_own = now + length;
                let conn = link.conn;
                self.net.at(now + PATIENCE, Event::GiveUp(process, conn));
            }
            What::Late(role, n) => {
                let process = self.process(role, n);
                let link = &mut self.net.links[process];
                link.late_until = now + length;
                link.last_bad = now + length;
                link.last_own = now + length;
                let conn = link.conn;
                self.net.at(now + PATIENCE, Event::GiveUp(process, conn));
            }
            What::Engine(n) => {
                let process = self.process(Role::Agent, n);
                if let Body::Agent(agent) = &mut self.bodies[process]
                    && !self.net.links[process].is_paused
                {
                    agent.engine_dies(&mut self.net, length);
                }
            }
            What::Sick(n, status) => self.engine_says(n, Some(status)),
            What::Loss(per_mille) => self.net.weather.loss = per_mille,
            What::Twice(per_mille) => self.net.weather.twice = per_mille,
            What::Slow(ms) => self.net.weather.slow_ms = ms,
            What::Nats(_) => {
                self.net.server_is_up = false;
                for process in 0..self.net.links.len() {
                    self.net.disconnect(process, true);
                }
            }
            What::Full => self.net.server.is_full = true,
        }
    }

    pub(super) fn end(&mut self, n: usize) {
        let fault = self.scenario.faults[n].clone();
        match fault.what {
            What::Kill(role, n) => self.start(self.process(role, n)),
            What::Pause(role, n) => {
                let process = self.process(role, n);
                let link = &mut self.net.links[process];
                if std::mem::take(&mut link.is_paused) {
                    for event in std::mem::take(&mut link.frozen) {
                        self.net.at(self.net.now, event);
                    }
                    if !self.net.links[process].is_up {
                        self.connect_soon(process);
                    }
                }
            }
            What::Cut(..) | What::Stall(..) | What::Late(..) | What::Engine(_) => {}
            What::Sick(n, _) => self.engine_says(n, None),
            What::Loss(_) => self.net.weather.loss = 0,
            What::Twice(_) => self.net.weather.twice = 0,
            What::Slow(_) => self.net.weather.slow_ms = 0,
            What::Nats(lost) => self.restart_server(fault.at_ms, lost),
            What::Full => self.net.server.is_full = false,
        }
    }

    /// What the engine of a node answers instead of answers.
    fn engine_says(&mut self, n: usize, status: Option<u16>) {
        let process = self.process(Role::Agent, n);
        if let Body::Agent(agent) = &mut self.bodies[process] {
            agent.sick = status;
        }
    }

    fn restart_server(&mut self, died_ms: u64, lost: u64) {
        if std::mem::replace(&mut self.net.server_is_up, true) {
            return;
        }
        let now = self.net.now;
        self.net.nats_was_down = now;
        if lost > 0 {
            self.net.server.forget(died_ms.saturating_sub(lost) * MS);
            self.net.oracle.forgotten(now);
        }
        for (key, revision) in self.net.server.overdue(now) {
            self.net.server.expire(key, revision, now);
        }
        for process in 0..self.net.links.len() {
            self.connect_soon(process);
        }
    }
}
