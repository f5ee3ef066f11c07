//! The five services in this process, each under its own supervisor, and the
//! order in which they end.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture, join_all};
use orchion_service::{Failure as Ended, Program, Settings, Stop, Supervisor, Tasks};
use tokio::time::sleep;

use super::nats::Server;
use super::plan::Plan;
use crate::exit::{Failure, Kind, Result};

/// Before a service that failed is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs everything until `stop`, then ends it: first who takes in work, then
/// who does it, then who decides, then who listens, and NATS last.
///
/// # Errors
/// The first part that could not start at all; the others are stopped.
pub(super) async fn run(plan: &Plan, server: Server<'_>, stop: &Stop) -> Result<()> {
    let whole = Whole {
        stop,
        failure: RefCell::default(),
    };
    let gateway = whole.keep(
        &orchion_gateway::PROGRAM,
        &plan.gateway,
        orchion_gateway::start,
    );
    let agents = plan.agents.iter().map(|agent| {
        whole.keep(
            &orchion_node_agent::PROGRAM,
            agent,
            orchion_node_agent::start,
        )
    });
    let scheduler = whole.keep(
        &orchion_scheduler::PROGRAM,
        &plan.scheduler,
        orchion_scheduler::start,
    );
    let registry = whole.keep(
        &orchion_registry::PROGRAM,
        &plan.registry,
        orchion_registry::start,
    );
    let log_sink = whole.keep(
        &orchion_log_sink::PROGRAM,
        &plan.log_sink,
        orchion_log_sink::start,
    );
    let nats = whole.keep_server(server);
    let stages = [
        vec![gateway],
        agents.collect(),
        vec![scheduler, registry],
        vec![log_sink],
        vec![nats],
    ];
    run_stages(stages, stop).await;
    whole.failure.into_inner().map_or(Ok(()), Err)
}

/// A running part, and what asks it to stop.
struct Part<'a> {
    stop: Stop,
    run: LocalBoxFuture<'a, ()>,
}

/// Runs all parts at once; at `stop`, a stage ends when the one before has.
async fn run_stages<const N: usize>(stages: [Vec<Part<'_>>; N], stop: &Stop) {
    let before_first = stop.clone();
    let mut before = before_first;
    let mut running = Vec::new();
    for parts in stages {
        let asked = before;
        let ended = Stop::new();
        before = ended.clone();
        running.push(async move {
            let stops: Vec<Stop> = parts.iter().map(|part| part.stop.clone()).collect();
            let all = join_all(parts.into_iter().map(|part| part.run)).map(|_| ());
            let relay = async {
                asked.stopped().await;
                stops.iter().for_each(Stop::request);
            };
            tokio::join!(all, relay);
            ended.request();
        });
    }
    join_all(running).await;
}

/// What the parts share: the wish to stop, and why it came about.
struct Whole<'a> {
    stop: &'a Stop,
    failure: RefCell<Option<Failure>>,
}

impl Whole<'_> {
    fn fail(&self, failure: Failure) {
        self.failure.borrow_mut().get_or_insert(failure);
        self.stop.request();
    }

    fn keep_server<'s>(&'s self, server: Server<'s>) -> Part<'s> {
        let stop = Stop::new();
        let own = stop.clone();
        let run = async move {
            if let Err(failure) = server.keep(&own).await {
                self.fail(failure);
            }
        };
        Part {
            stop,
            run: run.boxed_local(),
        }
    }

    /// Runs a service, and starts it again when it fails, as a container would
    /// be; one that cannot even start the first time ends the whole.
    fn keep<'s, C, S>(&'s self, program: &'s Program<C>, config: &'s C, start: S) -> Part<'s>
    where
        C: Settings + Clone,
        S: AsyncFn(C, &Tasks) -> anyhow::Result<()> + 's,
    {
        let stop = Stop::new();
        let asked = stop.clone();
        let run = async move {
            let mut has_started = false;
            while !asked.is_stopping() {
                let supervisor = Supervisor::new(program.name, program.grace);
                let (own, health) = (supervisor.stop(), supervisor.tasks().health().clone());
                let mut running = std::pin::pin!(
                    supervisor.run(async |tasks: &Tasks| start(config.clone(), tasks).await)
                );
                let ended = loop {
                    tokio::select! {
                        ended = &mut running => break ended,
                        () = health.ready(), if !has_started => has_started = true,
                        () = asked.stopped(), if !own.is_stopping() => own.request(),
                    }
                };
                match ended {
                    Err(Ended::Start(cause)) if !has_started => {
                        let text = format!("the {} cannot start: {cause:#}", program.name);
                        return self.fail(Failure::new(Kind::Unavailable, text));
                    }
                    Ok(()) | Err(_) if asked.is_stopping() => return,
                    Ok(()) | Err(_) => {
                        tracing::warn!("the {} is started again", program.name);
                        asked.unless_stopped(sleep(PAUSE)).await;
                    }
                }
            }
        };
        Part {
            stop,
            run: run.boxed_local(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[tokio::test]
    async fn a_stage_ends_when_the_one_before_has() {
        let order = Rc::new(RefCell::new(Vec::new()));
        let part = |name: &'static str, slow: u64| {
            let (stop, order) = (Stop::new(), order.clone());
            let own = stop.clone();
            let run = async move {
                own.stopped().await;
                // Later stages are faster, so that only the order can hold them back.
                for _ in 0..slow {
                    tokio::task::yield_now().await;
                }
                order.borrow_mut().push(name);
            };
            Part {
                stop,
                run: run.boxed_local(),
            }
        };
        let stop = Stop::new();
        stop.request();
        let stages = [
            vec![part("gateway", 100)],
            vec![part("agent 1", 40), part("agent 2", 50)],
            vec![part("nats", 0)],
        ];
        run_stages(stages, &stop).await;
        assert_eq!(*order.borrow(), ["gateway", "agent 1", "agent 2", "nats"]);
    }
}
