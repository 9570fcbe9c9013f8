//! Activations rounded to bytes with a scale per vector or per 32 columns, interleaved by tiles.
//!
//! A tile is M vectors that a kernel computes together: its inner loop finds their words side by side. What M does not
//! divide is left to tiles of 4, 2 and 1, so that each kernel is compiled for few widths. Two vectors are rounded at a
//! time, which halves the work of sums across lanes and of storing words one by one.
//!
//! The scale of a group is a whole multiple of one number, which is left to the end of a product ([`GroupScales`]).

use super::panel::Step;
use crate::ShapeError;
use crate::isa::{GROUP_STEPS, Isa};
use crate::layout::GROUP;
use crate::ops::levels::{GroupScales, amax, scale_and_factor};

/// Levels in ±63 with one scale a vector, stored with an offset of 64 that a correction takes off.
pub(super) const ROW: u8 = 0;
/// Levels in ±63 with a scale a group, whose sum becomes what the products with 8-bit weights start at.
pub(super) const I8_GROUPS: u8 = 1;
/// Levels in ±127 with a scale a group, whose sum becomes [`Isa::start_u4`].
pub(super) const I4_GROUPS: u8 = 2;
/// Levels in ±127 with a scale a group, whose sum becomes an f32's bits, the relative scale multiplied in.
pub(super) const U4_GROUPS: u8 = 3;

/// From so many tiles on, the weights that follow are asked for. Fewer would ask for many lines at once, which what the
/// tile reads must wait for (MiniLM with one tile, on Intel Sapphire Rapids with AVX-512: a fifth slower).
const TILES_TO_ASK: usize = 8;

/// Quantized vectors in tiles, as views of the caller's scratch.
#[derive(Clone, Copy)]
pub(super) struct Activations<'a> {
    /// For each tile `[cols_padded / 4][vectors of the tile]`: four columns a word, the first in the low byte.
    pub(super) words: &'a [u32],
    /// For each tile `[groups][2][vectors of the tile]`: a group's relative scale ([`Isa::scale_u4`]'s word for 4-bit
    /// weights, an f32's bits for others) and what is made of the sum of its levels. Empty if the vector has one scale.
    pub(super) units: &'a [u32],
    /// Of each vector, the scale or what relative scales are multiples of: an f32's bits.
    pub(super) scales: &'a [u32],
}

/// M quantized vectors.
pub(super) struct Tile<'a, const M: usize> {
    pub(super) words: &'a [[u32; M]],
    pub(super) units: &'a [[[u32; M]; 2]],
    pub(super) scales: [u32; M],
}

/// A part of a weights matrix that is multiplied with all tiles.
pub(super) trait Rows<I: Isa> {
    /// Computes M outputs a row, each vector's `y` beginning `self.rows` behind the one before.
    fn multiply<const M: usize>(&self, isa: I, x: Tile<'_, M>, y: &mut [f32]);
}

impl Activations<'_> {
    /// Multiplies the rows with every vector; `y` is `(n, rows)`. The weights that are multiplied after these, `next`,
    /// are asked for meanwhile, before each tile a share of them: memory has as long to bring them as these take
    /// ([`TILES_TO_ASK`]).
    #[inline(always)]
    pub(super) fn each<I: Isa, const M: usize, W>(
        &self,
        isa: I,
        weights: &impl Rows<I>,
        next: &[Step<W>],
        y: &mut [f32],
        rows: usize,
    ) {
        let n = self.scales.len();
        if n == 0 {
            return;
        }
        let lens = [self.words.len() / n, self.units.len() / n, rows];
        let tiles = n.div_ceil(M);
        let next = if tiles < TILES_TO_ASK { &[] } else { next };
        let mut left = Left {
            x: *self,
            y,
            next: next.chunks(next.len().div_ceil(tiles).max(1)),
        };
        left.multiply::<I, M>(isa, weights, lens);
        if M > 4 {
            left.multiply::<I, 4>(isa, weights, lens);
        }
        left.multiply::<I, 2>(isa, weights, lens);
        left.multiply::<I, 1>(isa, weights, lens);
    }
}

/// The vectors that are not computed yet.
struct Left<'a, 'y, W> {
    x: Activations<'a>,
    y: &'y mut [f32],
    /// What is asked for before each tile.
    next: core::slice::Chunks<'a, Step<W>>,
}

