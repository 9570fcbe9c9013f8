//! Activations rounded to bytes, per vector, interleaved by tiles.
//!
//! A tile is M vectors that a kernel computes together: its inner loop finds their words side by side. What M does not
//! divide is left to tiles of 4, 2 and 1, so that each kernel is compiled for few widths.

use crate::ShapeError;
use crate::isa::Isa;
use crate::layout::GROUP;
use crate::ops::levels::{amax, scale_and_factor};

/// Levels in ±63, stored with an offset of 64 that a correction takes off; nothing is made of their sums.
pub(super) const UNSIGNED: u8 = 0;
/// Levels in ±127; the sum of each group as [`Isa::start_u4`].
pub(super) const STARTS: u8 = 1;
/// Levels in ±127; the sum of each group as an f32's bits.
pub(super) const FLOATS: u8 = 2;

/// Quantized vectors in tiles, as views of the caller's scratch.
pub(super) struct Activations<'a> {
    /// For each tile `[cols_padded / 4][vectors of the tile]`: four columns a word, the first in the low byte.
    pub(super) words: &'a [u32],
    /// For each tile `[groups][vectors of the tile]`: what is made of the sum of a group's levels.
    pub(super) sums: &'a [u32],
    /// The scale of each vector, an f32's bits.
    pub(super) scales: &'a [u32],
}

/// M quantized vectors.
pub(super) struct Tile<'a, const M: usize> {
    pub(super) words: &'a [[u32; M]],
    pub(super) sums: &'a [[u32; M]],
    pub(super) scales: &'a [u32; M],
}

/// A part of a weights matrix that is multiplied with all tiles.
pub(super) trait Rows<I: Isa> {
    /// Computes M outputs a row, each vector's `y` beginning `self.rows` behind the one before.
    fn multiply<const M: usize>(&self, isa: I, x: Tile<'_, M>, y: &mut [f32]);
}

impl Activations<'_> {
    /// Multiplies the rows with every vector; `y` is `(n, rows)`.
    #[inline(always)]
    pub(super) fn each<I: Isa, const M: usize>(
        &self,
        isa: I,
        weights: &impl Rows<I>,
        y: &mut [f32],
        rows: usize,
    ) {
        let n = self.scales.len();
        if n == 0 {
            return;
        }
        let (steps, groups) = (self.words.len() / n, self.sums.len() / n);
        let wide = n / M * M;
        let (words, words_left) = halves(self.words, wide * steps);
        let (sums, sums_left) = halves(self.sums, wide * groups);
        let (scales, scales_left) = halves(self.scales, wide);
        let (y, y_left) = y.split_at_mut_checked(wide * rows).unwrap_or_default();
        let tiles = words
            .chunks_exact((steps * M).max(1))
            .zip(sums.chunks_exact((groups * M).max(1)));
        let outputs = scales
            .as_chunks::<M>()
            .0
            .iter()
            .zip(y.chunks_exact_mut((rows * M).max(1)));
        for ((words, sums), (scales, y)) in tiles.zip(outputs) {
            let x = Tile {
                words: words.as_chunks().0,
                sums: sums.as_chunks().0,
                scales,
            };
            weights.multiply::<M>(isa, x, y);
        }
        let mut left = Left {
            words: words_left,
            sums: sums_left,
            scales: scales_left,
            y: y_left,
        };
        if M > 4 {
            left.multiply::<I, 4>(isa, weights, [steps, groups, rows]);
        }
        left.multiply::<I, 2>(isa, weights, [steps, groups, rows]);
        left.multiply::<I, 1>(isa, weights, [steps, groups, rows]);
    }
}

/// The vectors that are not computed yet.
struct Left<'a, 'y> {
    words: &'a [u32],
    sums: &'a [u32],
    scales: &'a [u32],
    y: &'y mut [f32],
}

impl Left<'_, '_> {
    /// Takes a tile of M while there is one.
    #[inline(always)]
    fn multiply<I: Isa, const M: usize>(
        &mut self,
        isa: I,
        weights: &impl Rows<I>,
        [steps, groups, rows]: [usize; 3],
    ) {
        while let Some((scales, scales_left)) = self.scales.split_first_chunk::<M>() {
            let (words, words_left) = halves(self.words, steps * M);
            let (sums, sums_left) = halves(self.sums, groups * M);
            let y = core::mem::take(&mut self.y);
            let (y, y_left) = y.split_at_mut_checked(rows * M).unwrap_or_default();
            let x = Tile {
                words: words.as_chunks().0,
                sums: sums.as_chunks().0,
                scales,
            };
            weights.multiply::<M>(isa, x, y);
            *self = Left {
                words: words_left,
                sums: sums_left,
                scales: scales_left,
                y: y_left,
            };
        }
    }
}

