//! Activations rounded to bytes with a scale per vector or per 32 columns, interleaved by tiles.
//!
//! A tile is M vectors that a kernel computes together: its inner loop finds their words side by side. What M does not
//! divide is left to tiles of 4, 2 and 1, so that each kernel is compiled for few widths.

use crate::ShapeError;
use crate::isa::{GROUP_STEPS, Isa};
use crate::layout::GROUP;
use crate::ops::levels::{amax, scale_and_factor};

/// Levels in ±63 with one scale a vector, stored with an offset of 64 that a correction takes off.
pub(super) const ROW: u8 = 0;
/// Levels in ±63 with a scale a group, whose sum becomes what the products with 8-bit weights start at.
pub(super) const I8_GROUPS: u8 = 1;
/// Levels in ±127 with a scale a group, whose sum becomes [`Isa::start_u4`].
pub(super) const I4_GROUPS: u8 = 2;
/// Levels in ±127 with a scale a group, whose sum becomes an f32's bits, the scale multiplied in.
pub(super) const U4_GROUPS: u8 = 3;

/// Quantized vectors in tiles, as views of the caller's scratch.
pub(super) struct Activations<'a> {
    /// For each tile `[cols_padded / 4][vectors of the tile]`: four columns a word, the first in the low byte.
    pub(super) words: &'a [u32],
    /// For each tile `[units][2][vectors of the tile]`: a unit's scale, an f32's bits, and what is made of the sum of
    /// its levels. A unit is what shares a scale: a vector, or a group of its columns.
    pub(super) units: &'a [u32],
    /// Number of vectors.
    pub(super) n: usize,
}

/// M quantized vectors.
pub(super) struct Tile<'a, const M: usize> {
    pub(super) words: &'a [[u32; M]],
    pub(super) units: &'a [[[u32; M]; 2]],
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
        let n = self.n;
        if n == 0 {
            return;
        }
        let (steps, units) = (self.words.len() / n, self.units.len() / n);
        let wide = n / M * M;
        let (words, words_left) = halves(self.words, wide * steps);
        let (parameters, parameters_left) = halves(self.units, wide * units);
        let (y, y_left) = y.split_at_mut_checked(wide * rows).unwrap_or_default();
        let tiles = words
            .chunks_exact((steps * M).max(1))
            .zip(parameters.chunks_exact((units * M).max(1)));
        for ((words, units), y) in tiles.zip(y.chunks_exact_mut((rows * M).max(1))) {
            weights.multiply::<M>(isa, tile(words, units), y);
        }
        let mut left = Left {
            words: words_left,
            units: parameters_left,
            n: n - wide,
            y: y_left,
        };
        if M > 4 {
            left.multiply::<I, 4>(isa, weights, [steps, units, rows]);
        }
        left.multiply::<I, 2>(isa, weights, [steps, units, rows]);
        left.multiply::<I, 1>(isa, weights, [steps, units, rows]);
    }
}

/// The vectors that are not computed yet.
struct Left<'a, 'y> {
    words: &'a [u32],
    units: &'a [u32],
    n: usize,
    y: &'y mut [f32],
}

impl Left<'_, '_> {
    /// Takes a tile of M while there is one.
    #[inline(always)]
    fn multiply<I: Isa, const M: usize>(
        &mut self,
        isa: I,
        weights: &impl Rows<I>,
        [steps, units, rows]: [usize; 3],
    ) {
        while self.n >= M {
            let (words, words_left) = halves(self.words, steps * M);
            let (parameters, parameters_left) = halves(self.units, units * M);
            let y = core::mem::take(&mut self.y);
            let (y, y_left) = y.split_at_mut_checked(rows * M).unwrap_or_default();
            weights.multiply::<M>(isa, tile(words, parameters), y);
            *self = Left {
                words: words_left,
                units: parameters_left,
                n: self.n - M,
                y: y_left,
            };
        }
    }
}

#[inline(always)]
fn tile<'a, const M: usize>(words: &'a [u32], units: &'a [u32]) -> Tile<'a, M> {
    Tile {
        words: words.as_chunks().0,
        units: units.as_chunks().0.as_chunks().0,
    }
}

