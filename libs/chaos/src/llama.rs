//! The same with two real llama-servers and greedy decoding: the text after a
//! failover beside that of an undisturbed run.

use crate::round::{Victim, kill};
use crate::table::{say, tell};
use anyhow::{Context, bail};
use orchion_testkit::cluster::Engines;
use orchion_testkit::{Cluster, HttpClient};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Tokens of each answer.
const TOKENS: u32 = 96;
/// Pieces after which something is killed.
const KILL_AT: usize = 24;
/// How often a client looks for a gateway before it gives up.
const TRIES: u32 = 200;

/// An answer as its client saw it.
#[derive(Default)]
struct Answer {
    text: String,
    pieces: usize,
    finish: String,
    completion_tokens: u64,
    pause: Duration,
    last: Option<Instant>,
    /// Whom to tell that the answer is in its middle.
    in_middle: Option<oneshot::Sender<()>>,
}

/// Answers of one kind of kill.
#[derive(Default)]
struct Row {
    pauses: Vec<Duration>,
    cut: u32,
    same_length: u32,
    same_text: u32,
}

/// Kills each victim so many times and compares; whether every answer ended well.
pub(crate) async fn run(
    program: &Path,
    model: &Path,
    runs: u32,
    victims: &[Victim],
) -> anyhow::Result<bool> {
    let mut rows = Vec::new();
    for victim in victims {
        let engines = Engines::Llama {
            program: program.to_owned(),
            model: model.to_owned(),
        };
        let builder = Cluster::builder().engines(engines);
        let mut cluster = builder.schedulers(2).gateways(2).start().await;
        let mut row = Row::default();
        for run in 1..=runs {
            match one(&mut cluster, *victim, run).await {
                Ok((calm, hit)) => row.add(&calm, &hit),
                Err(error) => say(&format!("{} run {run}: {error:#}", victim.name())),
            }
            cluster.heal().await;
        }
        tell(&format!("{}: {} answered", victim.name(), row.pauses.len()));
        rows.push((*victim, row));
    }
    print(&rows, runs);
    Ok(rows
        .iter()
        .all(|(_, row)| row.pauses.len() == runs as usize))
}

/// An undisturbed answer, and the same one with a kill in its middle.
async fn one(cluster: &mut Cluster, victim: Victim, run: u32) -> anyhow::Result<(Answer, Answer)> {
    let prompt = format!("Tell me about machine number {run} and its queue.");
    let clients = cluster.clients();
    let calm = chat(&clients[1], &prompt, Answer::default()).await;
    let calm = calm.context("the undisturbed run")?;
    let (in_middle, is_in_middle) = oneshot::channel();
    let answer = Answer {
        in_middle: Some(in_middle),
        ..Answer::default()
    };
    let mut hit = JoinSet::new();
    match victim {
        Victim::Gateway => hit.spawn(task(clients.clone(), prompt, answer)),
        Victim::Nothing | Victim::Engine | Victim::Agent | Victim::Scheduler | Victim::Nats => {
            let client = clients[1].clone();
            hit.spawn(async move { chat(&client, &prompt, answer).await })
        }
    };
    // An answer that ends before its middle is told by its own error.
    if is_in_middle.await.is_ok() {
        let node = serving(&clients[1]).await?;
        kill(cluster, victim, usize::from(node == "b")).await?;
    }
    let hit = hit.join_next().await.context("follow the answer")?;
    Ok((calm, hit??))
}

/// The node that the newest job runs on.
async fn serving(client: &HttpClient) -> anyhow::Result<String> {
    let jobs: Value = serde_json::from_str(&client.get("/api/jobs?limit=1").await?.text())?;
    let node = jobs[0]["node"].as_str();
    Ok(node.context("read the node of the last job")?.to_owned())
}

