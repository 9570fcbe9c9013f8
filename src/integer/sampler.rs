//! Choosing the next token from integer logits.

use crate::kernels::integer::power;

/// How a [`Sampler`] chooses; the filters apply in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SamplerOptions {
    /// In thousandths: divides positive and multiplies negative logits of the context's tokens (Keskar et al. 2019,
    /// section 4.1), once for each; 1000, or 0, leaves them alone.
    pub repetition_penalty_thousandths: u32,
    /// In thousandths: divides the logits; 0 always takes the highest.
    pub temperature_thousandths: u32,
    /// Keeps the k highest logits, and those equal to the k-th (Fan et al. 2018); 0 keeps all.
    pub top_k: usize,
    /// In thousandths: keeps the most probable tokens that together reach this probability, and those as probable as
    /// the last of them (Holtzman et al. 2020, section 3.1); 1000 or more keeps all.
    pub top_p_thousandths: u32,
    /// Where the random numbers begin: the same seed, the same text, on every processor.
    pub seed: u64,
}

impl SamplerOptions {
    /// Plain sampling: temperature 1, no filter, seed 0.
    pub const DEFAULT: Self = Self {
        repetition_penalty_thousandths: 1000,
        temperature_thousandths: 1000,
        top_k: 0,
        top_p_thousandths: 1000,
        seed: 0,
    };
    /// Always the highest logit, the lowest token of equals.
    pub const GREEDY: Self = Self {
        temperature_thousandths: 0,
        ..Self::DEFAULT
    };
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Draws tokens by [`SamplerOptions`]. A clone goes on with the same random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampler {
    options: SamplerOptions,
    state: u64,
}

/// `round(2^(−i/256) · 2¹⁵)`.
const FINE: [u16; 16] = [
    32768, 32679, 32591, 32503, 32415, 32327, 32240, 32153, 32066, 31979, 31893, 31806, 31720,
    31635, 31549, 31464,
];

impl Sampler {
    /// A sampler at the beginning of its random numbers.
    pub const fn new(options: SamplerOptions) -> Self {
        Self {
            state: options.seed,
            options,
        }
    }

    /// Draws one of the tokens, whose logits are in 2^−`bits` of a power of two; `None` of none. A greedy draw uses up
    /// no random number. The repetition penalty changes the logits of the tokens of `context`, where they lie.
    ///
    /// Nothing is sorted and no memory is needed: thresholds are found by bisection, probabilities computed anew each
    /// time they are looked at, with a relative error below 2⁻⁸.
    pub fn draw(&mut self, logits: &mut [i32], bits: u8, context: &[u32]) -> Option<u32> {
        self.penalise(logits, context);
        let logits = &*logits;
        let (best, highest) = highest(logits)?;
        if self.options.temperature_thousandths == 0 {
            return Some(best);
        }
        let weights = Weights {
            logits,
            highest,
            bits: u32::from(bits),
            thousandths: u64::from(self.options.temperature_thousandths),
        };
        let mut least = i32::MIN;
        let k = self.options.top_k;
        if k > 0 && k < logits.len() {
            least = bisect(highest, |least| {
                logits.iter().filter(|logit| **logit >= least).count() >= k
            });
        }
        let mut total = weights.sum(least);
        if self.options.top_p_thousandths < 1000 {
            let wanted = total / 1000 * u64::from(self.options.top_p_thousandths);
            let kept = least;
            least = bisect(highest, |least| weights.sum(least.max(kept)) >= wanted).max(kept);
            total = weights.sum(least);
        }
        let place = (u128::from(self.random()) * u128::from(total)) >> 64;
        Some(weights.pick(least, place as u64).unwrap_or(best))
    }

    fn penalise(&self, logits: &mut [i32], context: &[u32]) {
        let penalty = u64::from(self.options.repetition_penalty_thousandths);
        if penalty == 0 || penalty == 1000 {
            return;
        }
        for (index, &id) in context.iter().enumerate() {
            let seen = context.get(..index).unwrap_or_default();
            let Some(logit) = logits.get_mut(id as usize).filter(|_| !seen.contains(&id)) else {
                continue;
            };
            let size = u64::from(logit.unsigned_abs());
            let (times, parts) = match *logit > 0 {
                true => (1000, penalty),
                false => (penalty, 1000),
            };
            let size = size.wrapping_mul(times).checked_div(parts).unwrap_or(0);
            let size = size.min(i32::MAX as u64) as i32;
            *logit = if *logit > 0 { size } else { -size };
        }
    }

    /// SplitMix64 (Steele et al. 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

struct Weights<'a> {
    logits: &'a [i32],
    highest: i32,
    bits: u32,
    thousandths: u64,
}

impl Weights<'_> {
    /// 2^((logit − highest) / temperature) in 2⁻²⁹.
    fn of(&self, logit: i32) -> u32 {
        let below = i64::from(self.highest).wrapping_sub(i64::from(logit)) as u64;
        // In 2⁻⁸ of a power of two; beyond 2³² / 1000 nothing is left in any case.
        let steps = below.wrapping_mul(1000 << 8).checked_div(self.thousandths);
        let steps = steps
            .unwrap_or(u64::MAX)
            .checked_shr(self.bits)
            .unwrap_or(0);
        let octaves = steps >> 8;
        if octaves > 29 {
            return 0;
        }
        let fraction = u32::from(power((steps >> 4) as u32 & 15));
        let fine = FINE.get(steps as usize & 15).copied().unwrap_or_default();
        fraction.wrapping_mul(u32::from(fine)) >> octaves
    }

    /// Of all logits that are not below `least`.
    fn sum(&self, least: i32) -> u64 {
        let kept = self.logits.iter().filter(|logit| **logit >= least);
        kept.map(|&logit| u64::from(self.of(logit))).sum()
    }

    /// The token at `place` of the kept weights laid end to end.
    fn pick(&self, least: i32, place: u64) -> Option<u32> {
        let mut rest = place;
        for (id, &logit) in (0u32..).zip(self.logits) {
            let weight = if logit >= least {
                u64::from(self.of(logit))
            } else {
                0
            };
            if rest < weight {
                return Some(id);
            }
            rest = rest.saturating_sub(weight);
        }
        None
    }
}

/// Index and value of the first of the highest.
fn highest(logits: &[i32]) -> Option<(u32, i32)> {
    let mut best: Option<(u32, i32)> = None;
    for (id, &logit) in (0u32..).zip(logits) {
        if best.is_none_or(|(_, highest)| logit > highest) {
            best = Some((id, logit));
        }
    }
    best
}

/// The greatest threshold up to `most` for which `holds`, which must hold for `i32::MIN` and, once false, stay false
/// for greater ones.
fn bisect(most: i32, holds: impl Fn(i32) -> bool) -> i32 {
    // As offsets from the least, which order as they do.
    let value = |offset: u32| (offset ^ (1 << 31)) as i32;
    let offset = (0..32).rev().fold(0u32, |offset, bit| {
        let higher = offset | 1 << bit;
        match value(higher) <= most && holds(value(higher)) {
            true => higher,
            false => offset,
        }
    });
    value(offset)
}
