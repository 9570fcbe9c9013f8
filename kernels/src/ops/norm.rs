//! Normalisations of rows.

use half::f16;

use crate::isa::{Isa, Kernel};
use crate::{Backend, ShapeError, Vector};

/// Root-mean-square norm (Zhang & Sennrich 2019, eq. 4): out = x / √(mean(x²) + eps) · gain, for each row of `x`, which
/// is `(x.len() / gain.len(), gain.len())`.
///
/// Accuracy: within 3·10⁻⁷ relative for rows up to 512 long. Squares must not overflow (|x| < 10¹⁹); a NaN spreads over
/// its row.
///
/// # Errors
/// [`ShapeError`] when `x` is not whole rows or `out` has another length.
pub fn rms_norm(
    backend: Backend,
    x: &[f32],
    gain: &Vector<'_>,
    eps: f32,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    check(x, gain, out)?;
    backend.run(RmsNorm {
        x,
        gain: *gain,
        eps,
        out,
    });
    Ok(())
}

/// Layer norm (Ba et al. 2016, eq. 4): out = (x − mean(x)) / √(var(x) + eps) · gain + bias, for each row of `x`, which
/// is `(x.len() / gain.len(), gain.len())`. The variance is the mean square of the differences (two passes).
///
/// Accuracy: within 10⁻⁶ · (|gain| · (1 + |mean| / deviation) + |bias|) for rows up to 512 long. A NaN spreads over its
/// row.
///
/// # Errors
/// [`ShapeError`] when `x` is not whole rows, or `out` or `bias` has another length.
pub fn layer_norm(
    backend: Backend,
    x: &[f32],
    gain: &Vector<'_>,
    bias: Option<&Vector<'_>>,
    eps: f32,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    check(x, gain, out)?;
    if let Some(bias) = bias {
        ShapeError::check_eq("bias of the norm", gain.len(), bias.len())?;
    }
    backend.run(LayerNorm {
        x,
        gain: *gain,
        // An empty bias reads as zeros.
        bias: bias.copied().unwrap_or(Vector::F32(&[])),
        eps,
        out,
    });
    Ok(())
}

fn check(x: &[f32], gain: &Vector<'_>, out: &[f32]) -> Result<(), ShapeError> {
    let dim = gain.len();
    ShapeError::check_at_least("gain of the norm", 1, dim)?;
    ShapeError::check_eq(
        "whole rows of the norm",
        x.len().next_multiple_of(dim.max(1)),
        x.len(),
    )?;
    ShapeError::check_eq("output of the norm", x.len(), out.len())
}

/// A parameter's element type.
pub(super) trait Parameter: Copy {
    /// Up to eight parameters, zeros beyond.
    fn load<I: Isa>(isa: I, from: &[Self]) -> I::F32;
}

impl Parameter for f32 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f32]) -> I::F32 {
        match from.first_chunk::<8>() {
            Some(eight) => isa.load(eight),
            None => isa.load_partial(from),
        }
    }
}

impl Parameter for f16 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f16]) -> I::F32 {
        match from.first_chunk::<8>() {
            Some(eight) => isa.load_f16(eight),
            None => {
                let mut eight = [f16::ZERO; 8];
                for (to, from) in eight.iter_mut().zip(from) {
                    *to = *from;
                }
                isa.load_f16(&eight)
            }
        }
    }
}

/// Eight parameters from `at` on, zeros beyond. The type is looked at here, eight elements at a time, so that a norm is
/// compiled once and not for each pair of types, which cost a firmware 10 kB.
#[inline(always)]
fn eight<I: Isa>(isa: I, vector: &Vector<'_>, at: usize) -> I::F32 {
    match vector {
        Vector::F32(v) => f32::load(isa, up_to_eight(v, at)),
        Vector::F16(v) => f16::load(isa, up_to_eight(v, at)),
    }
}

