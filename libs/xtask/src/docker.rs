//! `cargo xtask docker`: brings `compose.yaml` up for real and holds it to what
//! the documents promise: everything healthy, a chat through it, and an answer
//! that goes on when the node that generates it is killed.

mod images;
mod stack;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::http::Answer;
use crate::shell;
use crate::test::Outcome;
use stack::Stack;

/// Tokens of the answer that a node is killed in.
const LONG: u64 = 1200;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build the images from source, as on a user's machine (a quarter of an hour)
    #[arg(long)]
    full: bool,
    /// Leave the stack running
    #[arg(long)]
    keep: bool,
}

/// Runs the check by itself.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    match check(options)? {
        Outcome::Passed(note) => shell::say(&note),
        Outcome::Skipped(reason) => bail!("{reason}"),
    }
    Ok(())
}

/// The stage of `cargo xtask test`.
pub(crate) fn stage() -> anyhow::Result<Outcome> {
    check(&Options {
        full: false,
        keep: false,
    })
}

fn check(options: &Options) -> anyhow::Result<Outcome> {
    if let Err(error) = images::engine() {
        return Ok(Outcome::Skipped(format!("{error:#}")));
    }
    images::prepare(options.full)?;
    let start = Instant::now();
    let stack = Stack::up(options.full, options.keep)?;
    let up = start.elapsed();
    let checked = judge(&stack);
    if checked.is_err() {
        stack.show_logs();
    }
    checked?;
    Ok(Outcome::Passed(format!(
        "healthy after {:.0} s, an answer survived its node",
        up.as_secs_f64()
    )))
}

fn judge(stack: &Stack) -> anyhow::Result<()> {
    is_closed_without_token(stack).context("without a token")?;
    two_nodes_serve(stack)?;
    let model = stack.gateway.get("/v1/models")?.json()?["data"][0]["id"]
        .as_str()
        .context("find a model")?
        .to_owned();
    let whole = chat(stack, &model, false)?.json().context("chat")?;
    let undisturbed = whole["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default();
    ensure!(!undisturbed.is_empty(), "the chat has no text: {whole}");

    let survived = kill_the_node_that_answers(stack, &model)?;
    if survived == undisturbed {
        shell::complain("the text after the kill equals an undisturbed answer");
    } else {
        shell::complain("the text after the kill differs from an undisturbed answer");
    }
    Ok(())
}

fn is_closed_without_token(stack: &Stack) -> anyhow::Result<()> {
    let status = stack.without_token().get("/v1/models")?.status;
    ensure!(
        status == 401,
        "the gateway answered {status} instead of 401"
    );
    Ok(())
}

/// Online, and with a model that is ready.
fn two_nodes_serve(stack: &Stack) -> anyhow::Result<()> {
    eventually("two nodes to be online with a model", || {
        let nodes = nodes(stack)?;
        let serves = |node: &&Value| {
            node["state"] == "online"
                && node["replicas"]
                    .as_array()
                    .is_some_and(|replicas| !replicas.is_empty())
        };
        Ok((nodes.iter().filter(serves).count() == 2).then_some(()))
    })
}

/// Streams a long answer, kills the container that generates it, reads to the end.
fn kill_the_node_that_answers(stack: &Stack, model: &str) -> anyhow::Result<String> {
    let slow = stack.slow_nodes()?;
    let mut answer = chat(stack, model, true)?;
    ensure!(
        answer.status == 200,
        "the chat was refused with {}",
        answer.status
    );
    let job = answer
        .header("x-orchion-job")
        .context("find the job's id")?
        .to_owned();
    let mut text = String::new();
    while text.is_empty() {
        text += &piece(&answer.event()?.context("the stream ended early")?)?.0;
    }
    let node = stack.gateway.get(&format!("/api/jobs/{job}"))?.json()?["node"]
        .as_str()
        .context("find the node")?
        .to_owned();
    let container = container_of(stack, &node)?;
    stack.kill(&container)?;
    shell::complain(&format!(
        "killed {container}, which generated job {job} on node {node}"
    ));
    drop(slow);

    let mut tokens = None;
    loop {
        let event = answer
            .event()?
            .context("the stream was cut before [DONE]")?;
        if event == "[DONE]" {
            break;
        }
        let (content, usage) = piece(&event)?;
        text += &content;
        tokens = usage.or(tokens);
    }
    ensure!(
        tokens == Some(LONG),
        "the answer has {tokens:?} tokens, not {LONG}"
    );
    let after = stack.gateway.get(&format!("/api/jobs/{job}"))?.json()?;
    ensure!(
        after["node"].as_str() != Some(&node),
        "the job was not moved: {after}"
    );
    Ok(text)
}

/// The text in an event, and the number of tokens in the last one.
fn piece(event: &str) -> anyhow::Result<(String, Option<u64>)> {
    let chunk: Value =
        serde_json::from_str(event).with_context(|| format!("read the event {event}"))?;
    ensure!(
        chunk.get("error").is_none(),
        "the stream ended with an error: {event}"
    );
    let content = chunk["choices"][0]["delta"]["content"]
        .as_str()
        .unwrap_or_default();
    Ok((
        content.to_owned(),
        chunk["usage"]["completion_tokens"].as_u64(),
    ))
}

fn chat(stack: &Stack, model: &str, stream: bool) -> anyhow::Result<Answer> {
    let mut question = json!({
        "model": model,
        "messages": [{ "role": "user", "content": "How does a job find a machine?" }],
        "temperature": 0,
        "max_tokens": LONG,
        "ignore_eos": true,
        "stream": stream,
    });
    if stream {
        question["stream_options"] = json!({ "include_usage": true });
    }
    stack.gateway.post("/v1/chat/completions", &question)
}

/// The container that runs the agent of a node: its host name is the container's id.
fn container_of(stack: &Stack, node: &str) -> anyhow::Result<String> {
    let nodes = nodes(stack)?;
    let node = nodes.iter().find(|known| known["id"] == node);
    let host = node
        .and_then(|node| node["hostname"].as_str())
        .context("find the node's host name")?;
    Ok(host.to_owned())
}

fn nodes(stack: &Stack) -> anyhow::Result<Vec<Value>> {
    let list = stack.gateway.get("/api/nodes")?.json()?;
    list.as_array()
        .cloned()
        .with_context(|| format!("read the list of nodes in {list}"))
}

/// Asks until there is an answer.
fn eventually<T>(
    what: &str,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let asked = ask();
        if let Ok(Some(found)) = asked {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(asked.err().unwrap_or_else(|| anyhow::anyhow!("no")))
                .with_context(|| format!("wait for {what}"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
