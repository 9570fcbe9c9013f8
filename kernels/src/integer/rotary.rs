//! Rotary positions by a table of sines.

use super::to_i8;
use crate::error::ShapeError;
use crate::ops::position::RotaryStyle;

/// Rotates a query or key from 1/64 of its step into bytes.
///
/// `x` is (head_dim) of i16's range; `angles` are cosine and sine of each pair's angle in 2⁻¹⁴
/// (numbers beyond ±2¹⁴ are no cosines, and overflow).
///
/// # Errors
/// When there is not one pair of elements for each angle.
pub fn rotate(
    x: &[i32],
    angles: &[[i16; 2]],
    style: RotaryStyle,
    out: &mut [i8],
) -> Result<(), ShapeError> {
    ShapeError::check_eq("x", angles.len().saturating_mul(2), x.len())?;
    ShapeError::check_eq("out", x.len(), out.len())?;
    match style {
        RotaryStyle::Half => {
            let (first, second) = x.split_at_checked(angles.len()).unwrap_or_default();
            let (out_first, out_second) =
                out.split_at_mut_checked(angles.len()).unwrap_or_default();
            let pairs = first.iter().zip(second).zip(angles);
            let outs = out_first.iter_mut().zip(out_second);
            for (((&a, &b), angle), (to_a, to_b)) in pairs.zip(outs) {
                (*to_a, *to_b) = turn(a, b, angle);
            }
        }
        RotaryStyle::Interleaved => {
            let pairs = x.as_chunks::<2>().0.iter().zip(angles);
            for ((&[a, b], angle), out) in pairs.zip(out.as_chunks_mut::<2>().0) {
                (out[0], out[1]) = turn(a, b, angle);
            }
        }
    }
    Ok(())
}

#[inline(always)]
fn turn(a: i32, b: i32, &[cos, sin]: &[i16; 2]) -> (i8, i8) {
    let clamp = |x: i32| i32::from(super::to_i16(x));
    let (a, b) = (clamp(a), clamp(b));
    let (cos, sin) = (i32::from(cos), i32::from(sin));
    // 2¹⁵ · 2¹⁴ twice stays below 2³¹; the angle's 14 bits and the 6 of the unit go at once.
    let round = |x: i32| to_i8(x.wrapping_add(1 << 19) >> 20);
    let x = a.wrapping_mul(cos).wrapping_sub(b.wrapping_mul(sin));
    let y = a.wrapping_mul(sin).wrapping_add(b.wrapping_mul(cos));
    (round(x), round(y))
}
