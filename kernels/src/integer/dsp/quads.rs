//! Products of four rows of four bits at a time with one vector.

use super::assembly::attentive_dsp_quads;
use super::{Wide, smlad, sxtb16, sxtb16_high, word};
use crate::integer::product::Rows;
use crate::integer::quads::QUAD;
use crate::integer::scaled;

/// Columns whose inputs are widened at once, on the stack.
const CHUNK: usize = 256;
/// Columns that a loop takes at once.
const STEP: usize = 16;

/// What a loop adds up for four rows: the products of the whole numbers, of the first and third row, of the third and fourth
/// and of the third alone, the last two as Winograd's.
type Sums = [i32; QUAD];

/// See [`product`](crate::integer::product()).
pub(in crate::integer) fn product_of_quads(work: Rows<'_, u16>) {
    let vectors = work.x.chunks_exact(work.cols.max(1));
    for (x, out) in vectors.zip(work.out.chunks_exact_mut(work.rows.max(1))) {
        one(Rows { x, out, ..work });
    }
}

// Its inputs are on the stack: not while others' are.
#[inline(never)]
fn one(work: Rows<'_, u16>) {
    let out = work.out.as_chunks_mut::<QUAD>().0;
    for (chunk, x) in work.x.chunks(CHUNK).enumerate() {
        let mut room = [Wide::default(); CHUNK / 4];
        let wide = widen(x, &mut room);
        let begun = begin(wide);
        match chunk {
            0 => out.fill(begun),
            _ => {
                for sums in &mut *out {
                    for (sum, begun) in sums.iter_mut().zip(begun) {
                        *sum = sum.wrapping_add(begun);
                    }
                }
            }
        }
        let quads = work.weights.get(chunk * CHUNK..).unwrap_or_default();
        add(wide, quads, work.stride, out);
    }
    let scales = work.multipliers.as_chunks().0.iter();
    let scales = scales.zip(work.biases.as_chunks().0);
    let scales = scales.zip(work.pairs.as_chunks().0);
    for (sums, (scales, [own, more])) in out.iter_mut().zip(scales) {
        let [all, first_third, both, third] = *sums;
        let c = third.wrapping_sub(*own);
        let a = first_third.wrapping_sub(c.wrapping_mul(256));
        // Sixteen times the fourth row's, and the second's.
        let d = both.wrapping_sub(third).wrapping_sub(*more);
        let b = all
            .wrapping_sub(first_third)
            .wrapping_sub(d.wrapping_mul(256));
        let ([m0, m1, m2, m3], [b0, b1, b2, b3]): (&Sums, &Sums) = scales;
        *sums = [
            scaled(b0.wrapping_add(a.wrapping_mul(16)), *m0),
            scaled(b1.wrapping_add(b), *m1),
            scaled(b2.wrapping_add(c.wrapping_mul(16)), *m2),
            scaled(b3.wrapping_add(d), *m3),
        ];
    }
}

/// What takes back that levels have an 8 added, the fourth row's excepted, and what Winograd's products have of the inputs
/// alone.
fn begin(wide: &[Wide]) -> Sums {
    const ONES: u32 = 0x0001_0001;
    let (mut pairs, mut sum) = (0, 0i32);
    for &[low, high] in wide {
        pairs = smlad(low, high, pairs);
        sum = smlad(high, ONES, smlad(low, ONES, sum));
    }
    let eight = sum.wrapping_mul(-8);
    let third = eight.wrapping_sub(pairs);
    let [all, first_third] = [1 + 16 + 256, 1 + 256].map(|weight| eight.wrapping_mul(weight));
    [all, first_third, third, third]
}

/// Widens bytes to the halves (0, 1) and (2, 3) of each four, with zeros up to a whole step.
fn widen<'a>(x: &[i8], room: &'a mut [Wide; CHUNK / 4]) -> &'a [Wide] {
    let mut bytes = [0; CHUNK];
    for (to, from) in bytes.iter_mut().zip(x) {
        *to = *from;
    }
    let steps = x.len().div_ceil(STEP);
    let wide = room.get_mut(..steps * STEP / 4).unwrap_or_default();
    for (wide, four) in wide.iter_mut().zip(bytes.as_chunks::<4>().0) {
        let (even, odd) = (sxtb16(word(*four)), sxtb16_high(word(*four)));
        *wide = [even & 0xffff | odd << 16, even >> 16 | odd & 0xffff_0000];
    }
    wide
}

/// Adds to sums the products of fours of rows with widened inputs: some [`STEP`]s of columns.
fn add(wide: &[Wide], quads: &[u16], stride: usize, sums: &mut [Sums]) {
    let cols = 4 * wide.len();
    let (Some(last), Some(gap)) = (sums.len().checked_sub(1), stride.checked_sub(cols)) else {
        return;
    };
    let aligned = quads.as_ptr().addr().is_multiple_of(4) && stride.is_multiple_of(2);
    if cols == 0 || !cols.is_multiple_of(STEP) || quads.len() < last * stride + cols || !aligned {
        return;
    }
    let (inputs, sums) = (wide.as_ptr_range(), sums.as_mut_ptr_range());
    // SAFETY: inputs are read to their end, 32 bytes a step, and of each row as many numbers as there are inputs: the last
    // has them, as had all before it; each begins at a multiple of 4. There is a sum at least, and they end where they do.
    unsafe {
        attentive_dsp_quads(
            inputs.start.cast(),
            quads.as_ptr(),
            inputs.end.cast(),
            gap * size_of::<u16>(),
            sums.start,
            sums.end,
        );
    }
}
