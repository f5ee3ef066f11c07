//! Connections, and messages on their way.

use super::*;

impl Net {
    pub(super) fn send(&mut self, from: Life, packet: Packet) {
        if !self.lives(from) {
            return;
        }
        let link = &mut self.links[from.process];
        if !link.is_up {
            if link.buffered.len() < BUFFERED {
                link.buffered.push(packet);
            }
            return;
        }
        let conn = link.conn;
        if self.random.chance(self.weather.loss) {
            self.counts.lost += 1;
            self.links[from.process].last_bad = self.now;
            self.links[from.process].last_own = self.now;
            return;
        }
        if self.weather.twice > 0 && self.random.chance(self.weather.twice) {
            self.counts.twice += 1;
            let at = self.hop(from.process, 0, lane_of(&packet));
            let packet = packet.clone();
            self.at(at, Event::Arrive { from, conn, packet });
        }
        let at = self.hop(from.process, 0, lane_of(&packet));
        self.at(at, Event::Arrive { from, conn, packet });
    }

    /// From the server to a process.
    pub(crate) fn deliver(&mut self, process: usize, parcel: Parcel) {
        let link = &self.links[process];
        if !link.is_alive || !link.is_up {
            return;
        }
        let (to, conn) = (self.life(process), link.conn);
        let is_ordered = matches!(
            parcel,
            Parcel::Entry { .. }
                | Parcel::Change { .. }
                | Parcel::Loaded(_)
                | Parcel::Connected(..)
                | Parcel::Disconnected(..)
        );
        if !is_ordered && self.random.chance(self.weather.loss) {
            self.counts.lost += 1;
            return;
        }
        let at = self.hop(process, 1, lane_to(&parcel));
        self.at(at, Event::Deliver { to, conn, parcel });
    }

    /// When a message arrives that is sent now: in order within its lane.
    fn hop(&mut self, process: usize, direction: usize, lane: usize) -> Time {
        let mut delay = self.random.between(50, 250);
        if self.random.chance(15) {
            delay += self.random.between(1, 30) * MS;
        }
        if self.weather.slow_ms > 0 && self.random.chance(300) {
            delay += self.random.between(0, self.weather.slow_ms) * MS;
        }
        let link = &mut self.links[process];
        let held_until = match direction {
            0 => link.stalled_until.max(link.late_until),
            _ => link.stalled_until,
        };
        let at = (self.now + delay).max(held_until + delay.min(MS));
        let last = &mut link.lanes[direction][lane % LANES];
        *last = (*last).max(at);
        *last
    }

    pub(crate) fn connect(&mut self, process: usize) {
        let now = self.now;
        let link = &mut self.links[process];
        if link.is_up || !link.is_alive {
            return;
        }
        link.is_up = true;
        link.is_severed = false;
        link.conn += 1;
        link.since = now;
        link.last_bad = now;
        link.lanes = [[0; LANES]; 2];
        link.stalled_until = 0;
        link.late_until = 0;
        let (life, conn) = (self.life(process), self.links[process].conn);
        self.tell_connection(Parcel::Connected(life, conn), process);
        let buffered = std::mem::take(&mut self.links[process].buffered);
        for packet in buffered {
            let at = self.hop(process, 0, lane_of(&packet));
            self.at(
                at,
                Event::Arrive {
                    from: life,
                    conn,
                    packet,
                },
            );
        }
        let mine: Vec<u64> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| consumer.owner == life)
            .map(|(id, _)| *id)
            .collect();
        for id in mine {
            self.resume(id);
        }
    }

    /// The connection ends; `by_server`: because the server does.
    pub(crate) fn disconnect(&mut self, process: usize, by_server: bool) {
        let link = &mut self.links[process];
        link.last_bad = self.now;
        if !by_server {
            link.last_own = self.now;
        }
        if !link.is_up {
            return;
        }
        link.is_up = false;
        link.is_severed = by_server;
        let conn = link.conn;
        let life = self.life(process);
        if !by_server {
            self.tell_connection(Parcel::Disconnected(life, conn), process);
        }
    }

    fn tell_connection(&mut self, parcel: Parcel, process: usize) {
        if self.links[process].role != Role::Agent {
            return;
        }
        for other in 0..self.links.len() {
            if self.links[other].role == Role::Registry {
                self.deliver(other, parcel.clone());
            }
        }
    }

    /// A process dies: what it had to say is gone.
    pub(crate) fn kill(&mut self, process: usize) {
        let life = self.life(process);
        self.disconnect(process, false);
        let link = &mut self.links[process];
        link.is_alive = false;
        link.is_paused = false;
        link.frozen.clear();
        link.buffered.clear();
        link.wake_at = None;
        self.consumers.retain(|_, consumer| consumer.owner != life);
        self.ops.retain(|_, pending| pending.owner != life);
    }
}

fn lane_of(packet: &Packet) -> usize {
    match packet {
        Packet::Call(
            _,
            Call::Append { job, .. } | Call::Last { job, .. } | Call::Chain { job, .. },
        ) => job.uuid().as_u64_pair().1 as usize % 3,
        Packet::Call(_, _) => 3,
        Packet::Ask(_, _, Ask::Ended(_)) => 4,
        Packet::Ask(_, _, _) => 5,
        Packet::Reply { .. } => 6,
        Packet::News(_) => 7,
    }
}

fn lane_to(parcel: &Parcel) -> usize {
    match parcel {
        Parcel::Answer(op, _) | Parcel::Said(op, _) | Parcel::Nobody(op) => (*op % 2) as usize,
        Parcel::Ask { .. } => 2,
        Parcel::News(_) => 3,
        Parcel::Entry { consumer, .. } => 4 + (*consumer % 2) as usize,
        Parcel::Change { .. } | Parcel::Loaded(_) => 6,
        Parcel::Connected(..) | Parcel::Disconnected(..) => 7,
    }
}
