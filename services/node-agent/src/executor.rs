//! Takes orders and runs attempts.
//!
//! The ledger decides; here its verdicts are carried out. An order is answered
//! before anything slow begins, and an attempt runs as work of its own, so that
//! a shutdown waits for it.

mod attempt;
mod beginning;
mod body;
mod chain;
mod control;
mod run;
mod source;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use orchion_bus::{Bus, Endpoint, Question, Service};
use orchion_contract::job::{
    AttemptEnd, AttemptOutcome, CancelOrder, CancelReason, CancelReply, GRANTED_HELD, Granted,
    RunOrder, RunReply,
};
use orchion_contract::node::{ReplicaLoad, RunningAttempt};
use orchion_contract::rpc::{CANCEL, RUN};
use orchion_contract::{ErrorBody, ErrorCode, InstanceId, NodeId};
use orchion_node_agent_core::{Ledger, Order, StopOrder, Verdict, Watchdog};
use orchion_service::{Stop, Tasks};
use tokio::sync::{Notify, watch};

use crate::engine::roster::{Place, Roster};
use crate::host::Reading;
use attempt::{Attempt, Given};
use control::{Control, Handle};

/// How long the answer to an order waits for the end of a brief attempt; it is
/// far below the time after which an order is repeated.
const HELD: Duration = Duration::from_millis(100);

/// An order that waits for its answer.
type Asked = Question<NodeId, (), RunReply>;

/// Everything that attempts share; clones are the same executor.
#[derive(Clone)]
pub struct Executor(Arc<Shared>);

struct Shared {
    bus: Bus,
    tasks: Tasks,
    node: NodeId,
    instance: InstanceId,
    roster: Roster,
    watchdog: Watchdog,
    state: Mutex<State>,
    untold: Notify,
    started: Instant,
    /// Asked for when the grace period is nearly over.
    hurry: Stop,
}

struct State {
    ledger: Ledger,
    controls: BTreeMap<RunningAttempt, Control>,
}

impl Executor {
    /// An executor with nothing to do yet.
    #[must_use]
    pub fn new(bus: Bus, tasks: &Tasks, node: NodeId, roster: Roster, watchdog: Watchdog) -> Self {
        let instance = bus.identity().instance.clone();
        Self(Arc::new(Shared {
            bus,
            tasks: tasks.clone(),
            node,
            instance: instance.clone(),
            roster,
            watchdog,
            state: Mutex::new(State {
                ledger: Ledger::new(instance),
                controls: BTreeMap::new(),
            }),
            untold: Notify::new(),
            started: Instant::now(),
            hurry: Stop::new(),
        }))
    }

    /// Listens for orders; they are answered by [`Executor::take_orders`].
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn listen(&self, service: &Service) -> anyhow::Result<Orders> {
        let (node, group) = (&self.0.node, self.0.node.as_str());
        Ok(Orders {
            runs: service.endpoint_for(RUN, node, group).await?,
            cancels: service.endpoint_for(CANCEL, node, group).await?,
        })
    }

