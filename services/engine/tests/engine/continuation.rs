//! An answer cut after any token and taken up again is the undisturbed answer.

use orchion_engine::synth::{Arch, Dtype, Spec};
use serde_json::{Value, json};

use crate::server::{SETTINGS, Server, engine, ids, start, start_with, text};

const TOKENS: usize = 60;

#[tokio::test]
async fn greedy_answers_continue_exactly() {
    let server = start(1).await;
    for cut in [1, 5, 17, 40] {
        check(&server, &json!({"temperature": 0}), cut).await;
    }
}

#[tokio::test]
async fn seeded_answers_continue_exactly() {
    let server = start(1).await;
    for seed in 1..=5 {
        for cut in [1, 5, 17, 40] {
            check(&server, &json!({"seed": seed, "temperature": 1.0}), cut).await;
        }
    }
}

#[tokio::test]
async fn penalties_see_the_prefix() {
    let server = start(1).await;
    let fields = json!({
        "seed": 3, "presence_penalty": 0.7, "frequency_penalty": 0.4, "repeat_penalty": 1.3,
    });
    for cut in [1, 5, 17, 40] {
        check(&server, &fields, cut).await;
    }
}

#[tokio::test]
async fn quantised_and_other_architectures_continue_exactly() {
    for (arch, dtype) in [
        (Arch::Llama, Dtype::Q8_0),
        (Arch::Qwen2, Dtype::Q8_0),
        (Arch::Qwen3, Dtype::F32),
    ] {
        let spec = Spec {
            arch,
            dtype,
            ..Spec::default()
        };
        let server = start_with(engine(&spec, &SETTINGS), 1).await;
        for cut in [1, 17] {
            check(&server, &json!({"seed": 11}), cut).await;
        }
    }
}

#[tokio::test]
async fn a_stop_string_is_found_over_the_join() {
    let server = start(1).await;
    let fields = json!({"temperature": 0, "max_tokens": 40, "stop": "the job w"});
    let whole = server.chat(fields.clone()).await;
    for cut in 1..ids(&whole).len() {
        let rest = resume(&server, &fields, &ids(&whole)[..cut], None).await;
        let shown = prefix_text(&server, &fields, cut).await;
        assert_eq!(shown + text(&rest), text(&whole), "cut after {cut}");
    }
}

#[tokio::test]
async fn an_answer_of_which_only_the_end_was_lost_ends_at_once() {
    let server = start(1).await;
    let fields = json!({"seed": 5});
    let whole = server.chat(fields.clone()).await;
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let rest = resume(&server, &fields, &ids(&whole), Some(text(&whole))).await;
    assert_eq!(
        (text(&rest), &rest["choices"][0]["finish_reason"]),
        ("", &json!("stop"))
    );
    assert_eq!(rest["usage"]["completion_tokens"], 1);
}

#[tokio::test]
async fn text_without_ids_continues_too() {
    let server = start(1).await;
    let fields = json!({"temperature": 0, "max_tokens": 40});
    let whole = server.chat(fields.clone()).await;
    // Text that the vocabulary cuts as the answer was: then this is exact as well.
    let shown = prefix_text(&server, &fields, 12).await;
    let mut fields = json!({"temperature": 0, "max_tokens": 28});
    fields["orchion_continue"] = json!({"text": shown});
    let rest = server.chat(fields).await;
    assert_eq!(shown + text(&rest), text(&whole));
    assert_eq!(rest["orchion"]["n"], 40);
}

#[tokio::test]
async fn a_continued_stream_counts_on() {
    let server = start(1).await;
    let prefix = json!({"ids": [65, 443], "text": "A scheduler"});
    let fields = json!({"seed": 3, "max_tokens": 4, "orchion_continue": prefix});
    let events = server.stream(fields).await.all().await;
    let counts: Vec<u64> = events
        .iter()
        .map(|event| event["orchion"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!((counts.first(), counts.last()), (Some(&2), Some(&6)));
}

#[tokio::test]
async fn ids_that_are_not_the_text_are_refused() {
    let server = start(1).await;
    for prefix in [
        json!({"ids": [65, 443], "text": "A machine"}),
        json!({"ids": [9_999]}),
    ] {
        let body = crate::server::chat(json!({"orchion_continue": prefix}));
        let answer = server.post("/v1/chat/completions", body).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json["error"]["param"], "orchion_continue");
    }
}

/// Cuts an answer after `cut` tokens, resumes it and compares.
async fn check(server: &Server, fields: &Value, cut: usize) {
    let mut fields = fields.clone();
    fields["ignore_eos"] = true.into();
    fields["max_tokens"] = TOKENS.into();
    let whole = server.chat(fields.clone()).await;
    let expected = ids(&whole);
    assert_eq!(expected.len(), TOKENS);

    fields["max_tokens"] = (TOKENS - cut).into();
    let shown = prefix_text(server, &fields, cut).await;
    let rest = resume(server, &fields, &expected[..cut], Some(&shown)).await;
    assert_eq!(ids(&rest), expected[cut..], "{fields} cut after {cut}");
    assert_eq!(shown + text(&rest), text(&whole));
    assert_eq!(
        rest["usage"]["prompt_tokens"],
        whole["usage"]["prompt_tokens"]
    );
    assert_eq!(rest["usage"]["completion_tokens"], TOKENS - cut);
    assert_eq!(rest["orchion"]["n"], TOKENS);
}

async fn resume(server: &Server, fields: &Value, prefix: &[u64], shown: Option<&str>) -> Value {
    let mut fields = fields.clone();
    fields["orchion_continue"] = json!({"ids": prefix, "text": shown});
    server.chat(fields).await
}

/// The text of the first `cut` tokens.
async fn prefix_text(server: &Server, fields: &Value, cut: usize) -> String {
    let mut fields = fields.clone();
    fields["max_tokens"] = cut.into();
    text(&server.chat(fields).await).to_owned()
}
