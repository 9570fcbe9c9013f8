//! Choosing the next token from integer logits.

use core::cmp::Ordering;

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
    /// Nothing is sorted: thresholds are found by bisection, probabilities computed anew each time they are looked at, with
    /// a relative error below 2⁻⁸.
    pub fn draw(&mut self, logits: &mut [i32], bits: u8, context: &[u32]) -> Option<u32> {
        self.penalise(logits, context);
        let logits = &*logits;
        let (best, highest) = highest(logits)?;
        if self.options.temperature_thousandths == 0 {
            return Some(best);
        }
        let mut least = logits.iter().copied().min().unwrap_or(highest);
        let k = self.options.top_k;
        if k > 0 && k < logits.len() {
            least = bisect(least, highest, |least| {
                let kept = logits.iter().filter(|logit| **logit >= least);
                kept.count().cmp(&k)
            });
        }
        let mut room = [0; FEW];
        let weights = Weights {
            logits: few(logits, least, &mut room).unwrap_or(logits),
            highest,
            bits: u32::from(bits),
            thousandths: u64::from(self.options.temperature_thousandths),
        };
        let mut total = weights.sum(least);
        if self.options.top_p_thousandths < 1000 {
            let wanted = total / 1000 * u64::from(self.options.top_p_thousandths);
            least = bisect(least, highest, |least| weights.sum(least).cmp(&wanted));
            total = weights.sum(least);
        }
        let place = (u128::from(self.random()) * u128::from(total)) >> 64;
        let picked = Weights { logits, ..weights }.pick(least, place as u64);
        Some(picked.unwrap_or(best))
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

/// Logits that are kept apart while their weights are added up again and again.
const FEW: usize = 64;

/// The logits that are not below `least`, if there is room for them.
fn few<'a>(logits: &[i32], least: i32, room: &'a mut [i32; FEW]) -> Option<&'a [i32]> {
    let mut count = 0;
    for logit in logits.iter().filter(|logit| **logit >= least) {
        *room.get_mut(count)? = *logit;
        count += 1;
    }
    room.get(..count)
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

/// A threshold from `least`, which keeps enough, to `most` that keeps what the greatest does that keeps enough. `kept` says
/// how what a threshold keeps compares with what is enough; a greater one keeps less.
fn bisect(mut least: i32, mut most: i32, kept: impl Fn(i32) -> Ordering) -> i32 {
    while least < most {
        // Half of the way, rounded up; the way may be longer than an i32 can say.
        let half = most.abs_diff(least).div_ceil(2);
        let middle = least.wrapping_add_unsigned(half);
        match kept(middle) {
            Ordering::Less => most = middle.wrapping_sub(1),
            // A greater one with as much keeps the same.
            Ordering::Equal => return middle,
            Ordering::Greater => least = middle,
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    /// The same by sorting.
    fn by_sorting(sampler: &mut Sampler, logits: &[i32], bits: u8) -> Option<u32> {
        let options = sampler.options;
        let weights = Weights {
            logits,
            highest: *logits.iter().max()?,
            bits: u32::from(bits),
            thousandths: u64::from(options.temperature_thousandths),
        };
        let mut sorted = logits.to_vec();
        sorted.sort_by(|a, b| b.cmp(a));
        let mut least = match options.top_k {
            0 => *sorted.last()?,
            k => sorted[(k - 1).min(sorted.len() - 1)],
        };
        if options.top_p_thousandths < 1000 {
            let wanted = weights.sum(least) / 1000 * u64::from(options.top_p_thousandths);
            let kept = sorted.iter().filter(|logit| **logit >= least);
            least = *kept.clone().find(|logit| weights.sum(**logit) >= wanted)?;
        }
        let place = (u128::from(sampler.random()) * u128::from(weights.sum(least))) >> 64;
        weights.pick(least, place as u64)
    }

    #[test]
    fn thresholds_are_those_of_sorting() {
        let mut random = Sampler::new(SamplerOptions::DEFAULT);
        for case in 0..2000u32 {
            let mut number = |below: u64| (random.random() % below) as i64;
            let len = 1 + number(300) as usize;
            // Now and then with many that are equal, and with the extremes.
            let spread = [3, 100, 60_000, 1 << 32][case as usize % 4];
            let mut logits: Vec<i32> = (0..len)
                .map(|_| (number(spread) - spread as i64 / 2) as i32)
                .collect();
            let options = SamplerOptions {
                temperature_thousandths: 1 + number(2000) as u32,
                top_k: number(400) as usize,
                top_p_thousandths: number(1100) as u32,
                repetition_penalty_thousandths: 1000,
                seed: u64::from(case),
            };
            let bits = number(17) as u8;
            let want = by_sorting(&mut Sampler::new(options), &logits, bits);
            let have = Sampler::new(options).draw(&mut logits, bits, &[]);
            assert_eq!(have, want, "{options:?} {logits:?}");
        }
    }
}
