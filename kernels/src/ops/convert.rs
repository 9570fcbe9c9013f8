//! Conversions between f32, f16 and signed bytes.

use half::f16;

use crate::isa::{Isa, Kernel};
use crate::{Backend, ShapeError};

/// Rounds to half precision: nearest, ties to even; subnormals are kept, beyond 65 504 + half a step is infinity, NaN
/// stays NaN.
///
/// # Errors
/// [`ShapeError`] when the lengths differ.
pub fn f32_to_f16(backend: Backend, x: &[f32], out: &mut [f16]) -> Result<(), ShapeError> {
    ShapeError::check_eq("halves", x.len(), out.len())?;
    backend.run(ToHalf { x, out });
    Ok(())
}

struct ToHalf<'a> {
    x: &'a [f32],
    out: &'a mut [f16],
}

impl Kernel for ToHalf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (x, x_rest) = self.x.as_chunks::<8>();
        let (out, out_rest) = self.out.as_chunks_mut::<8>();
        for (x, out) in x.iter().zip(out) {
            isa.store_f16(isa.load(x), out);
        }
        let mut last = [f16::ZERO; 8];
        isa.store_f16(isa.load_partial(x_rest), &mut last);
        for (out, last) in out_rest.iter_mut().zip(last) {
            *out = last;
        }
    }
}

/// Widens half precision, exactly; a NaN stays NaN.
///
/// # Errors
/// [`ShapeError`] when the lengths differ.
pub fn f16_to_f32(backend: Backend, x: &[f16], out: &mut [f32]) -> Result<(), ShapeError> {
    ShapeError::check_eq("floats", x.len(), out.len())?;
    backend.run(FromHalf { x, out });
    Ok(())
}

struct FromHalf<'a> {
    x: &'a [f16],
    out: &'a mut [f32],
}

impl Kernel for FromHalf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (x, x_rest) = self.x.as_chunks::<8>();
        let (out, out_rest) = self.out.as_chunks_mut::<8>();
        for (x, out) in x.iter().zip(out) {
            isa.store(isa.load_f16(x), out);
        }
        let mut last = [f16::ZERO; 8];
        for (last, x) in last.iter_mut().zip(x_rest) {
            *last = *x;
        }
        isa.store_partial(isa.load_f16(&last), out_rest);
    }
}

/// Rounds a vector to bytes in ±127 and returns its scale amax/127: x ≈ byte · scale, within half a scale. Ties round
/// to even; the same bits on every backend.
///
/// A vector whose largest magnitude is below 2⁻¹⁰⁰ becomes zeros with scale 0; one that holds an infinity or a NaN gets
/// the scale NaN and unspecified bytes.
///
/// # Errors
/// [`ShapeError`] when the lengths differ.
pub fn quantize_i8(backend: Backend, x: &[f32], out: &mut [i8]) -> Result<f32, ShapeError> {
    ShapeError::check_eq("bytes", x.len(), out.len())?;
    Ok(backend.run(ToBytes { x, out }))
}

struct ToBytes<'a> {
    x: &'a [f32],
    out: &'a mut [i8],
}

impl Kernel for ToBytes<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f32 {
        let (scale, factor) =
            super::levels::scale_and_factor(super::levels::amax(isa, self.x), 127.0);
        let factor = isa.splat(factor);
        let (x, x_rest) = self.x.as_chunks::<8>();
        let (out, out_rest) = self.out.as_chunks_mut::<8>();
        for (x, out) in x.iter().zip(out) {
            isa.store_i8(isa.round_i32(isa.mul(isa.load(x), factor)), out);
        }
        let mut last = [0; 8];
        isa.store_i8(
            isa.round_i32(isa.mul(isa.load_partial(x_rest), factor)),
            &mut last,
        );
        for (out, last) in out_rest.iter_mut().zip(last) {
            *out = last;
        }
        scale
    }
}

#[cfg(test)]
mod tests;
