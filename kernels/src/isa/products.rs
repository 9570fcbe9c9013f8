//! The micro-kernels of products in terms of an instruction set's operations.
//!
//! [`Isa`] documents them: these are what its methods do where an instruction set does not override them, in
//! functions so that one that overrides a method for some processors can still call it for the others.

use super::{Ahead, GROUP_STEPS, Isa, U4Group};
use half::f16;

/// How far ahead of a product with one vector its weights are asked for.
pub(super) const PREFETCH_BYTES: usize = 2048;

/// A weight that eight lanes are loaded from.
pub(super) trait Lanes: Sized {
    fn load<I: Isa>(isa: I, from: &[Self; 8]) -> I::F32;
}

impl Lanes for f32 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f32; 8]) -> I::F32 {
        isa.load(from)
    }
}

impl Lanes for f16 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f16; 8]) -> I::F32 {
        isa.load_f16(from)
    }
}

#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "zipped iterators over arrays may stay calls"
)]
pub(super) fn add_float_tile<I: Isa, W: Lanes, const P: usize, const M: usize>(
    isa: I,
    sums: &mut [[[I::F32; 2]; M]; P],
    panels: [&[[[W; 8]; 2]]; P],
    x: [&[f32]; M],
    next: Ahead,
) {
    let (len, panels, x) = common(panels, x);
    let mut bytes = next.bytes;
    for k in 0..len {
        isa.prefetch(&panels[0][k], bytes);
        bytes = bytes.wrapping_add(next.step);
        for p in 0..P {
            let [w0, w1] = &panels[p][k];
            let (w0, w1) = (W::load(isa, w0), W::load(isa, w1));
            for m in 0..M {
                let x = isa.splat(x[m][k]);
                sums[p][m][0] = isa.fma(w0, x, sums[p][m][0]);
                sums[p][m][1] = isa.fma(w1, x, sums[p][m][1]);
            }
        }
    }
}

