//! Armv8.1-M with the vector extension for integers (Helium): sixteen products of bytes an instruction, eight of 16 bits.

mod assembly;

use core::mem::MaybeUninit;
use core::ops::Range;

use super::attention::{Attend, Query, Running, Score, Scores, TILE, Tile};
use super::power::POWERS;
use super::product::Rows;
use super::quads::QUAD;
use super::{BATCH, power, scaled};
use assembly::{
    attentive_helium_add, attentive_helium_dot, attentive_helium_finish, attentive_helium_greatest,
    attentive_helium_more_scores, attentive_helium_more_values, attentive_helium_quads,
    attentive_helium_rows, attentive_helium_scale, attentive_helium_scores, attentive_helium_sum,
    attentive_helium_values, attentive_helium_weigh,
};

/// See [`product`](super::product()).
pub(super) fn product(rows: Rows<'_, i8>) {
    let vectors = rows.x.chunks_exact(rows.cols.max(1));
    for (x, out) in vectors.zip(rows.out.chunks_exact_mut(rows.rows.max(1))) {
        one(Rows { x, out, ..rows });
    }
}

fn one(rows: Rows<'_, i8>) {
    let Rows {
        weights,
        multipliers,
        biases,
        stride,
        x,
        out,
        ..
    } = rows;
    let whole = out.len() & !3;
    let have = weights.len() >= out.len() * stride && stride == super::stride(x.len());
    if !have || x.is_empty() || multipliers.len() < out.len() || biases.len() < out.len() {
        return;
    }
    if whole > 0 {
        // SAFETY: there are so many rows of `stride` bytes, the columns rounded up to 16, and so many results, multipliers
        // and biases.
        unsafe {
            attentive_helium_rows(
                x.as_ptr(),
                weights.as_ptr(),
                x.len(),
                stride,
                out.as_mut_ptr(),
                multipliers.as_ptr(),
                biases.as_ptr(),
                whole / 4,
            );
        }
    }
    let rows = weights.chunks_exact(stride.max(1));
    let scales = multipliers.iter().zip(biases);
    for (out, (row, (&multiplier, &bias))) in out.iter_mut().zip(rows.zip(scales)).skip(whole) {
        // SAFETY: a row has as many columns as the vector, and more.
        let sum = unsafe { attentive_helium_dot(x.as_ptr(), row.as_ptr(), x.len()) };
        *out = scaled(sum.wrapping_add(bias), multiplier);
    }
}

/// See [`product`](super::product()).
pub(super) fn product_of_quads(work: Rows<'_, u16>) {
    let (n, stride) = (work.rows / QUAD, work.stride);
    let have = work.weights.len() >= n * stride && stride == super::stride(work.cols);
    let scales = work.multipliers.len().min(work.biases.len());
    if n == 0 || !have || work.cols == 0 || scales < QUAD * n {
        return;
    }
    let vectors = work.x.chunks_exact(work.cols);
    for (x, out) in vectors.zip(work.out.chunks_exact_mut(work.rows)) {
        // SAFETY: there are so many elements; so many fours of rows of `stride` numbers, the columns rounded up to 16, and
        // as many results, multipliers and biases.
        unsafe {
            let sum = attentive_helium_sum(x.as_ptr(), x.len());
            attentive_helium_quads(
                x.as_ptr(),
                work.weights.as_ptr(),
                x.len(),
                sum.wrapping_mul(-8),
                out.as_mut_ptr(),
                work.multipliers.as_ptr(),
                work.biases.as_ptr(),
                n,
            );
        }
    }
}

/// Dimensions of most heads.
const HEAD_DIM_USUAL: usize = 64;

/// See [`attend`](super::attend()).
pub(super) fn attend(work: Attend<'_, '_>) {
    match work.tile.head_dim() > HEAD_DIM_USUAL {
        false => four::<HEAD_DIM_USUAL>(work),
        true => four::<{ Tile::HEAD_DIM_MAX }>(work),
    }
}

#[inline(never)]
fn four<const HEAD_DIM_MAX: usize>(work: Attend<'_, '_>) {
    let (tile, running) = (work.tile, work.running);
    let (head_dim, width) = (tile.head_dim(), tile.width());
    // Shapes were checked: visible keys are there, and values have room for them in eights.
    let (from, keys) = visible_keys(work.queries, tile);
    if keys.is_empty() {
        return;
    }
    let columns = (keys.len() / head_dim).next_multiple_of(8);
    let values = tile.values().get(from..).unwrap_or_default();
    if from + columns > width || head_dim > HEAD_DIM_MAX || running.values.len() < head_dim {
        return;
    }
    let mut scores = MaybeUninit::<Scores>::uninit();
    let scores: *mut [i16; TILE] = scores.as_mut_ptr().cast();
    // SAFETY: there is room for a tile of scores of four queries, 128 bytes apart.
    unsafe { scores_of_four(work.queries, head_dim, keys, work.multiplier, scores.cast()) };
    for lane in 0..BATCH {
        // SAFETY: there are four.
        let scores: *mut i16 = unsafe { scores.add(lane) }.cast();
        match work.queries.get(lane) {
            // SAFETY: n scores were written, and there is room for a tile's.
            Some(query) if !query.visible.is_empty() => unsafe {
                let visible = query.visible.start - from..query.visible.end - from;
                weigh(lane, visible, columns, scores, running);
            },
            // Who sees nothing has weights of nothing.
            // SAFETY: there is room for a tile's.
            _ => unsafe { scores.write_bytes(0, columns) },
        }
    }
    let mut sums = MaybeUninit::<[[i32; BATCH]; HEAD_DIM_MAX]>::uninit();
    let sums: *mut [i32; BATCH] = sums.as_mut_ptr().cast();
    for column in (0..columns).step_by(8) {
        let products = match column {
            0 => attentive_helium_values,
            _ => attentive_helium_more_values,
        };
        // SAFETY: `columns` weights of four queries were written, and values have as many places from `from` on, of each of
        // `head_dim` rows; there is room for the sums of as many, which the first of these calls writes.
        unsafe {
            products(
                scores.cast::<i16>().add(column),
                values.as_ptr().add(column),
                width,
                sums,
                head_dim,
            );
        }
    }
    // SAFETY: so many sums were written, and there are as many running ones.
    unsafe { attentive_helium_add(sums, running.values.as_mut_ptr(), head_dim) };
}

