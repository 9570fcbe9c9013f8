//! Activations rounded to bytes with a scale per vector or per 32 columns, interleaved by tiles.
//!
//! A tile is M vectors that a kernel computes together: its inner loop finds their words side by side. What M does not
//! divide is left to tiles of 4, 2 and 1, so that each kernel is compiled for few widths.

use crate::ShapeError;
use crate::isa::Isa;
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
    /// For each tile `[units][2][vectors of the tile]`: a unit's scale, an f32's bits, and what is made of the sum of its
    /// levels. A unit is what shares a scale: a vector, or a group of its columns.
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
        .split_at_mut_checked(n * groups * (GROUP / 4))
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
    let vector_units = if KIND == ROW { 1 } else { groups };
    let n = x.len() / cols;
    let [words, units] = cut(scratch, [n, cols, vector_units])?;
    let (mut words_left, mut units_left) = (&mut *words, &mut *units);
    let mut left = n;
    let mut tile = width::<M>(left);
    let mut r = 0;
    for x in x.chunks(cols) {
        let words = words_left.get_mut(r..).unwrap_or_default();
        let units = units_left.get_mut(r..).unwrap_or_default();
        quantize_vector::<I, KIND>(isa, x, tile, words, units);
        r += 1;
        if r == tile {
            let words = core::mem::take(&mut words_left);
            let used = tile * groups * (GROUP / 4);
            words_left = words.split_at_mut_checked(used).unwrap_or_default().1;
            let units = core::mem::take(&mut units_left);
            let used = 2 * tile * vector_units;
            units_left = units.split_at_mut_checked(used).unwrap_or_default().1;
            left -= tile;
            tile = width::<M>(left);
            r = 0;
        }
    }
    Ok(Activations { words, units, n })
}

/// Rounds one vector to every `stride`-th word.
#[inline(always)]
fn quantize_vector<I: Isa, const KIND: u8>(
    isa: I,
    x: &[f32],
    stride: usize,
    words: &mut [u32],
    units: &mut [u32],
) {
    let mut factor = 0.0;
    if KIND == ROW {
        let (scale, row_factor) = scale_and_factor(amax(isa, x), 63.0);
        factor = row_factor;
        if let Some(unit) = units.first_mut() {
            *unit = scale.to_bits();
        }
    }
    let groups = words.chunks_mut(GROUP / 4 * stride);
    let (full, rest) = x.as_chunks::<GROUP>();
    let mut padded = [0.0; GROUP];
    for (padded, x) in padded.iter_mut().zip(rest) {
        *padded = *x;
    }
    let last: &[[f32; GROUP]] = if rest.is_empty() { &[] } else { &[padded] };
    for ((g, x), words) in full.iter().chain(last).enumerate().zip(groups) {
        if KIND == ROW {
            let offset = isa.splat_i32(64);
            let mut levels = round(isa, x, factor);
            for level in &mut levels {
                *level = isa.add_i32(*level, offset);
            }
            store_levels(isa, levels, stride, words);
        } else {
            let unit = units.get_mut(2 * g * stride..).unwrap_or_default();
            quantize_group::<I, KIND>(isa, x, stride, words, unit);
        }
    }
}

/// Rounds a group with a scale of its own.
#[inline(always)]
fn quantize_group<I: Isa, const KIND: u8>(
    isa: I,
    x: &[f32; GROUP],
    stride: usize,
    words: &mut [u32],
    unit: &mut [u32],
) {
    let highest = if KIND == I8_GROUPS { 63.0 } else { 127.0 };
    let (scale, factor) = scale_and_factor(amax(isa, x), highest);
    let levels = round(isa, x, factor);
    let [a, b, c, d] = levels;
    let mut lanes = [0; 8];
    let sums = isa.add_i32(isa.add_i32(a, b), isa.add_i32(c, d));
    isa.store_i32(sums, &mut lanes);
    let sum = lanes
        .iter()
        .fold(0, |sum: i32, lane| sum.wrapping_add(*lane));
    let sum = match KIND {
        I8_GROUPS => sum.wrapping_mul(-I::WEIGHT_OFFSET) as u32,
        I4_GROUPS => isa.start_u4(sum),
        _ => (sum as f32 * scale).to_bits(),
    };
    let mut unit = unit.iter_mut().step_by(stride);
    for value in [scale.to_bits(), sum] {
        if let Some(to) = unit.next() {
            *to = value;
        }
    }
    store_levels(isa, levels, stride, words);
}

#[inline(always)]
fn round<I: Isa>(isa: I, x: &[f32; GROUP], factor: f32) -> [I::I32; 4] {
    let factor = isa.splat(factor);
    let mut levels = [isa.splat_i32(0); 4];
    for (level, x) in levels.iter_mut().zip(x.as_chunks::<8>().0) {
        *level = isa.round_i32(isa.mul(isa.load(x), factor));
    }
    levels
}

/// Stores a group's levels as bytes to every `stride`-th word.
#[inline(always)]
fn store_levels<I: Isa>(isa: I, levels: [I::I32; 4], stride: usize, words: &mut [u32]) {
    let mut bytes = [0; GROUP];
    isa.store_bytes(isa.narrow(levels), &mut bytes);
    let quads = bytes.as_chunks::<4>().0.iter();
    for (quad, word) in quads.zip(words.iter_mut().step_by(stride)) {
        *word = u32::from_le_bytes(*quad);
    }
}
