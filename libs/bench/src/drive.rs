//! Drives the load and records what comes back.

mod answer;
mod exchange;
mod plan;
mod record;
mod result;
mod stream;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use orchion_testkit::clock::{mono_ns, precise_timers};
use orchion_testkit::http::Conn;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

use crate::accounting::{self, Meter, Usage};
use crate::clock::{ns, sleep_until_ns};

pub use plan::Arrivals;
pub(crate) use plan::{Mode, Plan};
pub(crate) use record::{Line, Record};
pub(crate) use result::ChatResult;

use exchange::Driver;

/// Something to do at a moment of the run, in seconds after its start.
pub(crate) type Event = (f64, Box<dyn FnOnce() + Send>);

/// What a run gave.
pub(crate) struct RunOutput {
    pub(crate) record: Record,
    pub(crate) window_s: f64,
    pub(crate) sut: Usage,
    pub(crate) engine: Usage,
    pub(crate) own: Usage,
    pub(crate) all_cpu_s: f64,
    pub(crate) host_steal_s: f64,
}

/// Runs the plan; the measured window opens after the warm-up. `pids` are the
/// processes of the system under test, `engines` those of the engines.
pub(crate) fn run(
    plan: &Plan,
    pids: &[u32],
    engines: &[u32],
    events: Vec<Event>,
) -> Result<RunOutput> {
    let start = mono_ns() + 50_000_000;
    let opens = start + ns(plan.warmup_s);
    let window = (opens, opens + ns(plan.duration_s));
    let records = generate(plan, start, window);
    for (at_s, act) in events {
        std::thread::spawn(move || {
            precise_timers();
            sleep_until_ns(start + ns(at_s));
            act();
        });
    }
    let mut output = measure(window, pids, engines);
    for record in records {
        output.record.merge(record);
    }
    output.window_s = plan.duration_s;
    Ok(output)
}

/// Sends one request on a fresh connection; says why it was not answered well.
pub(crate) fn probe(plan: &Plan) -> Result<(), String> {
    let driver = Driver::new(plan.clone(), (0, u64::MAX));
    let seen = Rc::clone(&driver);
    local(async move {
        driver.request(&mut None, mono_ns(), false).await;
    })
    .map_err(|error| error.to_string())?;
    let record = seen.record.borrow();
    match record.errors.iter().next() {
        None if record.ok == 1 => Ok(()),
        None => Err("no outcome".to_owned()),
        Some((class, (_, detail))) => Err(format!("{class} {detail}")),
    }
}

/// Starts the threads that make the load; each sends its record when it is done.
fn generate(plan: &Plan, start: u64, window: (u64, u64)) -> std::sync::mpsc::Receiver<Record> {
    let (done, records) = std::sync::mpsc::channel();
    let mut feeds = Vec::new();
    for thread in 0..plan.threads {
        let (feed, due) = mpsc::unbounded_channel();
        feeds.push(feed);
        let (plan, done) = (plan.clone(), done.clone());
        std::thread::spawn(move || {
            precise_timers();
            let record = work(plan, thread, due, start, window);
            let _ = done.send(record);
        });
    }
    if let Mode::Open { rate, arrivals, .. } = plan.mode {
        let total_s = plan.warmup_s + plan.duration_s;
        std::thread::spawn(move || {
            precise_timers();
            for (at, feed) in arrivals
                .schedule(start, total_s, rate)
                .into_iter()
                .zip(feeds.iter().cycle())
            {
                sleep_until_ns(at);
                let _ = feed.send(at);
            }
        });
    }
    records
}