#[inline(always)]
fn halves(slice: &[u32], at: usize) -> (&[u32], &[u32]) {
    slice.split_at_checked(at).unwrap_or_default()
}

/// The width of the next tile where `left` vectors are left.
#[inline(always)]
fn width<const M: usize>(left: usize) -> usize {
    match left {
        _ if left >= M => M,
        4.. if M > 4 => 4,
        2.. => 2,
        _ => 1,
    }
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

/// Rounds the vectors of `x` (`(n, cols)`) to bytes in tiles of M, signed in ±127 (scale amax/127) or unsigned in
/// 1..=127, 64 being zero (scale amax/63), with the sums of their groups that SUMS asks for. Padding columns are
/// zero.
#[inline(always)]
pub(super) fn quantize<'a, I: Isa, const M: usize, const SUMS: u8>(
    isa: I,
    x: &[f32],
    cols: usize,
    scratch: &'a mut [u32],
) -> Result<Activations<'a>, ShapeError> {
    let cols = cols.max(1);
    let groups = cols.div_ceil(GROUP);
    let [scales, words, sums] = cut(scratch, x.len() / cols, cols)?;
    let (mut words_left, mut sums_left) = (&mut *words, &mut *sums);
    let mut left = scales.len();
    let mut tile = width::<M>(left);
    let mut r = 0;
    for (x, scale) in x.chunks(cols).zip(scales.iter_mut()) {
        let words = words_left.get_mut(r..).unwrap_or_default();
        let sums = sums_left.get_mut(r..).unwrap_or_default();
        *scale = quantize_vector::<I, SUMS>(isa, x, tile, words, sums).to_bits();
        r += 1;
        if r == tile {
            let words = core::mem::take(&mut words_left);
            let used = tile * groups * (GROUP / 4);
            words_left = words.split_at_mut_checked(used).unwrap_or_default().1;
            let sums = core::mem::take(&mut sums_left);
            let used = tile * groups;
            sums_left = sums.split_at_mut_checked(used).unwrap_or_default().1;
            left -= tile;
            tile = width::<M>(left);
            r = 0;
        }
    }
    Ok(Activations {
        words,
        sums,
        scales,
    })
}

/// Rounds one vector to every `stride`-th word; returns its scale.
#[inline(always)]
fn quantize_vector<I: Isa, const SUMS: u8>(
    isa: I,
    x: &[f32],
    stride: usize,
    words: &mut [u32],
    sums: &mut [u32],
) -> f32 {
    let highest = if SUMS == UNSIGNED { 63.0 } else { 127.0 };
    let (scale, factor) = scale_and_factor(amax(isa, x), highest);
    let factor = isa.splat(factor);
    let (full, rest) = x.as_chunks::<GROUP>();
    for (g, group) in full.iter().enumerate() {
        quantize_group::<I, SUMS>(isa, group, factor, [g, stride], words, sums);
    }
    if !rest.is_empty() {
        let mut padded = [0.0; GROUP];
        for (padded, x) in padded.iter_mut().zip(rest) {
            *padded = *x;
        }
        quantize_group::<I, SUMS>(isa, &padded, factor, [full.len(), stride], words, sums);
    }
    scale
}

/// Rounds group `g`.
#[inline(always)]
fn quantize_group<I: Isa, const SUMS: u8>(
    isa: I,
    group: &[f32; GROUP],
    factor: I::F32,
    [g, stride]: [usize; 2],
    words: &mut [u32],
    sums: &mut [u32],
) {
    let mut levels = [isa.splat_i32(0); 4];
    for (level, x) in levels.iter_mut().zip(group.as_chunks::<8>().0) {
        *level = isa.round_i32(isa.mul(isa.load(x), factor));
    }
    if SUMS == UNSIGNED {
        let offset = isa.splat_i32(64);
        for level in &mut levels {
            *level = isa.add_i32(*level, offset);
        }
    } else if let Some(sum) = sums.get_mut(g * stride) {
        let [a, b, c, d] = levels;
        let mut lanes = [0; 8];
        isa.store_i32(
            isa.add_i32(isa.add_i32(a, b), isa.add_i32(c, d)),
            &mut lanes,
        );
        let total = lanes
            .iter()
            .fold(0, |total: i32, lane| total.wrapping_add(*lane));
        *sum = if SUMS == FLOATS {
            (total as f32).to_bits()
        } else {
            isa.start_u4(total)
        };
    }
    let mut bytes = [0; GROUP];
    isa.store_bytes(isa.narrow(levels), &mut bytes);
    let words = words
        .get_mut(g * (GROUP / 4) * stride..)
        .unwrap_or_default();
    for (quad, word) in bytes
        .as_chunks::<4>()
        .0
        .iter()
        .zip(words.iter_mut().step_by(stride))
    {
        *word = u32::from_le_bytes(*quad);
    }
}
