use super::*;
use crate::continuation::tests::{prefix, text};
use serde_json::value::RawValue;

fn choice(choice: u32, said: &str) -> Piece {
    Piece {
        choice,
        ..text(said)
    }
}

fn thought(said: &str) -> Piece {
    Piece {
        reasoning: Some(said.to_owned()),
        tokens: 1,
        ..Piece::default()
    }
}

fn call(delta: &str) -> Piece {
    Piece {
        tool_calls: Some(RawValue::from_string(format!("[{delta}]")).unwrap()),
        tokens: 1,
        ..Piece::default()
    }
}

const HEAD: &str =
    r#"{"index":0,"id":"one","type":"function","function":{"name":"get","arguments":"{"}}"#;
const SAME_HEAD: &str =
    r#"{"index":0,"id":"two","type":"function","function":{"name":"get","arguments":"{"}}"#;

fn more(arguments: &str) -> String {
    let arguments = serde_json::Value::from(arguments);
    format!(r#"{{"index":0,"function":{{"arguments":{arguments}}}}}"#)
}

/// What is handed on of `again`, when `shown` stands in the transcript.
fn new(shown: Vec<Piece>, again: Vec<Piece>) -> Result<Vec<Piece>, Differs> {
    let mut replay = Replay::new(&prefix(shown));
    let mut out = Vec::new();
    for piece in again {
        replay.take(piece, &mut out)?;
    }
    replay.end()?;
    Ok(out)
}

fn texts(pieces: &[Piece]) -> Vec<(u32, &str)> {
    pieces
        .iter()
        .map(|piece| (piece.choice, piece.text.as_deref().unwrap_or_default()))
        .collect()
}

#[test]
fn what_was_shown_is_swallowed_and_the_rest_handed_on() {
    let shown = vec![text("a "), text("b ")];
    let again = vec![text("a "), text("b "), text("c "), text("d ")];
    let mut replay = Replay::new(&prefix(shown));
    let mut out = Vec::new();
    for piece in again {
        replay.take(piece, &mut out).unwrap();
    }
    assert_eq!(texts(&out), [(0, "c "), (0, "d ")]);
    assert_eq!(replay.swallowed(), 2);
    assert!(replay.is_through());
}

#[test]
fn pieces_may_be_cut_otherwise_the_second_time() {
    let wide = Piece {
        tokens: 3,
        ..text("abcd")
    };
    let out = new(vec![text("ab"), text("c")], vec![wide, text("e")]).unwrap();
    assert_eq!(texts(&out), [(0, "d"), (0, "e")]);
    // Two of its three tokens were shown.
    assert_eq!(out[0].tokens, 1);
    let out = new(vec![text("abc")], vec![text("a"), text("b"), text("cd")]).unwrap();
    assert_eq!(texts(&out), [(0, "d")]);
}

#[test]
fn a_difference_hands_on_nothing() {
    let shown = || vec![text("a "), text("b ")];
    for again in [vec![text("x")], vec![text("a "), text("c ")]] {
        let mut replay = Replay::new(&prefix(shown()));
        let mut out = Vec::new();
        let found = again
            .into_iter()
            .try_for_each(|piece| replay.take(piece, &mut out));
        assert!(found.is_err() && out.is_empty());
    }
    let early = new(shown(), vec![text("a ")]);
    assert_eq!(early.unwrap_err(), Differs { tokens: 1 });
    assert!(new(shown(), vec![thought("a ")]).is_err());
}

#[test]
fn thoughts_come_before_the_answer_and_are_compared_as_such() {
    let shown = || vec![thought("hm"), thought("m"), text("So")];
    let out = new(shown(), vec![thought("hmm"), text("So "), text("be it")]).unwrap();
    assert_eq!(texts(&out), [(0, " "), (0, "be it")]);
    // It thinks on where the answer had begun.
    assert!(new(shown(), vec![thought("hmm well"), text("So")]).is_err());
}

#[test]
fn a_begun_call_goes_on_under_its_first_id() {
    let shown = vec![call(HEAD), call(&more("\"a\":"))];
    let again = vec![call(SAME_HEAD), call(&more("\"a\": 1")), call(&more("}"))];
    let err = new(shown.clone(), vec![call(SAME_HEAD), call(&more("\"b\":"))]);
    assert!(err.is_err());
    let out = new(shown, again).unwrap();
    let deltas: Vec<&str> = out
        .iter()
        .map(|piece| piece.tool_calls.as_ref().unwrap().get())
        .collect();
    assert_eq!(
        deltas,
        [
            r#"[{"index":0,"function":{"arguments":" 1"}}]"#,
            r#"[{"index":0,"function":{"arguments":"}"}}]"#
        ]
    );
}

#[test]
fn a_call_that_was_not_shown_is_handed_on_whole() {
    let out = new(
        vec![text("Let me see.")],
        vec![text("Let me see."), call(HEAD)],
    )
    .unwrap();
    let raw = out[0].tool_calls.as_ref().unwrap().get();
    assert!(raw.contains("\"one\"") && raw.contains("\"get\""));
    // A second one behind a first that was shown.
    let second = HEAD.replace("\"index\":0", "\"index\":1");
    let both = format!("{SAME_HEAD},{second}");
    let out = new(vec![call(HEAD)], vec![call(&both)]).unwrap();
    assert!(
        out[0]
            .tool_calls
            .as_ref()
            .unwrap()
            .get()
            .starts_with(r#"[{"index":1,"id":"one""#)
    );
}

#[test]
fn another_function_is_a_difference() {
    let other = HEAD.replace("\"get\"", "\"get_all\"");
    assert!(new(vec![call(HEAD)], vec![call(&other)]).is_err());
    let name = r#"{"index":0,"id":"one","function":{"name":"get"}}"#;
    let longer = name.replace("\"get\"", "\"get_all\"");
    assert!(new(vec![call(name)], vec![call(&longer)]).is_err());
    assert!(new(vec![call(HEAD)], vec![text("No.")]).is_err());
}

#[test]
fn several_choices_may_come_in_another_order() {
    let shown = vec![choice(0, "a"), choice(1, "x"), choice(0, "b")];
    let again = vec![
        choice(0, "ab"),
        choice(0, "c"),
        choice(1, "xy"),
        choice(0, "d"),
    ];
    let out = new(shown.clone(), again).unwrap();
    assert_eq!(texts(&out), [(0, "c"), (1, "y"), (0, "d")]);
    assert!(new(shown, vec![choice(0, "ab"), choice(1, "z")]).is_err());
}

#[test]
fn an_answer_of_which_only_the_end_was_lost_ends_again() {
    assert!(new(vec![text("a")], vec![text("a")]).unwrap().is_empty());
}

#[test]
fn nothing_shown_swallows_nothing() {
    let out = new(Vec::new(), vec![text("a")]).unwrap();
    assert_eq!(texts(&out), [(0, "a")]);
}

/// A text in pieces, cut at these places.
fn pieces_of(text: &str, cuts: &[usize]) -> Vec<Piece> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    let parts = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]);
    parts
        .filter(|part| !part.is_empty())
        .map(super::tests::text)
        .collect()
}

