use super::*;
use orchion_contract::job::Outcome;
use orchion_contract::transcript::Mark;
use orchion_contract::{InstanceId, NodeId};

fn piece(text: &str) -> Piece {
    Piece {
        text: Some(text.to_owned()),
        tokens: 1,
        ..Piece::default()
    }
}

fn end() -> Final {
    Final {
        attempt: 1,
        rest: None,
        outcome: Outcome::Completed,
        finish_reason: Some("stop".to_owned()),
        usage: Default::default(),
        error: None,
        engine: None,
        node: None,
        continued: None,
        times: Default::default(),
    }
}

fn mark(attempt: u32) -> Entry {
    Entry::Mark(Mark {
        attempt,
        node: NodeId::new("n").unwrap(),
        instance: InstanceId::new("i").unwrap(),
    })
}

fn published(writer: &mut Writer) -> (u64, Entry) {
    match writer.next_effect() {
        Some(Effect::Publish { after, entry }) => (after, entry),
        other => panic!("expected a publish, got {other:?}"),
    }
}

fn texts(entry: &Entry) -> Vec<String> {
    let frame = match entry {
        Entry::Frame(frame) => Some(frame),
        Entry::Final(end) => end.rest.as_ref(),
        other @ (Entry::Mark(_) | Entry::Restart(_)) => panic!("no writer sends {other:?}"),
    };
    let pieces = frame.map_or(&[][..], |frame| &frame.pieces);
    pieces
        .iter()
        .filter_map(|piece| piece.text.clone())
        .collect()
}

fn must_read(writer: &mut Writer) {
    assert!(matches!(writer.next_effect(), Some(Effect::ReadLast)));
}

#[test]
fn one_entry_is_in_flight_and_the_rest_joins_the_next() {
    let mut writer = Writer::new(1, 0, 0);
    writer.push(piece("a"));
    assert_eq!(texts(&published(&mut writer).1), ["a"]);
    writer.push(piece("b"));
    writer.push(piece("c"));
    assert!(writer.next_effect().is_none());
    writer.acked(7);
    let (after, entry) = published(&mut writer);
    assert_eq!(
        (after, texts(&entry)),
        (7, vec!["b".to_owned(), "c".to_owned()])
    );
}

#[test]
fn a_stored_entry_whose_answer_was_lost_is_not_sent_twice() {
    let mut writer = Writer::new(1, 0, 0);
    writer.push(piece("a"));
    let (_, entry) = published(&mut writer);
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(Some((9, &entry)));
    writer.push(piece("b"));
    let (after, entry) = published(&mut writer);
    assert_eq!((after, texts(&entry)), (9, vec!["b".to_owned()]));
}

#[test]
fn an_entry_that_was_not_stored_is_sent_again_with_what_came_since() {
    let mut writer = Writer::new(1, 0, 0);
    writer.push(piece("a"));
    published(&mut writer);
    writer.push(piece("b"));
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(None);
    let (after, entry) = published(&mut writer);
    assert_eq!(
        (after, texts(&entry)),
        (0, vec!["a".to_owned(), "b".to_owned()])
    );
}

#[test]
fn an_entry_given_up_for_lost_may_still_win() {
    let mut writer = Writer::new(1, 0, 0);
    writer.push(piece("a"));
    let (_, first) = published(&mut writer);
    writer.push(piece("b"));
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(None);
    published(&mut writer);
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(Some((3, &first)));
    let (after, entry) = published(&mut writer);
    assert_eq!((after, texts(&entry)), (3, vec!["b".to_owned()]));
}

#[test]
fn a_restart_goes_first_and_takes_an_index() {
    let mut writer = Writer::new(2, 5, 9);
    let engine = EngineRef {
        kind: orchion_contract::node::EngineKind::OpenAi,
        version: None,
        digest: None,
    };
    writer.restart(engine.clone());
    writer.push(piece("a"));
    let (after, entry) = published(&mut writer);
    let Entry::Restart(restart) = &entry else {
        panic!("expected a restart, got {entry:?}");
    };
    assert_eq!(
        (after, restart.index, &restart.engine),
        (9, 5, &Some(engine))
    );
    // Lost, then found to be stored.
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(Some((
        9,
        &Entry::Frame(Frame {
            attempt: 1,
            index: 4,
            pieces: vec![],
        }),
    )));
    published(&mut writer);
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(Some((10, &entry)));
    let (after, entry) = published(&mut writer);
    assert_eq!((after, texts(&entry)), (10, vec!["a".to_owned()]));
    assert!(matches!(entry, Entry::Frame(frame) if frame.index == 6));
}

#[test]
fn another_process_with_the_same_attempt_stops_the_writer() {
    let mut writer = Writer::new(1, 0, 0);
    writer.push(piece("a"));
    published(&mut writer);
    writer.unsure();
    must_read(&mut writer);
    let theirs = Frame {
        attempt: 1,
        index: 0,
        pieces: vec![piece("b")],
    };
    writer.last_is(Some((1, &Entry::Frame(theirs))));
    assert_eq!(writer.stopped(), Some(Stop::Superseded));
    assert!(!writer.has_stored());
}

#[test]
fn a_mark_of_another_attempt_stops_the_writer() {
    let mut writer = Writer::new(1, 0, 0);
    writer.push(piece("a"));
    published(&mut writer);
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(Some((5, &mark(2))));
    assert_eq!(writer.stopped(), Some(Stop::Superseded));
    assert!(writer.next_effect().is_none());
}

