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
