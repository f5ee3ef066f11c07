//! A task, followed to its end by a client that sees nothing but its events.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use orchion_testkit::HttpClient;
use orchion_testkit::cluster::Part;
use serde_json::Value;

/// What a client got.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) finish: String,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    /// What the end says about a cut; null when there was none.
    pub(crate) continued: Value,
}

/// A call of a tool, put together from its deltas as clients do.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// When which engine is killed: the one behind the answer, at piece `at`.
pub(crate) struct Kill<'a> {
    pub(crate) at: usize,
    pub(crate) engines: &'a mut [Part],
}

/// Asks; an error of the product is an `Err` inside.
pub(crate) async fn ask(
    gateway: &HttpClient,
    body: &Value,
    mut kill: Option<Kill<'_>>,
) -> anyhow::Result<Result<Answer, String>> {
    let accepted = gateway.post("/v1/tasks", body).await?;
    let accepted: Value = serde_json::from_slice(&accepted.body)?;
    let Some(job) = accepted["task_id"].as_str() else {
        return Ok(Err(message(&accepted)));
    };
    let mut events = gateway
        .events(&format!("/v1/tasks/{job}/stream"), &[])
        .await?;
    let (mut answer, mut calls, mut pieces) = (Answer::default(), BTreeMap::new(), 0);
    while let Some(event) = events.next().await? {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        match event.event.as_str() {
            "token" => {
                answer.text += data["t"].as_str().unwrap_or_default();
                add_calls(&mut calls, &data["tool_calls"]);
                pieces += 1;
                if let Some(kill) = kill.take_if(|kill| pieces == kill.at) {
                    kill_engine_of(gateway, job, kill.engines).await?;
                }
            }
            "restart" => {
                answer = Answer::default();
                calls.clear();
            }
            "end" => {
                let finish = data["finish_reason"].as_str();
                finish.unwrap_or_default().clone_into(&mut answer.finish);
                let count = |name: &str| data["usage"][name].as_u64().unwrap_or_default();
                answer.prompt_tokens = count("prompt_tokens");
                answer.completion_tokens = count("completion_tokens");
                answer.continued = data["continued"].clone();
                answer.calls = calls.into_values().collect();
                return Ok(Ok(answer));
            }
            "error" => return Ok(Err(message(&data))),
            _ => {}
        }
    }
    bail!("the stream of task {job} ended without an end")
}

async fn kill_engine_of(
    gateway: &HttpClient,
    job: &str,
    engines: &mut [Part],
) -> anyhow::Result<()> {
    let job: Value = gateway.get(&format!("/api/jobs/{job}")).await?.json();
    let node = job["node"].as_str().context("read the node of the job")?;
    let engine = ["a", "b"].iter().position(|name| *name == node);
    let engine = engine.and_then(|n| engines.get_mut(n));
    engine.context("find the engine of the node")?.kill();
    Ok(())
}

fn add_calls(calls: &mut BTreeMap<u64, Call>, deltas: &Value) {
    for delta in deltas.as_array().into_iter().flatten() {
        let call = calls
            .entry(delta["index"].as_u64().unwrap_or_default())
            .or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        call.id += &text(&delta["id"]);
        call.name += &text(&delta["function"]["name"]);
        call.arguments += &text(&delta["function"]["arguments"]);
    }
}

fn message(error: &Value) -> String {
    let message = error["message"].as_str();
    message.unwrap_or("no reason given").to_owned()
}
