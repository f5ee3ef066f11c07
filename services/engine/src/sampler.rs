//! Chooses the next token from the model's scores.
//!
//! The choice depends on the scores, the settings and the token's place in the answer,
//! and on nothing else: an answer that is taken up again at any place goes on with the
//! very draws it would have had.

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 always takes the best token; higher is more random.
    pub temperature: f32,
    /// Only this many best tokens may be drawn; 0 means all.
    pub top_k: usize,
    /// Only the best tokens that together reach this probability may be drawn.
    pub top_p: f32,
    /// Only tokens at least this fraction as probable as the best may be drawn.
    pub min_p: f32,
    /// Decides all draws.
    pub seed: u64,
    /// Divides the scores of the last 64 tokens; 1 does nothing.
    pub repeat_penalty: f32,
    /// Subtracted from the score of every token the answer already has.
    pub presence_penalty: f32,
    /// Subtracted from a token's score for each time the answer already has it.
    pub frequency_penalty: f32,
    /// Added to the scores of single tokens.
    pub bias: Vec<(u32, f32)>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.0,
            seed: 0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            bias: Vec::new(),
        }
    }
}

/// How far back the repeat penalty looks, over prompt and answer.
const REPEAT_WINDOW: usize = 64;

impl Sampling {
    /// The token to follow `prompt` and `answer`, given the model's `scores`. Equal scores
    /// go to the lower id.
    pub fn choose(&self, mut scores: Vec<f32>, prompt: &[u32], answer: &[u32]) -> u32 {
        self.penalise(&mut scores, prompt, answer);
        for &(id, bias) in &self.bias {
            if let Some(score) = scores.get_mut(id as usize) {
                *score += bias;
            }
        }
        if self.temperature <= 0.0 {
            return best(&scores);
        }
        let candidates = self.candidates(&scores);
        draw(&candidates, uniform(self.seed, answer.len() as u64))
    }

    fn penalise(&self, scores: &mut [f32], prompt: &[u32], answer: &[u32]) {
        if self.repeat_penalty != 1.0 {
            let from_prompt = REPEAT_WINDOW.saturating_sub(answer.len()).min(prompt.len());
            let from_answer = REPEAT_WINDOW.min(answer.len());
            let mut recent = prompt[prompt.len() - from_prompt..].to_vec();
            recent.extend_from_slice(&answer[answer.len() - from_answer..]);
            recent.sort_unstable();
            recent.dedup();
            for id in recent {
                if let Some(score) = scores.get_mut(id as usize) {
                    let penalty = self.repeat_penalty;
                    *score = if *score > 0.0 {
                        *score / penalty
                    } else {
                        *score * penalty
                    };
                }
            }
        }
        if self.presence_penalty != 0.0 || self.frequency_penalty != 0.0 {
            let mut ids = answer.to_vec();
            ids.sort_unstable();
            for same in ids.chunk_by(|a, b| a == b) {
                if let Some(score) = scores.get_mut(same[0] as usize) {
                    *score -= self.presence_penalty + self.frequency_penalty * same.len() as f32;
                }
            }
        }
    }

    /// The tokens that may be drawn with their weights, the best first.
    fn candidates(&self, scores: &[f32]) -> Vec<(u32, f32)> {
        let mut ranked: Vec<(u32, f32)> = (0..).zip(scores.iter().copied()).collect();
        let better = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if self.top_k > 0 && self.top_k < ranked.len() {
            ranked.select_nth_unstable_by(self.top_k - 1, better);
            ranked.truncate(self.top_k);
        }
        ranked.sort_unstable_by(better);
        let largest = ranked.first().map_or(0.0, |&(_, score)| score);
        for (_, weight) in &mut ranked {
            *weight = libm::expf((*weight - largest) / self.temperature);
        }
        // The best token always stays, so there is always something to draw.
        let total: f32 = ranked.iter().map(|&(_, weight)| weight).sum();
        let mut reached = 0.0;
        let mut kept = 0;
        for &(_, weight) in &ranked {
            if kept > 0 && (reached >= self.top_p * total || weight < self.min_p) {
                break;
            }
            reached += weight;
            kept += 1;
        }
        ranked.truncate(kept);
        ranked
    }
}

fn best(scores: &[f32]) -> u32 {
    let ranked = (0..).zip(scores);
    let best = ranked.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or(0, |(id, _)| id)
}