#[inline(always)]
fn halves(slice: &[u32], at: usize) -> (&[u32], &[u32]) {
    slice.split_at_checked(at).unwrap_or_default()
}

/// Cuts the scratch for `n` vectors of `cols` columns into the words and two words for each of `units` scales a vector.
#[inline(always)]
pub(super) fn cut(
    scratch: &mut [u32],
    [n, cols, units]: [usize; 3],
) -> Result<[&mut [u32]; 2], ShapeError> {
    let groups = cols.div_ceil(GROUP);
    let have = scratch.len();
    let need = super::matmul_scratch_len(cols, n);
    let too_short = ShapeError {
        what: "scratch of the product",
        need,
        have,
    };
    let (words, rest) = scratch
        .split_at_mut_checked(n * groups * GROUP_STEPS)
        .ok_or(too_short)?;
    let units = rest.get_mut(..2 * n * units).ok_or(too_short)?;
    Ok([words, units])
}

/// Rounds the vectors of `x` (`(n, cols)`) to bytes in tiles of M, with the levels, scales and sums that KIND says.
/// Padding columns are zero.
#[inline(always)]
pub(super) fn quantize<'a, I: Isa, const M: usize, const KIND: u8>(
    isa: I,
    x: &[f32],
    cols: usize,
    scratch: &'a mut [u32],
) -> Result<Activations<'a>, ShapeError> {
    let cols = cols.max(1);
    let groups = cols.div_ceil(GROUP);
    let units = if KIND == ROW { 1 } else { groups };
    let n = x.len() / cols;
    let [words, units] = cut(scratch, [n, cols, units])?;
    let mut left = Unrounded {
        x,
        words: &mut *words,
        units: &mut *units,
        n,
    };
    left.round::<I, M, KIND>(isa, cols);
    if M > 4 {
        left.round::<I, 4, KIND>(isa, cols);
    }
    left.round::<I, 2, KIND>(isa, cols);
    left.round::<I, 1, KIND>(isa, cols);
    Ok(Activations { words, units, n })
}

/// The vectors that are not rounded yet.
struct Unrounded<'x, 'a> {
    x: &'x [f32],
    words: &'a mut [u32],
    units: &'a mut [u32],
    n: usize,
}

impl Unrounded<'_, '_> {
    /// Takes a tile of M while there is one.
    #[inline(always)]
    fn round<I: Isa, const M: usize, const KIND: u8>(&mut self, isa: I, cols: usize) {
        let groups = cols.div_ceil(GROUP);
        let units = if KIND == ROW { 1 } else { groups };
        while self.n >= M {
            let (x, x_left) = self.x.split_at_checked(M * cols).unwrap_or_default();
            let (words, words_left) = core::mem::take(&mut self.words)
                .split_at_mut_checked(M * groups * GROUP_STEPS)
                .unwrap_or_default();
            let (parameters, units_left) = core::mem::take(&mut self.units)
                .split_at_mut_checked(M * units * 2)
                .unwrap_or_default();
            let words = words.as_chunks_mut().0.as_chunks_mut().0;
            let parameters = parameters.as_chunks_mut().0.as_chunks_mut().0;
            for (m, x) in (0..M).zip(x.chunks_exact(cols)) {
                round_vector::<I, M, KIND>(isa, x, m, words, parameters);
            }
            *self = Unrounded {
                x: x_left,
                words: words_left,
                units: units_left,
                n: self.n - M,
            };
        }
    }
}

