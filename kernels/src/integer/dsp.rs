//! Armv7E-M and Armv8-M with the DSP extension: two products of 16 bits an instruction.
//!
//! Weights stay bytes. `sxtab16` widens two of them and adds two inputs at once, so by Winograd's inner product
//! ([`pair_sums`](super::pair_sums)) four columns of a row take three instructions and a share of the loads.

use core::arch::asm;

use super::attention::{TILE, Tile};
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
        let rows = weights.get(from..).unwrap_or_default();
        let (twos, last) = out.as_chunks_mut::<2>();
        add_rows(&wide, rows, stride, steps, twos);
        if let [last] = last {
            let row = rows.get(2 * twos.len() * stride..).unwrap_or_default();
            let mut two = [[*last, 0]];
            add_rows(&wide, row, 0, steps, &mut two);
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

/// Widens bytes: of each four, the halves (0, 2) and (1, 3). Returns the sum of the products of pairs.
fn widen(x: &[i8], wide: &mut [[u32; 2]]) -> i32 {
    let mut sum = 0;
    let (fours, rest) = x.as_chunks::<4>();
    let mut last = [0i8; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    for (wide, &four) in wide.iter_mut().zip(fours.iter().chain([&last])) {
        let (even, odd) = (sxtb16(word(four)), sxtb16_high(word(four)));
        *wide = [even, odd];
        sum = smlad(even, odd, sum);
    }
    sum
}

/// Adds to sums, two by two, the Winograd products of rows with widened inputs: `steps` of [`STEP`] columns.
fn add_rows(
    wide: &[[u32; 2]; CHUNK / 4],
    rows: &[i8],
    stride: usize,
    steps: usize,
    sums: &mut [[i32; 2]],
) {
    let Some(most) = (2 * sums.len()).checked_sub(1) else {
        return;
    };
    let need = most * stride + steps * STEP;
    let aligned = rows.as_ptr().addr().is_multiple_of(4) && stride.is_multiple_of(4);
    if steps == 0 || steps > CHUNK / STEP || rows.len() < need || !aligned {
        return;
    }
    // SAFETY: `wide` has 2·CHUNK bytes, of which 2·STEP are read a step, and there are at most CHUNK / STEP steps; the
    // last of the rows has its STEP bytes a step, as had all before it, and each begins at a multiple of 4; two sums are
    // two words.
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

// SAFETY: defined below, with that signature.
unsafe extern "C" {
    fn attentive_dsp_rows(
        wide: *const u32,
        rows: *const i8,
        stride: usize,
        steps: usize,
        sums: *mut i32,
        pairs: usize,
    );
}

core::arch::global_asm!(
    // The assembler does not know what the compiler was told of the processor.
    #[cfg(attentive_armv8m)]
    ".cpu cortex-m33",
    ".section .text.attentive_dsp_rows,\"ax\",%progbits",
    ".global attentive_dsp_rows",
    ".type attentive_dsp_rows,%function",
    ".syntax unified",
    ".thumb_func",
    ".p2align 2",
    "attentive_dsp_rows:",
    // On the stack: a word, nine saved registers, from 40 on inputs, row, stride, steps, sums, pairs.
    "push {{r0-r3}}",
    "push {{r4-r11, lr}}",
    "sub sp, sp, #4",
    "1:",
    "ldr r12, [sp, #56]",
    "ldm r12, {{r4, r5}}",
    "add r2, sp, #40",
    "ldm r2, {{r0, r1, r2, r3}}",
    "add r2, r1, r2",
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
    "ldr r12, [sp, #56]",
    "stm r12!, {{r4, r5}}",
    "str r12, [sp, #56]",
    // Two rows on.
    "ldr r1, [sp, #44]",
    "ldr r2, [sp, #48]",
    "add r1, r1, r2, lsl #1",
    "str r1, [sp, #44]",
    "ldr r12, [sp, #60]",
    "subs r12, r12, #1",
    "str r12, [sp, #60]",
    "bne 1b",
    "add sp, sp, #4",
    "pop {{r4-r11, lr}}",
    "add sp, sp, #16",
    "bx lr",
    ".size attentive_dsp_rows, . - attentive_dsp_rows",
);

/// Dimensions of the widest head.
const HEAD_DIM_MAX: usize = 256;

/// Whether [`attend`] can take a tile: its rows must begin at words.
pub(super) fn can_attend(tile: &Tile<'_, '_>) -> bool {
    let is_word = |row: &[i8]| row.as_ptr().addr().is_multiple_of(4);
    let head_dim = tile.query.len();
    is_word(tile.keys)
        && is_word(tile.values)
        && (8..=HEAD_DIM_MAX).contains(&head_dim)
        && head_dim.is_multiple_of(8)
        && tile.values.len() >= tile.keys.len()
}

/// See [`attend`](super::attend()); nothing for a tile that [`can_attend`] refuses.
pub(super) fn attend(tile: Tile<'_, '_>) {
    if !can_attend(&tile) {
        return;
    }
    let Tile {
        query,
        keys,
        values,
        multiplier,
        running,
    } = tile;
    let head_dim = query.len();
    let n = keys.len().checked_div(head_dim).unwrap_or(0);
    let mut wide = [[0u32; 2]; HEAD_DIM_MAX / 4];
    widen(query, &mut wide);
    // Read as words.
    #[repr(align(4))]
    struct Scores([[i16; 2]; TILE / 2]);
    let mut scores = Scores([[0; 2]; TILE / 2]);
    let Some(weights) = scores.0.as_flattened_mut().get_mut(..n) else {
        return;
    };
    if weights.is_empty() {
        return;
    }
    // SAFETY: the query has `head_dim` halves in `wide`, `keys` n rows of `head_dim` bytes that begin at a word, and
    // there is room for n scores, of which there is one at least; `head_dim` is a multiple of 8 and not 0.
    unsafe {
        attentive_dsp_scores(
            wide.as_ptr().cast(),
            keys.as_ptr(),
            head_dim / 8,
            weights.as_mut_ptr(),
            n,
            multiplier,
        );
    }
    let max = weights.iter().fold(i16::MIN, |max, &score| max.max(score));
    running.weigh(max, weights);
    let (totals, _) = running.values.as_chunks_mut::<4>();
    let (quads, _) = values.as_chunks::<4>();
    for (index, totals) in totals.iter_mut().enumerate() {
        let mut sums = [0i32; 4];
        if n >= 2
            && let Some(column) = quads.get(index..)
        {
            // SAFETY: there are n / 2 pairs of weights, and in a row of `head_dim` bytes, which begins at a word, four
            // from 4·index on; the values have as many rows as the keys.
            unsafe {
                attentive_dsp_values(
                    scores.0.as_ptr().cast(),
                    column.as_ptr().cast(),
                    head_dim,
                    n / 2,
                    sums.as_mut_ptr(),
                );
            }
        }
        let last = n.saturating_sub(1);
        if n % 2 == 1
            && let (Some(row), Some(&[weight, _])) = (
                quads.get(last * (head_dim / 4) + index),
                scores.0.get(n / 2),
            )
        {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(i32::from(weight) * i32::from(value));
            }
        }
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total = total.saturating_add(sum.wrapping_add(1 << 5) >> 6);
        }
    }
}

// SAFETY: defined below, with these signatures.
unsafe extern "C" {
    fn attentive_dsp_scores(
        query: *const u32,
        keys: *const i8,
        eights: usize,
        scores: *mut i16,
        n: usize,
        multiplier: i32,
    );
    fn attentive_dsp_values(
        weights: *const u32,
        values: *const i8,
        stride: usize,
        pairs: usize,
        sums: *mut i32,
    );
}

// Scores: r0 query, r1 keys, r2 eights of a row, r3 scores, r4 sum, r5 the query's rest, r6 eights left, r7–r10 eight
// of its elements, r11 and r12 eight of a key's. Values: r0 weights, r1 values, r2 stride, r3 pairs, r4–r7 sums, r8 two
// weights, r12 and lr four values of either key.
core::arch::global_asm!(
    #[cfg(attentive_armv8m)]
    ".cpu cortex-m33",
    ".section .text.attentive_dsp_scores,\"ax\",%progbits",
    ".global attentive_dsp_scores",
    ".type attentive_dsp_scores,%function",
    ".syntax unified",
    ".thumb_func",
    ".p2align 2",
    "attentive_dsp_scores:",
    "push {{r4-r11, lr}}",
    "1:",
    "mov r4, #0",
    "mov r5, r0",
    "mov r6, r2",
    "2:",
    "ldm r5!, {{r7-r10}}",
    "ldm r1!, {{r11, r12}}",
    "sxtb16 lr, r11",
    "smlad r4, lr, r7, r4",
    "sxtb16 r11, r11, ror #8",
    "smlad r4, r11, r8, r4",
    "sxtb16 lr, r12",
    "smlad r4, lr, r9, r4",
    "sxtb16 r12, r12, ror #8",
    "smlad r4, r12, r10, r4",
    "subs r6, r6, #1",
    "bne 2b",
    "ldr r7, [sp, #40]",
    "smmulr r4, r4, r7",
    "ssat r4, #16, r4",
    "strh r4, [r3], #2",
    "ldr r7, [sp, #36]",
    "subs r7, r7, #1",
    "str r7, [sp, #36]",
    "bne 1b",
    "pop {{r4-r11, pc}}",
    ".size attentive_dsp_scores, . - attentive_dsp_scores",
    ".section .text.attentive_dsp_values,\"ax\",%progbits",
    ".global attentive_dsp_values",
    ".type attentive_dsp_values,%function",
    ".thumb_func",
    ".p2align 2",
    "attentive_dsp_values:",
    "push {{r4-r11, lr}}",
    "mov r4, #0",
    "mov r5, #0",
    "mov r6, #0",
    "mov r7, #0",
    "1:",
    "ldr r12, [r1]",
    "ldr lr, [r1, r2]",
    "add r1, r1, r2, lsl #1",
    "ldr r8, [r0], #4",
    "sxtb16 r9, r12",
    "sxtb16 r10, lr",
    "pkhbt r11, r9, r10, lsl #16",
    "smlad r4, r11, r8, r4",
    "pkhtb r9, r10, r9, asr #16",
    "smlad r6, r9, r8, r6",
    "sxtb16 r9, r12, ror #8",
    "sxtb16 r10, lr, ror #8",
    "pkhbt r11, r9, r10, lsl #16",
    "smlad r5, r11, r8, r5",
    "pkhtb r9, r10, r9, asr #16",
    "smlad r7, r9, r8, r7",
    "subs r3, r3, #1",
    "bne 1b",
    "ldr r12, [sp, #36]",
    "stm r12, {{r4-r7}}",
    "pop {{r4-r11, pc}}",
    ".size attentive_dsp_values, . - attentive_dsp_values",
);

fn word(bytes: [i8; 4]) -> u32 {
    u32::from_le_bytes(bytes.map(i8::cast_unsigned))
}

/// Instructions of the DSP extension, as functions of their registers.
macro_rules! instructions {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) -> $out:ty = $text:literal;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        fn $name($($arg: $kind),*) -> $out {
            let out;
            // SAFETY: the instruction reads and writes registers only; it may set the Q flag, which nothing reads.
            unsafe {
                asm!($text, out = lateout(reg) out, $($arg = in(reg) $arg),*, options(pure, nomem, nostack));
            }
            out
        }
    )*};
}

instructions! {
    /// Bytes 0 and 2 as halves.
    sxtb16(x: u32) -> u32 = "sxtb16 {out}, {x}";
    /// Bytes 1 and 3 as halves.
    sxtb16_high(x: u32) -> u32 = "sxtb16 {out}, {x}, ror #8";
    /// Both products of halves, and `sum`.
    smlad(a: u32, b: u32, sum: i32) -> i32 = "smlad {out}, {a}, {b}, {sum}";
}
