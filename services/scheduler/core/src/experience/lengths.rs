//! How long answers get.

use crate::num::f64_of;
use std::collections::VecDeque;

/// Answers remembered.
const REMEMBERED: usize = 64;
/// Answers under a like limit before the others are left out.
const ENOUGH: usize = 4;

/// Lengths of the last answers of a pool, in tokens, with the limits they had.
#[derive(Debug, Clone, Default)]
pub(super) struct Lengths(VecDeque<Known>);

#[derive(Debug, Clone, Copy)]
struct Known {
    tokens: u64,
    limit: Option<u32>,
}

impl Known {
    /// How long this answer would have been under another limit. One that its own
    /// limit ended says only that it would have gone on.
    fn under(self, limit: Option<u32>) -> f64 {
        let tokens = f64_of(self.tokens);
        let was_cut = self.limit.is_some_and(|own| self.tokens >= u64::from(own));
        match limit.map(f64::from) {
            Some(limit) if was_cut => limit,
            Some(limit) => tokens.min(limit),
            None => tokens,
        }
    }
}

impl Lengths {
    pub(super) fn learn(&mut self, tokens: u64, limit: Option<u32>) {
        if tokens == 0 {
            return;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Known { tokens, limit });
    }

    /// Mean length under a limit; `None` without any answer.
    pub(super) fn expected(&self, limit: Option<u32>) -> Option<f64> {
        let (sum, count) = self
            .alike(limit)
            .fold((0.0, 0), |(sum, count), tokens| (sum + tokens, count + 1));
        (count > 0).then(|| sum / f64_of(count))
    }

    /// The length of one known answer, chosen by `luck` in 0 to 1.
    pub(super) fn one(&self, limit: Option<u32>, luck: f64) -> Option<f64> {
        chosen(|| self.alike(limit), luck)
    }

    /// How much longer an answer gets that has `said` tokens, as one known answer
    /// did; those that were shorter tell nothing any more.
    pub(super) fn rest(&self, limit: Option<u32>, said: f64, luck: f64) -> f64 {
        let longer = || self.alike(limit).filter(|tokens| *tokens > said);
        let room = limit.map_or(f64::MAX, |limit| (f64::from(limit) - said).max(0.0));
        // Longer than all that were seen: who knows; it goes on for a while.
        let rest = chosen(longer, luck).map_or_else(|| (said / 4.0).max(1.0), |all| all - said);
        rest.min(room)
    }

    fn alike(&self, limit: Option<u32>) -> impl Iterator<Item = f64> {
        let same = move |known: &&Known| size(known.limit) == size(limit);
        let only_same = self.0.iter().filter(same).count() >= ENOUGH;
        let known = self.0.iter().filter(move |known| !only_same || same(known));
        known.map(move |known| known.under(limit))
    }
}

/// Limits are alike when they have the same power of two.
fn size(limit: Option<u32>) -> Option<u32> {
    limit.map(|limit| limit.max(1).ilog2())
}

fn chosen<I: Iterator<Item = f64>>(values: impl Fn() -> I, luck: f64) -> Option<f64> {
    let count = u32::try_from(values().count()).ok()?;
    let place = crate::num::ms_of((luck * f64::from(count)).floor());
    let last = u64::from(count.checked_sub(1)?);
    values().nth(usize::try_from(place.min(last)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(lengths: &[(u64, Option<u32>)]) -> Lengths {
        let mut all = Lengths::default();
        for (tokens, limit) in lengths {
            all.learn(*tokens, *limit);
        }
        all
    }

    #[test]
    fn a_limit_caps_what_is_expected() {
        let lengths = known(&[(100, None), (300, None)]);
        assert_eq!(lengths.expected(None), Some(200.0));
        assert_eq!(lengths.expected(Some(50)), Some(50.0));
        assert_eq!(known(&[]).expected(None), None);
    }

    #[test]
    fn what_its_limit_ended_goes_on_under_a_higher_one() {
        let lengths = known(&[(100, Some(100))]);
        assert_eq!(lengths.expected(Some(120)), Some(120.0));
        assert_eq!(lengths.expected(Some(80)), Some(80.0));
        assert_eq!(lengths.expected(None), Some(100.0));
    }

    #[test]
    fn answers_under_a_like_limit_count_alone_once_there_are_enough() {
        let mut all = vec![(1000, None); 20];
        all.extend([(10, Some(20)); 3]);
        assert!(known(&all).expected(Some(16)) > Some(10.0));
        all.push((10, Some(31)));
        assert_eq!(known(&all).expected(Some(16)), Some(10.0));
    }

    #[test]
    fn luck_chooses_one_of_the_known_answers() {
        let lengths = known(&[(10, None), (20, None), (30, None)]);
        let found = [0.0, 0.34, 0.67, 1.0].map(|luck| lengths.one(None, luck));
        assert_eq!(found, [10.0, 20.0, 30.0, 30.0].map(Some));
        assert_eq!(known(&[]).one(None, 0.5), None);
    }

    #[test]
    fn only_longer_answers_tell_what_is_left() {
        let lengths = known(&[(10, None), (100, None), (200, None)]);
        assert_eq!(lengths.rest(None, 50.0, 0.0), 50.0);
        assert_eq!(lengths.rest(None, 50.0, 0.9), 150.0);
        assert_eq!(lengths.rest(None, 400.0, 0.0), 100.0);
        assert_eq!(lengths.rest(Some(410), 400.0, 0.0), 10.0);
    }
}