impl<W> Left<'_, '_, W> {
    /// Takes a tile of M while there is one.
    #[inline(always)]
    fn multiply<I: Isa, const M: usize>(
        &mut self,
        isa: I,
        weights: &impl Rows<I>,
        [words, units, rows]: [usize; 3],
    ) {
        while let Some((scales, scales_left)) = self.x.scales.split_first_chunk::<M>() {
            for line in self.next.next().unwrap_or_default() {
                isa.prefetch(line, 0);
            }
            let (words, words_left) = halves(self.x.words, words * M);
            let (units, units_left) = halves(self.x.units, units * M);
            let y = core::mem::take(&mut self.y);
            let (y, y_left) = y.split_at_mut_checked(rows * M).unwrap_or_default();
            let tile = Tile {
                words: words.as_chunks().0,
                units: units.as_chunks().0.as_chunks().0,
                scales: *scales,
            };
            weights.multiply::<M>(isa, tile, y);
            self.x = Activations {
                words: words_left,
                units: units_left,
                scales: scales_left,
            };
            self.y = y_left;
        }
    }
}

#[inline(always)]
fn halves(slice: &[u32], at: usize) -> (&[u32], &[u32]) {
    slice.split_at_checked(at).unwrap_or_default()
}

/// Cuts the scratch for `n` vectors of `cols` columns into the words, two words for each of `groups` relative scales a
/// vector, and a word for each vector's scale.
#[inline(always)]
pub(super) fn cut(
    scratch: &mut [u32],
    [n, cols, groups]: [usize; 3],
) -> Result<[&mut [u32]; 3], ShapeError> {
    let have = scratch.len();
    let need = super::matmul_scratch_len(cols, n);
    let too_short = ShapeError {
        what: "scratch of the product",
        need,
        have,
    };
    let (words, rest) = scratch
        .split_at_mut_checked(n * cols.div_ceil(GROUP) * GROUP_STEPS)
        .ok_or(too_short)?;
    let (units, rest) = rest.split_at_mut_checked(2 * n * groups).ok_or(too_short)?;
    let scales = rest.get_mut(..n).ok_or(too_short)?;
    Ok([words, units, scales])
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
    let groups = if KIND == ROW { 0 } else { cols.div_ceil(GROUP) };
    let [words, units, scales] = cut(scratch, [x.len() / cols, cols, groups])?;
    let mut left = Unrounded {
        x,
        words: &mut *words,
        units: &mut *units,
        scales: &mut *scales,
    };
    left.round::<I, M, KIND>(isa, cols);
    if M > 4 {
        left.round::<I, 4, KIND>(isa, cols);
    }
    left.round::<I, 2, KIND>(isa, cols);
    left.round::<I, 1, KIND>(isa, cols);
    Ok(Activations {
        words,
        units,
        scales,
    })
}

/// The vectors that are not rounded yet.
struct Unrounded<'x, 'a> {
    x: &'x [f32],
    words: &'a mut [u32],
    units: &'a mut [u32],
    scales: &'a mut [u32],
}

impl Unrounded<'_, '_> {
    /// Takes a tile of M while there is one.
    #[inline(always)]
    fn round<I: Isa, const M: usize, const KIND: u8>(&mut self, isa: I, cols: usize) {
        let groups = cols.div_ceil(GROUP);
        let units_len = if KIND == ROW { 0 } else { 2 * groups };
        while self.scales.len() >= M {
            let (x, x_left) = self.x.split_at_checked(M * cols).unwrap_or_default();
            let words = take(&mut self.words, M * groups * GROUP_STEPS);
            let units = take(&mut self.units, M * units_len);
            let scales = take(&mut self.scales, M);
            let words = words.as_chunks_mut().0.as_chunks_mut().0;
            let units = units.as_chunks_mut().0.as_chunks_mut().0;
            let mut vectors = x.chunks_exact(cols);
            let mut at = 0;
            while let (Some(a), Some(b)) = (vectors.next(), vectors.next()) {
                round_vectors::<I, M, 2, KIND>(isa, [a, b], at, words, units, scales);
                at += 2;
            }
            if M == 1 {
                round_vectors::<I, M, 1, KIND>(isa, [x], 0, words, units, scales);
            }
            self.x = x_left;
        }
    }
}

/// The first `len` words of a slice, which loses them.
#[inline(always)]
fn take<'a>(from: &mut &'a mut [u32], len: usize) -> &'a mut [u32] {
    let (first, left) = core::mem::take(from)
        .split_at_mut_checked(len)
        .unwrap_or_default();
    *from = left;
    first
}

