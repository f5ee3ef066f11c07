//! How long answers get.

use crate::num::f64_of;
use std::collections::VecDeque;

/// Answers remembered.
const REMEMBERED: usize = 64;
/// Answers under a like limit before the others are left out.
const ENOUGH: usize = 4;

/// Lengths of the last answers of a pool, in tokens, with the limits they had.
#[derive(Debug, Clone, Default)]
pub(super) struct Lengths(VecDeque<(u64, Option<u32>)>);

impl Lengths {
    pub(super) fn learn(&mut self, tokens: u64, limit: Option<u32>) {
        if tokens == 0 {
            return;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((tokens, limit));
    }

    /// Mean length under a limit; `None` without any answer.
    pub(super) fn expected(&self, limit: Option<u32>) -> Option<f64> {
        mean(self.alike(limit))
    }

    /// How much longer an answer gets that has `said` tokens: answers that were
    /// shorter tell nothing any more.
    pub(super) fn rest(&self, limit: Option<u32>, said: f64) -> f64 {
        let longer = self.alike(limit).filter(|tokens| *tokens > said);
        let rest = mean(longer.map(|tokens| tokens - said));
        let room = limit.map_or(f64::MAX, |limit| (f64::from(limit) - said).max(0.0));
        // Longer than all that were seen: who knows; it goes on for a while.
        rest.unwrap_or_else(|| (said / 4.0).max(1.0)).min(room)
    }

    fn alike(&self, limit: Option<u32>) -> impl Iterator<Item = f64> {
        let same = move |known: &&(u64, Option<u32>)| size(known.1) == size(limit);
        let only_same = self.0.iter().filter(same).count() >= ENOUGH;
        let most = limit.map_or(f64::MAX, f64::from);
        self.0
            .iter()
            .filter(move |known| !only_same || same(known))
            .map(move |(tokens, _)| f64_of(*tokens).min(most))
    }
}

/// Limits are alike when they have the same power of two.
fn size(limit: Option<u32>) -> Option<u32> {
    limit.map(|limit| limit.max(1).ilog2())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64_of(count))
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
    fn answers_under_a_like_limit_count_alone_once_there_are_enough() {
        let mut all = vec![(1000, None); 20];
        all.extend([(10, Some(16)); 3]);
        assert!(known(&all).expected(Some(16)) > Some(10.0));
        all.push((10, Some(31)));
        assert_eq!(known(&all).expected(Some(16)), Some(10.0));
    }

    #[test]
    fn only_longer_answers_tell_what_is_left() {
        let lengths = known(&[(10, None), (100, None), (200, None)]);
        assert_eq!(lengths.rest(None, 50.0), 100.0);
        assert_eq!(lengths.rest(None, 400.0), 100.0);
        assert_eq!(lengths.rest(Some(410), 400.0), 10.0);
    }
}