/// Over the OpenAI route.
async fn chat(client: &HttpClient, prompt: &str, mut answer: Answer) -> anyhow::Result<Answer> {
    let mut body = request(prompt);
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let mut events = client.post_events("/v1/chat/completions", &body).await?;
    while let Some(event) = events.next().await? {
        if event.data == "[DONE]" {
            return Ok(answer);
        }
        let chunk: Value = serde_json::from_str(&event.data)?;
        if let Some(message) = chunk["error"]["message"].as_str() {
            bail!("the stream ended with an error: {message}");
        }
        answer.count(&chunk["usage"]);
        let choice = &chunk["choices"][0];
        let finish = choice["finish_reason"].as_str();
        answer.finish.push_str(finish.unwrap_or_default());
        answer.piece(choice["delta"]["content"].as_str().unwrap_or_default());
    }
    bail!(
        "the stream ended without [DONE] after {} pieces",
        answer.pieces
    )
}

/// As a task, resumed at the other gateway whenever the connection breaks.
async fn task(
    clients: Vec<HttpClient>,
    prompt: String,
    mut answer: Answer,
) -> anyhow::Result<Answer> {
    let accepted = clients[0].post("/v1/tasks", &request(&prompt)).await?;
    let task: Value = serde_json::from_str(&accepted.text())?;
    let id = task["id"].as_str().context("read the id of the task")?;
    let mut next = 0_u64;
    for turn in 0..TRIES {
        let client = &clients[turn as usize % clients.len()];
        let path = format!("/v1/tasks/{id}/stream?last_event_id={next}");
        if let Ok(mut events) = client.events(&path, &[]).await {
            while let Ok(Some(event)) = events.next().await {
                let data: Value = serde_json::from_str(&event.data)?;
                match event.event.as_str() {
                    "token" => answer.piece(data["t"].as_str().unwrap_or_default()),
                    "end" => {
                        answer.count(&data["usage"]);
                        answer.finish = data["finish_reason"].as_str().unwrap_or("").to_owned();
                        return Ok(answer);
                    }
                    "error" => bail!("the task ended with an error: {data}"),
                    _ => {}
                }
                next = event.id.and_then(|id| id.parse().ok()).unwrap_or(next);
            }
        }
    }
    bail!("no gateway gave the end after {} pieces", answer.pieces)
}

fn request(prompt: &str) -> Value {
    json!({
        "model": "llama", "temperature": 0, "max_tokens": TOKENS,
        "messages": [{"role": "user", "content": prompt}],
    })
}

impl Answer {
    fn piece(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.text.push_str(text);
        self.pieces += 1;
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.pause = self.pause.max(now - last);
        }
        if self.pieces == KILL_AT
            && let Some(in_middle) = self.in_middle.take()
        {
            // Nobody listens when the kill was given up.
            let _ = in_middle.send(());
        }
    }

    fn count(&mut self, usage: &Value) {
        if let Some(tokens) = usage["completion_tokens"].as_u64() {
            self.completion_tokens = tokens;
        }
    }
}

impl Row {
    fn add(&mut self, calm: &Answer, hit: &Answer) {
        let is_as_long =
            hit.completion_tokens == calm.completion_tokens && hit.finish == calm.finish;
        self.same_length += u32::from(is_as_long);
        self.same_text += u32::from(hit.text == calm.text);
        self.cut += u32::from(hit.pieces > KILL_AT);
        self.pauses.push(hit.pause);
        self.pauses.sort_unstable();
    }
}

fn print(rows: &[(Victim, Row)], runs: u32) {
    say(&format!(
        "two llama-servers (-fa off), greedy, {TOKENS} tokens; {runs} kills of each kind after {KILL_AT} pieces, each beside an undisturbed answer\n\n\
         | killed | answered | killed in mid-answer | same length and finish reason | same text | longest pause, median | worst |\n\
         |---|---|---|---|---|---|---|"
    ));
    for (victim, row) in rows {
        let at = |n: usize| row.pauses.get(n).copied().unwrap_or_default().as_millis();
        let count = row.pauses.len();
        say(&format!(
            "| {} | {count} | {} | {} | {} | {} ms | {} ms |",
            victim.name(),
            row.cut,
            row.same_length,
            row.same_text,
            at(count / 2),
            at(count.saturating_sub(1)),
        ));
    }
}
