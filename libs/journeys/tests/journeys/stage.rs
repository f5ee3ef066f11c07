//! The cluster on which the scenarios of a feature play.

use std::cell::RefCell;
use std::sync::Arc;

use orchion_testkit::Cluster;
use orchion_testkit::cluster::Builder;
use tokio::sync::Mutex;

/// A cluster that scenarios share.
#[derive(Debug)]
pub(crate) struct Stage {
    /// What it was built for.
    name: String,
    /// The processes; killed when the last one leaves.
    pub(crate) cluster: Mutex<Cluster>,
}

thread_local! {
    static STAGE: RefCell<Option<Arc<Stage>>> = const { RefCell::new(None) };
}

/// The cluster of this name: the one that is there, or a new one.
pub(crate) async fn stage(name: &str, build: impl FnOnce() -> Builder) -> Arc<Stage> {
    let found = STAGE.with_borrow(|stage| stage.clone());
    if let Some(found) = found.filter(|found| found.name == name) {
        return found;
    }
    clear();
    let fresh = Arc::new(Stage {
        name: name.to_owned(),
        cluster: Mutex::new(build().start().await),
    });
    STAGE.set(Some(fresh.clone()));
    fresh
}

/// Whoever comes next gets a new cluster.
pub(crate) fn clear() {
    STAGE.set(None);
}