/// The place of the first key that any query sees, rounded down to eights, and the keys from it to the last; none where no
/// query sees any.
fn visible_keys<'a>(queries: &[Query<'_>], tile: &'a Tile<'_>) -> (usize, &'a [i8]) {
    let seen = || (queries.iter()).filter(|query| !query.visible.is_empty());
    let from = seen().map(|query| query.visible.start).min().unwrap_or(0) & !7;
    let to = seen().map(|query| query.visible.end).max().unwrap_or(0);
    let head_dim = tile.head_dim();
    let keys = tile.keys().get(from * head_dim..to * head_dim);
    (from, keys.unwrap_or_default())
}

/// See [`scores`](super::scores()).
pub(super) fn scores(work: Score<'_>) {
    let head_dim = work.tile.head_dim();
    let (from, keys) = visible_keys(work.queries, work.tile);
    let scores: *mut i16 = work.out.0.as_mut_ptr().cast();
    // SAFETY: behind `from` there is room for as many scores as there are keys, since both are a tile at most together.
    unsafe {
        scores_of_four(
            work.queries,
            head_dim,
            keys,
            work.multiplier,
            scores.add(from),
        );
    }
}

/// Scores of up to four queries, which have `head_dim` elements, with keys, (n, head_dim).
///
/// # Safety
/// There must be room for n scores of four queries, a tile's 128 bytes apart.
#[inline(always)]
unsafe fn scores_of_four(
    queries: &[Query<'_>],
    head_dim: usize,
    keys: &[i8],
    multiplier: i32,
    scores: *mut i16,
) {
    // Of queries that are not there, the first takes the places.
    let Some(first) = queries.first() else {
        return;
    };
    let mut elements = [first.elements.as_ptr(); BATCH];
    for (place, query) in elements.iter_mut().zip(queries) {
        *place = query.elements.as_ptr();
    }
    let mut sums = MaybeUninit::<[[i32; BATCH]; TILE]>::uninit();
    let sums: *mut [i32; BATCH] = sums.as_mut_ptr().cast();
    let n = keys.len() / head_dim.max(1);
    for dim in (0..head_dim).step_by(16) {
        let products = match dim {
            0 => attentive_helium_scores,
            _ => attentive_helium_more_scores,
        };
        let elements = elements.map(|query| query.wrapping_add(dim));
        // SAFETY: queries and n keys have `head_dim` elements, of which 16, or those that are left, are read from `dim` on;
        // there is room for the sums of a tile, which the first of these calls writes.
        unsafe {
            products(
                elements.as_ptr(),
                keys.as_ptr().add(dim),
                (head_dim - dim).min(16),
                head_dim,
                sums,
                n,
            );
        }
    }
    // SAFETY: the sums of n keys were written.
    unsafe { attentive_helium_scale(sums, n, multiplier, scores) };
}

/// Makes weights of a query's scores and adds their sum.
///
/// # Safety
/// There must be scores up to the last visible, and room for `columns`, a multiple of 8 and not 0.
unsafe fn weigh(
    lane: usize,
    visible: Range<usize>,
    columns: usize,
    scores: *mut i16,
    running: &mut Running<'_>,
) {
    let hidden = (0..visible.start).chain(visible.end..columns);
    for place in hidden.clone() {
        // SAFETY: the place is below `columns`.
        unsafe { scores.add(place).write(i16::MIN) };
    }
    // SAFETY: there are `columns` scores.
    let greatest = unsafe { attentive_helium_greatest(scores, columns / 8) };
    let greatest = running.raise(lane, greatest as i16);
    // SAFETY: as above, and the table has an entry for each difference that is not cut.
    let mut sum =
        unsafe { attentive_helium_weigh(scores, columns / 8, greatest.into(), POWERS.as_ptr()) };
    let hidden_weight = power((i32::from(greatest) - i32::from(i16::MIN)) as u32);
    if hidden_weight > 0 {
        // All scores are among the least there can be.
        for place in hidden {
            // SAFETY: the place is below `columns`.
            unsafe { scores.add(place).write(0) };
            sum = sum.wrapping_sub(hidden_weight.into());
        }
    }
    running.add_sum(lane, sum);
}

/// A query's running sums, scaled: those of `lane`, by fours. How many are done.
pub(super) fn finish(sums: &[[i32; BATCH]], lane: usize, factor: i32, out: &mut [i8]) -> usize {
    let fours = out.len().min(sums.len()) / 4;
    if lane >= BATCH || fours == 0 {
        return 0;
    }
    // SAFETY: there are four sums for each place, of which there are four for each of the fours.
    unsafe {
        let totals = sums.as_ptr().cast::<i32>().add(lane);
        attentive_helium_finish(totals, factor, out.as_mut_ptr(), fours);
    }
    4 * fours
}
