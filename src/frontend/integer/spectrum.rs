//! Power spectra of whole numbers, of any length that is a multiple of eight.
//!
//! Transforms of single samples are joined by factors of the length: fours, a two that is left, then the other primes,
//! the least first ([`Step`]). The last step is computed for one power at a time. What comes out of a step is scaled to what
//! 15 bits hold, with one exponent for all.

use crate::kernels::integer::{Step, complex, to_i16};

/// The factor that comes next of what is left of a length.
const fn factor(left: usize) -> usize {
    if left.is_multiple_of(4) {
        return 4;
    }
    if left.is_multiple_of(2) {
        return 2;
    }
    let mut factor = 3;
    while factor * factor <= left {
        if left.is_multiple_of(factor) {
            return factor;
        }
        factor += 2;
    }
    left
}

/// Numbers of memory for windows of that length.
pub(super) const fn words(len: usize) -> usize {
    // The first step needs as much as there are samples.
    let (mut joined, mut left) = (4, len / 4);
    let mut before = left.saturating_mul(Step::values(joined));
    let mut most = len;
    loop {
        let factor = factor(left);
        if factor >= left {
            return most;
        }
        left = match left.checked_div(factor) {
            Some(left) => left,
            None => return most,
        };
        joined *= factor;
        let after = left.saturating_mul(Step::values(joined));
        let need = before.saturating_add(after.saturating_mul(2));
        if need > most {
            most = need;
        }
        before = after;
    }
}

#[derive(Debug)]
pub(super) struct Spectrum<'a> {
    /// Cosines and sines in 2⁻¹⁴.
    turns: &'a [i32],
    /// The values of the transforms before the last step, one after the other; behind them, while they are computed, those
    /// after a step, of 32 bits a part.
    memory: &'a mut [i32],
    /// Length of these transforms, and how many are joined by the last step.
    len: usize,
    last: usize,
}

impl<'a> Spectrum<'a> {
    /// `None` when there is too little memory.
    pub(super) fn new(turns: &'a [i32], memory: &'a mut [i32]) -> Option<Self> {
        Some(Self {
            turns,
            memory: memory.get_mut(..words(turns.len()))?,
            len: 1,
            last: turns.len(),
        })
    }

    fn step(&self, factor: usize) -> Step<'a> {
        Step {
            turns: self.turns,
            len: self.len,
            factor,
            transforms: self.last.checked_div(factor).unwrap_or(0),
        }
    }

    /// All steps but the last for so many samples, weighed by Hann's window. 2 to what is returned is the unit of the powers,
    /// of samples in ±1.
    pub(super) fn transform(&mut self, samples: &[i32]) -> i32 {
        let weighed = samples.iter().zip(self.turns).map(hann);
        let most = weighed.fold(0, |most, x| most | x.unsigned_abs());
        let first = bits(most) - 15;
        let mut shift = first + self.join_samples(samples, first);
        (self.len, self.last) = (4, self.turns.len() / 4);
        let mut before = self.last * Step::values(4);
        loop {
            let factor = factor(self.last);
            if factor >= self.last {
                break;
            }
            let step = self.step(factor);
            let len = self.len * factor;
            let after = step.transforms * Step::values(len);
            let (from, to) = self.memory.split_at_mut_checked(before).unwrap_or_default();
            let to = to.as_chunks_mut::<2>().0.get_mut(..after);
            let largest = step.join(from, to.unwrap_or_default());
            let by = (bits(largest) - 15).max(0);
            // Each takes a place before those that are still to be read.
            for index in 0..after {
                let at = before + 2 * index;
                let parts = self.memory.get(at..).and_then(|rest| rest.first_chunk());
                let [re, im] = parts.copied().unwrap_or([0; 2]);
                if let Some(value) = self.memory.get_mut(index) {
                    *value = scaled_complex([re, im], by);
                }
            }
            shift += by + step.left_out() as i32 - 14;
            (self.len, self.last, before) = (len, step.transforms, after);
        }
        // Hann's weights are in 2⁻¹⁵, and so are samples; powers are squares.
        2 * (shift + self.step(self.last).left_out() as i32 - 14 - 15 - 15)
    }

    /// The first step, whose turns are quarters: its products are the samples themselves, in 2⁻¹¹. Returns the scaling.
    fn join_samples(&mut self, samples: &[i32], shift: i32) -> i32 {
        let transforms = samples.len() / 4;
        let sample = |n: usize| {
            let pair = samples.get(n).zip(self.turns.get(n));
            i32::from(to_i16(scaled(pair.map_or(0, hann), shift)))
        };
        let mut largest = 0;
        let fours = self.memory.as_chunks_mut::<4>().0;
        for (m, to) in (0..transforms).zip(fours) {
            let (a, b) = (sample(m), sample(m + transforms));
            let (c, d) = (sample(m + 2 * transforms), sample(m + 3 * transforms));
            // The values 0 and 2, which are real, and 1.
            *to = [a + c + (b + d), a + c - (b + d), a - c, d - b];
            for part in *to {
                largest |= part.unsigned_abs();
            }
        }
        let by = (bits(largest) - 15).max(-11);
        for m in 0..transforms {
            let four = self.memory.get(4 * m..).and_then(|rest| rest.first_chunk());
            let [zero, two, re, im] = four.copied().unwrap_or([0; 4]);
            let values = [[zero, 0], [re, im], [two, 0]];
            let to = self.memory.get_mut(3 * m..);
            if let Some(to) = to.and_then(|rest| rest.first_chunk_mut::<3>()) {
                *to = values.map(|value| scaled_complex(value, by));
            }
        }
        by
    }

    /// Each step of the spectrum in 2⁻¹⁶, and its power.
    pub(super) fn powers(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        let last = self.step(self.last);
        let square = |part: i32| u64::from(part.unsigned_abs()).pow(2);
        (0..Step::values(self.turns.len())).map(move |k| {
            let [re, im] = last.value(self.memory, 0, k);
            ((k << 16) as i32, square(re).wrapping_add(square(im)))
        })
    }
}

/// Both parts scaled.
fn scaled_complex([re, im]: [i32; 2], shift: i32) -> i32 {
    complex(to_i16(scaled(re, shift)), to_i16(scaled(im, shift)))
}

/// A sample with its weight in 2⁻¹⁵.
#[inline(always)]
fn hann((sample, turn): (&i32, &i32)) -> i32 {
    sample.wrapping_mul((1 << 14) - i32::from(*turn as i16))
}

/// Bits of a magnitude.
const fn bits(magnitude: u32) -> i32 {
    32 - magnitude.leading_zeros() as i32
}

/// x / 2^shift, rounded.
fn scaled(x: i32, shift: i32) -> i32 {
    match shift {
        0 => x,
        1.. => (x >> (shift - 1)).wrapping_add(1) >> 1,
        _ => x << -shift,
    }
}