/// The same number of groups of V vectors.
type Groups<'a, const V: usize> = [&'a [[f32; GROUP]]; V];

/// Rounds V vectors, one or two, from the `at`-th of a tile on.
#[inline(always)]
fn round_vectors<I: Isa, const M: usize, const V: usize, const KIND: u8>(
    isa: I,
    x: [&[f32]; V],
    at: usize,
    words: &mut [[[u32; M]; GROUP_STEPS]],
    units: &mut [[[u32; M]; 2]],
    scales: &mut [u32],
) {
    let full: Groups<'_, V> = x.map(|x| x.as_chunks().0);
    let mut padded = [[0.0; GROUP]; V];
    for (padded, x) in padded.iter_mut().zip(x) {
        for (padded, x) in padded.iter_mut().zip(x.as_chunks::<GROUP>().1) {
            *padded = *x;
        }
    }
    let last: Groups<'_, V> = padded.each_ref().map(core::slice::from_ref);
    let len = full.first().map_or(0, |x| x.len());
    let (words, words_last) = words.split_at_mut_checked(len).unwrap_or_default();
    let scales = scales.get_mut(at..).unwrap_or_default();
    if KIND == ROW {
        let mut factors = [0.0; V];
        for ((x, factor), to) in x.into_iter().zip(&mut factors).zip(scales) {
            let (scale, row_factor) = scale_and_factor(amax(isa, x), 63.0);
            (*factor, *to) = (row_factor, scale.to_bits());
        }
        for (x, words) in [(full, words), (last, words_last)] {
            round_with::<I, M, V>(isa, x, factors, at, words);
        }
    } else {
        let highest = if KIND == I8_GROUPS { 63.0 } else { 127.0 };
        let (units, units_last) = units.split_at_mut_checked(len).unwrap_or_default();
        let maxima = find_maxima::<I, M, V>(isa, full, at, units, [0; V]);
        let maxima = find_maxima::<I, M, V>(isa, last, at, units_last, maxima);
        let parameters = maxima.map(|amax| GroupScales::new(amax, highest));
        for (parameters, scale) in parameters.iter().zip(scales) {
            *scale = parameters.unit.to_bits();
        }
        round_groups::<I, M, V, KIND>(isa, full, parameters, at, words, units);
        round_groups::<I, M, V, KIND>(isa, last, parameters, at, words_last, units_last);
    }
}

/// Rounds groups of columns with the factors of their vectors, and offsets the levels by 64.
#[inline(always)]
fn round_with<I: Isa, const M: usize, const V: usize>(
    isa: I,
    x: Groups<'_, V>,
    factors: [f32; V],
    at: usize,
    words: &mut [[[u32; M]; GROUP_STEPS]],
) {
    let offset = isa.splat_i32(64);
    for (g, words) in words.iter_mut().enumerate() {
        let mut levels = round::<I, V>(isa, nth(&x, g), factors);
        for level in levels.as_flattened_mut() {
            *level = isa.add_i32(*level, offset);
        }
        store::<I, M, V>(isa, levels, at, words);
    }
}

/// Stores the bits of each group's largest magnitude where its relative scale will be, and returns the largest of all
/// that are known.
#[inline(always)]
fn find_maxima<I: Isa, const M: usize, const V: usize>(
    isa: I,
    x: Groups<'_, V>,
    at: usize,
    units: &mut [[[u32; M]; 2]],
    mut known: [u32; V],
) -> [u32; V] {
    for (g, [to, _]) in units.iter_mut().enumerate() {
        let mut maxima = [isa.splat(0.0); V];
        for (max, x) in maxima.iter_mut().zip(nth(&x, g)) {
            let [a, b, c, d] = load(isa, x);
            let ab = isa.max_if_positive(isa.abs(a), isa.abs(b));
            let cd = isa.max_if_positive(isa.abs(c), isa.abs(d));
            *max = isa.max_if_positive(ab, cd);
        }
        let mut bits = [0; V];
        match (maxima.as_slice(), bits.as_mut_slice()) {
            ([a, b], [to_a, to_b]) => [*to_a, *to_b] = isa.max_bits_of_two(*a, *b),
            ([a], [to]) => *to = isa.max_bits(*a),
            _ => (),
        }
        for (known, bits) in known.iter_mut().zip(bits) {
            *known = (*known).max(bits);
        }
        if let Some(to) = part(to, at) {
            *to = bits;
        }
    }
    known
}

