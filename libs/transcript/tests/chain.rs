//! A writer and a store that loses answers, delays entries and lets somebody
//! else write: what a reader sees is what was said, in order, once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use orchion_contract::job::Outcome;
use orchion_contract::transcript::{Entry, Final, Mark, Piece};
use orchion_contract::{InstanceId, NodeId};
use orchion_transcript::{Effect, Prefix, Reader, Shown, Stop, Writer};
use proptest::prelude::*;

/// A subject of the stream: it takes an entry only behind the one it names.
#[derive(Default)]
struct Store {
    entries: Vec<Entry>,
    /// Published, and still on the way.
    delayed: Vec<(u64, Entry)>,
}

impl Store {
    fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    fn append(&mut self, after: u64, entry: Entry) -> Option<u64> {
        (after == self.last()).then(|| {
            self.entries.push(entry);
            self.last()
        })
    }

    /// What was delayed arrives, in any order.
    fn arrive(&mut self, which: usize) {
        if !self.delayed.is_empty() {
            let (after, entry) = self.delayed.remove(which % self.delayed.len());
            self.append(after, entry);
        }
    }
}

/// What happens to a publish.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    AnswerLost,
    Lost,
    Delayed,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Say,
    Publish(Fate),
    Arrive(usize),
    Reconnect,
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![
        Just(Fate::Answered),
        Just(Fate::AnswerLost),
        Just(Fate::Lost),
        Just(Fate::Delayed)
    ];
    prop_oneof![
        3 => Just(Event::Say),
        4 => fate.prop_map(Event::Publish),
        1 => (0usize..4).prop_map(Event::Arrive),
        1 => Just(Event::Reconnect),
    ]
}

fn piece(n: usize) -> Piece {
    Piece {
        text: Some(n.to_string()),
        tokens: 1,
        ..Piece::default()
    }
}

fn end() -> Final {
    Final {
        attempt: 1,
        rest: None,
        outcome: Outcome::Completed,
        finish_reason: None,
        usage: Default::default(),
        error: None,
        engine: None,
        node: None,
        continued: None,
        times: Default::default(),
    }
}

fn step(writer: &mut Writer, store: &mut Store, fate: Fate) {
    match writer.next_effect() {
        Some(Effect::Publish { after, entry }) => match fate {
            Fate::Answered => match store.append(after, entry) {
                Some(sequence) => writer.acked(sequence),
                None => writer.unsure(),
            },
            Fate::AnswerLost => {
                store.append(after, entry);
                writer.unsure();
            }
            Fate::Lost => writer.unsure(),
            Fate::Delayed => {
                store.delayed.push((after, entry));
                writer.unsure();
            }
        },
        Some(Effect::ReadLast) => {
            let last = store.entries.last().map(|entry| (store.last(), entry));
            writer.last_is(last);
        }
        None => {}
    }
}

fn read(store: &Store) -> (Vec<String>, usize) {
    let (mut reader, mut shown) = (Reader::new(), Vec::new());
    for (n, entry) in store.entries.iter().enumerate() {
        reader
            .apply(n as u64 + 1, entry.clone(), &mut shown)
            .unwrap();
    }
    let text = |shown: &Shown| match shown {
        Shown::Piece { piece, .. } => piece.text.clone(),
        Shown::Restarted { .. } | Shown::Ended(_) => None,
    };
    let ends = shown
        .iter()
        .filter(|shown| matches!(shown, Shown::Ended(_)))
        .count();
    (shown.iter().filter_map(text).collect(), ends)
}

fn said(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

proptest! {
    #[test]
    fn what_was_said_is_read_once_and_in_order(events in proptest::collection::vec(event(), 0..80)) {
        let (mut writer, mut store, mut count) = (Writer::new(1, 0, 0), Store::default(), 0);
        for event in events {
            match event {
                Event::Say => {
                    writer.push(piece(count));
                    count += 1;
                }
                Event::Publish(fate) => step(&mut writer, &mut store, fate),
                Event::Arrive(which) => store.arrive(which),
                Event::Reconnect => writer.unsure(),
            }
            let (texts, ends) = read(&store);
            prop_assert_eq!(&texts[..], &said(texts.len())[..]);
            prop_assert!(texts.len() <= count && ends == 0);
        }
        writer.finish(end());
        for _ in 0..1000 {
            if writer.stopped().is_some() {
                break;
            }
            step(&mut writer, &mut store, Fate::Answered);
        }
        while !store.delayed.is_empty() {
            store.arrive(0);
        }
        prop_assert_eq!(writer.stopped(), Some(Stop::Finished));
        prop_assert_eq!(read(&store), (said(count), 1));
    }

    #[test]
    fn a_writer_that_was_fenced_off_adds_nothing(
        before in proptest::collection::vec(event(), 0..30),
        after in proptest::collection::vec(event(), 0..30),
    ) {
        let (mut writer, mut store, mut count) = (Writer::new(1, 0, 0), Store::default(), 0);
        let mut run = |events: Vec<Event>, store: &mut Store| {
            for event in events {
                match event {
                    Event::Say => {
                        writer.push(piece(count));
                        count += 1;
                    }
                    Event::Publish(fate) => step(&mut writer, store, fate),
                    Event::Arrive(which) => store.arrive(which),
                    Event::Reconnect => writer.unsure(),
                }
            }
        };
        run(before, &mut store);
        let (node, instance) = (NodeId::new("n").unwrap(), InstanceId::new("i").unwrap());
        let last = store.last();
        store.append(last, Entry::Mark(Mark { attempt: 2, node, instance }));
        let fenced = store.entries.len();
        run(after, &mut store);
        prop_assert_eq!(store.entries.len(), fenced);
        let mut prefix = Prefix::new();
        for (n, entry) in store.entries.iter().enumerate() {
            prefix.apply(n as u64 + 1, entry.clone()).unwrap();
        }
        prop_assert_eq!(prefix.text, read(&store).0.concat());
    }
}
