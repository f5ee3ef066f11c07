//! What the server does with what arrives.

use super::*;
use orchion_contract::job::Job;
use std::sync::Arc;

/// How long after its connection was renewed an agent's waiting writes arrive.
const BUFFERED_FOR: Time = 50 * MS;

impl World {
    pub(super) fn arrive(&mut self, from: Life, packet: Packet) {
        match packet {
            Packet::Call(op, call) => {
                let answer = self.serve(from, call);
                if self.net.lives(from) {
                    self.net.answer(from.process, op, answer);
                }
            }
            Packet::Ask(op, whom, ask) => self.route(from, op, whom, &ask),
            Packet::Reply { to, op, said } => {
                if self.net.lives(to) {
                    self.net.deliver(to.process, Parcel::Said(op, said));
                }
            }
            Packet::News(news) => self.spread(&news),
        }
    }

    fn listening(&self, role: Role, index: Option<usize>) -> Vec<usize> {
        let listens = |n: &usize| {
            let link = &self.net.links[*n];
            link.role == role
                && index.is_none_or(|index| link.index == index)
                && link.is_alive
                && link.is_up
        };
        (0..self.net.links.len()).filter(listens).collect()
    }

    fn there(&self, life: Life) -> Vec<usize> {
        let is_there = self.net.lives(life) && self.net.links[life.process].is_up;
        is_there.then_some(life.process).into_iter().collect()
    }

    fn route(&mut self, from: Life, op: u64, whom: Whom, ask: &Ask) {
        let listening = match whom {
            Whom::Schedulers => self.listening(Role::Scheduler, None),
            Whom::Registries => self.listening(Role::Registry, None),
            Whom::Agent(node) => self.listening(Role::Agent, Some(node)),
        };
        if listening.is_empty() {
            if self.net.lives(from) {
                self.net.deliver(from.process, Parcel::Nobody(op));
            }
            return;
        }
        for process in listening {
            let ask = ask.clone();
            self.net.deliver(process, Parcel::Ask { from, op, ask });
        }
    }

    fn spread(&mut self, news: &News) {
        let listening = match news {
            News::Beat(_) => [
                self.listening(Role::Scheduler, None),
                self.listening(Role::Registry, None),
            ]
            .concat(),
            News::Capability(_) => self.listening(Role::Registry, None),
            News::RegisterAgain(node) => self.listening(Role::Agent, Some(*node)),
            News::Hello => self.listening(Role::Agent, None),
            News::Grants(gateway, _) => self.there(*gateway),
            News::Answered(gateway, ..) => {
                [self.listening(Role::Scheduler, None), self.there(*gateway)].concat()
            }
        };
        for process in listening {
            self.net.deliver(process, Parcel::News(news.clone()));
        }
    }

    fn serve(&mut self, from: Life, call: Call) -> Answer {
        let now = self.net.now;
        match call {
            Call::Append {
                reader,
                job,
                entry,
                after,
            } => self.append(from, (reader, job), entry, after),
            Call::Last { reader, job } => {
                let last = self.net.server.chain(reader, job).last();
                Answer::Last(last.map(|stored| (stored.sequence, stored.entry.clone())))
            }
            Call::Chain { reader, job } => {
                let chain = self.net.server.chain(reader, job).iter();
                Answer::Chain(
                    chain
                        .map(|stored| (stored.sequence, stored.entry.clone()))
                        .collect(),
                )
            }
            Call::Set {
                key,
                value,
                expected,
                ttl,
            } => {
                let before = self.recorded(key);
                let is_renewal = self.holder(key) == Some(from);
                let is_compared =
                    !(self.net.has(Mutant::RecordsNotCompared) && matches!(key, Key::Job(_)));
                let expected = is_compared.then_some(expected);
                let told = value.clone();
                let result = self.net.server.set(key, value, expected, ttl, now);
                if let (Key::Job(job), Some(Value::Job(record))) = (key, told) {
                    let to = record.assigned.as_ref().map(|to| to.instance.to_string());
                    self.net.tell(job, || format!("{from:?} records {} attempt {} at {to:?} after {expected:?}: {result:?}", record.state, record.attempt));
                }
                if let Ok(revision) = result {
                    match key {
                        Key::Job(job) => self.net.oracle.recorded(from, job, now),
                        Key::SchedulerLease if !is_renewal => self.net.oracle.reigns(from),
                        Key::SchedulerLease
                        | Key::RegistryLease
                        | Key::GatewayLease(_)
                        | Key::Node(_) => {}
                    }
                    self.look_at(key, before.as_deref());
                    if let Some(ttl) = ttl.filter(|ttl| *ttl < 60 * SECOND) {
                        self.net.at(now + ttl, Event::Expire(key, revision));
                    }
                    self.net.changed(key);
                }
                Answer::Stored(result)
            }
            Call::Get(key) => {
                let slot = self.net.server.keys.get(&key);
                Answer::Got(slot.map(|slot| (slot.revision, slot.value.clone())))
            }
            Call::Jobs => Answer::Jobs(self.net.server.jobs()),
            Call::OpenJobs { after } => {
                let (jobs, upto) = self.net.server.open_jobs(after);
                Answer::OpenJobs { jobs, upto }
            }
            Call::History(job, state) => {
                self.net.server.tell_history(job, state, now);
                Answer::Stored(Ok(1))
            }
            Call::Connections => {
                let agents = self.listening(Role::Agent, None);
                Answer::Connections(
                    agents
                        .into_iter()
                        .map(|process| self.net.life(process))
                        .collect(),
                )
            }
            Call::StoredAt(sequence) => Answer::StoredAt(self.net.server.stored_at(sequence)),
        }
    }

