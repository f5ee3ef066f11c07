use super::*;

const TTL: Duration = Duration::from_secs(2);

fn ms(ms: u64) -> Now {
    Duration::from_millis(ms)
}

fn effects(contender: &mut Contender) -> Vec<Effect> {
    std::iter::from_fn(|| contender.next_effect()).collect()
}

fn holder() -> Contender {
    let mut contender = Contender::new(TTL);
    contender.handle(Input::Tick, ms(0));
    contender.handle(Input::Seen(Seen::Free(4)), ms(1));
    contender.handle(Input::Written(5), ms(2));
    assert_eq!(
        effects(&mut contender),
        [
            Effect::Read,
            Effect::Write { expected: 4 },
            Effect::Acquired { epoch: 5 }
        ]
    );
    contender
}

#[test]
fn the_epoch_is_the_revision_of_the_acquiring_write() {
    let mut contender = holder();
    contender.handle(Input::Tick, ms(500));
    contender.handle(Input::Written(9), ms(501));
    assert_eq!(effects(&mut contender), [Effect::Write { expected: 5 }]);
    assert_eq!(
        (contender.epoch(ms(502)), contender.revision()),
        (Some(5), Some(9))
    );
}

#[test]
fn a_holder_is_silent_before_its_lease_ends() {
    let mut contender = holder();
    assert_eq!(contender.epoch(ms(1200)), Some(5));
    assert_eq!(contender.epoch(ms(1201)), None);
    contender.handle(Input::Tick, ms(1201));
    assert_eq!(effects(&mut contender)[0], Effect::Lost);
}

#[test]
fn time_counts_from_the_sending_of_a_write() {
    let mut contender = holder();
    contender.handle(Input::Tick, ms(500));
    contender.handle(Input::Written(6), ms(1100));
    assert_eq!(contender.epoch(ms(1699)), Some(5));
    assert_eq!(contender.epoch(ms(1700)), None);
}

#[test]
fn a_refused_renewal_ends_it() {
    let mut contender = holder();
    contender.handle(Input::Tick, ms(500));
    contender.handle(Input::Refused, ms(501));
    assert!(effects(&mut contender).contains(&Effect::Lost));
    assert_eq!(contender.epoch(ms(502)), None);
}

#[test]
fn a_held_lease_is_read_again_later() {
    let mut contender = Contender::new(TTL);
    contender.handle(Input::Tick, ms(0));
    contender.handle(Input::Seen(Seen::Held(3)), ms(1));
    assert_eq!(effects(&mut contender), [Effect::Read]);
    assert_eq!(contender.next_deadline(), ms(501));
}

#[test]
fn a_watch_that_tells_of_the_end_is_acted_on_at_once() {
    let mut contender = Contender::new(TTL);
    contender.handle(Input::Tick, ms(0));
    contender.handle(Input::Seen(Seen::Held(3)), ms(1));
    contender.handle(Input::Seen(Seen::Free(4)), ms(50));
    assert_eq!(
        effects(&mut contender),
        [Effect::Read, Effect::Write { expected: 4 }]
    );
}

#[test]
fn an_outranked_holder_acquires_anew_above() {
    let mut contender = holder();
    contender.handle(Input::Outranked(7), ms(10));
    assert_eq!(
        effects(&mut contender),
        [Effect::Lost, Effect::Write { expected: 5 }]
    );
    contender.handle(Input::Written(6), ms(11));
    assert_eq!(effects(&mut contender), [Effect::Write { expected: 6 }]);
    contender.handle(Input::Written(8), ms(12));
    assert_eq!(effects(&mut contender), [Effect::Acquired { epoch: 8 }]);
}

