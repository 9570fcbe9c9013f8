//! Products of rows with one vector or four.

use core::mem::MaybeUninit;

use super::assembly::{attentive_dsp_four_rows, attentive_dsp_four_scaled, attentive_dsp_rows};
use super::{Wide, Wides, as_four, widen, widen_four};
use crate::integer::BATCH;
use crate::integer::product::Rows;
use crate::integer::scaled;

/// Columns whose inputs are widened at once, on the stack.
const CHUNK: usize = 256;
/// The same of four vectors.
const CHUNK_OF_FOUR: usize = 128;
/// Columns that a loop takes at once.
const STEP: usize = 16;
/// Rows whose sums for four vectors are on the stack.
const ROWS: usize = 32;

/// See [`product`](crate::integer::product()).
pub(in crate::integer) fn product(rows: Rows<'_, i8>) {
    let batches = rows.x.chunks((BATCH * rows.cols).max(1));
    for (x, out) in batches.zip(rows.out.chunks_mut((BATCH * rows.rows).max(1))) {
        let rows = Rows { x, out, ..rows };
        // Three as four take less than three one by one.
        match x.len() > 2 * rows.cols {
            true => four(rows),
            false => one_by_one(rows),
        }
    }
}

fn one_by_one(rows: Rows<'_, i8>) {
    let vectors = rows.x.chunks_exact(rows.cols.max(1));
    for (x, out) in vectors.zip(rows.out.chunks_exact_mut(rows.rows.max(1))) {
        one(Rows { x, out, ..rows });
    }
}

// Its inputs are on the stack, and so are those of `four`: not both at once.
#[inline(never)]
fn one(rows: Rows<'_, i8>) {
    let Rows {
        weights,
        multipliers,
        biases,
        pairs,
        stride,
        x,
        out,
        ..
    } = rows;
    out.fill(0);
    let mut x_pairs = 0i32;
    for (chunk, x) in x.chunks(CHUNK).enumerate() {
        let steps = x.len().div_ceil(STEP);
        let mut room = [const { MaybeUninit::uninit() }; CHUNK / 4];
        let (wide, sum) = widen(x, steps * STEP / 4, &mut room);
        x_pairs = x_pairs.wrapping_add(sum);
        let from = chunk * CHUNK;
        let rows = weights.get(from..).unwrap_or_default();
        let (twos, last) = out.as_chunks_mut::<2>();
        add_rows(wide, rows, stride, twos);
        if let [last] = last {
            let row = rows.get(2 * twos.len() * stride..).unwrap_or_default();
            let mut two = [[*last, 0]];
            add_rows(wide, row, 0, &mut two);
            let [[sum, _]] = two;
            *last = sum;
        }
    }
    let scales = multipliers.iter().zip(biases).zip(pairs);
    for (out, ((&multiplier, &bias), &pairs)) in out.iter_mut().zip(scales) {
        let corrections = bias.wrapping_sub(pairs).wrapping_sub(x_pairs);
        *out = scaled(out.wrapping_add(corrections), multiplier);
    }
}

/// Adds to sums, two by two, the Winograd products of rows with widened inputs: some [`STEP`]s of columns.
fn add_rows(wide: &[Wide], rows: &[i8], stride: usize, sums: &mut [[i32; 2]]) {
    let Some(most) = (2 * sums.len()).checked_sub(1) else {
        return;
    };
    let steps = 4 * wide.len() / STEP;
    let need = most * stride + steps * STEP;
    let aligned = rows.as_ptr().addr().is_multiple_of(4) && stride.is_multiple_of(4);
    if steps == 0 || rows.len() < need || !aligned {
        return;
    }
    // SAFETY: of `wide`, 2·STEP bytes are read a step; the last of the rows has its STEP bytes a step, as had all before
    // it, and each begins at a multiple of 4; two sums are two words.
    unsafe {
        attentive_dsp_rows(
            wide.as_ptr().cast(),
            rows.as_ptr(),
            stride,
            steps,
            sums.as_mut_ptr().cast(),
            sums.len(),
        );
    }
}

