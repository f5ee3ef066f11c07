//! The `nats-server` beside us: found or fetched, started, kept alive, ended.

use std::process::Stdio;
use std::time::Duration;

use orchion_nats_server::{Search, Source, arguments, fetch, install};
use orchion_service::Stop;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::data::DataDir;
use super::logs;
use super::plan::Plan;
use crate::exit::{Failure, Kind, Result};
use crate::nats::greeting;
use crate::terminal::Status;

/// A store of many gigabytes is read at the start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// Before a server that ended by itself is started again.
const PAUSE: Duration = Duration::from_millis(200);

/// A running server.
pub(super) struct Server<'a> {
    data: &'a DataDir,
    command: Start,
    child: Child,
}

/// How it is started.
struct Start {
    program: std::path::PathBuf,
    arguments: Vec<std::ffi::OsString>,
    address: String,
}

impl<'a> Server<'a> {
    /// Finds or fetches the program, starts it, and waits until it greets.
    pub(super) async fn start(
        plan: &Plan,
        data: &'a DataDir,
        status: &mut Status,
    ) -> Result<Server<'a>> {
        let program = find(status).await?;
        let config = install(&data.nats(), &plan.access).map_err(anyhow::Error::new)?;
        let command = Start {
            program,
            arguments: arguments(&config, plan.nats, &data.nats_store()),
            address: format!("127.0.0.1:{}", plan.nats.port()),
        };
        let child = command.spawn(data)?;
        let mut server = Self {
            data,
            command,
            child,
        };
        server.ready().await?;
        Ok(server)
    }

    /// Keeps it running until `stop`, then ends it.
    pub(super) async fn keep(mut self, stop: &Stop) -> Result<()> {
        loop {
            match stop.unless_stopped(self.child.wait()).await {
                None => break,
                Some(ended) => {
                    let how = ended.map_or_else(|error| error.to_string(), |how| how.to_string());
                    tracing::warn!("nats-server ended by itself ({how}): starting it again");
                    sleep(PAUSE).await;
                    self.child = self.command.spawn(self.data)?;
                    self.ready().await?;
                }
            }
        }
        self.end().await;
        Ok(())
    }

    async fn ready(&mut self) -> Result<()> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(how) = self.child.try_wait()? {
                return Err(self.failed(&format!("it ended ({how})")));
            }
            if greeting(&self.command.address).await.is_ok() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(self.failed("it does not answer"));
            }
            sleep(POLL).await;
        }
    }

    /// The last line that the server wrote usually says why.
    fn failed(&self, what: &str) -> Failure {
        let log = self.data.nats_log();
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        Failure::new(
            Kind::Unavailable,
            format!(
                "nats-server did not start: {what}: {}",
                last.unwrap_or("it said nothing")
            ),
        )
        .then(format!("its log is {}", log.display()))
    }

    async fn end(mut self) {
        #[cfg(unix)]
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // A child that has not been waited for keeps its id.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGTERM,
            );
        }
        #[cfg(not(unix))]
        let _ = self.child.start_kill();
        if timeout(GRACE, self.child.wait()).await.is_err() {
            tracing::warn!("nats-server did not end in time: it is killed");
            let _ = self.child.kill().await;
        }
        self.data.forget_server();
    }
}

impl Start {
    fn spawn(&self, data: &DataDir) -> Result<Child> {
        let log = logs::open(&data.nats_log())?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        tie(&mut command);
        let child = command.spawn().map_err(|error| {
            Failure::new(
                Kind::Unavailable,
                format!("cannot start {}: {error}", self.program.display()),
            )
        })?;
        if let Some(pid) = child.id() {
            data.remember_server(pid)?;
        }
        Ok(child)
    }
}

/// Ctrl-C in our terminal must not reach the server before the services have
/// finished, and our own death must.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "only the child itself can ask to end with its parent"
)]
fn tie(command: &mut Command) {
    use nix::sys::prctl::set_pdeathsig;
    use nix::sys::signal::Signal;
    use nix::unistd::getppid;

    command.process_group(0);
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec this calls prctl and getppid alone, which
    // are safe there, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGTERM)?;
            if getppid() == parent {
                Ok(())
            } else {
                // The parent died before the child could ask.
                Err(std::io::Error::from_raw_os_error(nix::libc::ECHILD))
            }
        });
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
fn tie(command: &mut Command) {
    command.process_group(0);
}

#[cfg(not(unix))]
fn tie(_command: &mut Command) {}

/// Finds the program; fetches it when it is nowhere, and says so.
async fn find(status: &mut Status) -> Result<std::path::PathBuf> {
    let search = Search::from_environment();
    let located = match search.locate() {
        Err(orchion_nats_server::Error::Damaged { .. }) => None,
        located => located.map_err(missing)?,
    };
    if let Some(found) = located {
        let from = match found.source {
            Source::Explicit => "ORCHION_NATS_SERVER",
            Source::Path => "PATH",
            Source::Cache => "the cache",
        };
        let path = found.path.display().to_string();
        tracing::info!(path, "nats-server {} is taken from {from}", found.version);
        return Ok(found.path);
    }
    status.set("fetching nats-server (once)");
    let fetched = tokio::task::spawn_blocking(move || fetch(&search)).await;
    let found = fetched.map_err(anyhow::Error::new)?.map_err(missing)?;
    status.set("starting NATS");
    Ok(found.path)
}

fn missing(error: orchion_nats_server::Error) -> Failure {
    Failure::new(
        Kind::Unavailable,
        format!("{:#}", anyhow::Error::new(error)),
    )
}
