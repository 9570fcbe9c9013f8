//! Armv7E-M and Armv8-M with the DSP extension: two products of 16 bits an instruction.
//!
//! Weights stay bytes. `sxtab16` widens two of them and adds two inputs at once, so by Winograd's inner product
//! ([`pair_sums`](super::pair_sums)) four columns of a row take three instructions and a share of the loads.

use super::product::Rows;
use super::scaled;

/// Columns whose inputs are widened at once, on the stack.
const CHUNK: usize = 256;
/// Columns that the loop takes at once.
const STEP: usize = 16;

/// See [`product`](super::product()).
pub(super) fn product(rows: Rows<'_>) {
    let Rows {
        weights,
        multipliers,
        biases,
        pairs,
        stride,
        x,
        out,
    } = rows;
    out.fill(0);
    let mut x_pairs = 0i32;
    for (chunk, x) in x.chunks(CHUNK).enumerate() {
        let mut wide = [[0u32; 2]; CHUNK / 4];
        x_pairs = x_pairs.wrapping_add(widen(x, &mut wide));
        let steps = x.len().div_ceil(STEP);
        let from = chunk * CHUNK;
        let row = |row: usize| weights.get(row * stride + from..).unwrap_or_default();
        let (twos, last) = out.as_chunks_mut::<2>();
        for (index, two) in twos.iter_mut().enumerate() {
            add_two(&wide, [row(2 * index), row(2 * index + 1)], steps, two);
        }
        if let [last] = last {
            let last_row = row(2 * twos.len());
            let mut two = [*last, 0];
            add_two(&wide, [last_row; 2], steps, &mut two);
            *last = two[0];
        }
    }
    let scales = multipliers.iter().zip(biases).zip(pairs);
    for (out, ((&multiplier, &bias), &pairs)) in out.iter_mut().zip(scales) {
        let corrections = bias.wrapping_sub(pairs).wrapping_sub(x_pairs);
        *out = scaled(out.wrapping_add(corrections), multiplier);
    }
}

/// Widens bytes: of each four, the halves (0, 2) and (1, 3). Returns the sum of the products of pairs.
fn widen(x: &[i8], wide: &mut [[u32; 2]]) -> i32 {
    let mut sum = 0i32;
    let pair = |a: i8, b: i8| u32::from(a as i16 as u16) | u32::from(b as i16 as u16) << 16;
    let (fours, rest) = x.as_chunks::<4>();
    let mut last = [0i8; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    for (wide, &[a, b, c, d]) in wide.iter_mut().zip(fours.iter().chain([&last])) {
        *wide = [pair(a, c), pair(b, d)];
        let products = i32::from(a) * i32::from(b) + i32::from(c) * i32::from(d);
        sum = sum.wrapping_add(products);
    }
    sum
}

/// Adds to two sums the Winograd products of two rows with widened inputs: `steps` of [`STEP`] columns.
fn add_two(wide: &[[u32; 2]; CHUNK / 4], rows: [&[i8]; 2], steps: usize, sums: &mut [i32; 2]) {
    let enough = |row: &[i8]| row.len() >= steps * STEP && row.as_ptr().addr() % 4 == 0;
    if steps == 0 || steps > CHUNK / STEP || !rows.iter().all(|row| enough(row)) {
        return;
    }
    // SAFETY: `wide` has 2·CHUNK bytes, of which 2·STEP are read a step, and there are at most CHUNK / STEP steps; each
    // row has STEP bytes a step and begins at a multiple of 4; the sums are two words.
    unsafe {
        attentive_dsp_two_rows(
            wide.as_ptr().cast(),
            rows[0].as_ptr(),
            rows[1].as_ptr(),
            steps,
            sums.as_mut_ptr(),
        );
    }
}

// SAFETY: defined below, with that signature.
unsafe extern "C" {
    fn attentive_dsp_two_rows(
        wide: *const u32,
        a: *const i8,
        b: *const i8,
        steps: usize,
        sums: *mut i32,
    );
}

// r0 inputs, r1 and r2 rows, r3 steps, r4 and r5 sums, r6–r9 eight inputs, r10 and r11 eight weights.
core::arch::global_asm!(
    ".section .text.attentive_dsp_two_rows,\"ax\",%progbits",
    ".global attentive_dsp_two_rows",
    ".type attentive_dsp_two_rows,%function",
    ".syntax unified",
    ".thumb_func",
    ".p2align 2",
    "attentive_dsp_two_rows:",
    "push {{r4-r11, lr}}",
    "ldr r12, [sp, #36]",
    "ldm r12, {{r4, r5}}",
    "2:",
    // Columns 0 to 7.
    "ldm r0!, {{r6-r9}}",
    "ldm r1!, {{r10, r11}}",
    "sxtab16 r12, r7, r10",
    "sxtab16 r10, r6, r10, ror #8",
    "smlad r4, r12, r10, r4",
    "sxtab16 r12, r9, r11",
    "sxtab16 r11, r8, r11, ror #8",
    "smlad r4, r12, r11, r4",
    "ldm r2!, {{r10, r11}}",
    "sxtab16 r12, r7, r10",
    "sxtab16 r10, r6, r10, ror #8",
    "smlad r5, r12, r10, r5",
    "sxtab16 r12, r9, r11",
    "sxtab16 r11, r8, r11, ror #8",
    "smlad r5, r12, r11, r5",
    // Columns 8 to 15.
    "ldm r0!, {{r6-r9}}",
    "ldm r1!, {{r10, r11}}",
    "sxtab16 r12, r7, r10",
    "sxtab16 r10, r6, r10, ror #8",
    "smlad r4, r12, r10, r4",
    "sxtab16 r12, r9, r11",
    "sxtab16 r11, r8, r11, ror #8",
    "smlad r4, r12, r11, r4",
    "ldm r2!, {{r10, r11}}",
    "sxtab16 r12, r7, r10",
    "sxtab16 r10, r6, r10, ror #8",
    "smlad r5, r12, r10, r5",
    "sxtab16 r12, r9, r11",
    "sxtab16 r11, r8, r11, ror #8",
    "smlad r5, r12, r11, r5",
    "subs r3, r3, #1",
    "bne 2b",
    "ldr r12, [sp, #36]",
    "stm r12, {{r4, r5}}",
    "pop {{r4-r11, pc}}",
    ".size attentive_dsp_two_rows, . - attentive_dsp_two_rows",
);
