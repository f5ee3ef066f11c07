//! Records when jobs waited, started and ended on a real llama-server, so that
//! predictions can be measured against it: bursts of tasks of mixed lengths go
//! through the whole product, and their timelines become a trace.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use orchion_testkit::cluster::Engines;
use orchion_testkit::{Cluster, HttpClient};
use serde_json::{Value, json};

/// Records a trace of jobs on a real llama-server.
#[derive(Parser)]
#[command(name = "record-trace", version)]
struct Options {
    /// Path of the program
    #[arg(long)]
    llama_server: PathBuf,
    /// Path of the model
    #[arg(long)]
    model: PathBuf,
    /// Jobs in all
    #[arg(long, default_value_t = 120)]
    jobs: usize,
    /// Where the trace goes
    #[arg(long)]
    out: PathBuf,
}

/// Jobs that come at once, and the pause before the next ones.
const BURST: usize = 16;
const PAUSE: Duration = Duration::from_secs(7);
/// Longest time that all jobs may take.
const PATIENCE: Duration = Duration::from_secs(1500);

/// What was asked, as far as it is not in the answer.
struct Asked {
    id: String,
    prompt_bytes: usize,
    max_tokens: usize,
    batch: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let engines = Engines::Llama {
        program: options.llama_server,
        model: options.model,
    };
    let cluster = Cluster::builder().agents(1).engines(engines).start().await;
    let client = cluster.gateway(0);
    let mut asked = Vec::new();
    while asked.len() < options.jobs {
        for _ in 0..BURST.min(options.jobs - asked.len()) {
            asked.push(submit(&client, asked.len()).await?);
        }
        // The pace of the trace: bursts, and calm between them.
        tokio::time::sleep(PAUSE).await;
    }
    let jobs = ended(&client, &asked).await?;
    let slots = client.get("/api/nodes").await?.text();
    let slots: Value = serde_json::from_str(&slots)?;
    let slots = slots[0]["replicas"][0]["slots"].clone();
    let trace = json!({
        "source": "llama-server behind the whole product: one replica, bursts of tasks",
        "slots": {"a": slots},
        "jobs": jobs,
    });
    std::fs::write(&options.out, serde_json::to_string_pretty(&trace)? + "\n")
        .with_context(|| format!("write {}", options.out.display()))
}

/// Prompts and limits of mixed lengths, the same in every recording.
async fn submit(client: &HttpClient, n: usize) -> anyhow::Result<Asked> {
    let words = 8 + (n * 37) % 120;
    let prompt = "the queue of a machine is long and ".repeat(words / 8 + 1);
    let max_tokens = 24 + (n * 53) % 168;
    let batch = n % 5 == 4;
    let body = json!({
        "workload": "chat", "model": "llama", "max_tokens": max_tokens, "seed": n,
        "priority": if batch { "batch" } else { "interactive" }, "deadline_ms": 1_800_000,
        "messages": [{"role": "user", "content": prompt}],
    });
    let answer = client.post("/v1/tasks", &body).await?.text();
    let answer: Value = serde_json::from_str(&answer)?;
    let id = answer["task_id"].as_str();
    let id = id.with_context(|| format!("submit job {n}: {answer}"))?;
    Ok(Asked {
        id: id.to_owned(),
        prompt_bytes: body["messages"].to_string().len(),
        max_tokens,
        batch,
    })
}

/// The timelines of all jobs, once each of them has ended.
async fn ended(client: &HttpClient, asked: &[Asked]) -> anyhow::Result<Vec<Value>> {
    let began = std::time::Instant::now();
    loop {
        let listed = client.get("/api/jobs?limit=1000").await?.text();
        let listed: Value = serde_json::from_str(&listed)?;
        let find = |id: &str| {
            let jobs = listed.as_array().into_iter().flatten();
            jobs.into_iter()
                .find(|job| job["id"] == id && !job["end"].is_null())
        };
        let found: Option<Vec<&Value>> = asked.iter().map(|asked| find(&asked.id)).collect();
        if let Some(found) = found {
            let first = found[0]["timeline"]["queued_ms"]
                .as_u64()
                .unwrap_or_default();
            return Ok(asked
                .iter()
                .zip(found)
                .map(|(asked, job)| entry(asked, job, first))
                .collect());
        }
        if began.elapsed() > PATIENCE {
            bail!("not every job has ended in {} s", PATIENCE.as_secs());
        }
        // Looked at seldom: the trace is of the jobs, not of the looking.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn entry(asked: &Asked, job: &Value, first: u64) -> Value {
    let at = |name: &str| {
        job["timeline"][name]
            .as_u64()
            .map(|at| at.saturating_sub(first))
    };
    json!({
        "replica": job["node"],
        "batch": asked.batch,
        "attempts": job["attempt"],
        "prompt_bytes": asked.prompt_bytes,
        "max_tokens": asked.max_tokens,
        "prompt_tokens": job["end"]["usage"]["prompt_tokens"],
        "cached_tokens": job["end"]["usage"]["cached_tokens"],
        "completion_tokens": job["end"]["usage"]["completion_tokens"],
        "queued_ms": at("queued_ms"),
        "assigned_ms": at("assigned_ms"),
        "started_ms": at("started_ms"),
        "first_token_ms": at("first_token_ms"),
        "ended_ms": at("ended_ms"),
    })
}
