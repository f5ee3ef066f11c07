//! How tasks end, and how a service ends with them.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchion_service::{Failure, Supervisor, Tasks};
use tokio::time::{Instant, sleep};

const GRACE: Duration = Duration::from_secs(8);

#[tokio::test(start_paused = true)]
async fn a_service_that_is_asked_to_stop_ends_well() {
    let supervisor = Supervisor::new("test", GRACE);
    let stop = supervisor.stop();
    let outcome = supervisor
        .run(async |tasks: &Tasks| {
            tasks.spawn("loop", async |stop| {
                stop.stopped().await;
                Ok(())
            });
            stop.request();
            Ok(())
        })
        .await;
    outcome.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_stops_all_others() {
    let failure = fails(async |tasks: &Tasks| {
        let seen = tasks.clone();
        tasks.spawn("bystander", async move |stop| {
            stop.stopped().await;
            assert_eq!(seen.running(), [("bystander", 1)]);
            Ok(())
        });
        tasks.spawn("culprit", async |_| anyhow::bail!("no more"));
        Ok(())
    })
    .await;
    assert_eq!(failure, "task culprit failed: no more");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_caught_and_named() {
    let failure = fails(async |tasks: &Tasks| {
        tasks.spawn("culprit", async |_| panic!("fixed words"));
        Ok(())
    })
    .await;
    assert_eq!(failure, "task culprit panicked: fixed words");
}

#[tokio::test(start_paused = true)]
async fn a_panic_does_not_repeat_what_it_quotes() {
    let failure = fails(async |tasks: &Tasks| {
        let prompt = "private words".to_owned();
        tasks.spawn("culprit", async move |_| {
            panic!("cannot cut `{prompt}` here")
        });
        Ok(())
    })
    .await;
    assert_eq!(failure, "task culprit panicked: cannot cut …");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_returns_early_has_failed() {
    let failure = fails(async |tasks: &Tasks| {
        tasks.spawn_support("culprit", async |_| Ok(()));
        Ok(())
    })
    .await;
    assert_eq!(failure, "task culprit returned before it was asked to stop");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_stops_what_it_started() {
    let log = Log::default();
    let stopped = log.clone();
    let failure = fails(async move |tasks: &Tasks| {
        tasks.spawn("loop", async move |stop| {
            stop.stopped().await;
            stopped.note("loop");
            Ok(())
        });
        anyhow::bail!("no bus")
    })
    .await;
    assert_eq!(
        (failure.as_str(), log.read()),
        ("start: no bus", vec!["loop"])
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_that_waits_for_ever_can_be_stopped() {
    let supervisor = Supervisor::new("test", GRACE);
    let stop = supervisor.stop();
    let run = supervisor.run(async |_: &Tasks| std::future::pending().await);
    let ask = async {
        sleep(Duration::from_secs(1)).await;
        stop.request();
    };
    tokio::join!(run, ask).0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_that_gives_up_because_it_is_stopped_has_not_failed() {
    let supervisor = Supervisor::new("test", GRACE);
    let stop = supervisor.stop();
    let run = supervisor.run(async |tasks: &Tasks| {
        tasks.stop().request();
        anyhow::bail!("stopped before NATS was there")
    });
    run.await.unwrap();
    assert!(stop.is_stopping());
}

#[tokio::test(start_paused = true)]
async fn an_optional_task_may_fail_alone() {
    let supervisor = Supervisor::new("test", GRACE);
    let stop = supervisor.stop();
    let outcome = supervisor.run(async |tasks: &Tasks| {
        tasks.spawn_optional("extra", async |_| anyhow::bail!("not here"));
        tasks.spawn_optional("done", async |_| Ok(()));
        tasks.spawn_work("request", async { panic!("this request only") });
        tasks.spawn("loop", async move |stop_asked| {
            sleep(Duration::from_secs(60)).await;
            assert!(!stop_asked.is_stopping());
            stop.request();
            Ok(())
        });
        Ok(())
    });
    outcome.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_service_ends_in_order() {
    let log = Log::default();
    let supervisor = Supervisor::new("test", GRACE);
    let stop = supervisor.stop();
    let notes = log.clone();
    let outcome = supervisor.run(async move |tasks: &Tasks| {
        for (name, note) in [("drain", notes.clone()), ("flush", notes.clone())] {
            tasks.after_all(name, async move {
                note.note(name);
                Ok(())
            });
        }
        let (intake, work, support) = (notes.clone(), notes.clone(), notes);
        tasks.spawn_support("support", async move |stop| {
            stop.stopped().await;
            support.note("support");
            Ok(())
        });
        tasks.spawn_work("work", async move {
            sleep(Duration::from_secs(2)).await;
            work.note("work");
        });
        tasks.spawn("intake", async move |stop| {
            stop.stopped().await;
            intake.note("intake");
            Ok(())
        });
        stop.request();
        Ok(())
    });
    outcome.await.unwrap();
    assert_eq!(log.read(), ["intake", "work", "support", "flush", "drain"]);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_names_what_hangs_and_leaves_time_for_the_last_steps() {
    let log = Log::default();
    let began = Instant::now();
    let notes = log.clone();
    let supervisor = Supervisor::new("test", GRACE);
    let stop = supervisor.stop();
    let outcome = supervisor.run(async move |tasks: &Tasks| {
        tasks.after_all("never", std::future::pending());
        tasks.after_all("flush", async move {
            notes.note("flush");
            Ok(())
        });
        tasks.spawn("deaf", async |_| std::future::pending().await);
        tasks.spawn_work("request", std::future::pending());
        tasks.spawn_work("request", std::future::pending());
        stop.request();
        Ok(())
    });
    let failure = outcome.await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Hung { names } if names == "deaf, request (2)"),
        "{failure}"
    );
    assert_eq!((log.read(), began.elapsed()), (vec!["flush"], GRACE));
}

#[tokio::test(start_paused = true)]
async fn what_hangs_is_ended() {
    let supervisor = Supervisor::new("test", GRACE);
    let (stop, tasks) = (supervisor.stop(), supervisor.tasks().clone());
    let (alive, ended) = tokio::sync::oneshot::channel::<()>();
    let outcome = supervisor.run(async move |tasks: &Tasks| {
        tasks.spawn_work("request", async move {
            let _alive = alive;
            std::future::pending().await
        });
        stop.request();
        Ok(())
    });
    outcome.await.unwrap_err();
    ended.await.unwrap_err();
    tasks.spawn_work("late", async { unreachable!("nothing starts any more") });
    assert_eq!(tasks.running(), []);
}

#[tokio::test(start_paused = true)]
async fn a_failure_while_stopping_is_no_failure_of_the_service() {
    let supervisor = Supervisor::new("test", GRACE);
    let stop = supervisor.stop();
    let outcome = supervisor.run(async |tasks: &Tasks| {
        tasks.spawn("reader", async |stop| {
            stop.stopped().await;
            anyhow::bail!("the bus is gone")
        });
        stop.request();
        Ok(())
    });
    outcome.await.unwrap();
}

#[tokio::test]
async fn a_blocking_task_is_supervised_like_the_others() {
    let failure = fails(async |tasks: &Tasks| {
        tasks.spawn_blocking("writer", |_| panic!("disk on fire"));
        Ok(())
    })
    .await;
    assert_eq!(failure, "task writer panicked: disk on fire");
}

#[tokio::test(start_paused = true)]
async fn a_service_is_ready_from_its_start_until_it_stops() {
    let supervisor = Supervisor::new("test", GRACE);
    let (stop, health) = (supervisor.stop(), supervisor.tasks().health().clone());
    assert_eq!(health.unmet(), ["running"]);
    let watch = async {
        health.ready().await;
        stop.request();
    };
    let (outcome, ()) = tokio::join!(supervisor.run(async |_: &Tasks| Ok(())), watch);
    outcome.unwrap();
    assert!(!health.is_ready());
}

#[tokio::test(start_paused = true)]
async fn several_services_live_in_one_process() {
    let (first, second) = (
        Supervisor::new("first", GRACE),
        Supervisor::new("second", GRACE),
    );
    let stop_second = second.stop();
    let first = first.run(async |tasks: &Tasks| {
        tasks.spawn("culprit", async |_| anyhow::bail!("alone"));
        Ok(())
    });
    let second = second.run(async |tasks: &Tasks| {
        tasks.spawn("loop", async |stop| {
            stop.stopped().await;
            Ok(())
        });
        Ok(())
    });
    let mut second = std::pin::pin!(second);
    tokio::select! {
        failed = first => failed.unwrap_err(),
        _ = &mut second => unreachable!("the second service goes on"),
    };
    stop_second.request();
    second.await.unwrap();
}

#[test]
fn a_supervised_service_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    is_send(Supervisor::new("test", GRACE).run(async |tasks: &Tasks| {
        tasks.spawn("loop", async |stop| {
            stop.stopped().await;
            Ok(())
        });
        Ok(())
    }));
}

/// Runs a service that must fail, and tells how.
async fn fails<S>(start: S) -> String
where
    S: AsyncFnOnce(&Tasks) -> anyhow::Result<()>,
{
    let failure = Supervisor::new("test", GRACE).run(start).await.unwrap_err();
    failure.report()
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    fn read(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}
