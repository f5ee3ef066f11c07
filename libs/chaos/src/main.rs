//! Kills what answers, in mid-answer, and counts what clients lose.
//!
//! The separate binaries run as they are shipped: two gateways, two
//! schedulers, a registry, log-sink, two agents with an engine each, and a real
//! nats-server. Clients stream answers whose every token they can check; one
//! process gets SIGKILL while all of them are in the middle of theirs. Nothing
//! but the clients and the stored transcripts judges.

mod client;
mod draw;
mod finals;
mod history;
mod llama;
mod random;
mod resumes;
mod round;
mod table;

use clap::Parser;
use orchion_testkit::Cluster;
use round::Victim;
use std::process::ExitCode;

/// Kills processes under streams and counts what is lost.
#[derive(Parser)]
#[command(name = "chaos", version)]
struct Options {
    /// Kills of each kind.
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// Streams that are under way at each kill.
    #[arg(long, default_value_t = 20)]
    streams: u32,
    /// Tokens of each answer.
    #[arg(long, default_value_t = 80)]
    tokens: u32,
    /// Milliseconds between two tokens.
    #[arg(long, default_value_t = 25)]
    pace_ms: u64,
    /// Only these victims.
    #[arg(long, value_enum)]
    only: Vec<Victim>,
    /// Random faults of any process, several at a time, instead of one kind after the other.
    #[arg(long)]
    random: bool,
    /// How long random faults go on.
    #[arg(long, default_value_t = 1, requires = "random")]
    minutes: u64,
    /// Which random faults; drawn anew when it is not given.
    #[arg(long, requires = "random")]
    seed: Option<u64>,
    /// Clients at a time under random faults.
    #[arg(long, default_value_t = 16, requires = "random")]
    clients: usize,
    /// So many resumes at a second gateway after SIGKILL of the first.
    #[arg(long, conflicts_with = "random")]
    resumes: Option<u32>,
    /// Real llama-servers instead of the mock engine: path of the program and of a model.
    #[arg(long, num_args = 2, value_names = ["LLAMA_SERVER", "MODEL"])]
    llama: Option<Vec<std::path::PathBuf>>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return table::complain(&format!("start the runtime: {error}")),
    };
    let done = runtime.block_on(async {
        match (&options.llama, options.resumes) {
            (Some(paths), _) => {
                llama::run(&paths[0], &paths[1], options.runs, &options.victims()).await
            }
            (None, Some(wanted)) => resumes::run(wanted).await,
            (None, None) if options.random => random::run(options.random()).await,
            (None, None) => run(&options).await,
        }
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => table::complain("something was lost: see the table"),
        Err(error) => table::complain(&format!("{error:#}")),
    }
}

impl Options {
    fn victims(&self) -> Vec<Victim> {
        match self.only.as_slice() {
            [] => Victim::ALL.to_vec(),
            only => only.to_vec(),
        }
    }

    fn random(&self) -> random::Options {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        random::Options {
            lasts: std::time::Duration::from_secs(60 * self.minutes),
            seed: self.seed.unwrap_or(now.as_secs()),
            clients: self.clients,
        }
    }
}

/// Runs every kind and prints the table; whether nothing was lost.
async fn run(options: &Options) -> anyhow::Result<bool> {
    let mut rows = Vec::new();
    for victim in options.victims() {
        let mut cluster = Cluster::builder().schedulers(2).gateways(2).start().await;
        let finals = finals::Finals::watch(&cluster).await?;
        let mut row = table::Row::new(victim);
        for n in 0..options.runs {
            let load = round::Load {
                streams: options.streams,
                tokens: options.tokens,
                pace_ms: options.pace_ms,
            };
            let outcome = round::run(&mut cluster, &finals, victim, load).await?;
            table::progress(victim, n, &outcome);
            row.add(outcome);
        }
        rows.push(row);
    }
    table::print(&rows, options.runs, options.streams);
    let pace = std::time::Duration::from_millis(options.pace_ms);
    if !rows.iter().all(|row| row.is_in_time(pace)) {
        table::say(
            "\nA median is over its bound: compare it with the row `nothing`, which shows the machine.",
        );
    }
    Ok(rows.iter().all(table::Row::is_whole))
}
