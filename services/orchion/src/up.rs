//! `orchion up`: everything on one machine, in one process, beside a real
//! `nats-server` and the engines.
//!
//! The services still meet on NATS only; what runs here is what runs in
//! containers and on other hosts, started differently.

mod cluster;
mod data;
mod greet;
mod logs;
mod nats;
mod plan;
mod services;

use std::process::ExitCode;

use orchion_service::Stop;
use orchion_service::shutdown::Signals;

use crate::args::Up;
use crate::exit::{Failure, Kind, Result};
use crate::terminal::{Status, Terminal};
use data::DataDir;
use plan::Plan;

pub(crate) use data::gateway_token;

/// What a service has as a program of its own, where it runs on the main thread.
const STACK_BYTES: usize = 8 << 20;

/// Runs until it is asked to stop.
pub(crate) fn run(options: &Up, terminal: Terminal) -> Result<ExitCode> {
    if options.print_config {
        terminal.line(&plan::configuration(options)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let data = DataDir::open()?;
    data.clear_leftover()?;
    let plan = Plan::new(options, &data)?;
    logs::start(&plan, &data, terminal)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    // On this thread, because the children live as long as it does.
    let done = runtime.block_on(serve(&plan, &data, options, terminal));
    runtime.shutdown_background();
    done
}

async fn serve(plan: &Plan, data: &DataDir, options: &Up, terminal: Terminal) -> Result<ExitCode> {
    let signals = Signals::listen()?;
    let stop = Stop::new();
    let work = async {
        let mut status = Status::new(terminal.quiet_if(options.quiet));
        status.set("starting NATS");
        let server = stop.unless_stopped(nats::Server::start(plan, data, &mut status));
        let Some(server) = server.await else {
            return Ok(());
        };
        let server = server?;
        let (ran, greeted) = tokio::join!(
            cluster::run(plan, server, &stop),
            greet::run(plan, data, options, terminal, status, &stop),
        );
        ran.and(greeted)
    };
    tokio::select! {
        done = work => done.map(|()| ExitCode::SUCCESS),
        code = signals.stop_then_end(stop.clone()) => {
            Err(Failure::new(Kind::Interrupted, format!("ended at once ({code})")))
        }
    }
}