/// Rounds a vector, the `m`-th of a tile.
#[inline(always)]
fn round_vector<I: Isa, const M: usize, const KIND: u8>(
    isa: I,
    x: &[f32],
    m: usize,
    words: &mut [[[u32; M]; GROUP_STEPS]],
    units: &mut [[[u32; M]; 2]],
) {
    let mut factor = 0.0;
    if KIND == ROW {
        let (scale, row_factor) = scale_and_factor(amax(isa, x), 63.0);
        factor = row_factor;
        if let Some([scales, _]) = units.first_mut() {
            scales[m] = scale.to_bits();
        }
    }
    let (full, rest) = x.as_chunks::<GROUP>();
    let mut padded = [0.0; GROUP];
    for (padded, x) in padded.iter_mut().zip(rest) {
        *padded = *x;
    }
    let last: &[[f32; GROUP]] = if rest.is_empty() { &[] } else { &[padded] };
    let (words, words_last) = words.split_at_mut_checked(full.len()).unwrap_or_default();
    if KIND == ROW {
        for (x, words) in full.iter().zip(words) {
            round_with::<I, M>(isa, x, factor, m, words);
        }
        for (x, words) in last.iter().zip(words_last) {
            round_with::<I, M>(isa, x, factor, m, words);
        }
    } else {
        let (units, units_last) = units.split_at_mut_checked(full.len()).unwrap_or_default();
        for (x, (words, unit)) in full.iter().zip(words.iter_mut().zip(units)) {
            round_group::<I, M, KIND>(isa, x, m, words, unit);
        }
        for (x, (words, unit)) in last.iter().zip(words_last.iter_mut().zip(units_last)) {
            round_group::<I, M, KIND>(isa, x, m, words, unit);
        }
    }
}

/// Rounds a group of columns with the factor of its vector, and offsets the levels by 64.
#[inline(always)]
fn round_with<I: Isa, const M: usize>(
    isa: I,
    x: &[f32; GROUP],
    factor: f32,
    m: usize,
    words: &mut [[u32; M]; GROUP_STEPS],
) {
    let (offset, factor) = (isa.splat_i32(64), isa.splat(factor));
    let mut levels = [isa.splat_i32(0); 4];
    for (level, x) in levels.iter_mut().zip(x.as_chunks::<8>().0) {
        let rounded = isa.round_i32(isa.mul(isa.load(x), factor));
        *level = isa.add_i32(rounded, offset);
    }
    store_levels(isa, levels, m, words);
}

/// Rounds a group of columns with a scale of its own.
#[inline(always)]
fn round_group<I: Isa, const M: usize, const KIND: u8>(
    isa: I,
    x: &[f32; GROUP],
    m: usize,
    words: &mut [[u32; M]; GROUP_STEPS],
    unit: &mut [[u32; M]; 2],
) {
    let [mut a, mut b, mut c, mut d] = [isa.splat(0.0); 4];
    for (to, from) in [&mut a, &mut b, &mut c, &mut d]
        .into_iter()
        .zip(x.as_chunks::<8>().0)
    {
        *to = isa.load(from);
    }
    let highest = if KIND == I8_GROUPS { 63.0 } else { 127.0 };
    let ab = isa.max_if_positive(isa.abs(a), isa.abs(b));
    let cd = isa.max_if_positive(isa.abs(c), isa.abs(d));
    let amax = isa.max_bits(isa.max_if_positive(ab, cd));
    let (scale, factor) = scale_and_factor(amax, highest);
    let factor = isa.splat(factor);
    let levels = [
        isa.round_i32(isa.mul(a, factor)),
        isa.round_i32(isa.mul(b, factor)),
        isa.round_i32(isa.mul(c, factor)),
        isa.round_i32(isa.mul(d, factor)),
    ];
    let ab = isa.add_i32(levels[0], levels[1]);
    let cd = isa.add_i32(levels[2], levels[3]);
    let sum = isa.sum_i32(isa.add_i32(ab, cd));
    let [scales, sums] = unit;
    scales[m] = scale.to_bits();
    sums[m] = match KIND {
        I8_GROUPS => sum.wrapping_mul(-I::WEIGHT_OFFSET) as u32,
        I4_GROUPS => isa.start_u4(sum),
        _ => (sum as f32 * scale).to_bits(),
    };
    store_levels(isa, levels, m, words);
}

/// Stores a group's levels as bytes, among the words of the tile's other vectors.
#[inline(always)]
fn store_levels<I: Isa, const M: usize>(
    isa: I,
    levels: [I::I32; 4],
    m: usize,
    words: &mut [[u32; M]; GROUP_STEPS],
) {
    let mut bytes = [0; GROUP];
    isa.store_bytes(isa.narrow(levels), &mut bytes);
    for (quad, words) in bytes.as_chunks::<4>().0.iter().zip(words) {
        words[m] = u32::from_le_bytes(*quad);
    }
}
