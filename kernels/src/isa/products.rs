//! The micro-kernels of integer products in terms of an instruction set's operations.
//!
//! [`Isa`] documents them: these are what its methods do where an instruction set does not override them, in functions so that
//! one that overrides a method for some processors can still call it for the others.

use super::{GROUP_STEPS, Isa, U4Group};
use half::f16;

#[inline(always)]
pub(super) fn add_i8_tile<I: Isa, const M: usize>(
    isa: I,
    sums: &mut [[I::I32; 2]; M],
    panel: &[[[i8; 32]; 2]],
    words: &[[u32; M]],
) {
    for (step, words) in panel.iter().zip(words) {
        let (w0, w1) = (isa.load_bytes_i8(&step[0]), isa.load_bytes_i8(&step[1]));
        for ([s0, s1], x) in sums.iter_mut().zip(words) {
            let x = isa.splat4_u8(x.to_le_bytes());
            *s0 = isa.dot4_u7(*s0, x, w0);
            *s1 = isa.dot4_u7(*s1, x, w1);
        }
    }
}

#[inline(always)]
pub(super) fn add_i8_panels<I: Isa, const P: usize>(
    isa: I,
    sums: &mut [[I::I32; 2]; P],
    panels: [&[[[i8; 32]; 2]]; P],
    words: &[u32],
) {
    let words = words.as_chunks::<4>().0;
    let panels = panels.map(|panel| panel.as_chunks::<4>().0);
    let len = panels
        .iter()
        .fold(words.len(), |len, panel| len.min(panel.len()));
    for k in 0..len {
        for (i, x) in words[k].iter().enumerate() {
            let x = isa.splat4_u8(x.to_le_bytes());
            for ([s0, s1], panel) in sums.iter_mut().zip(panels) {
                let step = &panel[k][i];
                *s0 = isa.dot4_u7(*s0, x, isa.load_bytes_i8(&step[0]));
                *s1 = isa.dot4_u7(*s1, x, isa.load_bytes_i8(&step[1]));
            }
        }
    }
}

#[inline(always)]
pub(super) fn add_i8_groups<I: Isa, const M: usize>(
    isa: I,
    outputs: &mut [[I::F32; 2]; M],
    groups: &[[[[i8; 32]; 2]; GROUP_STEPS]],
    scales: &[[[f16; 8]; 2]],
    words: &[[u32; M]],
    steps: usize,
) {
    let words = words.as_chunks::<GROUP_STEPS>().0;
    for ((group, words), [s0, s1]) in groups.iter().zip(words).zip(scales) {
        let mut sums = [[isa.splat_i32(0); 2]; M];
        isa.add_i8_tile(&mut sums, group.get(..steps).unwrap_or_default(), words);
        let (s0, s1) = (isa.load_f16(s0), isa.load_f16(s1));
        for ([y0, y1], sums) in outputs.iter_mut().zip(sums) {
            *y0 = isa.fma(isa.to_f32(sums[0]), s0, *y0);
            *y1 = isa.fma(isa.to_f32(sums[1]), s1, *y1);
        }
    }
}

#[inline(always)]
pub(super) fn start_u4(sum: i32) -> u32 {
    // −4·sum in each of the two lanes of sixteen bits that make an output's sum.
    let lane = u32::from((sum.wrapping_mul(-4)) as u16);
    lane << 16 | lane
}

#[inline(always)]
pub(super) fn add_u4_groups<I: Isa, const M: usize, const MINIMA: bool>(
    isa: I,
    outputs: &mut [[I::F32; 2]; M],
    groups: &[U4Group],
    words: &[[u32; M]],
    sums: &[[u32; M]],
    steps: usize,
) {
    let words = words.as_chunks::<GROUP_STEPS>().0;
    for ((group, words), sums) in groups.iter().zip(words).zip(sums) {
        let mut lanes = [[isa.splat2_i16(0); 2]; M];
        if !MINIMA {
            for (lanes, start) in lanes.iter_mut().zip(sums) {
                *lanes = [isa.splat2_i16(*start); 2];
            }
        }
        let group_steps = group.steps.get(..steps).unwrap_or_default();
        for (step, words) in group_steps.iter().zip(words) {
            let (w0, w1) = (isa.load_bytes_u8(&step[0]), isa.load_bytes_u8(&step[1]));
            for ([l0, l1], x) in lanes.iter_mut().zip(words) {
                let x = isa.splat4_u8(x.to_le_bytes());
                *l0 = isa.dot2_u4(*l0, w0, x);
                *l1 = isa.dot2_u4(*l1, w1, x);
            }
        }
        let (s0, s1) = (isa.load(&group.scales[0]), isa.load(&group.scales[1]));
        for ([y0, y1], [l0, l1]) in outputs.iter_mut().zip(lanes) {
            *y0 = isa.fma(isa.to_f32(isa.sum_pairs(l0)), s0, *y0);
            *y1 = isa.fma(isa.to_f32(isa.sum_pairs(l1)), s1, *y1);
        }
        if MINIMA {
            let (m0, m1) = (isa.load(&group.minima[0]), isa.load(&group.minima[1]));
            for ([y0, y1], sum) in outputs.iter_mut().zip(sums) {
                let sum = isa.splat(f32::from_bits(*sum));
                *y0 = isa.fma(m0, sum, *y0);
                *y1 = isa.fma(m1, sum, *y1);
            }
        }
    }
}

#[inline(always)]
pub(super) fn dot_u4_panel<I: Isa, const MINIMA: bool>(
    isa: I,
    groups: &[[[[u8; 32]; 2]; GROUP_STEPS / 2]],
    [scales, minima]: [&[[[f16; 8]; 2]]; 2],
    words: &[u32],
    sums: &[u32],
) -> [I::F32; 2] {
    let [mut y0, mut y1] = [isa.splat(0.0); 2];
    let words = words.as_chunks::<GROUP_STEPS>().0;
    let activations = words.iter().zip(sums);
    let parameters = scales.iter().zip(minima);
    for ((group, (words, sum)), (scales, minima)) in groups.iter().zip(activations).zip(parameters)
    {
        let start = isa.splat2_i16(if MINIMA { 0 } else { *sum });
        let [mut l0, mut l1] = [start; 2];
        for ([b0, b1], [x0, x1]) in group.iter().zip(words.as_chunks::<2>().0) {
            let x0 = isa.splat4_u8(x0.to_le_bytes());
            let x1 = isa.splat4_u8(x1.to_le_bytes());
            let (b0, b1) = (isa.load_bytes_u8(b0), isa.load_bytes_u8(b1));
            l0 = isa.dot2_u4(l0, isa.low_nibbles(b0), x0);
            l1 = isa.dot2_u4(l1, isa.low_nibbles(b1), x0);
            l0 = isa.dot2_u4(l0, isa.high_nibbles(b0), x1);
            l1 = isa.dot2_u4(l1, isa.high_nibbles(b1), x1);
        }
        let (s0, s1) = (isa.load_f16(&scales[0]), isa.load_f16(&scales[1]));
        y0 = isa.fma(isa.to_f32(isa.sum_pairs(l0)), s0, y0);
        y1 = isa.fma(isa.to_f32(isa.sum_pairs(l1)), s1, y1);
        if MINIMA {
            let sum = isa.splat(f32::from_bits(*sum));
            y0 = isa.fma(isa.load_f16(&minima[0]), sum, y0);
            y1 = isa.fma(isa.load_f16(&minima[1]), sum, y1);
        }
    }
    [y0, y1]
}
