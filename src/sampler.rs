//! Choosing the next token from the logits.

use crate::kernels::Backend;
use crate::kernels::ops::softmax::softmax;

/// How a [`Sampler`] chooses; the filters apply in the order of the fields.
///
/// ```
/// use attentive::SamplerOptions;
///
/// let options = SamplerOptions { temperature: 0.8, top_p: 0.95, seed: 7, ..SamplerOptions::DEFAULT };
/// assert_eq!(options.top_k, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SamplerOptions {
    /// Divides positive and multiplies negative logits of the context's tokens (Keskar et al. 2019, section 4.1); 1 (or
    /// anything not positive) leaves them alone.
    pub repetition_penalty: f32,
    /// Divides the logits; 0 (or anything not positive) always takes the highest.
    pub temperature: f32,
    /// Keeps the k highest logits, and those equal to the k-th (Fan et al. 2018); 0 keeps all.
    pub top_k: usize,
    /// Keeps the most probable tokens that together reach this probability, and those as probable as the last of them
    /// (Holtzman et al. 2020, section 3.1), at least one; 1 or more keeps all.
    pub top_p: f32,
    /// Where the random numbers begin: the same seed, the same text.
    pub seed: u64,
}

impl SamplerOptions {
    /// Plain sampling: temperature 1, no filter, seed 0.
    pub const DEFAULT: Self = Self {
        repetition_penalty: 1.0,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        seed: 0,
    };
    /// Always the highest logit, the lowest token of equals.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        ..Self::DEFAULT
    };
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Draws tokens by [`SamplerOptions`]. A clone goes on with the same random numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    options: SamplerOptions,
    state: u64,
}

impl Sampler {
    /// A sampler at the beginning of its random numbers.
    pub const fn new(options: SamplerOptions) -> Self {
        Self {
            state: options.seed,
            options,
        }
    }

    /// Draws one of the tokens; `None` if no logit is finite. Logits that are not finite are never drawn.
    ///
    /// `context` is what the repetition penalty looks at. `probabilities`, as long as `logits`, is overwritten. A
    /// greedy draw uses up no random number.
    ///
    /// The thresholds of the filters are found by bisection over the bits of a float, so nothing is sorted and no
    /// memory is needed but for the probabilities.
    pub fn draw(
        &mut self,
        backend: Backend,
        logits: &[f32],
        context: &[u32],
        probabilities: &mut [f32],
    ) -> Option<u32> {
        let p = probabilities.get_mut(..logits.len())?;
        for (p, &logit) in p.iter_mut().zip(logits) {
            *p = finite_or_lowest(logit);
        }
        self.penalise(logits, context, p);
        let (best, highest) = highest(p)?;
        let temperature = self.options.temperature;
        if temperature <= 0.0 || temperature.is_nan() {
            return Some(best);
        }
        for p in p.iter_mut() {
            // The difference first: a small temperature must not make an infinity of the highest.
            *p = (*p - highest) / temperature;
        }
        keep_highest(p, self.options.top_k);
        softmax(backend, p);
        keep_mass(p, self.options.top_p);
        Some(pick(p, self.random()).unwrap_or(best))
    }

    fn penalise(&self, logits: &[f32], context: &[u32], p: &mut [f32]) {
        let penalty = self.options.repetition_penalty;
        if penalty <= 0.0 || penalty == 1.0 || penalty.is_nan() {
            return;
        }
        for &id in context {
            // From the logit itself, so that a token that comes twice is penalised once.
            if let (Some(p), Some(&logit)) = (p.get_mut(id as usize), logits.get(id as usize)) {
                *p = finite_or_lowest(if logit > 0.0 {
                    logit / penalty
                } else {
                    logit * penalty
                });
            }
        }
    }

    /// In 0..1, a multiple of 2⁻²⁴ (SplitMix64: Steele et al. 2014).
    fn random(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    }
}

fn finite_or_lowest(x: f32) -> f32 {
    if x.is_finite() { x } else { f32::NEG_INFINITY }
}

/// Index and value of the first of the highest; `None` if nothing is finite.
///
/// The maximum first, in lanes, then its place: a vocabulary is long, and comparisons that wait for each other take as
/// long as a layer of the model.
fn highest(x: &[f32]) -> Option<(u32, f32)> {
    const LANES: usize = 16;
    let (chunks, rest) = x.as_chunks::<LANES>();
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    let lanes = lanes.iter().chain(rest);
    let highest = lanes.fold(f32::NEG_INFINITY, |highest, &x| larger(highest, x));
    if highest == f32::NEG_INFINITY {
        return None;
    }
    let here = |chunk: &[f32; LANES]| chunk.iter().fold(false, |found, &x| found | (x == highest));
    let before = chunks.iter().take_while(|chunk| !here(chunk)).count() * LANES;
    let (id, &x) = (0u32..).zip(x).skip(before).find(|&(_, &x)| x == highest)?;
    Some((id, x))
}

/// Bits that order as the floats do: of negative ones all, of others the sign turned over.
fn order(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

/// The largest key for which `holds`, which must hold for 0 and, once false, stay false for larger keys.
fn bisect(holds: impl Fn(u32) -> bool) -> u32 {
    (0..32).rev().fold(0, |key, bit| {
        let higher = key | 1 << bit;
        if holds(higher) { higher } else { key }
    })
}

/// Makes −∞ of all but the `k` highest and those equal to the k-th; 0 keeps all.
fn keep_highest(x: &mut [f32], k: usize) {
    if k == 0 || k >= x.len() {
        return;
    }
    let threshold = bisect(|key| x.iter().filter(|x| order(**x) >= key).count() >= k);
    for x in x {
        if order(*x) < threshold {
            *x = f32::NEG_INFINITY;
        }
    }
}

/// Makes 0 of all but the most probable that reach `mass` together and those equal to the last of them.
fn keep_mass(p: &mut [f32], mass: f32) {
    if mass >= 1.0 || mass.is_nan() {
        return;
    }
    let sum_from = |key: u32| -> f32 { p.iter().filter(|p| p.to_bits() >= key).sum() };
    let highest = p.iter().fold(0, |bits: u32, p| bits.max(p.to_bits()));
    let threshold = bisect(|key| key <= highest && sum_from(key) >= mass);
    for p in p {
        if p.to_bits() < threshold {
            *p = 0.0;
        }
    }
}

/// The token at `place`, in 0..1, of the probabilities laid end to end.
fn pick(p: &[f32], place: f32) -> Option<u32> {
    let mut rest = place * p.iter().sum::<f32>();
    let mut last = None;
    for (id, &p) in (0u32..).zip(p) {
        if p > 0.0 {
            if rest < p {
                return Some(id);
            }
            // Rounding may leave a little at the end: it belongs to the last.
            last = Some(id);
            rest -= p;
        }
    }
    last
}
