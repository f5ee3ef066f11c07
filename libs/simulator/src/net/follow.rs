//! Following streams and buckets.

use super::*;

impl Net {
    pub(crate) fn follow(&mut self, owner: Life, what: Follows) -> u64 {
        self.next_op += 1;
        let id = self.next_op;
        let consumer = Consumer {
            owner,
            what,
            last: 0,
            is_loaded: false,
        };
        self.consumers.insert(id, consumer);
        self.resume(id);
        id
    }

    pub(crate) fn unfollow(&mut self, id: u64) {
        self.consumers.remove(&id);
    }

    /// Tells everything behind what its owner has.
    pub(crate) fn resume(&mut self, id: u64) {
        let Some(consumer) = self.consumers.get(&id) else {
            return;
        };
        let (process, after, what) = (consumer.owner.process, consumer.last, consumer.what);
        if !self.links[process].is_up || !self.server_is_up {
            return;
        }
        let is_loaded = consumer.is_loaded;
        let mut parcels: Vec<(u64, Parcel)> = match what {
            Follows::Feed(reader) => {
                let from = (reader, JobId::from(uuid::Uuid::nil()));
                let chains = self
                    .server
                    .chains
                    .range(from..)
                    .take_while(|((found, _), _)| *found == reader);
                chains
                    .flat_map(|((_, job), chain)| chain.iter().map(|stored| (*job, stored)))
                    .filter(|(_, stored)| stored.sequence > after)
                    .map(|(job, stored)| (stored.sequence, entry_parcel(id, job, stored)))
                    .collect()
            }
            Follows::Chain(reader, job) => {
                let chain = self.server.chain(reader, job).iter();
                chain
                    .filter(|stored| stored.sequence > after)
                    .map(|stored| (stored.sequence, entry_parcel(id, job, stored)))
                    .collect()
            }
            Follows::Watch(bucket) => {
                let keys = self.server.keys.iter();
                keys.filter(|(key, slot)| key.bucket() == bucket && slot.revision > after)
                    .map(|(key, slot)| {
                        let parcel = Parcel::Change {
                            consumer: id,
                            revision: slot.revision,
                            key: *key,
                            value: slot.value.clone(),
                        };
                        (slot.revision, parcel)
                    })
                    .collect()
            }
        };
        parcels.sort_by_key(|(order, _)| *order);
        for (_, parcel) in parcels {
            self.deliver(process, parcel);
        }
        if matches!(what, Follows::Watch(_)) && !is_loaded {
            self.deliver(process, Parcel::Loaded(id));
        }
    }

    pub(crate) fn loaded(&mut self, id: u64) -> bool {
        self.consumers
            .get_mut(&id)
            .is_some_and(|consumer| !std::mem::replace(&mut consumer.is_loaded, true))
    }

    /// Whether what came is new to its owner; notes how far it is.
    pub(crate) fn advance(&mut self, id: u64, sequence: u64) -> bool {
        match self.consumers.get_mut(&id) {
            Some(consumer) if sequence > consumer.last => {
                consumer.last = sequence;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Tells an appended entry to whoever follows.
    pub(crate) fn appended(&mut self, reader: Reader, job: JobId) {
        let followers: Vec<(u64, usize)> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| {
                consumer.what == Follows::Feed(reader)
                    || consumer.what == Follows::Chain(reader, job)
            })
            .map(|(id, consumer)| (*id, consumer.owner.process))
            .collect();
        for (id, process) in followers {
            if let Some(stored) = self.server.chain(reader, job).last() {
                let parcel = entry_parcel(id, job, stored);
                self.deliver(process, parcel);
            }
        }
    }

    /// Tells a changed key to whoever watches.
    pub(crate) fn changed(&mut self, key: Key) {
        let watchers: Vec<(u64, usize)> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| consumer.what == Follows::Watch(key.bucket()))
            .map(|(id, consumer)| (*id, consumer.owner.process))
            .collect();
        for (id, process) in watchers {
            if let Some(slot) = self.server.keys.get(&key) {
                let parcel = Parcel::Change {
                    consumer: id,
                    revision: slot.revision,
                    key,
                    value: slot.value.clone(),
                };
                self.deliver(process, parcel);
            }
        }
    }
}

fn entry_parcel(consumer: u64, job: JobId, stored: &crate::server::Stored) -> Parcel {
    Parcel::Entry {
        consumer,
        sequence: stored.sequence,
        at: stored.at,
        job,
        entry: stored.entry.clone(),
    }
}