    fn recorded(&self, key: Key) -> Option<Arc<Job>> {
        match self.net.server.keys.get(&key)?.value.as_ref()? {
            Value::Job(job) => Some(job.clone()),
            Value::Node(_) | Value::Lease(_) => None,
        }
    }

    fn holder(&self, key: Key) -> Option<Life> {
        match self.net.server.keys.get(&key)?.value.as_ref()? {
            Value::Lease(holder) => Some(*holder),
            Value::Node(_) | Value::Job(_) => None,
        }
    }

    /// A job keeps its place to its end and goes only forward; a record that says ended
    /// comes after history.
    fn look_at(&mut self, key: Key, before: Option<&Job>) {
        let Some(record) = self.recorded(key) else {
            return;
        };
        if self.net.oracle.tail_was_lost {
            return;
        }
        let (id, state, attempt) = (record.id, record.state, record.attempt);
        let job = names::number(id);
        if state.is_ended() && !self.net.server.history.contains_key(&id) {
            self.net.broken(Property::History, || {
                format!("job {job} is recorded as ended and history does not know")
            });
        }
        let Some(before) = before.filter(|before| before.created_ms == record.created_ms) else {
            return;
        };
        // One that had ended before anybody heard of it never had a place.
        if record.queue_seq != before.queue_seq && !state.is_ended() {
            let (before, after) = (before.queue_seq, record.queue_seq);
            self.net.broken(Property::Order, || {
                format!("job {job} had place {before} and has place {after}")
            });
        }
        let is_back = before.state.is_ended() && !state.is_ended();
        if attempt < before.attempt || is_back {
            let before = format!("{} at attempt {}", before.state, before.attempt);
            self.net.broken(Property::Forward, || {
                format!("job {job} was {before} and is {state} at attempt {attempt}")
            });
        }
    }

    fn append(&mut self, from: Life, at: (Reader, JobId), entry: Entry, after: u64) -> Answer {
        let after = (!self.net.has(Mutant::SequenceLeftOut)).then_some(after);
        let now = self.net.now;
        let is_mark = matches!(entry, Entry::Mark(_));
        let said = format!("{entry:?}");
        let result = self.net.server.append(at, entry, after, from, now);
        self.net.tell(at.1, || {
            format!("{from:?} appends {said} after {after:?}: {result:?}")
        });
        if result.is_ok() {
            self.net.counts.marks += u64::from(is_mark);
            let by_scheduler = self.net.links[from.process].role == Role::Scheduler;
            let chain = self.net.server.chain(at.0, at.1);
            // What waited for its connection while the store lost its tail may fit by
            // chance: sequences are given out again. Readers stop at the first final.
            let link = &self.net.links[from.process];
            let waited = self.net.oracle.tail_was_lost && now - link.since < BUFFERED_FOR;
            if let Some((new, before)) = chain.split_last() {
                let (new, before): (&Stored, &[Stored]) = (new, before);
                let oracle = &mut self.net.oracle;
                let broken = oracle.appended(at, before, new, by_scheduler);
                if let Some((property, what)) = broken.filter(|_| by_scheduler || !waited) {
                    oracle.broken(property, now, || what);
                }
            }
            self.net.appended(at.0, at.1);
        } else {
            self.net.counts.fenced += 1;
        }
        Answer::Stored(result)
    }
}