#[test]
fn a_holder_whose_renewal_got_no_answer_acquires_anew_at_once() {
    let mut contender = holder();
    contender.handle(Input::Tick, ms(500));
    contender.handle(Input::NoAnswer, ms(900));
    contender.handle(Input::Tick, ms(900));
    contender.handle(Input::Seen(Seen::Mine(6)), ms(901));
    contender.handle(Input::Written(7), ms(902));
    let expected = [
        Effect::Write { expected: 5 },
        Effect::Lost,
        Effect::Read,
        Effect::Write { expected: 6 },
        Effect::Acquired { epoch: 7 },
    ];
    assert_eq!(effects(&mut contender), expected);
}

#[test]
fn an_answer_that_comes_too_late_gives_no_lease() {
    let mut contender = Contender::new(TTL);
    contender.handle(Input::Tick, ms(0));
    contender.handle(Input::Seen(Seen::Free(0)), ms(0));
    contender.handle(Input::Written(1), ms(1300));
    assert_eq!(contender.epoch(ms(1300)), None);
}

#[test]
fn who_holds_nothing_has_no_revision_and_looks_again_when_refused() {
    let mut contender = Contender::new(TTL);
    assert_eq!(contender.revision(), None);
    contender.handle(Input::Tick, ms(0));
    contender.handle(Input::Seen(Seen::Free(0)), ms(1));
    contender.handle(Input::Refused, ms(2));
    assert_eq!(contender.next_deadline(), ms(502));
    assert_eq!((contender.epoch(ms(3)), contender.revision()), (None, None));
}

#[test]
fn a_reading_without_an_answer_is_tried_again_soon() {
    let mut contender = Contender::new(TTL);
    contender.handle(Input::Tick, ms(0));
    contender.handle(Input::NoAnswer, ms(400));
    assert_eq!(contender.next_deadline(), ms(650));
}

#[test]
fn who_renews_must_hear_before_it_may_not_act_any_more() {
    let mut contender = holder();
    assert_eq!(contender.next_deadline(), ms(401));
    contender.handle(Input::Tick, ms(401));
    assert_eq!(contender.next_deadline(), ms(1201));
    assert_eq!(contender.revision(), Some(5));
}

#[test]
fn what_comes_late_or_twice_changes_nothing() {
    let mut contender = holder();
    let late = [
        Input::Written(9),
        Input::Refused,
        Input::NoAnswer,
        Input::Seen(Seen::Held(9)),
        Input::Seen(Seen::Free(9)),
        Input::Outranked(5),
        Input::Tick,
    ];
    for input in late {
        contender.handle(input, ms(10));
    }
    assert_eq!(effects(&mut contender), []);
    assert_eq!(
        (contender.epoch(ms(11)), contender.revision()),
        (Some(5), Some(5))
    );
}

#[test]
fn who_waits_learns_nothing_from_an_answer_that_it_does_not_wait_for() {
    let mut contender = Contender::new(TTL);
    for input in [Input::Written(3), Input::Refused, Input::NoAnswer] {
        contender.handle(input, ms(1));
    }
    assert_eq!(effects(&mut contender), []);
    assert_eq!(contender.epoch(ms(1)), None);
}

#[test]
fn a_holder_in_doubt_acts_only_when_the_lease_is_his_once_more() {
    let mut contender = holder();
    contender.handle(Input::Doubted, ms(100));
    assert_eq!(contender.epoch(ms(100)), None);
    contender.handle(Input::Written(9), ms(101));
    assert_eq!(contender.epoch(ms(101)), Some(9));
    let expected = [
        Effect::Lost,
        Effect::Write { expected: 5 },
        Effect::Acquired { epoch: 9 },
    ];
    assert_eq!(effects(&mut contender), expected);
}

#[test]
fn a_holder_in_doubt_whose_lease_is_somebody_elses_waits() {
    let mut contender = holder();
    contender.handle(Input::Doubted, ms(100));
    contender.handle(Input::Refused, ms(101));
    assert_eq!(contender.epoch(ms(101)), None);
    assert_eq!(contender.next_deadline(), ms(601));
}

#[test]
fn who_holds_nothing_need_not_doubt() {
    let mut contender = Contender::new(TTL);
    contender.handle(Input::Doubted, ms(0));
    assert_eq!(effects(&mut contender), []);
}
