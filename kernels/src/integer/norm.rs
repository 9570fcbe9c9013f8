//! RMSNorm and LayerNorm of the residual stream.

use super::to_i8;
use crate::error::ShapeError;

/// Gains and biases of a norm, both in 1/64 of a step of its output.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// (dim): steps of the output for one deviation of the input, in 1/64.
    pub gains: &'a [i16],
    /// (dim), in 1/64 of a step.
    pub biases: &'a [i16],
    /// Whether the mean is taken off (LayerNorm).
    pub centred: bool,
    /// eps · dim² in the square of the stream's unit.
    pub eps: u64,
}

/// `out = x̂ · gain + bias` with x̂ = x / rms(x), or (x − mean) / deviation.
///
/// Sums are exact (the variance times dim² is dim·Σx² − (Σx)²); the root and its inverse have 16 bits each, so x̂ is
/// right to 2⁻¹⁴ of itself and 2⁻¹⁵ beside.
///
/// # Errors
/// When a length is another, or there are more than 2¹⁴ elements.
pub fn norm(x: &[i16], norm: &Norm<'_>, out: &mut [i8]) -> Result<(), ShapeError> {
    ShapeError::check_at_most("x", 1 << 14, x.len())?;
    ShapeError::check_eq("gains", x.len(), norm.gains.len())?;
    ShapeError::check_eq("biases", x.len(), norm.biases.len())?;
    ShapeError::check_eq("out", x.len(), out.len())?;
    let dim = x.len() as u64;
    let (mut sum, mut squares) = (0i32, 0u64);
    for &x in x {
        sum = sum.wrapping_add(i32::from(x));
        squares = squares.wrapping_add((i32::from(x) * i32::from(x)) as u64);
    }
    if !norm.centred {
        sum = 0;
    }
    let mean = u64::from(sum.unsigned_abs());
    let variance = dim
        .wrapping_mul(squares)
        .wrapping_sub(mean.wrapping_mul(mean))
        .saturating_add(norm.eps);
    let (inverse, shift) = inverse_root(variance);
    // x̂ is ⌊(c·inverse + 2^(shift − 1)) / 2^shift⌋ with c = dim·x − Σ x. Both factors are shifted up, by 33 − shift together,
    // so that it lies in the product's high word, whatever the shift. That leaves the inverse below 2³¹; c is at most √(dim ·
    // variance), so below 2^(shift + 6).
    let up = 33 - shift;
    let inverse_up = up.min(14);
    let (factor, c_up) = (i64::from(inverse << inverse_up), up - inverse_up);
    let (dim, sum) = ((x.len() as i32) << c_up, sum.wrapping_shl(c_up));
    let scales = norm.gains.iter().zip(norm.biases);
    for ((out, &x), (&gain, &bias)) in out.iter_mut().zip(x).zip(scales) {
        let centred = dim.wrapping_mul(i32::from(x)).wrapping_sub(sum);
        let high = (i64::from(centred).wrapping_mul(factor) >> 32) as i32;
        // In 2⁻¹⁴: at most √dim.
        let unit = (high + 1) >> 1;
        let bias = (i32::from(bias) << 14) + (1 << 19);
        let y = i64::from(unit) * i64::from(gain) + i64::from(bias);
        *out = to_i8((y >> 20) as i32);
    }
    Ok(())
}

/// 1 / √variance as a factor of up to 2¹⁶ and a shift that leaves 14 bits of fraction; of 0 as of 1.
#[inline(always)]
fn inverse_root(variance: u64) -> (i32, u32) {
    let variance = variance.max(1);
    // Even, so that the root of the shift is a shift.
    let zeros = variance.leading_zeros() & !1;
    let root = (((variance << zeros) >> 32) as u32).isqrt();
    // The root has its highest bit of 16, so the quotient is below 2¹⁶ + 1.
    let inverse = 0x7fff_ffffu32.checked_div(root).unwrap_or(0);
    (inverse as i32, 33 - zeros / 2)
}
