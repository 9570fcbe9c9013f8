//! Micro-kernels of byte products on AVX2, written instruction by instruction.
//!
//! A step of a tile is nothing but multiply-adds on the three ports that have vectors, and all sixteen registers are
//! taken. Compilers reorder it: they add the products of several steps in trees, for which registers do not suffice, or
//! keep the activations of a whole group on the stack. The contracts are those of [`Isa`](super::Isa), the integers
//! those of the generic micro-kernels.
//!
//! To call them, the caller's token proves AVX2.

use super::{GROUP_STEPS, U4Group};
use core::arch::asm;
use core::arch::x86_64::*;
use core::mem::offset_of;

/// One step of an int8 tile: 64 bytes of weights at `{w}` and four words of activations at `{x}`.
macro_rules! i8_step {
    ($step:literal) => {
        concat!(
            "vmovdqu {w0}, [{w} + 64*",
            $step,
            "]\n",
            "vmovdqu {w1}, [{w} + 64*",
            $step,
            " + 32]\n",
            i8_vector!($step, "0", "{a0}", "{b0}"),
            i8_vector!($step, "4", "{a1}", "{b1}"),
            i8_vector!($step, "8", "{a2}", "{b2}"),
            i8_vector!($step, "12", "{a3}", "{b3}"),
        )
    };
}

/// The part of [`i8_step`] for one vector: unsigned activations times signed weights, pairs to 16 and then to 32 bits.
macro_rules! i8_vector {
    ($step:literal, $at:literal, $a:literal, $b:literal) => {
        concat!(
            "vpbroadcastd {t1}, [{x} + 16*",
            $step,
            " + ",
            $at,
            "]\n",
            "vpmaddubsw {t0}, {t1}, {w0}\n",
            "vpmaddubsw {t1}, {t1}, {w1}\n",
            "vpmaddwd {t0}, {t0}, {ones}\n",
            "vpmaddwd {t1}, {t1}, {ones}\n",
            "vpaddd ",
            $a,
            ", ",
            $a,
            ", {t0}\n",
            "vpaddd ",
            $b,
            ", ",
            $b,
            ", {t1}\n",
        )
    };
}

/// [`Isa::add_i8_tile`](super::Isa::add_i8_tile) for four vectors. Steps after the last four are left out: there are a
/// multiple of four.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add_i8_tile(
    sums: &mut [[__m256i; 2]; 4],
    panel: &[[[i8; 32]; 2]],
    words: &[[u32; 4]],
) {
    let fours = (panel.len() / 4).min(words.len() / 4);
    if fours == 0 {
        return;
    }
    let [[a0, b0], [a1, b1], [a2, b2], [a3, b3]] = sums;
    // SAFETY: AVX2 is enabled. The loop reads 4 steps of 64 bytes and 4 of 16 bytes `fours` times, which `panel` and
    // `words` cover, and writes nothing but the registers that are named.
    unsafe {
        asm!(
            ".p2align 6",
            "2:",
            i8_step!("0"),
            i8_step!("1"),
            i8_step!("2"),
            i8_step!("3"),
            "add {w}, 256",
            "add {x}, 64",
            "dec {fours}",
            "jnz 2b",
            w = inout(reg) panel.as_ptr() => _,
            x = inout(reg) words.as_ptr() => _,
            fours = inout(reg) fours => _,
            a0 = inout(ymm_reg) *a0, b0 = inout(ymm_reg) *b0,
            a1 = inout(ymm_reg) *a1, b1 = inout(ymm_reg) *b1,
            a2 = inout(ymm_reg) *a2, b2 = inout(ymm_reg) *b2,
            a3 = inout(ymm_reg) *a3, b3 = inout(ymm_reg) *b3,
            w0 = out(ymm_reg) _, w1 = out(ymm_reg) _,
            t0 = out(ymm_reg) _, t1 = out(ymm_reg) _,
            ones = in(ymm_reg) _mm256_set1_epi16(1),
            options(nostack, readonly),
        );
    }
}