    /// Answers orders until `stop`.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub async fn take_orders(self, mut orders: Orders, stop: Stop) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                biased;
                () = stop.stopped() => return Ok(()),
                asked = orders.cancels.next() => {
                    let Some(asked) = asked else { break };
                    let (order, asked) = asked.split();
                    match self.cancel(&order) {
                        Ok(reply) => asked.answer(Ok(reply)).await,
                        Err(handle) => self.0.tasks.spawn_work("cancel", async move {
                            let end = Box::new(handle.ended().await);
                            asked.answer(Ok(CancelReply::Ended { end })).await;
                        }),
                    }
                }
                asked = orders.runs.next() => {
                    let Some(asked) = asked else { break };
                    let (order, asked) = asked.split();
                    let (reply, attempt) = self.order(order);
                    match attempt {
                        Some(attempt) if attempt.order.is_untold() => {
                            self.start_untold(attempt, asked);
                        }
                        Some(attempt) if attempt.is_brief() => self.start_brief(attempt, asked),
                        Some(attempt) => {
                            asked.answer(Ok(reply)).await;
                            self.start(attempt);
                        }
                        None => asked.answer(Ok(reply)).await,
                    }
                }
            }
        }
        anyhow::bail!("the connection to NATS was closed");
    }

    /// No new attempts from now on. Those that run may finish until `grace` is
    /// over; then their engines are left and another node goes on.
    pub async fn wind_down(self, grace: Duration, stop: Stop) -> anyhow::Result<()> {
        self.0.tasks.stop().stopped().await;
        self.0.lock().ledger.stopping();
        self.0.roster.close();
        let running = self.0.lock().ledger.running();
        if running > 0 {
            tracing::info!(
                attempts = running,
                "finishing {running} answers before the end"
            );
        }
        if stop
            .unless_stopped(tokio::time::sleep(grace))
            .await
            .is_some()
        {
            self.0.hurry.request();
            stop.stopped().await;
        }
        Ok(())
    }

    /// Attempts whose end was not yet acknowledged.
    #[must_use]
    pub fn in_hand(&self) -> Vec<RunningAttempt> {
        self.0.lock().ledger.in_hand()
    }

    /// Load of each replica of a host that shows this.
    #[must_use]
    pub fn load(&self, host: &Reading) -> Vec<ReplicaLoad> {
        let places = self.0.roster.places();
        let state = self.0.lock();
        let load = |place: Place| ReplicaLoad {
            busy: state.ledger.known_busy(place.engine.number),
            loaded: place.is_loaded(),
            memory_free_bytes: host.memory_free(place.replica.devices.as_deref()),
            slots: place.replica.slots,
            ready: place.replica.ready,
            id: place.replica.id,
        };
        places.into_iter().map(load).collect()
    }

    /// Ends that nobody has acknowledged; waits until there is one.
    pub async fn untold(&self, limit: usize) -> Vec<AttemptEnd> {
        loop {
            let due = self.0.lock().ledger.due();
            let untold = self.0.untold.notified();
            match due.map(|due| self.0.started + due) {
                Some(due) if due <= Instant::now() => return self.untold_now(limit),
                Some(due) => drop(tokio::time::timeout_at(due.into(), untold).await),
                None => untold.await,
            }
        }
    }

    /// The same without waiting.
    #[must_use]
    pub fn untold_now(&self, limit: usize) -> Vec<AttemptEnd> {
        self.0.lock().ledger.untold(limit)
    }

    /// Jobs of these ends that nobody else may know.
    #[must_use]
    pub fn granted(&self, ends: &[AttemptEnd]) -> Vec<Granted> {
        self.0.lock().ledger.granted(ends)
    }

    /// The scheduler knows these ends.
    pub fn told(&self, ends: &[AttemptEnd]) {
        let now = self.0.started.elapsed();
        self.0.lock().ledger.acknowledged(ends, now);
    }

    /// Decides about an order; what is accepted is to be started next.
    fn order(&self, order: RunOrder) -> (RunReply, Option<Attempt>) {
        let place = self.0.roster.place(&order.replica);
        let facts = Order {
            job: order.job,
            attempt: order.attempt,
            instance: order.instance.clone(),
            epoch: order.epoch,
            is_untold: order.is_untold(),
        };
        let key = RunningAttempt {
            job: order.job,
            attempt: order.attempt,
        };
        let mut state = self.0.lock();
        let verdict = state.ledger.order(&facts, place.as_ref().map(Place::seat));
        let refused = |code, why: &str| RunReply::Refused {
            error: ErrorBody::new(code, why),
        };
        let reply = match verdict {
            Verdict::Accept { void } => {
                for attempt in void {
                    if let Some(control) = state.controls.get(&attempt) {
                        control.stop(CancelReason::Superseded);
                    }
                }
                let (control, end) = Control::new();
                let stop = control.stopped();
                state.controls.insert(key, control);
                drop(state);
                let attempt =
                    place.map(|place| Attempt::new(self.0.clone(), order, place, stop, end));
                return (RunReply::Accepted, attempt);
            }
            Verdict::Running => RunReply::Running,
            Verdict::Ended(end) => RunReply::Ended { end },
            Verdict::Busy => RunReply::Busy,
            Verdict::Stale(epoch) => RunReply::Stale { epoch },
            Verdict::WrongInstance => RunReply::WrongInstance {
                instance: self.0.instance.clone(),
            },
            Verdict::NoReplica => refused(
                ErrorCode::PoolUnavailable,
                "this node has no such replica any more",
            ),
            Verdict::NotReady => refused(
                ErrorCode::PoolUnready,
                "the engine of this replica does not answer now",
            ),
        };
        (reply, None)
    }

    fn start(&self, attempt: Attempt) {
        let shared = self.0.clone();
        self.0.tasks.spawn_work("attempt", async move {
            let given = attempt.given_by_gateway();
            let (end, told) = attempt.run().await;
            shared.ended(end.clone(), given);
            told.tell(end);
        });
    }

    /// Its order came from its gateway, which has told nobody and waits for a final
    /// in the transcript, or for word that there is none.
    fn start_untold(&self, attempt: Attempt, asked: Asked) {
        let shared = self.0.clone();
        self.0.tasks.spawn_work("attempt", async move {
            let (key, given) = (attempt.key(), attempt.given_by_gateway());
            let mut run = pin!(attempt.run());
            let mut ended = tokio::time::timeout(GRANTED_HELD, &mut run).await.ok();
            let has_answer = ended.is_none();
            if has_answer {
                shared.lock().ledger.is_known(key);
                asked.answer(Ok(RunReply::Accepted)).await;
            }
            let (end, told) = match ended.take() {
                Some(ended) => ended,
                None => run.await,
            };
            let is_final = matches!(end.how, AttemptOutcome::Final { .. });
            shared.ended(end.clone(), given);
            if !is_final && !has_answer {
                let end = Box::new(end.clone());
                asked.answer(Ok(RunReply::Ended { end })).await;
            }
            told.tell(end);
        });
    }

    /// Its end is the answer to its order, when it comes soon.
    fn start_brief(&self, attempt: Attempt, asked: Asked) {
        let shared = self.0.clone();
        self.0.tasks.spawn_work("attempt", async move {
            let mut run = pin!(attempt.run());
            let soon = tokio::time::timeout(HELD, &mut run).await;
            let (end, told) = match soon {
                Ok((end, told)) => {
                    let reply = shared.answer(end.clone());
                    asked.answer(Ok(reply)).await;
                    (end, told)
                }
                Err(_) => {
                    asked.answer(Ok(RunReply::Accepted)).await;
                    let (end, told) = run.await;
                    shared.ended(end.clone(), None);
                    (end, told)
                }
            };
            told.tell(end);
        });
    }

    /// The answer to an order to stop, or the attempt whose end is the answer.
    fn cancel(&self, order: &CancelOrder) -> Result<CancelReply, Handle> {
        let upto = RunningAttempt {
            job: order.job,
            attempt: order.attempt,
        };
        let mut state = self.0.lock();
        match state.ledger.stop(upto, order.epoch) {
            StopOrder::Stop(running) => {
                let mut last = None;
                for attempt in running {
                    if let Some(control) = state.controls.get(&attempt) {
                        control.stop(order.reason);
                        last = Some(control.handle());
                    }
                }
                last.map_or(Ok(CancelReply::NotRunning), Err)
            }
            StopOrder::Ended(end) => Ok(CancelReply::Ended { end }),
            StopOrder::NotRunning => Ok(CancelReply::NotRunning),
            StopOrder::Stale(epoch) => Ok(CancelReply::Stale { epoch }),
        }
    }
}

