//! Which gateways are gone, so that their chats end.
//!
//! Absence counts only when we were connected ourselves, without a break, for
//! the life of a lease: after a restart of NATS every lease is gone for a while.

use orchion_contract::ReaderId;
use orchion_contract::lease::GATEWAY_TTL_S;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(GATEWAY_TTL_S);

/// The gateways we know of.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    alive: BTreeSet<ReaderId>,
    gone: BTreeMap<ReaderId, Instant>,
}

impl Gateways {
    /// Its lease is there.
    pub(crate) fn lives(&mut self, gateway: ReaderId) {
        self.gone.remove(&gateway);
        self.alive.insert(gateway);
    }

    /// Its lease has ended: that took the whole life of a lease already.
    pub(crate) fn ended(&mut self, gateway: ReaderId, now: Instant) {
        self.alive.remove(&gateway);
        self.gone.insert(gateway, now);
    }

    /// A job depends on it: when it is not known, it gets the life of a lease to show itself.
    pub(crate) fn expect(&mut self, gateway: &ReaderId, now: Instant) {
        if !self.alive.contains(gateway) && !self.gone.contains_key(gateway) {
            self.gone.insert(gateway.clone(), now + TTL);
        }
    }

    /// Gateways that are gone for sure.
    pub(crate) fn take_dead(
        &mut self,
        now: Instant,
        connected_since: Option<Instant>,
    ) -> Vec<ReaderId> {
        let steady =
            connected_since.is_some_and(|since| now.saturating_duration_since(since) >= TTL);
        if !steady {
            return Vec::new();
        }
        let dead: Vec<ReaderId> = self
            .gone
            .iter()
            .filter(|(_, at)| now >= **at)
            .map(|(gateway, _)| gateway.clone())
            .collect();
        for gateway in &dead {
            self.gone.remove(gateway);
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> ReaderId {
        ReaderId::new("g").unwrap()
    }

    #[test]
    fn a_gateway_whose_lease_ended_is_dead() {
        let (mut gateways, now) = (Gateways::default(), Instant::now());
        gateways.lives(gateway());
        gateways.ended(gateway(), now);
        assert_eq!(gateways.take_dead(now, Some(now - TTL)), [gateway()]);
    }

    #[test]
    fn absence_does_not_count_for_who_was_away() {
        let (mut gateways, now) = (Gateways::default(), Instant::now());
        gateways.ended(gateway(), now);
        assert!(gateways.take_dead(now, Some(now)).is_empty());
        assert!(gateways.take_dead(now, None).is_empty());
        gateways.lives(gateway());
        assert!(gateways.take_dead(now + TTL, Some(now)).is_empty());
    }

    #[test]
    fn an_unknown_gateway_gets_time_to_show_itself() {
        let (mut gateways, now) = (Gateways::default(), Instant::now());
        gateways.expect(&gateway(), now);
        assert!(gateways.take_dead(now, Some(now - TTL)).is_empty());
        assert_eq!(gateways.take_dead(now + TTL, Some(now - TTL)), [gateway()]);
    }
}
