//! From floats to integer levels: what every quantization of activations shares.

use crate::isa::Isa;

/// Below this magnitude a whole vector counts as zero: the reciprocal of its scale must stay finite.
const AMAX_MIN: f32 = f32::from_bits((127 - 100) << 23);

/// Scale of a vector and the factor that takes its elements to levels up to `highest`, from [`amax`]. The scale is NaN
/// where the largest magnitude is infinite or NaN, so that it shows in whatever is computed with it.
#[inline(always)]
pub(super) fn scale_and_factor(amax: u32, highest: f32) -> (f32, f32) {
    let amax = f32::from_bits(amax);
    if !amax.is_finite() {
        (f32::NAN, 0.0)
    } else if amax < AMAX_MIN {
        (0.0, 0.0)
    } else {
        (amax / highest, highest / amax)
    }
}

/// The relative scale of a group as large as its whole vector. A power of two, so that scaling by it is exact; and
/// 32·128·63 or 32·15·127, the most that a group's products add up to, times it fits i32.
const RELATIVE_ONE: f32 = 8192.0;

/// Scales of a vector's groups: whole multiples of one number.
///
/// Integers can be multiplied by such a scale and stay exact, so an instruction set may do that where it suits: the
/// product of a group's sum and its relative scale is rounded once, as an integer or as a float.
#[derive(Clone, Copy)]
pub(super) struct GroupScales {
    /// What relative scales are multiples of.
    pub(super) unit: f32,
    /// Takes magnitudes to relative scales.
    relative: f32,
    /// Takes elements to levels, times the group's relative scale.
    factor: f32,
}

impl GroupScales {
    /// From the vector's [`amax`], for levels up to `highest`.
    #[inline(always)]
    pub(super) fn new(amax: u32, highest: f32) -> Self {
        let (scale, factor) = scale_and_factor(amax, highest);
        Self {
            unit: scale / RELATIVE_ONE,
            relative: factor * (RELATIVE_ONE / highest),
            factor: factor * RELATIVE_ONE,
        }
    }

    /// The relative scale of a group, 1 to 8192, from the bits of its largest magnitude, and the factor that takes its
    /// elements to levels.
    #[inline(always)]
    pub(super) fn of_group(self, amax: u32) -> (i32, f32) {
        // Adding 1.5·2²³ rounds to an integer and leaves it in the low bits. One more, so that no level is too high.
        const MAGIC: f32 = 12_582_912.0;
        let rounded = f32::from_bits(amax) * self.relative + MAGIC;
        let relative = (rounded.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32 - 1);
        let relative = relative.clamp(1, RELATIVE_ONE as i32);
        (relative, self.factor / relative as f32)
    }
}

/// Bits of the largest magnitude. Bits of magnitudes order like integers, a NaN above infinity, so that no instruction
/// set can lose one.
#[inline(always)]
pub(super) fn amax<I: Isa>(isa: I, x: &[f32]) -> u32 {
    let mut max = [isa.splat(0.0); 4];
    let (fours, rest) = x.as_chunks::<32>();
    for four in fours {
        for (max, x) in max.iter_mut().zip(four.as_chunks::<8>().0) {
            *max = isa.max_if_positive(isa.abs(isa.load(x)), *max);
        }
    }
    for x in rest.chunks(8) {
        max[0] = isa.max_if_positive(isa.abs(isa.load_partial(x)), max[0]);
    }
    let [a, b, c, d] = max;
    isa.max_bits(isa.max_if_positive(isa.max_if_positive(a, b), isa.max_if_positive(c, d)))
}
