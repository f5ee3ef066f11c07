//! The same with two real llama-servers and greedy decoding: the text after a
//! failover beside that of an undisturbed run.

use crate::table::say;
use anyhow::{Context, bail};
use orchion_testkit::cluster::Engines;
use orchion_testkit::{Cluster, HttpClient};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Tokens of each answer.
const TOKENS: u32 = 96;
/// Pieces after which the engine is killed.
const KILL_AT: usize = 24;

struct Answer {
    text: String,
    pieces: usize,
    finish: String,
    completion_tokens: u64,
    pause: Duration,
}

/// Compares `runs` answers; whether every one ended well.
pub(crate) async fn run(program: &Path, model: &Path, runs: u32) -> anyhow::Result<bool> {
    let engines = Engines::Llama {
        program: program.to_owned(),
        model: model.to_owned(),
    };
    let mut cluster = Cluster::builder()
        .engines(engines)
        .schedulers(2)
        .gateways(2)
        .start()
        .await;
    let (mut equal, mut cut, mut pauses, mut complete) = (0, 0, Vec::new(), 0);
    for run in 0..runs {
        let prompt = format!("Tell me about machine number {run} and its queue.");
        let client = cluster.gateway(0);
        let calm = ask(&client, &prompt, || {})
            .await
            .context("the undisturbed run")?;
        let node = serving(&client).await?;
        let mut victim = Some(&mut cluster.engines[usize::from(node == "b")]);
        let hit = ask(&client, &prompt, || {
            if let Some(victim) = victim.take() {
                victim.kill();
            }
        })
        .await;
        cluster.heal().await;
        let hit = match hit {
            Ok(hit) => hit,
            Err(error) => {
                say(&format!("run {}: {error:#}", run + 1));
                continue;
            }
        };
        complete +=
            u32::from(hit.completion_tokens == calm.completion_tokens && hit.finish == calm.finish);
        equal += u32::from(hit.text == calm.text);
        cut += u32::from(hit.pieces > KILL_AT);
        pauses.push(hit.pause);
    }
    pauses.sort_unstable();
    let at = |n: usize| pauses.get(n).copied().unwrap_or_default().as_millis();
    say(&format!(
        "two llama-servers (-fa off), greedy, {runs} kills in mid-answer: {} answered, {cut} were cut, {complete} with the \
         same length and finish reason, {equal} with the same text as the undisturbed run; \
         longest pause: median {} ms, worst {} ms",
        pauses.len(),
        at(pauses.len() / 2),
        at(pauses.len().saturating_sub(1)),
    ));
    Ok(pauses.len() == runs as usize)
}

/// The node that the next lone request goes to: the first one by name.
async fn serving(client: &HttpClient) -> anyhow::Result<String> {
    let jobs: Value = serde_json::from_str(&client.get("/api/jobs?limit=1").await?.text())?;
    let node = jobs[0]["node"]
        .as_str()
        .context("read the node of the last job")?;
    Ok(node.to_owned())
}

async fn ask(
    client: &HttpClient,
    prompt: &str,
    mut at_piece: impl FnMut(),
) -> anyhow::Result<Answer> {
    let body = json!({
        "model": "llama", "stream": true, "temperature": 0, "max_tokens": TOKENS,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": prompt}],
    });
    let mut events = client.post_events("/v1/chat/completions", &body).await?;
    let mut answer = Answer {
        text: String::new(),
        pieces: 0,
        finish: String::new(),
        completion_tokens: 0,
        pause: Duration::ZERO,
    };
    let mut last = Instant::now();
    while let Some(event) = events.next().await? {
        if event.data == "[DONE]" {
            return Ok(answer);
        }
        let chunk: Value = serde_json::from_str(&event.data)?;
        if let Some(message) = chunk["error"]["message"].as_str() {
            bail!("the stream ended with an error: {message}");
        }
        if let Some(tokens) = chunk["usage"]["completion_tokens"].as_u64() {
            answer.completion_tokens = tokens;
        }
        let choice = &chunk["choices"][0];
        answer
            .finish
            .push_str(choice["finish_reason"].as_str().unwrap_or_default());
        if let Some(text) = choice["delta"]["content"]
            .as_str()
            .filter(|text| !text.is_empty())
        {
            answer.text.push_str(text);
            answer.pieces += 1;
            answer.pause = answer.pause.max(last.elapsed());
            last = Instant::now();
            if answer.pieces == KILL_AT {
                at_piece();
            }
        }
    }
    bail!(
        "the stream ended without [DONE] after {} pieces",
        answer.pieces
    )
}
