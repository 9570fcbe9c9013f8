//! Activations rounded to bytes, per vector, interleaved by tiles.

use crate::ShapeError;
use crate::isa::Isa;
use crate::layout::GROUP;
use crate::ops::levels::{amax, scale_and_factor};

/// Quantized vectors in tiles of M (the last tile may be narrower), as views of the caller's scratch.
pub(super) struct Activations<'a> {
    /// For each tile `[cols_padded / 4][vectors of the tile]`: four columns a word, the first in the low byte.
    pub(super) words: &'a [u32],
    /// For each tile `[groups][vectors of the tile]`: the sum of a signed group, an i32.
    pub(super) sums: &'a [u32],
    /// The scale of each vector, an f32's bits.
    pub(super) scales: &'a [u32],
}

/// Cuts the scratch for `n` vectors of `cols` columns into scales, words and sums.
#[inline(always)]
pub(super) fn cut(
    scratch: &mut [u32],
    n: usize,
    cols: usize,
) -> Result<[&mut [u32]; 3], ShapeError> {
    let groups = cols.div_ceil(GROUP);
    let have = scratch.len();
    let need = super::matmul_scratch_len(cols, n);
    let too_short = ShapeError {
        what: "scratch of the product",
        need,
        have,
    };
    let (scales, rest) = scratch.split_at_mut_checked(n).ok_or(too_short)?;
    let (words, rest) = rest
        .split_at_mut_checked(n * groups * (GROUP / 4))
        .ok_or(too_short)?;
    let sums = rest.get_mut(..n * groups).ok_or(too_short)?;
    Ok([scales, words, sums])
}

/// Rounds the vectors of `x` (`(n, cols)`) to bytes in tiles of M: signed in ±127 (scale amax/127) with the sums of their
/// groups, or unsigned in 1..=127, 64 being zero (scale amax/63), without sums. Padding columns are zero.
#[inline(always)]
pub(super) fn quantize<'a, I: Isa, const M: usize, const SIGNED: bool>(
    isa: I,
    x: &[f32],
    cols: usize,
    scratch: &'a mut [u32],
) -> Result<Activations<'a>, ShapeError> {
    let cols = cols.max(1);
    let groups = cols.div_ceil(GROUP);
    let [scales, words, sums] = cut(scratch, x.len() / cols, cols)?;
    let tiles = x
        .chunks(cols * M)
        .zip(words.chunks_mut((groups * (GROUP / 4) * M).max(1)))
        .zip(sums.chunks_mut((groups * M).max(1)))
        .zip(scales.chunks_mut(M));
    for (((x, words), sums), scales) in tiles {
        let width = scales.len().max(1);
        for (r, (x, scale)) in x.chunks(cols).zip(scales).enumerate() {
            let words = words.get_mut(r..).unwrap_or(&mut []);
            let sums = sums.get_mut(r..).unwrap_or(&mut []);
            *scale = quantize_vector::<I, SIGNED>(isa, x, width, words, sums).to_bits();
        }
    }
    Ok(Activations {
        words,
        sums,
        scales,
    })
}

/// Rounds one vector to every `width`-th word; returns its scale.
#[inline(always)]
fn quantize_vector<I: Isa, const SIGNED: bool>(
    isa: I,
    x: &[f32],
    width: usize,
    words: &mut [u32],
    sums: &mut [u32],
) -> f32 {
    let (scale, factor) = scale_and_factor(amax(isa, x), if SIGNED { 127.0 } else { 63.0 });
    let factor = isa.splat(factor);
    let offset = isa.splat_i32(64);
    let mut words = words.iter_mut().step_by(width);
    let mut sums = sums.iter_mut().step_by(width);
    for group in x.chunks(GROUP) {
        let mut padded = [0.0; GROUP];
        let full: &[f32; GROUP] = match group.try_into() {
            Ok(full) => full,
            Err(_) => {
                for (padded, x) in padded.iter_mut().zip(group) {
                    *padded = *x;
                }
                &padded
            }
        };
        let mut levels = [isa.splat_i32(0); 4];
        for (level, x) in levels.iter_mut().zip(full.as_chunks::<8>().0) {
            *level = isa.round_i32(isa.mul(isa.load(x), factor));
        }
        if SIGNED {
            let mut lanes = [0; 8];
            let [a, b, c, d] = levels;
            isa.store_i32(
                isa.add_i32(isa.add_i32(a, b), isa.add_i32(c, d)),
                &mut lanes,
            );
            if let Some(sum) = sums.next() {
                *sum = lanes
                    .iter()
                    .fold(0, |sum: i32, lane| sum.wrapping_add(*lane))
                    as u32;
            }
        } else {
            for level in &mut levels {
                *level = isa.add_i32(*level, offset);
            }
        }
        let mut bytes = [0; GROUP];
        isa.store_bytes(isa.narrow(levels), &mut bytes);
        for (quad, word) in bytes.as_chunks::<4>().0.iter().zip(words.by_ref()) {
            *word = u32::from_le_bytes(*quad);
        }
    }
    scale
}
