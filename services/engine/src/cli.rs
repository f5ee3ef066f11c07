//! The command line: serve a model, or write one.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::engine::{Engine, Settings};
use crate::http::{self, Service};
use crate::synth::Spec;
use crate::{digest, starter};

/// Exit code for a command line that cannot be understood.
const USAGE: u8 = 64;

/// A starter engine to try Orchion with: it answers OpenAI's chat and completion requests
/// on any CPU. For daily use run llama-server, Ollama or vLLM.
#[derive(Debug, Parser)]
#[command(
    name = "orchion-engine",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a tiny real model as a GGUF file, for tests
    WriteModel {
        /// Where to write it
        out: PathBuf,
        #[command(flatten)]
        spec: Spec,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8088")]
    listen: SocketAddr,
    /// GGUF file to serve; without one, a tiny starter model is written and served
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Folder that keeps the starter model
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Name to serve the model under
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Answers at once; what does not fit is refused, never queued
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    slots: u16,
    /// Most tokens of prompt and answer together, if the model can hold them
    #[arg(long, value_name = "TOKENS", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(16..))]
    ctx: u32,
    /// Threads that compute, for all answers together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// End when standard input ends, so that no engine outlives who started it
    #[arg(long)]
    with_parent: bool,
}

/// Runs the program with `arguments`, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way, too. A closed pipe is nobody's problem.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let done = match cli.command {
        Some(Command::WriteModel { out, spec }) => write_model(&out, &spec),
        None => serve(cli.serve),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "orchion-engine: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write_model(out: &Path, spec: &Spec) -> anyhow::Result<()> {
    spec.write(out)?;
    let digest = digest::of_file(out).context("compute digest of the written file")?;
    writeln!(std::io::stdout().lock(), "{digest}  {}", out.display()).context("print digest")
}

fn serve(serve: Serve) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start runtime")?;
    let served = runtime.block_on(serve_until_stopped(serve));
    // Answers that still compute are cut: who asks sees no `[DONE]` and knows.
    runtime.shutdown_background();
    served
}

async fn serve_until_stopped(serve: Serve) -> anyhow::Result<()> {
    let stop = stop(serve.with_parent)?;
    let listener = TcpListener::bind(serve.listen)
        .await
        .with_context(|| format!("listen on {}: name another with --listen", serve.listen))?;
    let service = Arc::new(Service::new(serve.name(), usize::from(serve.slots)));
    announce(&listener, &serve.name())?;

    let loading = Arc::clone(&service);
    let load =
        tokio::task::spawn_blocking(move || serve.load().map(|engine| loading.ready(engine)));
    let served = http::serve(listener, service, stop);
    tokio::pin!(served);
    tokio::select! {
        served = &mut served => return served.context("serve"),
        loaded = load => loaded.context("load model")??,
    }
    served.await.context("serve")
}

impl Serve {
    fn name(&self) -> String {
        if let Some(alias) = &self.alias {
            return alias.clone();
        }
        let stem = self.model.as_deref().and_then(Path::file_stem);
        stem.map_or_else(
            || starter::NAME.to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        )
    }

    fn load(&self) -> anyhow::Result<Engine> {
        let path = match &self.model {
            Some(path) => path.clone(),
            None => starter::ensure(&self.data_dir())
                .context("write the starter model: name a writable folder with --data-dir")?,
        };
        let settings = Settings {
            context: self.ctx as usize,
            threads: usize::from(self.threads),
        };
        Ok(Engine::load(&path, &settings)?)
    }

    fn data_dir(&self) -> PathBuf {
        let usual = || match std::env::home_dir() {
            Some(home) => home.join(".cache").join("orchion"),
            None => std::env::temp_dir().join("orchion"),
        };
        self.data_dir.clone().unwrap_or_else(usual)
    }
}

/// The one line on standard output: where we listen and what we are.
fn announce(listener: &TcpListener, model: &str) -> anyhow::Result<()> {
    let address = listener.local_addr().context("read own address")?;
    let line = serde_json::json!({
        "engine": "orchion-engine",
        "kind": "starter",
        "version": env!("CARGO_PKG_VERSION"),
        "listen": format!("http://{address}"),
        "model": model,
        "note": http::NOTE,
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("print the start-up line")
}

/// Resolves on SIGTERM or SIGINT, and with `parent` when standard input ends.
fn stop(parent: bool) -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("listen for SIGTERM")?;
    let orphaned = parent.then(watch_parent);
    Ok(async move {
        #[cfg(unix)]
        let terminated = terminate.recv();
        #[cfg(not(unix))]
        let terminated = std::future::pending::<Option<()>>();
        let orphaned = async {
            match orphaned {
                // Either message or closed channel: the watch is over.
                Some(orphaned) => drop(orphaned.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated => {}
            () = orphaned => {}
        }
    })
}

/// Reads standard input to its end on a thread of its own, which may outlive everything:
/// a blocking read cannot be called back.
fn watch_parent() -> oneshot::Receiver<()> {
    let (orphaned, watch) = oneshot::channel();
    std::thread::spawn(move || {
        // Whatever the parent writes is ignored; an error means it is gone as well.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = orphaned.send(());
    });
    watch
}
