//! Real engines: the one that agents start by themselves, and llama-server.

use std::path::Path;
use std::time::Duration;

use orchion_e2e::{SOON, alone, ended, llama_server, skip, tiny_model};
use orchion_testkit::cluster::Engines;
use orchion_testkit::{Cluster, HttpClient, Program, eventually, process};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Most tokens of an answer.
const TOKENS: u32 = 160;
/// Tokens of an answer that is worth to be interrupted.
const LONG: u64 = 60;
/// The engine is killed at this piece.
const KILL_AT: usize = 8;

/// What a client gets in one answer.
#[derive(Debug, Default)]
struct Answer {
    text: String,
    finish: String,
    usage: Value,
    job: String,
}

/// Streams a greedy answer of [`TOKENS`]; `at_piece` sees the number of each piece.
async fn ask(
    gateway: &HttpClient,
    model: &str,
    prompt: &str,
    mut at_piece: impl FnMut(usize),
) -> Answer {
    let body = json!({
        "model": model, "stream": true, "temperature": 0, "max_tokens": TOKENS,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": prompt}],
    });
    let mut events = gateway
        .post_events("/v1/chat/completions", &body)
        .await
        .unwrap();
    let job = events.headers["x-orchion-job"].to_str().unwrap().to_owned();
    let mut answer = Answer {
        job,
        ..Answer::default()
    };
    let mut pieces = 0;
    loop {
        let event = events.next().await.unwrap().expect("[DONE] at the end");
        if event.data == "[DONE]" {
            return answer;
        }
        let chunk: Value = serde_json::from_str(&event.data).unwrap();
        assert!(chunk.get("error").is_none(), "{chunk}");
        if !chunk["usage"].is_null() {
            answer.usage = chunk["usage"].clone();
        }
        let choice = &chunk["choices"][0];
        answer.finish += choice["finish_reason"].as_str().unwrap_or_default();
        let text = choice["delta"]["content"].as_str().unwrap_or_default();
        if !text.is_empty() {
            answer.text += text;
            pieces += 1;
            at_piece(pieces);
        }
    }
}

#[tokio::test]
async fn an_agent_without_an_engine_starts_the_starter_and_takes_it_along() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder()
        .agents(1)
        .engines(Engines::Starter)
        .start()
        .await;
    let gateway = cluster.gateway(0);
    let models: Value = gateway.get("/v1/models").await.unwrap().json();
    let model = models["data"][0]["id"].as_str().unwrap().to_owned();
    assert!(model.contains("starter"), "{models}");

    let answer = ask(&gateway, &model, "Tell me about tides.", |_| {}).await;
    let tokens = answer.usage["completion_tokens"].as_u64();
    assert!(tokens > Some(0) && !answer.text.is_empty(), "{answer:?}");
    assert!(
        ["length", "stop"].contains(&answer.finish.as_str()),
        "{answer:?}"
    );

    let agent = cluster.agents[0].running().unwrap().pid();
    let engines: Vec<u32> = process::tree(&[agent])
        .into_iter()
        .filter(|pid| *pid != agent)
        .collect();
    assert_eq!(engines.len(), 1, "{engines:?}");
    cluster.agents[0].kill();
    eventually("the engine to end with its agent", SOON, async || {
        !is_alive(engines[0])
    })
    .await;
}

#[tokio::test]
async fn llama_server_answers_and_its_death_cuts_nothing() {
    let _alone = alone().await;
    let Some(program) = llama_server() else {
        let how = "llama-server is not built; `cargo xtask llama-server` builds it";
        return skip("llama_server", how);
    };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny.gguf");
    tiny_model(&model).await;
    let engines = Engines::Llama { program, model };
    let mut cluster = Cluster::builder().engines(engines).start().await;
    let gateway = cluster.gateway(0);

    let (prompt, calm) = long_answer(&gateway).await;
    assert!(calm.usage["prompt_tokens"].as_u64() > Some(0), "{calm:?}");

    let in_mid_answer = Notify::new();
    let asked = ask(&gateway, "llama", &prompt, |piece| {
        if piece == KILL_AT {
            in_mid_answer.notify_one();
        }
    });
    let kill = async {
        in_mid_answer.notified().await;
        let running: Value = gateway.get("/api/jobs?limit=1").await.unwrap().json();
        let node = usize::from(running[0]["node"] == "b");
        cluster.engines[node].kill();
    };
    let (hit, ()) = tokio::join!(asked, kill);
    // The node that has seen the prompt before has more of it in its cache.
    for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(hit.usage[count], calm.usage[count], "{hit:?}");
    }
    assert_eq!(hit.finish, calm.finish);
    assert_eq!(hit.text, calm.text);
    let hit_job = ended(&gateway, &hit.job).await;
    assert_eq!(hit_job["state"], "completed", "{hit_job:#}");
    assert!(hit_job["attempt"].as_u64() > Some(1), "{hit_job:#}");
    cluster.heal().await;
}

#[tokio::test]
async fn every_kind_of_answer_goes_on_when_its_engine_dies() {
    let _alone = alone().await;
    let Some(program) = llama_server() else {
        let how = "llama-server is not built; `cargo xtask llama-server` builds it";
        return skip("continuation", how);
    };
    let mut killing = Program::ours("continuation")
        .args(["--runs", "1", "--at", "1,30", "--llama-server"])
        .arg(&program)
        .start();
    let status = killing.wait(Duration::from_secs(300)).await;
    assert!(
        status.success(),
        "{}\n{}",
        killing.stdout(),
        killing.stderr()
    );
}

/// A prompt that the model answers at length, with the answer: by chance it ends
/// some of them early.
async fn long_answer(gateway: &HttpClient) -> (String, Answer) {
    for number in 0..50 {
        let prompt = format!("Tell me about tide number {number}.");
        let answer = ask(gateway, "llama", &prompt, |_| {}).await;
        if answer.usage["completion_tokens"].as_u64() >= Some(LONG) {
            return (prompt, answer);
        }
    }
    panic!("no answer has {LONG} tokens");
}

/// Whether a process runs; one that has ended and was not collected does not.
fn is_alive(pid: u32) -> bool {
    let stat = Path::new("/proc").join(pid.to_string()).join("stat");
    std::fs::read_to_string(stat).is_ok_and(|stat| !stat.contains(") Z "))
}
