//! Rotary positions: angles of any position, and the rotation by them.

use super::{scaled, to_i8};
use crate::error::ShapeError;
use crate::ops::position::RotaryStyle;

/// Sine and cosine of x quarter turns, |x| ≤ ½, as x·S(x²) and C(x²), ascending, in 2⁻²⁹: Taylor's series, whose last
/// cosine term has a part of what follows it.
const SINE: [i32; 4] = [843_314_857, -346_799_334, 42_784_653, -2_513_498];
const COSINE: [i32; 4] = [536_870_912, -662_337_939, 136_187_780, -11_102_291];

/// Cosine and sine, in 2⁻¹⁴, of the angles that a position has: each advances by its step, in 2⁻³² of a turn, from one
/// position to the next. At most 0.52 units off, whatever the position.
pub fn angles(position: u32, steps: &[u32], out: &mut [[i16; 2]]) {
    for (out, step) in out.iter_mut().zip(steps) {
        *out = cosine_and_sine(step.wrapping_mul(position));
    }
}

/// Of a phase in 2⁻³² of a turn.
fn cosine_and_sine(phase: u32) -> [i16; 2] {
    let quarter = phase.wrapping_add(1 << 29) >> 30;
    // From the nearest quarter, in 2⁻³¹ of one, and its square in 2⁻³².
    let x = (phase.wrapping_sub(quarter << 30) << 1).cast_signed();
    let square = scaled(x, x) << 2;
    let series = |terms: &[i32; 4]| {
        let [rest @ .., last] = terms;
        let add = |sum: i32, term: &i32| scaled(sum, square).wrapping_add(*term);
        rest.iter().rev().fold(*last, add)
    };
    let cos = (series(&COSINE).wrapping_add(1 << 14) >> 15) as i16;
    let sin = (scaled(series(&SINE), x).wrapping_add(1 << 13) >> 14) as i16;
    match quarter {
        0 => [cos, sin],
        1 => [-sin, cos],
        2 => [-cos, -sin],
        _ => [sin, -cos],
    }
}

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