#[inline(always)]
fn up_to_eight<T>(v: &[T], at: usize) -> &[T] {
    let rest = v.get(at..).unwrap_or_default();
    rest.get(..8).unwrap_or(rest)
}

struct RmsNorm<'a> {
    x: &'a [f32],
    gain: Vector<'a>,
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let dim = self.gain.len().max(1);
        for (x, out) in self.x.chunks(dim).zip(self.out.chunks_mut(dim)) {
            let mean = sum_of_squares(isa, x, isa.splat(0.0)) / dim as f32;
            let factor = isa.splat(1.0 / libm::sqrtf(mean + self.eps));
            for (i, (x, out)) in x.chunks(8).zip(out.chunks_mut(8)).enumerate() {
                let gain = isa.mul(eight(isa, &self.gain, 8 * i), factor);
                store(isa, isa.mul(f32::load(isa, x), gain), out);
            }
        }
    }
}

struct LayerNorm<'a> {
    x: &'a [f32],
    gain: Vector<'a>,
    bias: Vector<'a>,
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let dim = self.gain.len().max(1);
        for (x, out) in self.x.chunks(dim).zip(self.out.chunks_mut(dim)) {
            let mean = isa.splat(sum(isa, x) / dim as f32);
            let variance = sum_of_squares(isa, x, mean) / dim as f32;
            let factor = isa.splat(1.0 / libm::sqrtf(variance + self.eps));
            for (i, (x, out)) in x.chunks(8).zip(out.chunks_mut(8)).enumerate() {
                let gain = isa.mul(eight(isa, &self.gain, 8 * i), factor);
                let bias = eight(isa, &self.bias, 8 * i);
                let centred = isa.sub(f32::load(isa, x), mean);
                store(isa, isa.fma(centred, gain, bias), out);
            }
        }
    }
}

/// Four chains of additions, which hide their latency.
#[inline(always)]
fn sum<I: Isa>(isa: I, x: &[f32]) -> f32 {
    let mut sums = [isa.splat(0.0); 4];
    let (fours, rest) = x.as_chunks::<32>();
    for four in fours {
        for (sum, x) in sums.iter_mut().zip(four.as_chunks::<8>().0) {
            *sum = isa.add(*sum, isa.load(x));
        }
    }
    for x in rest.chunks(8) {
        sums[0] = isa.add(sums[0], f32::load(isa, x));
    }
    let [a, b, c, d] = sums;
    isa.sum(isa.add(isa.add(a, b), isa.add(c, d)))
}

/// Σ(x − mean)².
#[inline(always)]
fn sum_of_squares<I: Isa>(isa: I, x: &[f32], mean: I::F32) -> f32 {
    let mut sums = [isa.splat(0.0); 4];
    let (fours, rest) = x.as_chunks::<32>();
    for four in fours {
        for (sum, x) in sums.iter_mut().zip(four.as_chunks::<8>().0) {
            let difference = isa.sub(isa.load(x), mean);
            *sum = isa.fma(difference, difference, *sum);
        }
    }
    let (eights, rest) = rest.as_chunks::<8>();
    for x in eights {
        let difference = isa.sub(isa.load(x), mean);
        sums[0] = isa.fma(difference, difference, sums[0]);
    }
    // Lanes beyond the row must not count as −mean.
    let mut last = [0.0; 8];
    isa.store(isa.sub(isa.load_partial(rest), mean), &mut last);
    let last = isa.load_partial(last.get(..rest.len()).unwrap_or_default());
    sums[1] = isa.fma(last, last, sums[1]);
    let [a, b, c, d] = sums;
    isa.sum(isa.add(isa.add(a, b), isa.add(c, d)))
}

/// Up to eight elements.
#[inline(always)]
pub(super) fn store<I: Isa>(isa: I, values: I::F32, to: &mut [f32]) {
    match to.first_chunk_mut::<8>() {
        Some(eight) => isa.store(values, eight),
        None => isa.store_partial(values, to),
    }
}

#[cfg(test)]
mod tests;
