//! Armv7E-M and Armv8-M with the DSP extension: two products of 16 bits an instruction.
//!
//! Weights stay bytes. `sxtab16` widens two of them and adds two inputs at once, so by Winograd's inner product
//! ([`pair_sums`](super::pair_sums)) four columns of a row take three instructions and a share of the loads.

use core::arch::asm;

use super::attention::{TILE, Tile};
use super::product::Rows;
use super::{scaled, to_i16};

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

/// See [`attend`](super::attend).
pub(super) fn attend(tile: Tile<'_, '_>) {
    let Tile {
        query,
        keys,
        values,
        multiplier,
        running,
    } = tile;
    let head_dim = query.len();
    if !(8..=HEAD_DIM_MAX).contains(&head_dim) {
        return;
    }
    let n = keys.len() / head_dim;
    let mut wide = [[0u32; 2]; HEAD_DIM_MAX / 4];
    widen(query, &mut wide);
    // Filled up with a weight of nothing, so that keys go in pairs.
    let mut scores = [[0i16; 2]; TILE / 2];
    let Some(weights) = scores.as_flattened_mut().get_mut(..n) else {
        return;
    };
    let mut max = i16::MIN;
    // Eight elements of a head and of a key at once.
    let (eights, _) = wide.as_chunks::<2>();
    let Some(query) = eights.get(..head_dim / 8) else {
        return;
    };
    for (score, key) in weights.iter_mut().zip(keys.chunks_exact(head_dim)) {
        let mut sum = 0;
        for (key, &[[a, b], [c, d]]) in key.as_chunks::<8>().0.iter().zip(query) {
            let &[k0, k1, k2, k3, k4, k5, k6, k7] = key;
            let (low, high) = (word([k0, k1, k2, k3]), word([k4, k5, k6, k7]));
            sum = smlad(sxtb16(low), a, sum);
            sum = smlad(sxtb16_high(low), b, sum);
            sum = smlad(sxtb16(high), c, sum);
            sum = smlad(sxtb16_high(high), d, sum);
        }
        *score = to_i16(scaled(sum, multiplier));
        max = max.max(*score);
    }
    running.weigh(max, weights);
    let (quads, two) = (head_dim / 4, head_dim / 4 * 2);
    if two == 0 {
        return;
    }
    let (values, _) = values.as_chunks::<4>();
    let (totals, _) = running.values.as_chunks_mut::<4>();
    for (index, totals) in totals.iter_mut().enumerate() {
        let mut sums = [0i32; 4];
        for (&[first, second], values) in scores.iter().zip(values.chunks(two)) {
            let weights = u32::from(first as u16) | u32::from(second as u16) << 16;
            // Behind the last of an odd number of keys stands a weight of 0.
            let at = |index: usize| word(values.get(index).copied().unwrap_or_default());
            let (a, b) = (at(index), at(index + quads));
            let (even_a, odd_a) = (sxtb16(a), sxtb16_high(a));
            let (even_b, odd_b) = (sxtb16(b), sxtb16_high(b));
            sums[0] = smlad(pack_low(even_a, even_b), weights, sums[0]);
            sums[1] = smlad(pack_low(odd_a, odd_b), weights, sums[1]);
            sums[2] = smlad(pack_high(even_a, even_b), weights, sums[2]);
            sums[3] = smlad(pack_high(odd_a, odd_b), weights, sums[3]);
        }
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total = total.saturating_add(sum.wrapping_add(1 << 5) >> 6);
        }
    }
}

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
    /// The low halves of both.
    pack_low(a: u32, b: u32) -> u32 = "pkhbt {out}, {a}, {b}, lsl #16";
    /// The high halves of both.
    pack_high(a: u32, b: u32) -> u32 = "pkhtb {out}, {b}, {a}, asr #16";
}
