//! A small generator whose numbers never change with a dependency's version, so that a seed in a provenance record
//! keeps its meaning.

/// SplitMix64 (Steele, Lea and Flood 2014): the state is a counter, every output a hash of it.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Seeds that differ by one give unrelated streams.
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        Self(random.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..end`; 0 for an empty range.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// Normal numbers of mean 0 (Box and Muller 1958).
    pub fn normal(&mut self, len: usize, deviation: f32) -> Vec<f32> {
        let draw = |_| {
            let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
            let angle = std::f64::consts::TAU * self.unit();
            (radius * angle.cos()) as f32 * deviation
        };
        (0..len).map(draw).collect()
    }

    /// Puts a slice into random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}
