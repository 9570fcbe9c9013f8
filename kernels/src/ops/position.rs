//! Positions: rotary and sinusoidal.

use crate::isa::{Isa, Kernel};
use crate::{Backend, ShapeError};

/// Which elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RotaryStyle {
    /// Elements i and i + head_dim/2 (GPT-NeoX, Llama in Hugging Face's order).
    Half,
    /// Elements 2i and 2i + 1 (Su et al. 2021, Llama's own order).
    Interleaved,
}

/// Writes the angle a position, in radians, of each pair of a head: `out[i]` = base^(−2i / head_dim), `head_dim` being
/// `2 · out.len()` (Su et al. 2021, section 3.2.2). Accuracy 1 ulp.
pub fn rotary_frequencies(base: f32, out: &mut [f32]) {
    let pairs = out.len() as f32;
    for (i, frequency) in out.iter_mut().enumerate() {
        *frequency = libm::powf(base, -(i as f32) / pairs);
    }
}

/// Writes cosines and sines of `position · frequency`: `angles` is `[cos; pairs]` then `[sin; pairs]`, twice as long as
/// `frequencies`. All layers and heads share them, so that sines are taken once a position.
///
/// Accuracy: the angle is rounded to f32, so it is off by up to position · 2⁻²⁴; sine and cosine add 1 ulp.
///
/// # Errors
/// [`ShapeError`] when the lengths disagree.
pub fn rotary_angles(
    position: usize,
    frequencies: &[f32],
    angles: &mut [f32],
) -> Result<(), ShapeError> {
    let pairs = frequencies.len();
    ShapeError::check_eq("angles of a position", 2 * pairs, angles.len())?;
    let (cosines, sines) = angles.split_at_mut_checked(pairs).unwrap_or_default();
    for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(frequencies) {
        let angle = position as f32 * frequency;
        *cosine = libm::cosf(angle);
        *sine = libm::sinf(angle);
    }
    Ok(())
}

/// Rotates the heads of each token in place (Su et al. 2021, eq. 34).
///
/// `angles` is `(n, head_dim)`, a row for each token by [`rotary_angles`]; token t's heads are the `heads · head_dim`
/// elements from `x[t · stride]`, so that x may be the queries or the keys inside wider rows. Accuracy: two products
/// and a sum in f32 for each element.
///
/// # Errors
/// [`ShapeError`] when `head_dim` is zero or odd, `angles` is not whole rows, `stride` is narrower than the heads or
/// `x` too short.
pub fn rotary(
    backend: Backend,
    x: &mut [f32],
    stride: usize,
    heads: usize,
    head_dim: usize,
    angles: &[f32],
    style: RotaryStyle,
) -> Result<(), ShapeError> {
    let width = heads.saturating_mul(head_dim);
    ShapeError::check_eq(
        "even head_dim",
        head_dim.max(2).next_multiple_of(2),
        head_dim,
    )?;
    ShapeError::check_eq(
        "whole rows of angles",
        angles.len().next_multiple_of(head_dim.max(1)),
        angles.len(),
    )?;
    ShapeError::check_at_least("stride of the tokens", width, stride)?;
    let n = angles.len() / head_dim.max(1);
    if n > 0 {
        ShapeError::check_at_least(
            "rotated tokens",
            (n - 1).saturating_mul(stride).saturating_add(width),
            x.len(),
        )?;
    }
    backend.run(Rotary {
        x,
        stride,
        width,
        head_dim,
        angles,
        style,
    });
    Ok(())
}

struct Rotary<'a> {
    x: &'a mut [f32],
    stride: usize,
    width: usize,
    head_dim: usize,
    angles: &'a [f32],
    style: RotaryStyle,
}

impl Kernel for Rotary<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let head_dim = self.head_dim.max(1);
        for (token, angles) in self
            .x
            .chunks_mut(self.stride.max(1))
            .zip(self.angles.chunks(head_dim))
        {
            let (cosines, sines) = angles.split_at_checked(head_dim / 2).unwrap_or_default();
            for head in token
                .get_mut(..self.width)
                .unwrap_or_default()
                .chunks_mut(head_dim)
            {
                match self.style {
                    RotaryStyle::Half => rotate_halves(isa, head, cosines, sines),
                    RotaryStyle::Interleaved => rotate_pairs(head, cosines, sines),
                }
            }
        }
    }
}

#[inline(always)]
fn rotate_halves<I: Isa>(isa: I, head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let (first, second) = head.split_at_mut_checked(cosines.len()).unwrap_or_default();
    let (a, a_rest) = first.as_chunks_mut::<8>();
    let (b, b_rest) = second.as_chunks_mut::<8>();
    let (c, c_rest) = cosines.as_chunks::<8>();
    let (s, s_rest) = sines.as_chunks::<8>();
    for (((a, b), c), s) in a.iter_mut().zip(b).zip(c).zip(s) {
        let [new_a, new_b] = rotated(isa, isa.load(a), isa.load(b), isa.load(c), isa.load(s));
        isa.store(new_a, a);
        isa.store(new_b, b);
    }
    let [new_a, new_b] = rotated(
        isa,
        isa.load_partial(a_rest),
        isa.load_partial(b_rest),
        isa.load_partial(c_rest),
        isa.load_partial(s_rest),
    );
    isa.store_partial(new_a, a_rest);
    isa.store_partial(new_b, b_rest);
}

/// (a·cos − b·sin, b·cos + a·sin).
#[inline(always)]
fn rotated<I: Isa>(isa: I, a: I::F32, b: I::F32, cosine: I::F32, sine: I::F32) -> [I::F32; 2] {
    [
        isa.fma(a, cosine, isa.neg(isa.mul(b, sine))),
        isa.fma(b, cosine, isa.mul(a, sine)),
    ]
}

#[inline(always)]
fn rotate_pairs(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    for (([a, b], cosine), sine) in head
        .as_chunks_mut::<2>()
        .0
        .iter_mut()
        .zip(cosines)
        .zip(sines)
    {
        (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
    }
}

/// Writes the sinusoidal encoding of a position (Vaswani et al. 2017, section 3.5): `out[2i]` = sin(p /
/// 10000^(2i/dim)), `out[2i+1]` = cos of the same, `dim` being `out.len()` (an odd one ends with a sine). Accuracy as
/// [`rotary_angles`].
pub fn sinusoidal(position: usize, out: &mut [f32]) {
    let dim = out.len() as f32;
    for (i, pair) in out.chunks_mut(2).enumerate() {
        let angle = position as f32 * libm::powf(10_000.0, -((2 * i) as f32) / dim);
        let values = [libm::sinf(angle), libm::cosf(angle)];
        for (out, value) in pair.iter_mut().zip(values) {
            *out = value;
        }
    }
}

#[cfg(test)]
mod tests;