proptest::proptest! {
    #[test]
    fn however_it_is_cut_the_rest_is_what_was_not_shown(
        answer in "[ab]{0,40}",
        shown in 0usize..40,
        first in proptest::collection::vec(0usize..100, 0..8),
        second in proptest::collection::vec(0usize..100, 0..8),
    ) {
        let shown = &answer[..shown.min(answer.len())];
        let out = new(pieces_of(shown, &first), pieces_of(&answer, &second)).unwrap();
        let rest: String = out.into_iter().filter_map(|piece| piece.text).collect();
        proptest::prop_assert_eq!(rest, &answer[shown.len()..]);
    }

    #[test]
    fn nothing_is_handed_on_of_an_answer_that_differs(
        answer in "[ab]{1,40}",
        at in 0usize..40,
        first in proptest::collection::vec(0usize..100, 0..8),
        second in proptest::collection::vec(0usize..100, 0..8),
    ) {
        let at = at % answer.len();
        let mut other = answer.clone();
        other.replace_range(at..=at, "c");
        let mut replay = Replay::new(&prefix(pieces_of(&answer, &first)));
        let mut out = Vec::new();
        let mut again = pieces_of(&other, &second).into_iter();
        let found = again.try_for_each(|piece| replay.take(piece, &mut out));
        proptest::prop_assert!(found.is_err() && out.is_empty());
    }
}
