//! What the user sees: a first real answer, and what to try next.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use orchion_contract::JobId;
use orchion_contract::job::JobSummary;
use orchion_service::Stop;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::data::DataDir;
use super::plan::Plan;
use crate::args::Up;
use crate::exit::{Failure, Kind, Result};
use crate::follow::{End, Follow, Happening};
use crate::gateway::Gateway;
use crate::http::Base;
use crate::nats;
use crate::show::units::span;
use crate::task::{Message, Task, first_choice, models};
use crate::terminal::{DIM, GOOD, STRONG, Status, Terminal};

const QUESTION: &str = "Say hello in one sentence.";
const MAX_TOKENS: u32 = 48;
/// How long it may take until a node offers a model: an engine may load one.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Waits until all is ready, has one question answered, tells the rest, and
/// stays until `stop`; with `--check` it asks to stop itself.
pub(super) async fn run(
    plan: &Plan,
    data: &DataDir,
    options: &Up,
    terminal: Terminal,
    mut status: Status,
    stop: &Stop,
) -> Result<()> {
    let begun = Instant::now();
    let gateway = Gateway::new(&[plan.base.to_string()], plan.token.clone())?;
    let hello = stop
        .unless_stopped(hello(&gateway, plan, data, &mut status))
        .await;
    status.clear();
    let Some(hello) = hello else { return Ok(()) };
    let shown = match hello {
        Ok(hello) => tell(plan, data, options, terminal, &hello, begun.elapsed()),
        Err(failure) if options.check => Err(failure),
        // Without an answer it is still worth running: an engine may come.
        Err(failure) => {
            terminal.failure(&failure);
            Ok(())
        }
    };
    if options.check || shown.is_err() {
        stop.request();
    }
    stop.stopped().await;
    if !options.quiet && !options.check && !terminal.json {
        terminal.remark("\nstopping");
    }
    shown
}

/// A first answer and where it came from.
struct Hello {
    model: String,
    node: String,
    text: String,
    end: End,
}

async fn hello(
    gateway: &Gateway,
    plan: &Plan,
    data: &DataDir,
    status: &mut Status,
) -> Result<Hello> {
    let model = wait_for_model(gateway, plan, data, status).await?;
    status.set("asking for a first answer");
    let task = Task {
        model: model.clone(),
        messages: vec![Message::user(QUESTION)],
        max_tokens: Some(MAX_TOKENS),
        ..Task::default()
    };
    let id = JobId::now();
    task.submit(gateway, id, |_| {}).await?;
    let mut follow = Follow::new(gateway, id);
    let mut text = String::new();
    while let Some(happening) = follow.next().await? {
        match happening {
            Happening::Token(token) => {
                text.push_str(token.reasoning.as_deref().unwrap_or_default());
                text.push_str(&token.t);
            }
            Happening::Restart => text.clear(),
            Happening::Error(error) => return Err(Failure::remote(&error)),
            Happening::End(end) => {
                let job: JobSummary = gateway.get(&format!("/api/jobs/{id}")).await?;
                let node = job.node.map(|node| node.to_string()).unwrap_or_default();
                return Ok(Hello {
                    model,
                    node,
                    text,
                    end,
                });
            }
            Happening::Started(_)
            | Happening::Metrics(_)
            | Happening::Reconnecting { .. }
            | Happening::Waiting { .. } => {}
        }
    }
    Err(Failure::new(Kind::Internal, "the first answer had no end"))
}

async fn wait_for_model(
    gateway: &Gateway,
    plan: &Plan,
    data: &DataDir,
    status: &mut Status,
) -> Result<String> {
    let end = Instant::now() + READY_TIMEOUT;
    status.set("waiting for an engine");
    loop {
        let why = match ready(gateway, plan.agents.len()).await {
            Ok(Some(model)) => return Ok(model),
            Ok(None) => "no engine of this machine offers a model".to_owned(),
            Err(failure) => failure.message,
        };
        if Instant::now() > end {
            return Err(Failure::new(
                Kind::Unavailable,
                format!("not ready after {}: {why}", span(millis(READY_TIMEOUT))),
            )
            .then(format!(
                "read {}; `orchion doctor` checks each part",
                data.log().display()
            )));
        }
        status.turn();
        sleep(POLL).await;
    }
}

/// The model to ask, once every agent of ours has made itself known.
async fn ready(gateway: &Gateway, agents: usize) -> Result<Option<String>> {
    gateway.get::<Value>("/readyz").await?;
    let nodes: Vec<Value> = gateway.get("/api/nodes").await?;
    if nodes.len() < agents {
        return Ok(None);
    }
    Ok(first_choice(models(gateway).await?))
}