#[test]
fn a_final_of_somebody_else_stops_the_writer() {
    let mut writer = Writer::new(1, 0, 0);
    writer.finish(end());
    published(&mut writer);
    writer.unsure();
    must_read(&mut writer);
    let theirs = Final {
        outcome: Outcome::Canceled,
        ..end()
    };
    writer.last_is(Some((5, &Entry::Final(Box::new(theirs)))));
    assert_eq!(writer.stopped(), Some(Stop::Superseded));
}

#[test]
fn nothing_goes_behind_an_end_that_took_a_known_sequence() {
    for last in [Entry::Final(Box::new(end())), mark(2)] {
        let mut writer = Writer::new(1, 0, 0);
        writer.push(piece("a"));
        let _ = published(&mut writer);
        writer.acked(7);
        // A new connection, to a store that was rolled back and has grown again.
        writer.unsure();
        writer.push(piece("b"));
        must_read(&mut writer);
        writer.last_is(Some((7, &last)));
        assert_eq!(writer.stopped(), Some(Stop::Superseded), "{last:?}");
    }
}

#[test]
fn a_new_connection_to_the_same_store_changes_nothing() {
    let mut writer = Writer::new(1, 0, 0);
    writer.push(piece("a"));
    let (_, first) = published(&mut writer);
    writer.acked(7);
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(Some((7, &first)));
    assert!(writer.next_effect().is_none());
    writer.push(piece("b"));
    let (after, entry) = published(&mut writer);
    assert_eq!((after, texts(&entry)), (7, vec!["b".to_owned()]));
}

#[test]
fn what_was_given_up_for_lost_is_known_again_after_a_new_connection() {
    let mut writer = Writer::new(1, 0, 0);
    writer.push(piece("a"));
    let (_, sent) = published(&mut writer);
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(None);
    // Now it comes, before it is sent again.
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(Some((1, &sent)));
    assert!(writer.is_idle() && writer.stopped().is_none());
    assert_eq!((writer.sequence(), writer.next_index()), (1, 1));
}

#[test]
fn frames_stay_below_the_limit() {
    let mut writer = Writer::new(1, 0, 0);
    for _ in 0..10 {
        writer.push(piece(&"x".repeat(60 * 1024)));
    }
    for sequence in 1..=5 {
        let (_, entry) = published(&mut writer);
        assert!(serde_json::to_vec(&entry).unwrap().len() <= MAX_ENTRY_BYTES);
        writer.acked(sequence);
    }
    assert!(writer.is_idle());
}

#[test]
fn the_last_pieces_go_with_the_final() {
    let mut writer = Writer::new(1, 0, 0);
    writer.push(piece("a"));
    published(&mut writer);
    writer.push(piece("b"));
    writer.finish(end());
    writer.acked(1);
    let (after, entry) = published(&mut writer);
    assert!(matches!(&entry, Entry::Final(end) if end.rest.as_ref().unwrap().index == 1));
    assert_eq!((after, texts(&entry)), (1, vec!["b".to_owned()]));
    writer.acked(2);
    assert_eq!(
        (writer.stopped(), writer.next_index()),
        (Some(Stop::Finished), 2)
    );
}

#[test]
fn a_rest_that_is_too_large_goes_before_the_final() {
    let mut writer = Writer::new(1, 0, 0);
    (0..3).for_each(|_| writer.push(piece(&"x".repeat(60 * 1024))));
    writer.finish(end());
    let (_, entry) = published(&mut writer);
    assert!(matches!(&entry, Entry::Frame(frame) if frame.pieces.len() == 2));
    writer.acked(1);
    let (_, entry) = published(&mut writer);
    assert!(matches!(&entry, Entry::Final(_)) && texts(&entry).len() == 1);
}

#[test]
fn a_frame_given_up_for_lost_may_still_win_over_the_final_with_its_pieces() {
    let mut writer = Writer::new(1, 0, 0);
    writer.push(piece("a"));
    let (_, first) = published(&mut writer);
    writer.push(piece("b"));
    writer.finish(end());
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(None);
    let (_, entry) = published(&mut writer);
    assert_eq!(texts(&entry), ["a", "b"]);
    writer.unsure();
    must_read(&mut writer);
    writer.last_is(Some((3, &first)));
    let (after, entry) = published(&mut writer);
    assert_eq!((after, texts(&entry)), (3, vec!["b".to_owned()]));
}

#[test]
fn gathered_pieces_wait_until_they_are_due_or_the_end_comes() {
    let mut writer = Writer::new(1, 0, 0).gathering();
    writer.push(piece("a"));
    assert!(writer.next_effect().is_none());
    writer.flush();
    assert_eq!(texts(&published(&mut writer).1), ["a"]);
    writer.acked(1);
    writer.push(piece("b"));
    assert!(writer.next_effect().is_none());
    writer.finish(end());
    let (_, entry) = published(&mut writer);
    assert!(matches!(&entry, Entry::Final(_)));
    assert_eq!(texts(&entry), ["b"]);
}

#[test]
fn an_attempt_that_failed_sends_nothing_more() {
    let mut writer = Writer::new(1, 0, 0);
    writer.push(piece("a"));
    published(&mut writer);
    writer.push(piece("b"));
    writer.abandon();
    writer.acked(7);
    assert!(writer.next_effect().is_none());
    assert_eq!((writer.has_stored(), writer.sequence()), (true, 7));
}

#[test]
fn nothing_is_pushed_behind_the_end() {
    let mut writer = Writer::new(1, 0, 0);
    writer.finish(end());
    writer.push(piece("late"));
    let (_, entry) = published(&mut writer);
    assert!(matches!(entry, Entry::Final(end) if end.rest.is_none()));
}
