//! Which gateways are gone, so that their chats end.
//!
//! Absence counts only when we were connected ourselves, without a break, for
//! the life of a lease: after a restart of NATS every lease is gone for a while.

use crate::Now;
use orchion_contract::ReaderId;
use orchion_contract::lease::GATEWAY_TTL_S;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(GATEWAY_TTL_S);

/// The gateways we know of.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    alive: BTreeSet<ReaderId>,
    gone: BTreeMap<ReaderId, Now>,
}

impl Gateways {
    /// Its lease is there.
    pub(crate) fn lives(&mut self, gateway: ReaderId) {
        self.gone.remove(&gateway);
        self.alive.insert(gateway);
    }

    /// Its lease has ended: that took the whole life of a lease already.
    pub(crate) fn ended(&mut self, gateway: ReaderId, now: Now) {
        self.alive.remove(&gateway);
        self.gone.insert(gateway, now);
    }

    /// A job depends on it: when it is not known, it gets the life of a lease to show itself.
    pub(crate) fn expect(&mut self, gateway: &ReaderId, now: Now) {
        if !self.alive.contains(gateway) && !self.gone.contains_key(gateway) {
            self.gone.insert(gateway.clone(), now + TTL);
        }
    }

    /// Gateways that are gone for sure.
    pub(crate) fn take_dead(&mut self, now: Now, connected_for: Option<Duration>) -> Vec<ReaderId> {
        if connected_for.is_none_or(|connected| connected < TTL) {
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

    const START: Now = Duration::from_secs(100);

    fn gateway() -> ReaderId {
        ReaderId::new("g").unwrap()
    }

    #[test]
    fn a_gateway_whose_lease_ended_is_dead() {
        let mut gateways = Gateways::default();
        gateways.lives(gateway());
        gateways.ended(gateway(), START);
        assert_eq!(gateways.take_dead(START, Some(TTL)), [gateway()]);
    }

    #[test]
    fn absence_does_not_count_for_who_was_away() {
        let mut gateways = Gateways::default();
        gateways.ended(gateway(), START);
        assert!(gateways.take_dead(START, Some(Duration::ZERO)).is_empty());
        assert!(gateways.take_dead(START, None).is_empty());
        gateways.lives(gateway());
        assert!(gateways.take_dead(START + TTL, Some(TTL)).is_empty());
    }

    #[test]
    fn an_unknown_gateway_gets_time_to_show_itself() {
        let mut gateways = Gateways::default();
        gateways.expect(&gateway(), START);
        assert!(gateways.take_dead(START, Some(TTL)).is_empty());
        assert_eq!(gateways.take_dead(START + TTL, Some(TTL)), [gateway()]);
    }
}