/// The number of columns that all panels and vectors have, and these in slices whose equal lengths the compiler can see.
#[inline(always)]
pub(super) fn common<'a, T, const P: usize, const M: usize>(
    mut panels: [&'a [T]; P],
    mut x: [&'a [f32]; M],
) -> (usize, [&'a [T]; P], [&'a [f32]; M]) {
    let len = x.iter().fold(usize::MAX, |len, x| len.min(x.len()));
    let len = panels.iter().fold(len, |len, panel| len.min(panel.len()));
    for panel in &mut panels {
        match panel.split_at_checked(len) {
            Some((columns, _)) => *panel = columns,
            None => return (0, [&[]; P], [&[]; M]),
        }
    }
    for x in &mut x {
        match x.split_at_checked(len) {
            Some((columns, _)) => *x = columns,
            None => return (0, [&[]; P], [&[]; M]),
        }
    }
    (len, panels, x)
}

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

/// One panel at a time makes one stream of weights, whose lines are asked for ahead. Additions of integers take a
/// cycle, so two chains suffice; where an addition is part of the product it takes five, and every step of four has its
/// own.
#[inline(always)]
pub(super) fn add_i8_panel<I: Isa>(
    isa: I,
    sums: &mut [I::I32; 2],
    panel: &[[[i8; 32]; 2]],
    words: &[u32],
) {
    let chains = if I::DOT4 { 4 } else { 1 };
    let mut parts = [[isa.splat_i32(0); 2]; 4];
    parts[0] = *sums;
    let groups = panel.as_chunks::<GROUP_STEPS>().0.iter();
    for (steps, words) in groups.zip(words.as_chunks::<GROUP_STEPS>().0) {
        for (i, (step, x)) in steps.iter().zip(words).enumerate() {
            isa.prefetch(step, PREFETCH_BYTES);
            let x = isa.splat4_u8(x.to_le_bytes());
            let [s0, s1] = &mut parts[i % chains];
            *s0 = isa.dot4_u7(*s0, x, isa.load_bytes_i8(&step[0]));
            *s1 = isa.dot4_u7(*s1, x, isa.load_bytes_i8(&step[1]));
        }
    }
    *sums = parts[0];
    for other in &parts[1..chains] {
        sums[0] = isa.add_i32(sums[0], other[0]);
        sums[1] = isa.add_i32(sums[1], other[1]);
    }
}

/// Four panels side by side make four streams, which the processor's own prefetching reads from memory faster than one
/// (Zen 4: 24 against 17 GB/s); asking for lines ahead would disturb it.
#[inline(always)]
pub(super) fn add_i8_panels<I: Isa>(
    isa: I,
    sums: &mut [[I::I32; 2]; 4],
    panels: [&[[[i8; 32]; 2]]; 4],
    words: &[u32],
) {
    let [a, b, c, d] = panels;
    let steps = a.iter().zip(b).zip(c.iter().zip(d));
    for (((a, b), (c, d)), x) in steps.zip(words) {
        let x = isa.splat4_u8(x.to_le_bytes());
        for ([s0, s1], step) in sums.iter_mut().zip([a, b, c, d]) {
            *s0 = isa.dot4_u7(*s0, x, isa.load_bytes_i8(&step[0]));
            *s1 = isa.dot4_u7(*s1, x, isa.load_bytes_i8(&step[1]));
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
    units: &[[[u32; M]; 2]],
    steps: usize,
) {
    let words = words.as_chunks::<GROUP_STEPS>().0;
    let activations = words.iter().zip(units);
    for ((group, scales), (words, [x_scales, starts])) in groups.iter().zip(scales).zip(activations)
    {
        let mut sums = [[isa.splat_i32(0); 2]; M];
        for (sums, start) in sums.iter_mut().zip(starts) {
            *sums = [isa.splat_i32(*start as i32); 2];
        }
        for (step, words) in group.iter().take(steps).zip(words) {
            let (w0, w1) = (isa.load_weights(&step[0]), isa.load_weights(&step[1]));
            for ([s0, s1], x) in sums.iter_mut().zip(words) {
                let x = isa.splat4_u8(x.to_le_bytes());
                *s0 = isa.dot4_weights(*s0, w0, x);
                *s1 = isa.dot4_weights(*s1, w1, x);
            }
        }
        let scales = [isa.load_f16(&scales[0]), isa.load_f16(&scales[1])];
        add_sums(isa, outputs, sums, scales, x_scales);
    }
}

#[inline(always)]
pub(super) fn dot_i8_panel<I: Isa>(
    isa: I,
    groups: &[[[[i8; 32]; 2]; GROUP_STEPS]],
    scales: &[[[f16; 8]; 2]],
    words: &[u32],
    units: &[[u32; 2]],
) -> [I::F32; 2] {
    let [mut y0, mut y1] = [isa.splat(0.0); 2];
    let words = words.as_chunks::<GROUP_STEPS>().0;
    // One length for all: else the compiler finds the least of all lengths anew at every step.
    let len = groups.len().min(words.len());
    let (Some(groups), Some(words)) = (groups.get(..len), words.get(..len)) else {
        return [y0, y1];
    };
    let (Some(scales), Some(units)) = (scales.get(..len), units.get(..len)) else {
        return [y0, y1];
    };
    let activations = words.iter().zip(units);
    for ((group, scales), (words, [x_scale, start])) in groups.iter().zip(scales).zip(activations) {
        let [mut s0, mut s1] = [isa.splat_i32(*start as i32); 2];
        for (step, x) in group.iter().zip(words) {
            isa.prefetch(step, PREFETCH_BYTES);
            let x = isa.splat4_u8(x.to_le_bytes());
            s0 = isa.dot4_weights(s0, isa.load_weights(&step[0]), x);
            s1 = isa.dot4_weights(s1, isa.load_weights(&step[1]), x);
        }
        let x_scale = isa.splat(f32::from_bits(*x_scale));
        let scales = [isa.load_f16(&scales[0]), isa.load_f16(&scales[1])];
        y0 = isa.fma(isa.to_f32(s0), isa.mul(scales[0], x_scale), y0);
        y1 = isa.fma(isa.to_f32(s1), isa.mul(scales[1], x_scale), y1);
    }
    [y0, y1]
}

/// Adds a group's integer sums to the outputs, times the product of the scales of its weights and its activations.
#[inline(always)]
pub(super) fn add_sums<I: Isa, const M: usize>(
    isa: I,
    outputs: &mut [[I::F32; 2]; M],
    sums: [[I::I32; 2]; M],
    [s0, s1]: [I::F32; 2],
    x_scales: &[u32; M],
) {
    for (([y0, y1], sums), x_scale) in outputs.iter_mut().zip(sums).zip(x_scales) {
        let x_scale = isa.splat(f32::from_bits(*x_scale));
        *y0 = isa.fma(isa.to_f32(sums[0]), isa.mul(s0, x_scale), *y0);
        *y1 = isa.fma(isa.to_f32(sums[1]), isa.mul(s1, x_scale), *y1);
    }
}

/// A group's integer sums times the scales of its activations, f32's bits.
#[inline(always)]
pub(super) fn scaled<I: Isa, const M: usize>(
    isa: I,
    sums: [[I::I32; 2]; M],
    x_scales: &[u32; M],
) -> [[I::F32; 2]; M] {
    let mut products = [[isa.splat(0.0); 2]; M];
    for ((products, sums), x_scale) in products.iter_mut().zip(sums).zip(x_scales) {
        let x_scale = isa.splat(f32::from_bits(*x_scale));
        products[0] = isa.mul(isa.to_f32(sums[0]), x_scale);
        products[1] = isa.mul(isa.to_f32(sums[1]), x_scale);
    }
    products
}

/// Adds what [`scaled`] made of a group's sums to the outputs, times the scales of its weights.
#[inline(always)]
pub(super) fn add_scaled<I: Isa, const M: usize>(
    isa: I,
    outputs: &mut [[I::F32; 2]; M],
    products: [[I::F32; 2]; M],
    [s0, s1]: [I::F32; 2],
) {
    for ([y0, y1], [p0, p1]) in outputs.iter_mut().zip(products) {
        *y0 = isa.fma(p0, s0, *y0);
        *y1 = isa.fma(p1, s1, *y1);
    }
}

/// Adds a group's minima to the outputs, times the sums of its activations.
#[inline(always)]
pub(super) fn add_minima<I: Isa, const M: usize>(
    isa: I,
    outputs: &mut [[I::F32; 2]; M],
    minima: &[[f32; 8]; 2],
    sums: &[u32; M],
) {
    let (m0, m1) = (isa.load(&minima[0]), isa.load(&minima[1]));
    for ([y0, y1], sum) in outputs.iter_mut().zip(sums) {
        let sum = isa.splat(f32::from_bits(*sum));
        *y0 = isa.fma(m0, sum, *y0);
        *y1 = isa.fma(m1, sum, *y1);
    }
}

#[inline(always)]
pub(super) fn scale_u4<I: Isa>(scale: i32) -> u32 {
    if I::DOT4 {
        return (scale as f32).to_bits();
    }
    // A factor for each of the two lanes of sixteen bits that make an output's sum.
    let lane = u32::from(scale as u16);
    lane << 16 | lane
}

#[inline(always)]
pub(super) fn start_u4<I: Isa>(sum: i32) -> u32 {
    if I::DOT4 {
        return sum.wrapping_mul(-8) as u32;
    }
    // −4·sum in each of the two lanes of sixteen bits that make an output's sum.
    let lane = u32::from((sum.wrapping_mul(-4)) as u16);
    lane << 16 | lane
}

/// A group times M vectors and their scales, summed in the unit that suits the instruction set: 32 bits where it adds
/// four products to them at once, else pairs of 16 bits, which hold a whole group and become 32 bits by the product with
/// its scale.
#[inline(always)]
fn dot_u4_group<I: Isa, const M: usize>(
    isa: I,
    starts: &[u32; M],
    group: &[[[u8; 32]; 2]],
    words: &[[u32; M]],
    x_scales: &[u32; M],
) -> [[I::F32; 2]; M] {
    if I::DOT4 {
        let mut sums = [[isa.splat_i32(0); 2]; M];
        for (sums, start) in sums.iter_mut().zip(starts) {
            *sums = [isa.splat_i32(*start as i32); 2];
        }
        for (step, words) in group.iter().zip(words) {
            let (w0, w1) = (isa.load_bytes_u8(&step[0]), isa.load_bytes_u8(&step[1]));
            for ([s0, s1], x) in sums.iter_mut().zip(words) {
                let x = isa.splat4_u8(x.to_le_bytes());
                *s0 = isa.dot4_u7(*s0, w0, x);
                *s1 = isa.dot4_u7(*s1, w1, x);
            }
        }
        scaled(isa, sums, x_scales)
    } else {
        let mut lanes = [[isa.splat2_i16(0); 2]; M];
        for (lanes, start) in lanes.iter_mut().zip(starts) {
            *lanes = [isa.splat2_i16(*start); 2];
        }
        for (step, words) in group.iter().zip(words) {
            let (w0, w1) = (isa.load_bytes_u8(&step[0]), isa.load_bytes_u8(&step[1]));
            for ([l0, l1], x) in lanes.iter_mut().zip(words) {
                let x = isa.splat4_u8(x.to_le_bytes());
                *l0 = isa.dot2_u4(*l0, w0, x);
                *l1 = isa.dot2_u4(*l1, w1, x);
            }
        }
        let mut products = [[isa.splat(0.0); 2]; M];
        for ((products, lanes), x_scale) in products.iter_mut().zip(lanes).zip(x_scales) {
            *products = scaled_pairs(isa, lanes, *x_scale);
        }
        products
    }
}

/// Both lanes of each sum times a scale, of which [`scale_u4`] made a word.
#[inline(always)]
fn scaled_pairs<I: Isa>(isa: I, [l0, l1]: [I::I16; 2], x_scale: u32) -> [I::F32; 2] {
    let (zero, x_scale) = (isa.splat_i32(0), isa.splat2_i16(x_scale));
    [
        isa.to_f32(isa.dot2_i16(zero, l0, x_scale)),
        isa.to_f32(isa.dot2_i16(zero, l1, x_scale)),
    ]
}

#[inline(always)]
pub(super) fn add_u4_groups<I: Isa, const M: usize, const MINIMA: bool>(
    isa: I,
    outputs: &mut [[I::F32; 2]; M],
    groups: &[U4Group],
    words: &[[u32; M]],
    units: &[[[u32; M]; 2]],
    steps: usize,
) {
    let words = words.as_chunks::<GROUP_STEPS>().0;
    for ((group, words), [x_scales, sums]) in groups.iter().zip(words).zip(units) {
        let starts = if MINIMA { &[0; M] } else { sums };
        let steps = group.steps.get(..steps).unwrap_or_default();
        let products = dot_u4_group(isa, starts, steps, words, x_scales);
        let scales = [isa.load(&group.scales[0]), isa.load(&group.scales[1])];
        add_scaled(isa, outputs, products, scales);
        if MINIMA {
            add_minima(isa, outputs, &group.minima, sums);
        }
    }
}

/// As [`dot_u4_group`] for one vector and weights that are still packed.
#[inline(always)]
fn dot_u4_packed<I: Isa>(
    isa: I,
    [x_scale, start]: [u32; 2],
    group: &[[[u8; 32]; 2]; GROUP_STEPS / 2],
    words: &[u32; GROUP_STEPS],
) -> [I::F32; 2] {
    let pairs = words.as_chunks::<2>().0;
    if I::DOT4 {
        let [mut s0, mut s1] = [isa.splat_i32(start as i32); 2];
        for ([b0, b1], [x0, x1]) in group.iter().zip(pairs) {
            let (x0, x1) = (
                isa.splat4_u8(x0.to_le_bytes()),
                isa.splat4_u8(x1.to_le_bytes()),
            );
            let (b0, b1) = (isa.load_bytes_u8(b0), isa.load_bytes_u8(b1));
            s0 = isa.dot4_u7(s0, isa.low_nibbles(b0), x0);
            s1 = isa.dot4_u7(s1, isa.low_nibbles(b1), x0);
            s0 = isa.dot4_u7(s0, isa.high_nibbles(b0), x1);
            s1 = isa.dot4_u7(s1, isa.high_nibbles(b1), x1);
        }
        let [products] = scaled(isa, [[s0, s1]], &[x_scale]);
        products
    } else {
        let [mut l0, mut l1] = [isa.splat2_i16(start); 2];
        for ([b0, b1], [x0, x1]) in group.iter().zip(pairs) {
            let (x0, x1) = (
                isa.splat4_u8(x0.to_le_bytes()),
                isa.splat4_u8(x1.to_le_bytes()),
            );
            let (b0, b1) = (isa.load_bytes_u8(b0), isa.load_bytes_u8(b1));
            l0 = isa.dot2_u4(l0, isa.low_nibbles(b0), x0);
            l1 = isa.dot2_u4(l1, isa.low_nibbles(b1), x0);
            l0 = isa.dot2_u4(l0, isa.high_nibbles(b0), x1);
            l1 = isa.dot2_u4(l1, isa.high_nibbles(b1), x1);
        }
        scaled_pairs(isa, [l0, l1], x_scale)
    }
}

#[inline(always)]
pub(super) fn dot_u4_panel<I: Isa, const MINIMA: bool>(
    isa: I,
    groups: &[[[[u8; 32]; 2]; GROUP_STEPS / 2]],
    [scales, minima]: [&[[[f16; 8]; 2]]; 2],
    words: &[u32],
    units: &[[u32; 2]],
) -> [I::F32; 2] {
    let [mut y0, mut y1] = [isa.splat(0.0); 2];
    let words = words.as_chunks::<GROUP_STEPS>().0;
    // One length for all, as above.
    let len = groups.len().min(words.len());
    let (Some(groups), Some(words)) = (groups.get(..len), words.get(..len)) else {
        return [y0, y1];
    };
    let (Some(scales), Some(minima), Some(units)) =
        (scales.get(..len), minima.get(..len), units.get(..len))
    else {
        return [y0, y1];
    };
    let activations = words.iter().zip(units);
    let parameters = scales.iter().zip(minima);
    for ((group, (words, [x_scale, sum])), (scales, minima)) in
        groups.iter().zip(activations).zip(parameters)
    {
        // A matrix in memory is read in one stream, page by page: the processor's own prefetching stops at each
        // page's end.
        for line in group {
            isa.prefetch(line, PREFETCH_BYTES);
        }
        let start = if MINIMA { 0 } else { *sum };
        let [p0, p1] = dot_u4_packed(isa, [*x_scale, start], group, words);
        y0 = isa.fma(p0, isa.load_f16(&scales[0]), y0);
        y1 = isa.fma(p1, isa.load_f16(&scales[1]), y1);
        if MINIMA {
            let sum = isa.splat(f32::from_bits(*sum));
            y0 = isa.fma(isa.load_f16(&minima[0]), sum, y0);
            y1 = isa.fma(isa.load_f16(&minima[1]), sum, y1);
        }
    }
    [y0, y1]
}
