//! Pseudo-random numbers that are the same on every machine: splitmix64 over a counter.

/// A stream of numbers drawn from one seed.
pub(super) struct Noise {
    counter: u64,
}

impl Noise {
    pub(super) fn new(seed: u32) -> Self {
        Self {
            counter: u64::from(seed) << 32,
        }
    }

    /// The next 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(self.counter)
    }

    /// `count` numbers between `-bound` and `bound`; 24 random bits each, so they are exact.
    pub(super) fn uniform(&mut self, count: usize, bound: f32) -> Vec<f32> {
        (0..count)
            .map(|_| ((self.bits() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0) * bound)
            .collect()
    }

    /// `count` numbers that are 1 or -1.
    pub(super) fn signs(&mut self, count: usize) -> Vec<i64> {
        (0..count)
            .map(|_| (self.bits() >> 63) as i64 * 2 - 1)
            .collect()
    }
}

fn mix(counter: u64) -> u64 {
    let z = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
