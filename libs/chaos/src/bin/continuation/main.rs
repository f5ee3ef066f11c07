//! Kills real engines in mid-answer and shows how each kind of answer goes on.
//!
//! Two engines of one kind serve one model each on a node of its own. A task is
//! answered once undisturbed and once with SIGKILL to the engine behind it at a
//! given piece. What the client got is compared: the strategy, the text, whether
//! it is what was asked for, and the counts of tokens.

mod answer;
mod kind;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use orchion_testkit::cluster::Engines;
use orchion_testkit::{Cluster, Program};

use answer::{Answer, ask};
use kind::Kind;
use table::Row;

/// Kills real engines in mid-answer and shows how each kind of answer goes on.
#[derive(Parser)]
#[command(name = "continuation", version)]
struct Options {
    /// Kills at each place.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Pieces after which an engine is killed.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 5, 17, 40])]
    at: Vec<usize>,
    /// Only these kinds of request.
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// The program `llama-server`; without it there are only starters.
    #[arg(long)]
    llama_server: Option<PathBuf>,
    /// Leaves the starters out.
    #[arg(long)]
    no_starter: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let done = runtime
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(run(&options)));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => table::complain("a row is not as promised: see the table"),
        Err(error) => table::complain(&format!("{error:#}")),
    }
}

async fn run(options: &Options) -> anyhow::Result<bool> {
    let folder = tempfile::tempdir().context("make a folder for the model")?;
    let model = folder.path().join("model.gguf");
    write_model(&model).await?;
    let mut rows = Vec::new();
    if let Some(program) = &options.llama_server {
        let engines = Engines::Llama {
            program: program.clone(),
            model: model.clone(),
        };
        rows.extend(of_engines("llama-server", "llama", engines, options).await?);
        let engines = Engines::OpenAi {
            program: program.clone(),
            model: model.clone(),
        };
        rows.extend(of_engines("OpenAI protocol", "llama", engines, options).await?);
    }
    if !options.no_starter {
        let engines = Engines::StarterAt { model };
        rows.extend(of_engines("starter", "starter", engines, options).await?);
    }
    table::print(&rows);
    Ok(rows.iter().all(Row::is_as_promised))
}

/// A model that makes some hundred tokens a second: time to kill in mid-answer.
async fn write_model(path: &Path) -> anyhow::Result<()> {
    let shape = ["--layers", "8", "--dim", "512", "--ff", "1536"];
    let heads = ["--heads", "8", "--kv-heads", "4"];
    let mut writing = Program::ours("orchion-engine")
        .args(["write-model", "--dtype", "q8_0"])
        .args(shape)
        .args(heads)
        .arg(path)
        .start();
    let status = writing.wait(std::time::Duration::from_secs(60)).await;
    anyhow::ensure!(status.success(), "write a model: {}", writing.stderr());
    Ok(())
}

async fn of_engines(
    engine: &'static str,
    model: &str,
    engines: Engines,
    options: &Options,
) -> anyhow::Result<Vec<Row>> {
    let mut cluster = Cluster::builder().engines(engines).start().await;
    let kinds = Kind::ALL.iter().copied();
    let wanted = kinds.filter(|kind| options.only.is_empty() || options.only.contains(kind));
    let mut rows = Vec::new();
    for kind in wanted {
        let mut row = Row::new(engine, kind);
        'runs: for run in 0..options.runs {
            let body = kind.body(model, run);
            let calm = match ask(&cluster.gateway(0), &body, None).await? {
                Ok(calm) => calm,
                Err(refusal) => {
                    row.refused(refusal);
                    break 'runs;
                }
            };
            for at in &options.at {
                let hit = cut(&mut cluster, &body, *at).await?;
                row.add(&calm, hit);
            }
        }
        table::progress(&row);
        rows.push(row);
    }
    Ok(rows)
}

/// The same answer with a kill at piece `at`; afterwards all is whole again.
async fn cut(
    cluster: &mut Cluster,
    body: &serde_json::Value,
    at: usize,
) -> anyhow::Result<Result<Answer, String>> {
    let gateway = cluster.gateway(0);
    let kill = answer::Kill {
        at,
        engines: &mut cluster.engines,
    };
    let hit = ask(&gateway, body, Some(kill)).await;
    cluster.heal().await;
    hit
}
