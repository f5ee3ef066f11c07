//! The numbers of a written model: which tensors there are and what is in them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::gguf::{self, TensorPlan};
use super::noise::Noise;
use super::vocabulary::{TOOL_END, TURN_END, Vocabulary};
use super::{Arch, Dtype, Spec};

/// Logits are kept in units of 1/STEP, so that they add up exactly.
const STEP: i64 = 16;
/// How closely the output follows the built-in text.
const SHARPNESS: f64 = 2.0;
/// How much earlier tokens matter.
const NOISE: f64 = 0.5;

/// What a tensor holds.
#[derive(Clone, Copy)]
enum Fill {
    Embedding,
    Head,
    Ones,
    Uniform(f64),
    /// Uniform, but nothing writes into the bias column of the residual stream.
    Quiet(f64),
}

/// All tensors of the file, in its order.
pub(super) fn layout(spec: &Spec, vocabulary: usize) -> Vec<TensorPlan> {
    tensors(spec, vocabulary)
        .into_iter()
        .map(|(plan, _)| plan)
        .collect()
}

/// Writes all tensors' numbers, one after the other: a large model is never whole in memory.
pub(super) fn write(
    spec: &Spec,
    vocabulary: &Vocabulary,
    plans: &[TensorPlan],
    out: &mut impl Write,
) -> io::Result<()> {
    let mut noise = Noise::new(spec.seed);
    let embedding = embedding(vocabulary.len(), spec.dim, &mut noise);
    let fills = tensors(spec, vocabulary.len())
        .into_iter()
        .map(|(_, fill)| fill);
    for (plan, fill) in plans.iter().zip(fills) {
        let count = plan.rows.unwrap_or(1) * plan.columns;
        let numbers = match fill {
            Fill::Embedding => embedding.iter().map(|&sign| sign as f32).collect(),
            Fill::Head => head(vocabulary, spec.dim, &embedding, &mut noise),
            Fill::Ones => vec![1.0; count],
            Fill::Uniform(bound) => noise.uniform(count, bound as f32),
            Fill::Quiet(bound) => {
                let mut numbers = noise.uniform(count, bound as f32);
                numbers[..plan.columns].fill(0.0);
                numbers
            }
        };
        gguf::tensor(out, plan, &numbers)?;
    }
    Ok(())
}

fn tensors(spec: &Spec, vocabulary: usize) -> Vec<(TensorPlan, Fill)> {
    let matrix = |name: String, rows, columns, fill| {
        (
            TensorPlan {
                name,
                rows: Some(rows),
                columns,
                dtype: spec.dtype,
            },
            fill,
        )
    };
    let vector = |name: String, columns, fill| {
        (
            TensorPlan {
                name,
                rows: None,
                columns,
                dtype: Dtype::F32,
            },
            fill,
        )
    };
    let (dim, ff) = (spec.dim, spec.ff);
    let head = dim / spec.heads;
    let kv = head * spec.kv_heads;
    let wide = (3.0 / dim as f64).sqrt();
    let mut tensors = vec![
        matrix("token_embd.weight".into(), vocabulary, dim, Fill::Embedding),
        vector("output_norm.weight".into(), dim, Fill::Ones),
        matrix("output.weight".into(), vocabulary, dim, Fill::Head),
    ];
    for layer in 0..spec.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        tensors.extend([
            vector(name("attn_norm.weight"), dim, Fill::Ones),
            matrix(name("attn_q.weight"), dim, dim, Fill::Uniform(wide)),
            matrix(name("attn_k.weight"), kv, dim, Fill::Uniform(wide)),
            matrix(name("attn_v.weight"), kv, dim, Fill::Uniform(wide)),
            matrix(
                name("attn_output.weight"),
                dim,
                dim,
                Fill::Quiet(NOISE * wide),
            ),
            vector(name("ffn_norm.weight"), dim, Fill::Ones),
            matrix(name("ffn_gate.weight"), ff, dim, Fill::Uniform(wide)),
            matrix(name("ffn_up.weight"), ff, dim, Fill::Uniform(wide)),
            matrix(
                name("ffn_down.weight"),
                dim,
                ff,
                Fill::Quiet(NOISE * (3.0 / ff as f64).sqrt()),
            ),
        ]);
        match spec.arch {
            Arch::Llama => {}
            Arch::Qwen2 => tensors.extend([
                vector(name("attn_q.bias"), dim, Fill::Uniform(wide)),
                vector(name("attn_k.bias"), kv, Fill::Uniform(wide)),
                vector(name("attn_v.bias"), kv, Fill::Uniform(wide)),
            ]),
            Arch::Qwen3 => tensors.extend([
                vector(name("attn_q_norm.weight"), head, Fill::Ones),
                vector(name("attn_k_norm.weight"), head, Fill::Ones),
            ]),
        }
    }
    tensors
}

