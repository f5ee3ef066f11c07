//! Attention of new tokens over everything before them, and rotary positions.

use rayon::prelude::*;

use super::kernel::{add_scaled, dot, softmax};
use super::metadata::{Rotary, Sizes};

/// Multiplications below which waking another thread costs more than it saves.
const WORTH_SHARING: usize = 1 << 18;

/// The rotation of each pair of a head per position.
pub(super) struct Rotation {
    kind: Rotary,
    head: usize,
    /// Turn per position of each pair, in radians.
    speeds: Vec<f32>,
}

impl Rotation {
    /// `factors` slow down single pairs, for models trained to reach further.
    pub(super) fn new(sizes: &Sizes, factors: Option<&[f32]>) -> Self {
        let pairs = sizes.rotary_dim / 2;
        let speed = |pair: usize| {
            let exponent = (2 * pair) as f32 / sizes.rotary_dim as f32;
            let factor = factors
                .and_then(|factors| factors.get(pair))
                .copied()
                .unwrap_or(1.0);
            1.0 / (libm::powf(sizes.rotary_base, exponent) * factor)
        };
        Self {
            kind: sizes.rotary,
            head: sizes.head,
            speeds: (0..pairs).map(speed).collect(),
        }
    }

    /// Turns every head of one token, which stands at `position`.
    pub(super) fn turn(&self, heads: &mut [f32], position: usize) {
        let half = self.speeds.len();
        for (pair, speed) in self.speeds.iter().enumerate() {
            let (sin, cos) = libm::sincosf(position as f32 * speed);
            let (first, second) = match self.kind {
                Rotary::Neighbours => (2 * pair, 2 * pair + 1),
                Rotary::Halves => (pair, pair + half),
            };
            for head in heads.chunks_exact_mut(self.head) {
                let (x, y) = (head[first], head[second]);
                head[first] = x * cos - y * sin;
                head[second] = x * sin + y * cos;
            }
        }
    }
}

/// Keys and values of one layer, token after token.
#[derive(Clone, Default)]
pub(super) struct LayerCache {
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

/// What the new tokens, whose queries are given, read from the cache that ends with them.
pub(super) fn attend(queries: &[f32], cache: &LayerCache, sizes: &Sizes) -> Vec<f32> {
    let tokens = queries.len() / (sizes.heads * sizes.head);
    let total = cache.keys.len() / sizes.kv();
    let before = total - tokens;
    let mut read = vec![0.0; queries.len()];
    let one = |(at, (read, query)): (usize, (&mut [f32], &[f32]))| {
        let (token, head) = (at / sizes.heads, at % sizes.heads);
        attend_one(
            read,
            query,
            cache,
            sizes,
            head / sizes.group(),
            before + token + 1,
        );
    };
    if queries.len() * total >= WORTH_SHARING {
        let heads = read
            .par_chunks_exact_mut(sizes.head)
            .zip(queries.par_chunks_exact(sizes.head));
        heads.enumerate().for_each(one);
    } else {
        let heads = read
            .chunks_exact_mut(sizes.head)
            .zip(queries.chunks_exact(sizes.head));
        heads.enumerate().for_each(one);
    }
    read
}

/// One query of one head over the first `visible` tokens.
fn attend_one(
    read: &mut [f32],
    query: &[f32],
    cache: &LayerCache,
    sizes: &Sizes,
    kv_head: usize,
    visible: usize,
) {
    let of_token = |store: &'_ [f32], token: usize| -> std::ops::Range<usize> {
        let start = token * sizes.kv() + kv_head * sizes.head;
        debug_assert!(start + sizes.head <= store.len());
        start..start + sizes.head
    };
    let scale = 1.0 / (sizes.head as f32).sqrt();
    let mut weights: Vec<f32> = (0..visible)
        .map(|token| dot(query, &cache.keys[of_token(&cache.keys, token)]) * scale)
        .collect();
    softmax(&mut weights);
    for (token, weight) in weights.into_iter().enumerate() {
        add_scaled(read, weight, &cache.values[of_token(&cache.values, token)]);
    }
}
