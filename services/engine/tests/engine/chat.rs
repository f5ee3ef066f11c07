//! Answers: whole, in pieces, sampled, stopped and limited.

use serde_json::{Value, json};

use crate::server::{Server, ids, start, text};

/// What the starter model answers greedily; the same in candle's own forward pass.
const GREEDY: [u64; 40] = [
    456, 293, 467, 271, 446, 325, 343, 368, 110, 259, 291, 448, 344, 347, 324, 425, 494, 44, 271,
    446, 325, 343, 368, 110, 44, 271, 446, 325, 343, 368, 110, 44, 271, 446, 325, 343, 368, 110,
    44, 271,
];

#[tokio::test]
async fn a_whole_answer_has_text_ids_and_counts() {
    let server = start(1).await;
    let answer = server
        .chat(json!({"temperature": 0, "max_tokens": 40}))
        .await;

    assert_eq!(ids(&answer), GREEDY);
    assert!(text(&answer).starts_with("Please reason and then it down the job waits in memory"));
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "orchion-starter");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 26, "completion_tokens": 40, "total_tokens": 66})
    );
}

#[tokio::test]
async fn a_stream_is_the_same_answer_in_pieces() {
    let server = start(1).await;
    let whole = server.chat(json!({"seed": 7, "max_tokens": 60})).await;
    let options = json!({"include_usage": true});
    let events = server
        .stream(json!({"seed": 7, "max_tokens": 60, "stream_options": options}))
        .await;
    let events = events.all().await;

    let [opening, pieces @ .., ending, usage] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(
        opening["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    assert_eq!(opening["orchion"], json!({"ids": [], "n": 0, "seed": 7}));
    let mut n = 0;
    for piece in pieces {
        n += ids(piece).len();
        assert_eq!(piece["orchion"]["n"], n);
        assert_eq!(piece["choices"][0]["finish_reason"], Value::Null);
        assert_eq!(piece["id"], opening["id"]);
    }
    assert_eq!(pieces.iter().map(text).collect::<String>(), text(&whole));
    assert_eq!(pieces.iter().flat_map(ids).collect::<Vec<_>>(), ids(&whole));
    assert_eq!(
        ending["choices"][0]["finish_reason"],
        whole["choices"][0]["finish_reason"]
    );
    assert_eq!(ending["orchion"]["n"], whole["usage"]["completion_tokens"]);
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], whole["usage"]);
}

#[tokio::test]
async fn a_turn_ends_by_itself_and_its_end_token_counts() {
    let server = start(1).await;
    let answer = server.chat(json!({"seed": 5})).await;

    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(!text(&answer).contains("<|im_end|>"));
    assert_eq!(answer["usage"]["completion_tokens"], ids(&answer).len() + 1);
}

#[tokio::test]
async fn a_seed_decides_the_text() {
    let server = start(1).await;
    let answer = async |seed: u64| {
        let answer = server.chat(json!({"seed": seed, "max_tokens": 30})).await;
        text(&answer).to_owned()
    };
    assert_eq!(answer(1).await, answer(1).await);
    assert_ne!(answer(1).await, answer(2).await);
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_and_is_never_shown() {
    let server = start(1).await;
    // The greedy answer says "... and then it down the job waits ..." in several tokens.
    let fields = json!({"temperature": 0, "max_tokens": 40, "stop": ["never", "the job w"]});
    let whole = server.chat(fields.clone()).await;
    assert_eq!(text(&whole), "Please reason and then it down ");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");

    let events = server.stream(fields).await.all().await;
    assert_eq!(events.iter().map(text).collect::<String>(), text(&whole));
    // A text cut in the middle of a token comes with the end, and without ids.
    let ending = events.last().unwrap();
    assert_eq!(ending["choices"][0]["finish_reason"], "stop");
    assert_eq!(ids(ending), [0_u64; 0]);
}

#[tokio::test]
async fn a_character_of_two_tokens_comes_whole() {
    let server = start(1).await;
    // The two bytes of an é in turn (a byte's token has its number): each is pushed up, and
    // down again once it was said.
    let fields = json!({
        "temperature": 0, "max_tokens": 6, "frequency_penalty": 100,
        "logit_bias": {"195": 500, "169": 450},
    });
    let events = server.stream(fields).await.all().await;
    let pieces: Vec<&Value> = events
        .iter()
        .filter(|event| !text(event).is_empty())
        .collect();
    assert_eq!(pieces.len(), 3);
    for piece in pieces {
        assert_eq!((text(piece), ids(piece)), ("é", vec![195, 169]));
    }
}

#[tokio::test]
async fn limits_and_biases_are_kept() {
    let server = start(1).await;
    let none = server.chat(json!({"max_tokens": 0})).await;
    assert_eq!(
        (text(&none), &none["usage"]["completion_tokens"]),
        ("", &json!(0))
    );
    assert_eq!(none["choices"][0]["finish_reason"], "length");

    let newer = server
        .chat(json!({"max_tokens": 9, "max_completion_tokens": 3, "seed": 1}))
        .await;
    assert_eq!(ids(&newer).len(), 3);

    let biased = server
        .chat(json!({"max_tokens": 3, "logit_bias": {"65": 100}}))
        .await;
    assert_eq!(text(&biased), "AAA");
}

#[tokio::test]
async fn completions_take_text_and_ids() {
    let server = start(1).await;
    let complete = async |prompt: Value| {
        let body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 5});
        server.post("/v1/completions", body).await.json
    };
    let by_text = complete(json!("A job waits in")).await;
    assert_eq!(by_text["object"], "text_completion");
    assert_eq!(by_text["usage"]["completion_tokens"], 5);
    assert!(!by_text["choices"][0]["text"].as_str().unwrap().is_empty());

    let prompt_ids = prompt_ids(&server, "A job waits in").await;
    assert_eq!(
        complete(json!(prompt_ids)).await["orchion"],
        by_text["orchion"]
    );

    let body =
        json!({"prompt": "A job waits in", "temperature": 0, "max_tokens": 5, "stream": true});
    let events = server.open("/v1/completions", body).await.all().await;
    let streamed = events
        .iter()
        .map(|event| event["choices"][0]["text"].as_str().unwrap());
    assert_eq!(
        streamed.collect::<String>(),
        by_text["choices"][0]["text"].as_str().unwrap()
    );
}

/// The ids of a prompt: answered greedily they must lead to the same answer.
async fn prompt_ids(server: &Server, prompt: &str) -> Vec<u32> {
    let count = server
        .post(
            "/v1/completions",
            json!({"prompt": prompt, "max_tokens": 0}),
        )
        .await;
    let engine = crate::server::engine(
        &orchion_engine::synth::Spec::default(),
        &crate::server::SETTINGS,
    );
    let ids = engine.tokenizer.encode(prompt).unwrap();
    assert_eq!(count.json["usage"]["prompt_tokens"], ids.len());
    ids
}