/// One row of signs per token; the first column is always 1, so the output can use it as a bias.
fn embedding(tokens: usize, dim: usize, noise: &mut Noise) -> Vec<i64> {
    let mut signs = noise.signs(tokens * dim);
    signs.chunks_mut(dim).for_each(|row| row[0] = 1);
    signs
}

/// The output matrix that makes the embedding a noisy bigram model of the built-in text.
fn head(vocabulary: &Vocabulary, dim: usize, embedding: &[i64], noise: &mut Noise) -> Vec<f32> {
    let end = vocabulary.id(TURN_END);
    let counts = Counts::of(vocabulary, end);
    let row_of = |token: u32| &embedding[token as usize * dim..][..dim];

    // Control tokens and bytes outside the text never come out; small steps keep two
    // tokens from sharing the first place.
    let jitter: Vec<i64> = (0..vocabulary.len())
        .map(|_| (noise.bits() >> 61) as i64)
        .collect();
    let mut bias = vec![-14 * STEP; vocabulary.len()];
    for (&token, &n) in &counts.seen {
        let log = libm::log(n as f64 / counts.total as f64).max(-7.0);
        bias[token as usize] = steps(log) + jitter[token as usize];
    }

    let mut sums = vec![0_i64; vocabulary.len() * dim];
    let mut add = |token: u32, weight: i64, after: u32| {
        let sums = &mut sums[token as usize * dim..][..dim];
        sums.iter_mut()
            .zip(row_of(after))
            .for_each(|(sum, sign)| *sum += weight * sign);
    };
    for (&(before, after), &n) in &counts.follows {
        let share = counts
            .seen
            .get(&before)
            .map_or(1.0, |&seen| n as f64 / seen as f64);
        let gain = libm::log(share * counts.total as f64 / counts.seen[&after] as f64);
        if gain > 0.0 {
            add(after, steps(SHARPNESS * gain), before);
        }
    }
    // Once its JSON is closed a tool call is closed, and a closed call ends the turn.
    let close = vocabulary.id(TOOL_END);
    bias[close as usize] = -9 * STEP;
    add(close, 30 * STEP, vocabulary.id("}"));
    add(end, 16 * STEP, close);
    // Makes up for the noise of that: turns of some 10 to 200 tokens.
    bias[end as usize] += 2 * STEP;

    // Rows were sums over `dim` terms: back to logits, with the bias in the first column.
    let scale = (STEP * dim as i64) as f32;
    let mut head: Vec<f32> = sums.iter().map(|&sum| sum as f32 / scale).collect();
    for (row, bias) in head.chunks_mut(dim).zip(bias) {
        row[0] = bias as f32 / STEP as f32;
    }
    head
}

/// `value` in units of 1/STEP, halves to even.
fn steps(value: f64) -> i64 {
    (STEP as f64 * value).round_ties_even() as i64
}

/// How often each token, and each pair of neighbours, stands in the built-in text.
struct Counts {
    seen: BTreeMap<u32, usize>,
    follows: BTreeMap<(u32, u32), usize>,
    total: usize,
}

impl Counts {
    fn of(vocabulary: &Vocabulary, end: u32) -> Self {
        let newline =
            vocabulary.id(&crate::tokenizer::alphabet::letters()[usize::from(b'\n')].to_string());
        let (mut seen, mut follows) = (BTreeMap::new(), BTreeMap::new());
        let mut total = 0;
        for paragraph in vocabulary.paragraphs() {
            let ids: Vec<u32> = [newline]
                .into_iter()
                .chain(paragraph)
                .chain([end])
                .collect();
            for pair in ids.windows(2) {
                *follows.entry((pair[0], pair[1])).or_default() += 1;
                *seen.entry(pair[1]).or_default() += 1;
                total += 1;
            }
        }
        Self {
            seen,
            follows,
            total,
        }
    }
}