/// One step of a tile of 4-bit weights: 64 unsigned bytes at `{group}` and six words of activations at `{x}`.
macro_rules! u4_step {
    ($step:literal) => {
        concat!(
            "vmovdqu {w0}, [{group} + 64*",
            $step,
            "]\n",
            "vmovdqu {w1}, [{group} + 64*",
            $step,
            " + 32]\n",
            u4_vector!($step, "0", "{a0}", "{b0}"),
            u4_vector!($step, "4", "{a1}", "{b1}"),
            u4_vector!($step, "8", "{a2}", "{b2}"),
            u4_vector!($step, "12", "{a3}", "{b3}"),
            u4_vector!($step, "16", "{a4}", "{b4}"),
            u4_vector!($step, "20", "{a5}", "{b5}"),
        )
    };
}

/// The part of [`u4_step`] for one vector: a group's products stay in pairs of 16 bits.
macro_rules! u4_vector {
    ($step:literal, $at:literal, $a:literal, $b:literal) => {
        concat!(
            "vpbroadcastd {t1}, [{x} + 24*",
            $step,
            " + ",
            $at,
            "]\n",
            "vpmaddubsw {t0}, {w0}, {t1}\n",
            "vpmaddubsw {t1}, {w1}, {t1}\n",
            "vpaddw ",
            $a,
            ", ",
            $a,
            ", {t0}\n",
            "vpaddw ",
            $b,
            ", ",
            $b,
            ", {t1}\n",
        )
    };
}

/// What a vector's products of a group begin at: −4·Σa in each lane.
macro_rules! u4_start {
    ($at:literal, $a:literal, $b:literal) => {
        concat!(
            "vpbroadcastd ",
            $a,
            ", [{units} + 24 + ",
            $at,
            "]\n",
            "vpbroadcastd ",
            $b,
            ", [{units} + 24 + ",
            $at,
            "]\n",
        )
    };
}

/// The same for weights with minima: zero.
macro_rules! u4_zero {
    ($at:literal, $a:literal, $b:literal) => {
        concat!(
            "vpxor ", $a, ", ", $a, ", ", $a, "\n", "vpxor ", $b, ", ", $b, ", ", $b, "\n",
        )
    };
}

/// Adds a vector's products of a group, times its scale, then the weights' at `{w0}` and `{t0}`, to its outputs, which
/// lie in memory. Multiplying both lanes of a sum by the scale is no more work than adding them.
macro_rules! u4_scale {
    ($at:literal, $out:literal, $a:literal, $b:literal) => {
        concat!(
            "vpbroadcastd {t1}, [{units} + ",
            $at,
            "]\n",
            "vpmaddwd ",
            $a,
            ", ",
            $a,
            ", {t1}\n",
            "vpmaddwd ",
            $b,
            ", ",
            $b,
            ", {t1}\n",
            "vcvtdq2ps ",
            $a,
            ", ",
            $a,
            "\n",
            "vcvtdq2ps ",
            $b,
            ", ",
            $b,
            "\n",
            "vfmadd213ps ",
            $a,
            ", {w0}, [{outputs} + ",
            $out,
            "]\n",
            "vfmadd213ps ",
            $b,
            ", {t0}, [{outputs} + ",
            $out,
            " + 32]\n",
        )
    };
}

/// Stores a vector's outputs.
macro_rules! u4_store {
    ($at:literal, $out:literal, $a:literal, $b:literal) => {
        concat!(
            "vmovups [{outputs} + ",
            $out,
            "], ",
            $a,
            "\n",
            "vmovups [{outputs} + ",
            $out,
            " + 32], ",
            $b,
            "\n",
        )
    };
}

/// The same with the group's minima, times the sum of the vector's activations.
macro_rules! u4_store_above {
    ($at:literal, $out:literal, $a:literal, $b:literal) => {
        concat!(
            "vbroadcastss {t1}, [{units} + 24 + ",
            $at,
            "]\n",
            "vfmadd231ps ",
            $a,
            ", {t1}, [{group} + {minima}]\n",
            "vfmadd231ps ",
            $b,
            ", {t1}, [{group} + {minima} + 32]\n",
            u4_store!($at, $out, $a, $b),
        )
    };
}