fn draw(candidates: &[(u32, f32)], uniform: f64) -> u32 {
    let total: f64 = candidates
        .iter()
        .map(|&(_, weight)| f64::from(weight))
        .sum();
    let mut left = uniform * total;
    for &(id, weight) in candidates {
        left -= f64::from(weight);
        if left < 0.0 {
            return id;
        }
    }
    // Rounding may leave a trace behind the last one.
    candidates.last().map_or(0, |&(id, _)| id)
}

/// A number from 0 up to 1 that belongs to a place of an answer.
fn uniform(seed: u64, place: u64) -> f64 {
    let z = mix(mix(seed) ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [f32; 4] = [1.0, 3.0, 2.0, 3.0];

    fn choose(sampling: &Sampling, answer: &[u32]) -> u32 {
        sampling.choose(SCORES.to_vec(), &[2], answer)
    }

    fn greedy() -> Sampling {
        Sampling {
            temperature: 0.0,
            ..Sampling::default()
        }
    }

    /// How often each token is drawn over many places.
    fn histogram(sampling: &Sampling) -> [usize; 4] {
        let mut counts = [0; 4];
        let mut answer = Vec::new();
        for _ in 0..2000 {
            counts[choose(sampling, &answer) as usize] += 1;
            answer.push(0);
        }
        counts
    }

    #[test]
    fn greedy_takes_the_best_and_of_equals_the_first() {
        assert_eq!(choose(&greedy(), &[]), 1);
    }

    #[test]
    fn bias_and_penalties_change_the_order() {
        assert_eq!(
            choose(
                &Sampling {
                    bias: vec![(2, 1.5)],
                    ..greedy()
                },
                &[]
            ),
            2
        );
        assert_eq!(
            choose(
                &Sampling {
                    presence_penalty: 0.5,
                    ..greedy()
                },
                &[1]
            ),
            3
        );
        let frequency = Sampling {
            frequency_penalty: 0.6,
            ..greedy()
        };
        assert_eq!(choose(&frequency, &[1, 3, 3]), 1);
        assert_eq!(choose(&frequency, &[1, 1, 3, 3]), 2);
        // The prompt counts for the repeat penalty, too.
        let repeat = Sampling {
            repeat_penalty: 2.0,
            ..greedy()
        };
        assert_eq!(repeat.choose(vec![1.0, 1.4, 2.0], &[2], &[]), 1);
        assert_eq!(repeat.choose(vec![-1.0, -1.5, -0.8], &[2], &[]), 0);
        let out_of_vocabulary = Sampling {
            bias: vec![(99, 9.0)],
            ..greedy()
        };
        assert_eq!(choose(&out_of_vocabulary, &[]), 1);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let counts = histogram(&Sampling {
            temperature: 1.0,
            top_p: 1.0,
            ..Sampling::default()
        });
        // e^1, e^3, e^2, e^3 over their sum: 5.4 %, 39.9 %, 14.7 %, 39.9 %.
        for (count, share) in counts.iter().zip([0.054, 0.399, 0.147, 0.399]) {
            assert!((*count as f64 / 2000.0 - share).abs() < 0.04, "{counts:?}");
        }
    }

    #[test]
    fn limits_leave_the_rest_out() {
        let all = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            ..Sampling::default()
        };
        let [a, _, c, d] = histogram(&Sampling {
            top_k: 2,
            ..all.clone()
        });
        assert!(a == 0 && c == 0 && d > 0);
        let [a, _, c, d] = histogram(&Sampling {
            top_p: 0.7,
            ..all.clone()
        });
        assert!(a == 0 && c == 0 && d > 0);
        let [a, b, c, _] = histogram(&Sampling {
            min_p: 0.3,
            ..all.clone()
        });
        assert!(a == 0 && c > 0 && b > 0);
        assert_eq!(histogram(&Sampling { top_k: 1, ..all })[1], 2000);
    }

    #[test]
    fn a_draw_belongs_to_seed_and_place() {
        let one = Sampling {
            seed: 1,
            ..Sampling::default()
        };
        let two = Sampling {
            seed: 2,
            ..Sampling::default()
        };
        let at = |sampling: &Sampling, place: usize| choose(sampling, &vec![0; place]);
        let answer = |sampling| (0..50).map(|place| at(sampling, place)).collect::<Vec<_>>();
        assert_eq!(answer(&one), answer(&one));
        assert_ne!(answer(&one), answer(&two));
    }
}