/// One thread's share of the load.
fn work(
    plan: Plan,
    thread: usize,
    due: mpsc::UnboundedReceiver<u64>,
    start: u64,
    window: (u64, u64),
) -> Record {
    let (mode, threads, warmup_s) = (plan.mode, plan.threads, plan.warmup_s);
    let driver = Driver::new(plan, window);
    let worked = match mode {
        Mode::Closed { concurrency } => {
            // Users come in one by one, so that they do not move in step.
            let ramp_ns = warmup_s / 2.0 * 1e9;
            let users = (0..concurrency).filter(|user| user % threads == thread);
            let starts =
                users.map(|user| start + (ramp_ns * user as f64 / concurrency as f64) as u64);
            local(closed(Rc::clone(&driver), starts.collect(), window.1))
        }
        Mode::Open { max_inflight, .. } => {
            local(open(Rc::clone(&driver), due, max_inflight / threads))
        }
    };
    let mut record = driver.record.take();
    if let Err(error) = worked {
        record.fail("generator", format!("{error:#}"));
    }
    record
}

/// Users that ask again when they are answered.
async fn closed(driver: Rc<Driver>, starts: Vec<u64>, stop: u64) {
    let mut users = JoinSet::new();
    for start in starts {
        users.spawn_local(user(Rc::clone(&driver), start, stop));
    }
    while users.join_next().await.is_some() {}
}

async fn user(driver: Rc<Driver>, start: u64, stop: u64) {
    tokio::time::sleep(Duration::from_nanos(start.saturating_sub(mono_ns()))).await;
    let mut conn = None;
    loop {
        let now = mono_ns();
        if now >= stop {
            return;
        }
        let failed = driver.record.borrow().failed();
        driver.request(&mut conn, now, false).await;
        if conn.is_none() && driver.record.borrow().failed() > failed {
            // Do not turn a refusing server into a busy loop.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Requests sent when they are due, whatever became of those before.
async fn open(driver: Rc<Driver>, mut due: mpsc::UnboundedReceiver<u64>, max_inflight: usize) {
    let idle: Rc<RefCell<Vec<Conn>>> = Rc::default();
    let inflight = Rc::new(Cell::new(0));
    let mut requests = JoinSet::new();
    while let Some(scheduled) = due.recv().await {
        while requests.try_join_next().is_some() {}
        if inflight.get() >= max_inflight {
            driver.record.borrow_mut().refuse(scheduled);
            continue;
        }
        inflight.set(inflight.get() + 1);
        let (driver, idle, inflight) = (Rc::clone(&driver), Rc::clone(&idle), Rc::clone(&inflight));
        requests.spawn_local(async move {
            let mut conn = idle.borrow_mut().pop();
            driver.request(&mut conn, scheduled, true).await;
            idle.borrow_mut().extend(conn);
            inflight.set(inflight.get() - 1);
        });
    }
    while requests.join_next().await.is_some() {}
}

fn local(work: impl Future<Output = ()> + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("build a runtime")?;
    LocalSet::new().block_on(&runtime, work);
    Ok(())
}

/// Accounts for everybody on the machine while the window is open.
fn measure(window: (u64, u64), pids: &[u32], engines: &[u32]) -> RunOutput {
    sleep_until_ns(window.0);
    let me = [std::process::id()];
    let own_before = accounting::cpu_s(&me);
    let all_before = accounting::cpu_s(&accounting::all());
    let steal_before = accounting::host_steal_s();
    let mut meters = [Meter::start(pids), Meter::start(engines), Meter::start(&[])];
    let opened = mono_ns();
    while mono_ns() < window.1 {
        sleep_until_ns((mono_ns() + 200_000_000).min(window.1));
        meters.iter_mut().for_each(Meter::sample);
    }
    let window_s = (mono_ns() - opened) as f64 / 1e9;
    let all_after = accounting::cpu_s(&accounting::all());
    let host_steal_s = accounting::host_steal_s() - steal_before;
    let [sut, engine, own] = meters.map(|meter| meter.stop(window_s));
    let own_cpu_s = accounting::cpu_delta(&own_before, &accounting::cpu_s(&me));
    RunOutput {
        record: Record::default(),
        window_s,
        sut,
        engine,
        own: Usage {
            processes: 1,
            cpu_s: own_cpu_s,
            cores: own_cpu_s / window_s,
            ..own
        },
        all_cpu_s: accounting::cpu_delta(&all_before, &all_after),
        host_steal_s,
    }
}
