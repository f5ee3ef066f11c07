//! Cuts what an engine said at once into parts that a message can carry.
//!
//! Most engines say a token at a time. Some say a whole answer, or a whole call
//! of a tool; whoever reads puts parts together as it does with pieces.

use orchion_contract::transcript::{MAX_ENTRY_BYTES, Piece};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

/// Largest part, in bytes before they are escaped: escapes make up to six of one.
const LARGEST: usize = MAX_ENTRY_BYTES / 4;

/// Hands a piece to `take`: as it is when it is small, else in parts. The first
/// part has all its tokens; ids of tokens are left out, for parts of a text have none.
pub(crate) fn cut(piece: Piece, mut take: impl FnMut(Piece)) {
    if size_of(&piece) <= LARGEST {
        return take(piece);
    }
    let mut tokens = piece.tokens;
    let mut logprobs = piece.logprobs;
    let choice = piece.choice;
    let mut part = |part: Piece| {
        take(Piece {
            choice,
            tokens: std::mem::take(&mut tokens),
            logprobs: logprobs.take(),
            ..part
        });
    };
    for reasoning in texts(piece.reasoning.as_deref().unwrap_or_default()) {
        part(Piece {
            reasoning: Some(reasoning.to_owned()),
            ..Piece::default()
        });
    }
    for text in texts(piece.text.as_deref().unwrap_or_default()) {
        part(Piece {
            text: Some(text.to_owned()),
            ..Piece::default()
        });
    }
    for deltas in piece.tool_calls.map(calls).unwrap_or_default() {
        part(Piece {
            tool_calls: Some(deltas),
            ..Piece::default()
        });
    }
    if piece.data.is_some() {
        part(Piece {
            data: piece.data,
            ..Piece::default()
        });
    }
}

/// About how many bytes a piece takes in its entry.
pub(crate) fn size_of(piece: &Piece) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let raw = |raw: &Option<Box<RawValue>>| raw.as_ref().map_or(0, |raw| raw.get().len());
    let ids = piece.ids.as_ref().map_or(0, |ids| ids.len() * 8);
    64 + text(&piece.text)
        + text(&piece.reasoning)
        + raw(&piece.tool_calls)
        + raw(&piece.data)
        + raw(&piece.logprobs)
        + ids
}

/// A text in parts, cut between characters.
fn texts(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let mut end = text.len().min(LARGEST);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (part, rest) = text.split_at(end);
        parts.push(part);
        text = rest;
    }
    parts
}

/// Deltas of tool calls, each by itself; long arguments in parts. What cannot be
/// read stays as it is.
fn calls(deltas: Box<RawValue>) -> Vec<Box<RawValue>> {
    if deltas.get().len() <= LARGEST {
        return vec![deltas];
    }
    let Ok(read) = serde_json::from_str::<Vec<Map<String, Value>>>(deltas.get()) else {
        return vec![deltas];
    };
    read.into_iter().flat_map(call).collect()
}

