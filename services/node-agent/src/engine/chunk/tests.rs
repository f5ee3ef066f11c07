use super::*;

fn take(seen: &mut Seen, json: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let chunk = serde_json::from_str(json).unwrap();
    seen.take(chunk, &mut pieces).unwrap();
    pieces
}

fn texts(pieces: &[Piece]) -> Vec<(Option<&str>, u32)> {
    pieces
        .iter()
        .map(|piece| (piece.text.as_deref(), piece.tokens))
        .collect()
}

#[test]
fn a_role_without_text_is_no_piece() {
    let mut seen = Seen::default();
    for content in ["null", "\"\""] {
        let json = format!(
            r#"{{"choices":[{{"finish_reason":null,"index":0,"delta":{{"role":"assistant","content":{content}}}}}]}}"#
        );
        assert!(take(&mut seen, &json).is_empty());
    }
}

#[test]
fn a_token_counts_one_where_the_engine_does_not_say() {
    let json = r#"{"id":"x","created":1,"choices":[{"index":0,"delta":{"content":" hi"},"logprobs":null,"finish_reason":null}]}"#;
    let pieces = take(&mut Seen::default(), json);
    assert_eq!(texts(&pieces), [(Some(" hi"), 1)]);
    assert!(pieces[0].logprobs.is_none());
}

#[test]
fn llama_server_counts_tokens_so_far() {
    let mut seen = Seen::default();
    let json = |text: &str, n: u32| {
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}],"timings":{{"predicted_n":{n}}}}}"#
        )
    };
    assert_eq!(texts(&take(&mut seen, &json("a", 1))), [(Some("a"), 1)]);
    assert_eq!(texts(&take(&mut seen, &json("é", 4))), [(Some("é"), 3)]);
}

#[test]
fn ids_of_a_token_that_was_held_back_go_with_the_next_piece() {
    let mut seen = Seen::default();
    let json = |text: &str, id: u32| {
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"token_ids":[{id}]}}]}}"#
        )
    };
    assert!(take(&mut seen, &json("", 7)).is_empty());
    let pieces = take(&mut seen, &json("ab", 8));
    assert_eq!(
        (pieces[0].ids.as_deref(), pieces[0].tokens),
        (Some(&[7, 8][..]), 2)
    );
}

#[test]
fn the_starter_tells_the_ids_beside_the_choice() {
    let json =
        r#"{"choices":[{"index":0,"delta":{"content":"ab"}}],"orchion":{"ids":[3,4],"n":9}}"#;
    let pieces = take(&mut Seen::default(), json);
    assert_eq!(pieces[0].ids.as_deref(), Some(&[3, 4][..]));
    assert_eq!(pieces[0].tokens, 2);
}

#[test]
fn reasoning_and_tool_calls_are_pieces() {
    let json = r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}},
        {"index":1,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{"}}]}}]}"#;
    let pieces = take(&mut Seen::default(), json);
    assert_eq!(pieces[0].reasoning.as_deref(), Some("hm"));
    assert_eq!(pieces[1].choice, 1);
    assert!(
        pieces[1]
            .tool_calls
            .as_ref()
            .unwrap()
            .get()
            .contains("\"f\"")
    );
}

#[test]
fn the_end_and_the_usage_are_seen() {
    let mut seen = Seen::default();
    take(
        &mut seen,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#,
    );
    take(
        &mut seen,
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":3}}}"#,
    );
    assert_eq!(seen.finish_reason.as_deref(), Some("length"));
    let usage = seen.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (9, 5));
    assert_eq!(usage.cached_tokens(), Some(3));
}

#[test]
fn failures_are_read_in_every_shape() {
    for json in [
        r#"{"error":{"message":"broken","type":"server_error"}}"#,
        r#"{"error":"broken"}"#,
        r#"{"object":"error","message":"broken"}"#,
    ] {
        assert_eq!(message_of(json), "broken", "{json}");
    }
    let chunk: Chunk<'_> = serde_json::from_str(r#"{"error":{"message":"broken"}}"#).unwrap();
    let failed = Seen::default().take(chunk, &mut Vec::new());
    assert_eq!(failed.unwrap_err().0, "broken");
}

#[test]
fn the_raw_route_of_llama_server_ends_with_its_counts() {
    let (mut seen, mut pieces) = (Seen::default(), Vec::new());
    for json in [
        r#"{"content":"a","tokens":[5],"stop":false,"tokens_predicted":1}"#,
        r#"{"content":"","tokens":[],"stop":true,"stop_type":"limit","tokens_predicted":1,"tokens_evaluated":12}"#,
    ] {
        let chunk = serde_json::from_str(json).unwrap();
        seen.take_raw(chunk, &mut pieces).unwrap();
    }
    assert_eq!(texts(&pieces), [(Some("a"), 1)]);
    assert_eq!(pieces[0].ids.as_deref(), Some(&[5][..]));
    assert_eq!(seen.finish_reason.as_deref(), Some("length"));
    assert_eq!(seen.usage.unwrap().prompt_tokens, 12);
}

fn take_whole(json: &str) -> (Seen, Vec<Piece>) {
    let (mut seen, mut pieces) = (Seen::default(), Vec::new());
    let chunk = serde_json::from_str(json).unwrap();
    seen.take_whole(chunk, &mut pieces).unwrap();
    (seen, pieces)
}

#[test]
fn an_answer_in_one_body_is_one_piece_with_all_its_tokens() {
    let (seen, pieces) = take_whole(
        r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",
            "content":"hi there","reasoning_content":null,"tool_calls":[]},"logprobs":null,
            "finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":5}}"#,
    );
    assert_eq!(texts(&pieces), [(Some("hi there"), 5)]);
    assert!(pieces[0].tool_calls.is_none() && pieces[0].logprobs.is_none());
    assert_eq!(seen.finish_reason.as_deref(), Some("stop"));
}

#[test]
fn choices_in_one_body_share_the_tokens_that_were_counted() {
    let (_, pieces) = take_whole(
        r#"{"choices":[{"index":0,"text":"a"},{"index":1,"text":"b"},{"index":2,"text":"c"}],
            "usage":{"prompt_tokens":1,"completion_tokens":8}}"#,
    );
    let tokens: Vec<_> = pieces.iter().map(|piece| piece.tokens).collect();
    assert_eq!((tokens.iter().sum::<u32>(), pieces.len()), (8, 3));
    assert_eq!(pieces[2].choice, 2);
}

#[test]
fn tool_calls_in_one_body_say_which_one_they_are() {
    let (_, pieces) = take_whole(
        r#"{"choices":[{"index":0,"message":{"content":null,"tool_calls":[
            {"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}},
            {"id":"c2","type":"function","function":{"name":"g","arguments":"{}"}}]}}]}"#,
    );
    let calls = pieces[0].tool_calls.as_ref().unwrap();
    let calls: Vec<serde_json::Value> = serde_json::from_str(calls.get()).unwrap();
    assert_eq!(
        (&calls[0]["index"], &calls[0]["id"]),
        (&0.into(), &"c1".into())
    );
    assert_eq!(
        (&calls[1]["index"], &calls[1]["id"]),
        (&1.into(), &"c2".into())
    );
    assert_eq!(calls[1]["function"]["name"], "g");
}

#[test]
fn an_error_in_one_body_is_a_failure() {
    let chunk = serde_json::from_str(r#"{"error":{"message":"broken"}}"#).unwrap();
    let failed = Seen::default().take_whole(chunk, &mut Vec::new());
    assert_eq!(failed.unwrap_err().0, "broken");
}
