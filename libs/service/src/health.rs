//! Readiness: named conditions that must all hold.
//!
//! A part that others wait for (the connection to the bus, a first snapshot of
//! the state) declares a condition and keeps it up to date; whoever is asked
//! whether the service is ready reads them all, with the names of those unmet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The conditions of one service; clones share them.
#[derive(Clone, Debug)]
pub struct Health {
    conditions: Arc<Mutex<BTreeMap<&'static str, bool>>>,
    ready: Arc<watch::Sender<bool>>,
}

/// One condition of a [`Health`]; unmet until somebody says otherwise.
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    health: Health,
}

impl Health {
    /// No conditions: ready.
    pub fn new() -> Self {
        Self {
            conditions: Arc::default(),
            ready: Arc::new(watch::Sender::new(true)),
        }
    }

    /// Declares a condition, unmet, or finds the one of this name as it is.
    pub fn condition(&self, name: &'static str) -> Condition {
        let mut conditions = self.lock();
        conditions.entry(name).or_insert(false);
        self.publish(&conditions);
        Condition {
            name,
            health: self.clone(),
        }
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// The names of the conditions that do not hold, in order.
    pub fn unmet(&self) -> Vec<&'static str> {
        self.lock()
            .iter()
            .filter(|(_, met)| !**met)
            .map(|(name, _)| *name)
            .collect()
    }

    /// Waits until every condition holds.
    pub async fn ready(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    fn set(&self, name: &'static str, met: bool) {
        let mut conditions = self.lock();
        conditions.insert(name, met);
        self.publish(&conditions);
    }

    fn publish(&self, conditions: &BTreeMap<&'static str, bool>) {
        let ready = conditions.values().all(|met| *met);
        self.ready
            .send_if_modified(|current| std::mem::replace(current, ready) != ready);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, bool>> {
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Condition {
    /// Says whether the condition holds.
    pub fn set(&self, met: bool) {
        self.health.set(self.name, met);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn is_ready_when_every_condition_holds() {
        let health = Health::new();
        assert!(health.is_ready());
        let (bus, state) = (health.condition("bus"), health.condition("state"));
        bus.set(true);
        assert_eq!((health.is_ready(), health.unmet()), (false, vec!["state"]));
        state.set(true);
        health.ready().await;
        bus.set(false);
        assert_eq!((health.is_ready(), health.unmet()), (false, vec!["bus"]));
    }

    #[test]
    fn a_condition_declared_twice_is_one() {
        let health = Health::new();
        health.condition("bus").set(true);
        let _again = health.condition("bus");
        assert!(health.is_ready());
    }
}
