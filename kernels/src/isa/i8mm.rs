//! Products with several vectors by `smmla`, the matrix product of the Arm extension I8MM.
//!
//! `smmla` multiplies two rows of eight bytes with two others into four sums (Arm Architecture Reference Manual, C7.2):
//! here two vectors with two rows of weights. Two steps of a panel, four bytes of each row, become eight bytes of two
//! rows by one interleaving of words, and so do the words of two vectors. Four vectors are sixteen accumulators; the
//! eight registers of weights are interleaved for all of them, so that sixteen products replace DotProd's thirty-two.
//!
//! While they add, the sums of vectors 2p and 2p + 1 are exchanged: the first holds both vectors' even pairs of rows,
//! the second their odd ones. [`exchange`] does and undoes it.

use super::neon::{NeonI8mm, smmla_pair};
use super::products::{add_minima, add_scaled, add_sums, scaled};
use super::{GROUP_STEPS, Isa, U4Group};
use half::f16;

type I32 = <NeonI8mm as Isa>::I32;
type F32 = <NeonI8mm as Isa>::F32;
type Bytes = <NeonI8mm as Isa>::Bytes;

/// Sums by vector into sums by pair of rows, and back: M is even.
#[inline(always)]
fn exchange<const M: usize>(isa: NeonI8mm, sums: &mut [[I32; 2]; M]) {
    for [a, b] in sums.as_chunks_mut::<2>().0 {
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = isa.zip_halves(*a, *b);
        }
    }
}

/// Adds two steps to exchanged sums.
#[inline(always)]
fn add_steps<const M: usize>(
    isa: NeonI8mm,
    sums: &mut [[I32; 2]; M],
    weights: [[Bytes; 2]; 2],
    words: &[[u32; M]; 2],
) {
    let [first, second] = weights;
    let rows = [
        isa.zip_words(first[0], second[0]),
        isa.zip_words(first[1], second[1]),
    ];
    let vectors = words[0]
        .as_chunks::<2>()
        .0
        .iter()
        .zip(words[1].as_chunks::<2>().0);
    for ([a, b], (x0, x1)) in sums.as_chunks_mut::<2>().0.iter_mut().zip(vectors) {
        let x = isa.pair_words(x0, x1);
        for ((a, b), (even, odd)) in a.iter_mut().zip(b).zip(rows) {
            *a = smmla_pair(isa, *a, x, even);
            *b = smmla_pair(isa, *b, x, odd);
        }
    }
}

/// [`Isa::add_i8_tile`] for an even number of steps and of vectors.
#[inline(always)]
pub(super) fn add_i8_tile<const M: usize>(
    isa: NeonI8mm,
    sums: &mut [[I32; 2]; M],
    panel: &[[[i8; 32]; 2]],
    words: &[[u32; M]],
) {
    exchange(isa, sums);
    for (steps, words) in panel
        .as_chunks::<2>()
        .0
        .iter()
        .zip(words.as_chunks::<2>().0)
    {
        let weights = steps
            .each_ref()
            .map(|step| step.each_ref().map(|w| isa.load_bytes_i8(w)));
        add_steps(isa, sums, weights, words);
    }
    exchange(isa, sums);
}

/// [`Isa::add_i8_groups`] for an even number of vectors.
#[inline(always)]
pub(super) fn add_i8_groups<const M: usize>(
    isa: NeonI8mm,
    outputs: &mut [[F32; 2]; M],
    groups: &[[[[i8; 32]; 2]; GROUP_STEPS]],
    scales: &[[[f16; 8]; 2]],
    words: &[[u32; M]],
    units: &[[[u32; M]; 2]],
    steps: usize,
) {
    let words = words.as_chunks::<GROUP_STEPS>().0;
    let activations = words.iter().zip(units);
    for ((group, scales), (words, [x_scales, starts])) in groups.iter().zip(scales).zip(activations)
    {
        let mut sums = starts.map(|start| [isa.splat_i32(start as i32); 2]);
        let group = group.get(..steps).unwrap_or_default();
        add_i8_tile(isa, &mut sums, group, words);
        let scales = [isa.load_f16(&scales[0]), isa.load_f16(&scales[1])];
        add_sums(isa, outputs, sums, scales, x_scales);
    }
}

/// [`Isa::add_u4_groups`] for an even number of vectors: weights below 16 are signed bytes too.
#[inline(always)]
pub(super) fn add_u4_groups<const M: usize, const MINIMA: bool>(
    isa: NeonI8mm,
    outputs: &mut [[F32; 2]; M],
    groups: &[U4Group],
    words: &[[u32; M]],
    units: &[[[u32; M]; 2]],
    steps: usize,
) {
    let words = words.as_chunks::<GROUP_STEPS>().0;
    for ((group, words), [x_scales, starts]) in groups.iter().zip(words).zip(units) {
        let mut sums = if MINIMA {
            [[isa.splat_i32(0); 2]; M]
        } else {
            starts.map(|start| [isa.splat_i32(start as i32); 2])
        };
        exchange(isa, &mut sums);
        let packed = group
            .steps
            .get(..steps)
            .unwrap_or_default()
            .as_chunks::<2>()
            .0;
        for (two, words) in packed.iter().zip(words.as_chunks::<2>().0) {
            let weights = two
                .each_ref()
                .map(|step| step.each_ref().map(|w| isa.load_bytes_u8(w)));
            add_steps(isa, &mut sums, weights, words);
        }
        exchange(isa, &mut sums);
        let scales = [isa.load(&group.scales[0]), isa.load(&group.scales[1])];
        add_scaled(isa, outputs, scaled(isa, sums, x_scales), scales);
        if MINIMA {
            add_minima(isa, outputs, &group.minima, starts);
        }
    }
}