/// Up to four vectors at once.
#[inline(never)]
fn four(rows: Rows<'_, i8>) {
    let vectors = rows.x.len().div_ceil(rows.cols.max(1));
    for from in (0..rows.rows).step_by(ROWS) {
        let mut sums = [const { MaybeUninit::<[i32; BATCH]>::uninit() }; ROWS];
        let (count, biases) = (rows.rows - from, rows.biases.iter().skip(from));
        let mut len = 0;
        for (sums, &bias) in sums.iter_mut().zip(biases).take(count) {
            sums.write([bias; BATCH]);
            len += 1;
        }
        // SAFETY: so many were written.
        let sums: &mut [[i32; BATCH]] =
            unsafe { core::slice::from_raw_parts_mut(sums.as_mut_ptr().cast(), len) };
        for first in (0..rows.cols).step_by(CHUNK_OF_FOUR) {
            let cols = (rows.cols - first).min(CHUNK_OF_FOUR);
            let parts = rows.x.chunks_exact(rows.cols.max(1));
            let parts = as_four(parts.filter_map(|x| x.get(first..first + cols)));
            let mut room = [const { MaybeUninit::uninit() }; CHUNK_OF_FOUR / 4];
            let wide = widen_four(parts, cols.div_ceil(STEP) * STEP / 4, &mut room);
            let weights = rows.weights.get(from * rows.stride + first..);
            let Some(loops) = Four::new(wide, weights.unwrap_or_default(), rows.stride, sums)
            else {
                return;
            };
            if first + cols < rows.cols {
                loops.add();
            } else {
                let multipliers = rows.multipliers.get(from..).unwrap_or_default();
                let out = rows.out.get_mut(from..).unwrap_or_default();
                loops.scale(multipliers, vectors, rows.rows, out);
            }
        }
    }
}

/// Rows, at least one, that are multiplied with four vectors: shapes that the loops can take.
struct Four<'a> {
    wide: &'a [Wides],
    rows: &'a [i8],
    steps: usize,
    gap: usize,
    sums: &'a mut [[i32; BATCH]],
}

impl<'a> Four<'a> {
    fn new(
        wide: &'a [Wides],
        rows: &'a [i8],
        stride: usize,
        sums: &'a mut [[i32; BATCH]],
    ) -> Option<Self> {
        let steps = 4 * wide.len() / STEP;
        let bytes = steps * STEP;
        let gap = stride.checked_sub(bytes)?;
        let need = sums.len().checked_sub(1)? * stride + bytes;
        let aligned = rows.as_ptr().addr().is_multiple_of(4) && stride.is_multiple_of(4);
        (steps > 0 && rows.len() >= need && aligned).then_some(Self {
            wide,
            rows,
            steps,
            gap,
            sums,
        })
    }

    /// Adds the products to the sums.
    fn add(self) {
        let sums = self.sums.as_mut_ptr_range();
        // SAFETY: `wide` has 32 words a step; the last of the rows has its STEP bytes a step, as had all before it, and
        // each begins at a multiple of 4; there is a sum at least, and they end where they do.
        unsafe {
            attentive_dsp_four_rows(
                self.wide.as_ptr().cast(),
                self.rows.as_ptr(),
                self.steps,
                self.gap,
                sums.start,
                sums.end,
            );
        }
    }

    /// Adds them, scales the sums and writes those of vector `v` from `v · apart` of `out` on.
    fn scale(self, multipliers: &[i32], vectors: usize, apart: usize, out: &mut [i32]) {
        let sums = self.sums.as_ptr_range();
        let count = self.sums.len();
        let (Some(before), true) = (vectors.checked_sub(1), vectors > 2) else {
            return;
        };
        if multipliers.len() < count || out.len() < before * apart + count {
            return;
        }
        let bytes = apart * size_of::<i32>();
        // SAFETY: as above, and there is a multiplier for each sum; three or four vectors have room for as many results,
        // and a fourth that is not there has those of the third.
        unsafe {
            attentive_dsp_four_scaled(
                self.wide.as_ptr().cast(),
                self.rows.as_ptr(),
                self.steps,
                self.gap,
                sums.start,
                sums.end,
                multipliers.as_ptr(),
                out.as_mut_ptr(),
                bytes,
                if vectors > 3 { bytes } else { 0 },
            );
        }
    }
}