/// A loop over groups of 4-bit weights.
macro_rules! u4_groups {
    ($start:ident, $store:ident, $outputs:ident, $groups:ident, $words:ident, $units:ident, $len:ident $(, $minima:ident)?) => {
        asm!(
            ".p2align 6",
            "2:",
            $start!("0", "{a0}", "{b0}"),
            $start!("4", "{a1}", "{b1}"),
            $start!("8", "{a2}", "{b2}"),
            $start!("12", "{a3}", "{b3}"),
            $start!("16", "{a4}", "{b4}"),
            $start!("20", "{a5}", "{b5}"),
            u4_step!("0"),
            u4_step!("1"),
            u4_step!("2"),
            u4_step!("3"),
            u4_step!("4"),
            u4_step!("5"),
            u4_step!("6"),
            u4_step!("7"),
            "vmovups {w0}, [{group} + {scales}]",
            "vmovups {t0}, [{group} + {scales} + 32]",
            u4_scale!("0", "0", "{a0}", "{b0}"),
            $store!("0", "0", "{a0}", "{b0}"),
            u4_scale!("4", "64", "{a1}", "{b1}"),
            $store!("4", "64", "{a1}", "{b1}"),
            u4_scale!("8", "128", "{a2}", "{b2}"),
            $store!("8", "128", "{a2}", "{b2}"),
            u4_scale!("12", "192", "{a3}", "{b3}"),
            $store!("12", "192", "{a3}", "{b3}"),
            u4_scale!("16", "256", "{a4}", "{b4}"),
            $store!("16", "256", "{a4}", "{b4}"),
            u4_scale!("20", "320", "{a5}", "{b5}"),
            $store!("20", "320", "{a5}", "{b5}"),
            "add {group}, {size}",
            "add {x}, 192",
            "add {units}, 48",
            "dec {len}",
            "jnz 2b",
            group = inout(reg) $groups.as_ptr() => _,
            x = inout(reg) $words.as_ptr() => _,
            units = inout(reg) $units.as_ptr() => _,
            len = inout(reg) $len => _,
            outputs = in(reg) $outputs.as_mut_ptr(),
            scales = const offset_of!(U4Group, scales),
            $($minima = const offset_of!(U4Group, minima),)?
            size = const size_of::<U4Group>(),
            a0 = out(ymm_reg) _, b0 = out(ymm_reg) _,
            a1 = out(ymm_reg) _, b1 = out(ymm_reg) _,
            a2 = out(ymm_reg) _, b2 = out(ymm_reg) _,
            a3 = out(ymm_reg) _, b3 = out(ymm_reg) _,
            a4 = out(ymm_reg) _, b4 = out(ymm_reg) _,
            a5 = out(ymm_reg) _, b5 = out(ymm_reg) _,
            w0 = out(ymm_reg) _, w1 = out(ymm_reg) _,
            t0 = out(ymm_reg) _, t1 = out(ymm_reg) _,
            options(nostack),
        )
    };
}

/// [`Isa::add_u4_groups`](super::Isa::add_u4_groups) for six vectors.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn add_u4_groups<const MINIMA: bool>(
    outputs: &mut [[__m256; 2]; 6],
    groups: &[U4Group],
    words: &[[u32; 6]],
    units: &[[[u32; 6]; 2]],
) {
    const {
        assert!(offset_of!(U4Group, steps) == 0);
    }
    let len = groups.len().min(words.len() / GROUP_STEPS).min(units.len());
    if len == 0 {
        return;
    }
    // SAFETY: AVX2 and FMA are enabled. The loop reads a group, eight words and two units of each vector `len` times,
    // which the slices cover, and writes nothing but the outputs and the registers that are named.
    unsafe {
        if MINIMA {
            u4_groups!(
                u4_zero,
                u4_store_above,
                outputs,
                groups,
                words,
                units,
                len,
                minima
            );
        } else {
            u4_groups!(u4_start, u4_store, outputs, groups, words, units, len);
        }
    }
}