fn tell(
    plan: &Plan,
    data: &DataDir,
    options: &Up,
    terminal: Terminal,
    hello: &Hello,
    took: Duration,
) -> Result<()> {
    if terminal.json {
        return terminal.document(&document(plan, data, hello));
    }
    if options.quiet {
        return Ok(());
    }
    terminal.line(&format!(
        "{} (started in {})\n\n{}\n",
        terminal.paint(GOOD, "Orchion runs"),
        span(millis(took)),
        answer(terminal, hello),
    ))?;
    if options.check {
        return Ok(());
    }
    terminal.text(&format!("\n{}\n", places(terminal, plan, data)))?;
    terminal.line(&steps(terminal, plan, &hello.model))
}

fn answer(terminal: Terminal, hello: &Hello) -> String {
    let figures = format!(
        "({} tokens in {}, gateway → NATS → scheduler → node {} → engine and back)",
        hello.end.tokens_out,
        span(hello.end.decode_ms),
        hello.node,
    );
    format!(
        "  {} {QUESTION}\n  {} {}\n  {}\n",
        terminal.paint(STRONG, "you:"),
        terminal.paint(STRONG, &format!("{}:", hello.model)),
        hello.text.trim(),
        terminal.paint(DIM, &figures),
    )
}

fn places(terminal: Terminal, plan: &Plan, data: &DataDir) -> String {
    let base = &plan.base;
    let rows = [
        ("HTTP", format!("{base}  (OpenAI: {base}/v1)")),
        ("NATS", plan.nats_url()),
        ("data", data.root().display().to_string()),
        ("log ", data.log().display().to_string()),
    ];
    let rows = rows.map(|(name, value)| format!("  {}  {value}\n", terminal.paint(DIM, name)));
    rows.concat()
}

fn steps(terminal: Terminal, plan: &Plan, model: &str) -> String {
    let base = &plan.base;
    let program = program();
    let header = plan
        .token
        .as_ref()
        .map(|_| " -H \"authorization: Bearer $ORCHION_TOKEN\"")
        .unwrap_or_default();
    let body = json!({
        "model": model, "stream": true, "messages": [{"role": "user", "content": "Hello!"}],
    });
    let mut text = terminal.paint(STRONG, "Try, in another terminal");
    if base.port() != Base::DEFAULT_PORT {
        text.push_str(&format!("\n  export ORCHION_URL={base}"));
    }
    if plan.nats.port() != nats::DEFAULT_PORT {
        // For `orchion doctor`, which looks from this host.
        let port = plan.nats.port();
        text.push_str(&format!(
            "\n  export ORCHION_NATS_URL=nats://127.0.0.1:{port}"
        ));
    }
    if let Some(token) = &plan.token {
        text.push_str(&format!("\n  export ORCHION_TOKEN={token}"));
    }
    text.push_str(&format!(
        "\n  {program} chat\n  {program} nodes\n  curl -N {base}/v1/chat/completions{header} \
         -H 'content-type: application/json' -d '{body}'\n\n{}",
        terminal.paint(STRONG, "Add a host"),
    ));
    match &plan.join {
        Some(join) => text.push_str(&format!(
            ": run this there (the line is a secret)\n  orchion agent --join '{join}'\n"
        )),
        None => text.push_str(&format!(
            "\n  {program} up --lan    opens NATS to the network and prints the line for the other host\n"
        )),
    }
    text.push_str("\nCtrl-C stops everything.");
    text
}

/// How to call this program: by its name where that leads here, else by its path.
fn program() -> String {
    const NAME: &str = "orchion";
    let Ok(own) = std::env::current_exe() else {
        return NAME.to_owned();
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let file = format!("{NAME}{}", std::env::consts::EXE_SUFFIX);
    let is_own = |folder: PathBuf| {
        folder
            .join(&file)
            .canonicalize()
            .is_ok_and(|found| found == own)
    };
    if std::env::split_paths(&path).any(is_own) {
        return NAME.to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    let shown = own.strip_prefix(&here).unwrap_or(&own);
    shown.display().to_string()
}

fn document(plan: &Plan, data: &DataDir, hello: &Hello) -> Value {
    json!({
        "url": plan.base.to_string(),
        "nats": plan.nats_url(),
        "data_dir": data.root(),
        "log": data.log(),
        "join": plan.join.as_ref().map(ToString::to_string),
        "model": hello.model,
        "node": hello.node,
        "answer": hello.text,
        "tokens_out": hello.end.tokens_out,
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
