use super::*;

fn view(tokens: impl IntoIterator<Item = u32>, ending: Ending) -> View {
    let mut events: Vec<Event> = tokens.into_iter().map(Event::Token).collect();
    events.push(Event::End(ending));
    View {
        events,
        ..View::default()
    }
}

fn cut(tokens: impl IntoIterator<Item = u32>) -> View {
    View {
        events: tokens.into_iter().map(Event::Token).collect(),
        is_cut: true,
        ..View::default()
    }
}

fn job(views: Vec<View>) -> History {
    History {
        tokens: 4,
        was_canceled: false,
        views,
    }
}

const DONE: Ending = Ending::Completed(4);

#[test]
fn a_whole_answer_with_late_and_cut_viewers_is_good() {
    let views = vec![view(0..4, DONE), cut(0..2), view(0..4, DONE)];
    assert_eq!(judge(&job(views)), []);
}

#[test]
fn every_planted_fault_of_tokens_is_seen() {
    let planted = [
        (vec![0, 1, 3], Violation::Lost),
        (vec![0, 1, 1, 2, 3], Violation::Doubled),
        (vec![0, 2, 1, 3], Violation::Reordered),
        (vec![0, 1, 2], Violation::WrongLength),
        (vec![0, 1, 2, 3, 4], Violation::WrongLength),
    ];
    for (tokens, violation) in planted {
        let found = judge(&job(vec![view(tokens, DONE)]));
        assert!(found.contains(&violation), "{violation}: {found:?}");
    }
}

#[test]
fn a_fault_in_a_viewer_that_left_is_seen() {
    let found = judge(&job(vec![cut([0, 2]), view(0..4, DONE)]));
    assert_eq!(found, [Violation::Lost]);
}

#[test]
fn every_planted_fault_of_ends_is_seen() {
    let mut twice = view(0..4, DONE);
    twice.events.push(Event::End(DONE));
    let mut behind = view(0..4, DONE);
    behind.events.push(Event::Token(4));
    let unended = View {
        is_cut: false,
        ..cut(0..4)
    };
    let planted = [
        (vec![twice], Violation::SecondEnd),
        (vec![behind], Violation::SecondEnd),
        (vec![unended], Violation::NoEnd),
        (vec![cut(0..4)], Violation::NoEnd),
        (vec![], Violation::NoEnd),
        (
            vec![view(0..4, Ending::Completed(3))],
            Violation::WrongLength,
        ),
        (
            vec![view(0..2, Ending::Canceled)],
            Violation::CanceledByNobody,
        ),
        (
            vec![
                view(0..4, DONE),
                view(0..4, Ending::Failed("internal".to_owned())),
            ],
            Violation::Disagree,
        ),
    ];
    for (views, violation) in planted {
        let found = judge(&job(views));
        assert!(found.contains(&violation), "{violation}: {found:?}");
    }
}

#[test]
fn who_looks_after_a_cancel_sees_what_the_others_saw() {
    let late = |tokens: u32| View {
        after_cancel: true,
        ..view(0..tokens, Ending::Canceled)
    };
    let canceled = |late: View| History {
        tokens: 9,
        was_canceled: true,
        views: vec![view(0..3, Ending::Canceled), late],
    };
    assert_eq!(judge(&canceled(late(3))), []);
    assert_eq!(judge(&canceled(late(4))), [Violation::TokenAfterCancel]);
    assert_eq!(judge(&canceled(late(2))), [Violation::Lost]);
}

#[test]
fn tokens_are_cut_out_of_pieces_of_any_size() {
    let text = "0000beef.0.1.a.2 0000beef.1.1.a 0000dead.2.1.b hello 0000beef.3.1.a";
    for size in 1..text.len() {
        let (mut cutter, mut events) = (Cutter::new(0xbeef), Vec::new());
        for chunk in text.as_bytes().chunks(size) {
            cutter.feed(std::str::from_utf8(chunk).unwrap(), &mut events);
        }
        cutter.finish(&mut events);
        let expected = [
            Event::Token(0),
            Event::Token(1),
            Event::Foreign,
            Event::Garbled,
            Event::Token(3),
        ];
        assert_eq!(events, expected);
    }
}