impl Shared {
    /// An attempt has ended, and the scheduler is to be told; of its job, too, if its
    /// gateway has ordered it.
    fn ended(&self, end: AttemptEnd, given: Option<Given>) {
        let granted = given.map(|given| (given.job(), given.took()));
        let mut state = self.lock();
        let before = state.ledger.due();
        state.controls.remove(&key_of(&end));
        let now = self.started.elapsed();
        match granted {
            Some((job, took)) => state.ledger.granted_ended(end, job, took, now),
            None => state.ledger.ended(end, now),
        }
        if state.ledger.due() != before {
            self.untold.notify_one();
        }
    }

    /// An attempt has ended that was not yet taken: what its order is answered.
    fn answer(&self, end: AttemptEnd) -> RunReply {
        let mut state = self.lock();
        state.controls.remove(&key_of(&end));
        match state.ledger.answered(end.clone(), self.started.elapsed()) {
            true => RunReply::Ended { end: Box::new(end) },
            false => {
                self.untold.notify_one();
                RunReply::Accepted
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> watch::Receiver<Option<Instant>> {
        self.bus.connection()
    }
}

fn key_of(end: &AttemptEnd) -> RunningAttempt {
    RunningAttempt {
        job: end.job,
        attempt: end.attempt,
    }
}

/// Orders as they come.
pub struct Orders {
    runs: Endpoint<NodeId, RunOrder, RunReply>,
    cancels: Endpoint<NodeId, CancelOrder, CancelReply>,
}