fn call(mut delta: Map<String, Value>) -> Vec<Box<RawValue>> {
    let index = delta.get("index").cloned();
    let arguments = delta
        .get_mut("function")
        .and_then(|it| it.get_mut("arguments"));
    let long = match arguments {
        Some(Value::String(arguments)) => std::mem::take(arguments),
        Some(_) | None => String::new(),
    };
    let mut parts = texts(&long).into_iter();
    if let (Some(first), Some(arguments)) = (
        parts.next(),
        delta
            .get_mut("function")
            .and_then(|it| it.get_mut("arguments")),
    ) {
        *arguments = first.into();
    }
    let mut all = vec![Value::Object(delta)];
    all.extend(parts.map(|part| match &index {
        Some(index) => json!({"index": index, "function": {"arguments": part}}),
        None => json!({"function": {"arguments": part}}),
    }));
    // Values that were read can be written.
    let written = all.iter().filter_map(|delta| to_raw_value(&[delta]).ok());
    written.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(piece: Piece) -> Vec<Piece> {
        let mut parts = Vec::new();
        cut(piece, |part| parts.push(part));
        // Escaped, a character may take six bytes.
        assert!(parts.iter().all(|part| size_of(part) <= LARGEST * 6 + 512));
        parts
    }

    #[test]
    fn a_small_piece_stays_whole() {
        let piece = Piece {
            text: Some("token".to_owned()),
            tokens: 1,
            ids: Some(vec![7]),
            ..Piece::default()
        };
        let parts = parts(piece);
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].ids, Some(vec![7]));
    }

    #[test]
    fn a_whole_answer_said_at_once_is_the_same_in_parts() {
        let (text, reasoning) = ("\u{e4}€x".repeat(100_000), "why ".repeat(50_000));
        let parts = parts(Piece {
            choice: 2,
            text: Some(text.clone()),
            reasoning: Some(reasoning.clone()),
            tokens: 9,
            ids: Some(vec![1; 9]),
            ..Piece::default()
        });
        assert!(parts.len() > 10);
        let join = |of: fn(&Piece) -> Option<&str>| parts.iter().filter_map(of).collect::<String>();
        assert_eq!(join(|part| part.text.as_deref()), text);
        assert_eq!(join(|part| part.reasoning.as_deref()), reasoning);
        let tokens: Vec<u32> = parts.iter().map(|part| part.tokens).collect();
        assert_eq!((tokens[0], tokens.iter().sum::<u32>()), (9, 9));
        assert!(
            parts
                .iter()
                .all(|part| part.choice == 2 && part.ids.is_none())
        );
    }

    #[test]
    fn a_call_with_long_arguments_is_one_call_in_parts() {
        let arguments = format!("{{\"text\":\"{}\"}}", "é\\n".repeat(60_000));
        let deltas = json!([
            {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}},
            {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ]);
        let parts = parts(Piece {
            tool_calls: Some(to_raw_value(&deltas).unwrap()),
            tokens: 3,
            ..Piece::default()
        });
        let deltas = parts.iter().flat_map(|part| {
            let text = part.tool_calls.as_ref().unwrap().get();
            serde_json::from_str::<Vec<Value>>(text).unwrap()
        });
        let mut calls = [(String::new(), String::new()), Default::default()];
        for delta in deltas {
            let call = &mut calls[delta["index"].as_u64().unwrap() as usize];
            call.0.push_str(delta["id"].as_str().unwrap_or_default());
            call.1
                .push_str(delta["function"]["arguments"].as_str().unwrap());
        }
        assert_eq!(calls[0], ("a".to_owned(), arguments));
        assert_eq!(calls[1], ("b".to_owned(), "{}".to_owned()));
    }

    #[test]
    fn data_is_a_part_of_its_own() {
        let raw = |text: String| RawValue::from_string(text).unwrap();
        let piece = Piece {
            text: Some("x".repeat(LARGEST * 2)),
            data: Some(raw("{\"a\":1}".to_owned())),
            ..Piece::default()
        };
        let parts = parts(piece);
        let with_data: Vec<&Piece> = parts.iter().filter(|part| part.data.is_some()).collect();
        assert_eq!(with_data.len(), 1);
        assert!(with_data[0].text.is_none());
    }

    #[test]
    fn calls_that_cannot_be_read_stay_as_they_are() {
        let text = format!("\"{}\"", "x".repeat(LARGEST * 2));
        let piece = Piece {
            tool_calls: Some(RawValue::from_string(text.clone()).unwrap()),
            ..Piece::default()
        };
        let mut found = Vec::new();
        cut(piece, |part| found.push(part));
        let calls: Vec<&str> = found
            .iter()
            .filter_map(|part| Some(part.tool_calls.as_ref()?.get()))
            .collect();
        assert_eq!(calls, [text.as_str()]);
    }
}