/// Rounds groups of columns with scales of their own, whose maxima are where the relative scales will be.
#[inline(always)]
fn round_groups<I: Isa, const M: usize, const V: usize, const KIND: u8>(
    isa: I,
    x: Groups<'_, V>,
    parameters: [GroupScales; V],
    at: usize,
    words: &mut [[[u32; M]; GROUP_STEPS]],
    units: &mut [[[u32; M]; 2]],
) {
    for (g, (words, [scales, starts])) in words.iter_mut().zip(units).enumerate() {
        let (Some(scales), Some(starts)) = (part::<M, V>(scales, at), part::<M, V>(starts, at))
        else {
            return;
        };
        let mut relative = [0; V];
        let mut factors = [0.0; V];
        for ((relative, factor), (parameters, max)) in relative
            .iter_mut()
            .zip(&mut factors)
            .zip(parameters.iter().zip(&*scales))
        {
            (*relative, *factor) = parameters.of_group(*max);
        }
        let levels = round::<I, V>(isa, nth(&x, g), factors);
        let mut partial = [isa.splat_i32(0); V];
        for (partial, [a, b, c, d]) in partial.iter_mut().zip(levels) {
            *partial = isa.add_i32(isa.add_i32(a, b), isa.add_i32(c, d));
        }
        let mut sums = [0; V];
        match (partial.as_slice(), sums.as_mut_slice()) {
            ([a, b], [to_a, to_b]) => [*to_a, *to_b] = isa.sums_of_two(*a, *b),
            ([a], [to]) => *to = isa.sum_i32(*a),
            _ => (),
        }
        let to = scales.iter_mut().zip(starts);
        for ((scale, start), (relative, sum)) in to.zip(relative.into_iter().zip(sums)) {
            (*scale, *start) = match KIND {
                I8_GROUPS => (
                    (relative as f32).to_bits(),
                    sum.wrapping_mul(-I::WEIGHT_OFFSET) as u32,
                ),
                I4_GROUPS => (isa.scale_u4(relative), isa.start_u4(sum)),
                _ => (
                    isa.scale_u4(relative),
                    (sum.wrapping_mul(relative) as f32).to_bits(),
                ),
            };
        }
        store::<I, M, V>(isa, levels, at, words);
    }
}

/// The words of V vectors of a tile.
#[inline(always)]
fn part<const M: usize, const V: usize>(of: &mut [u32; M], at: usize) -> Option<&mut [u32; V]> {
    of.get_mut(at..)?.first_chunk_mut()
}

/// The `g`-th group of each vector.
#[inline(always)]
fn nth<'a, const V: usize>(x: &Groups<'a, V>, g: usize) -> [&'a [f32; GROUP]; V] {
    x.map(|x| x.get(g).unwrap_or(&[0.0; GROUP]))
}

#[inline(always)]
fn load<I: Isa>(isa: I, x: &[f32; GROUP]) -> [I::F32; 4] {
    let mut lanes = [isa.splat(0.0); 4];
    for (lanes, x) in lanes.iter_mut().zip(x.as_chunks::<8>().0) {
        *lanes = isa.load(x);
    }
    lanes
}

/// A group of each vector times its factor, in levels.
#[inline(always)]
fn round<I: Isa, const V: usize>(
    isa: I,
    x: [&[f32; GROUP]; V],
    factors: [f32; V],
) -> [[I::I32; 4]; V] {
    let mut levels = [[isa.splat_i32(0); 4]; V];
    for ((levels, x), factor) in levels.iter_mut().zip(x).zip(factors) {
        let factor = isa.splat(factor);
        for (level, x) in levels.iter_mut().zip(load(isa, x)) {
            *level = isa.round_i32(isa.mul(x, factor));
        }
    }
    levels
}

/// Stores a group's levels as bytes, among the words of the tile's other vectors.
#[inline(always)]
fn store<I: Isa, const M: usize, const V: usize>(
    isa: I,
    levels: [[I::I32; 4]; V],
    at: usize,
    words: &mut [[u32; M]; GROUP_STEPS],
) {
    match levels.as_slice() {
        [a, b] => {
            let pairs = words.as_flattened_mut().as_chunks_mut::<2>().0;
            isa.store_words_of_two([*a, *b], pairs, [at / 2, M / 2]);
        }
        [a] => {
            let mut bytes = [0; GROUP];
            isa.store_bytes(isa.narrow(*a), &mut bytes);
            for (quad, words) in bytes.as_chunks::<4>().0.iter().zip(words) {
                words[at] = u32::from_le_bytes(*quad);
            }
        }
        _ => (),
    }
}
