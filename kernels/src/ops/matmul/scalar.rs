//! Plain loops for processors without vectors.
//!
//! A Cortex-M4 has thirteen registers for integers and thirty-two for floats: four rows at a time keep four sums, four
//! activations, a weight and the two streams in registers, at little more than a load and a multiply-add per weight.
//! Integer sums equal the vector kernels' exactly; f32 products and sums round separately.

use half::f16;

use super::activations::cut;
use super::float::{self, Weight};
use super::panel::GROUP_STEPS;
use super::{int4, int8, pairs};
use crate::ShapeError;
use crate::layout::{GROUP, PANEL};
use crate::ops::levels::{GroupScales, scale_and_factor};

/// Rows whose sums stay in registers.
const ROWS: usize = 4;

/// One step of a panel: `[row / 4][row % 4][4 cols]`.
type Step<T> = [[[T; 4]; ROWS]; PANEL / ROWS];

/// y = W x for float weights.
pub(super) fn float_product<W: Weight>(product: float::Product<'_, W>) {
    let (rows, cols) = (product.rows.max(1), product.cols.max(1));
    for (x, y) in pairs(product.x, cols, product.y, rows) {
        let panels = product.weights.as_chunks::<PANEL>().0.chunks(cols);
        for (panel, y) in panels.zip(y.chunks_mut(PANEL)) {
            let mut sums = [0.0; PANEL];
            for (column, x) in panel.iter().zip(x) {
                for (sum, w) in sums.iter_mut().zip(column) {
                    *sum += w.to_f32() * x;
                }
            }
            for (y, sum) in y.iter_mut().zip(sums) {
                *y = sum;
            }
        }
    }
}

/// y = W x for 8-bit weights with a scale per row.
pub(super) fn row_product(product: int8::RowProduct<'_>) -> Result<(), ShapeError> {
    let (rows, cols) = (product.rows.max(1), product.cols.max(1));
    let steps = cols.div_ceil(GROUP) * GROUP_STEPS;
    let [words, ..] = cut(product.scratch, [1, cols, 0])?;
    for (x, y) in pairs(product.x, cols, product.y, rows) {
        let (x_scale, factor) = scale_and_factor(amax(x), 63.0);
        round(x, factor, words, OFFSET);
        let panels = product
            .weights
            .as_chunks::<4>()
            .0
            .as_chunks::<ROWS>()
            .0
            .as_chunks()
            .0
            .chunks(steps);
        let parameters = product
            .corrections
            .as_chunks::<PANEL>()
            .0
            .iter()
            .zip(product.scales.as_chunks::<PANEL>().0);
        for ((panel, (corrections, scales)), y) in panels.zip(parameters).zip(y.chunks_mut(PANEL)) {
            let mut sums = *corrections;
            add_steps::<false>(&mut sums, panel, words);
            for ((y, sum), scale) in y.iter_mut().zip(sums).zip(scales) {
                *y = sum as f32 * half_to_f32(*scale) * x_scale;
            }
        }
    }
    Ok(())
}

/// y = W x for 8-bit weights with a scale for every 32 columns of a row.
pub(super) fn group_product(product: int8::GroupProduct<'_>) -> Result<(), ShapeError> {
    let (rows, cols) = (product.rows.max(1), product.cols.max(1));
    let groups = cols.div_ceil(GROUP);
    let [words, units, _] = cut(product.scratch, [1, cols, groups])?;
    for (x, y) in pairs(product.x, cols, product.y, rows) {
        let scale = quantize_groups(x, 63.0, words, units);
        let panels = product
            .weights
            .as_chunks::<4>()
            .0
            .as_chunks::<ROWS>()
            .0
            .as_chunks()
            .0
            .chunks(groups * GROUP_STEPS);
        let scales = product.scales.as_chunks::<PANEL>().0.chunks(groups);
        for ((panel, scales), y) in panels.zip(scales).zip(y.chunks_mut(PANEL)) {
            let mut outputs = [0.0; PANEL];
            let groups = panel.chunks(GROUP_STEPS).zip(words.chunks(GROUP_STEPS));
            let parameters = scales.iter().zip(units.as_chunks::<2>().0);
            for ((group, words), (scales, [x_scale, _])) in groups.zip(parameters) {
                let mut sums = [0; PANEL];
                add_steps::<true>(&mut sums, group, words);
                add_group(&mut outputs, sums, scales, *x_scale);
            }
            for (y, output) in y.iter_mut().zip(outputs) {
                *y = output * scale;
            }
        }
    }
    Ok(())
}

/// y = W x for 4-bit weights.
pub(super) fn nibble_product<const MINIMA: bool>(
    product: int4::Product<'_, MINIMA>,
) -> Result<(), ShapeError> {
    let int4::Product {
        weights,
        scales,
        minima,
        x,
        y,
        rows,
        cols,
        scratch,
    } = product;
    let (rows, cols) = (rows.max(1), cols.max(1));
    for (x, y) in pairs(x, cols, y, rows) {
        nibble_vector([scales, minima], MINIMA, weights, x, y, scratch)?;
    }
    Ok(())
}

/// One vector of [`nibble_product`], compiled once for both kinds of weights: flash is dear, and a group costs hundreds
/// of times as much as asking.
#[inline(never)]
fn nibble_vector(
    [scales, minima]: [&[f16]; 2],
    has_minima: bool,
    weights: &[u8],
    x: &[f32],
    y: &mut [f32],
    scratch: &mut [u32],
) -> Result<(), ShapeError> {
    let groups = x.len().div_ceil(GROUP).max(1);
    let [words, units, _] = cut(scratch, [1, x.len(), groups])?;
    let scale = quantize_groups(x, 127.0, words, units);
    let start = if has_minima { 0 } else { -8 };
    let steps = weights.as_chunks::<4>().0.as_chunks::<ROWS>().0;
    let panels = steps.as_chunks().0.chunks(groups * GROUP_STEPS / 2);
    let scales = scales.as_chunks::<PANEL>().0.chunks(groups);
    let minima = minima.as_chunks::<PANEL>().0.chunks(groups);
    let parameters = scales.zip(minima);
    for ((panel, (scales, minima)), y) in panels.zip(parameters).zip(y.chunks_mut(PANEL)) {
        let mut outputs = [0.0; PANEL];
        let groups = panel.chunks(GROUP_STEPS / 2).zip(words.chunks(GROUP_STEPS));
        let parameters = scales.iter().zip(minima);
        let units = units.as_chunks::<2>().0;
        for (((group, words), [x_scale, sum]), (scales, minima)) in
            groups.zip(units).zip(parameters)
        {
            let sum = *sum as i32;
            let mut sums = [sum.wrapping_mul(start); PANEL];
            add_nibbles(&mut sums, group, words);
            add_group(&mut outputs, sums, scales, *x_scale);
            if has_minima {
                add_minima(
                    &mut outputs,
                    minima,
                    sum.wrapping_mul(*x_scale as i32) as f32,
                );
            }
        }
        for (y, output) in y.iter_mut().zip(outputs) {
            *y = output * scale;
        }
    }
    Ok(())
}

/// Adds four columns a step, times the activations, which are SIGNED or not, to sixteen rows' sums.
fn add_steps<const SIGNED: bool>(sums: &mut [i32; PANEL], panel: &[Step<i8>], words: &[u32]) {
    if let [a, b, c, d] = sums.as_chunks_mut::<ROWS>().0 {
        add_rows::<0, SIGNED>(a, panel, words);
        add_rows::<1, SIGNED>(b, panel, words);
        add_rows::<2, SIGNED>(c, panel, words);
        add_rows::<3, SIGNED>(d, panel, words);
    }
}

/// The part of [`add_steps`] for rows 4·Q to 4·Q + 3.
fn add_rows<const Q: usize, const SIGNED: bool>(
    sums: &mut [i32; ROWS],
    panel: &[Step<i8>],
    words: &[u32],
) {
    let mut kept = *sums;
    for (step, word) in panel.iter().zip(words) {
        let x = word.to_le_bytes().map(|x| match SIGNED {
            true => i32::from(x as i8),
            false => i32::from(x),
        });
        for (sum, w) in kept.iter_mut().zip(&step[Q]) {
            for (w, x) in w.iter().zip(x) {
                *sum = sum.wrapping_add(i32::from(*w) * x);
            }
        }
    }
    *sums = kept;
}

/// Adds eight columns a step, packed as nibbles + 8, times signed activations, to sixteen rows' sums.
fn add_nibbles(sums: &mut [i32; PANEL], group: &[Step<u8>], words: &[u32]) {
    if let [a, b, c, d] = sums.as_chunks_mut::<ROWS>().0 {
        add_nibble_rows::<0>(a, group, words);
        add_nibble_rows::<1>(b, group, words);
        add_nibble_rows::<2>(c, group, words);
        add_nibble_rows::<3>(d, group, words);
    }
}

/// The part of [`add_nibbles`] for rows 4·Q to 4·Q + 3.
fn add_nibble_rows<const Q: usize>(sums: &mut [i32; ROWS], group: &[Step<u8>], words: &[u32]) {
    let mut kept = *sums;
    for (step, [low, high]) in group.iter().zip(words.as_chunks::<2>().0) {
        let x = low.to_le_bytes().map(|x| i32::from(x as i8));
        for (sum, w) in kept.iter_mut().zip(&step[Q]) {
            for (w, x) in w.iter().zip(x) {
                *sum = sum.wrapping_add(i32::from(w & 15) * x);
            }
        }
        let x = high.to_le_bytes().map(|x| i32::from(x as i8));
        for (sum, w) in kept.iter_mut().zip(&step[Q]) {
            for (w, x) in w.iter().zip(x) {
                *sum = sum.wrapping_add(i32::from(w >> 4) * x);
            }
        }
    }
    *sums = kept;
}

/// Scales a group's integer sums, which fit i32 afterwards too, and adds them to the outputs.
fn add_group(outputs: &mut [f32; PANEL], sums: [i32; PANEL], scales: &[f16; PANEL], x_scale: u32) {
    for ((output, sum), scale) in outputs.iter_mut().zip(sums).zip(scales) {
        *output += sum.wrapping_mul(x_scale as i32) as f32 * half_to_f32(*scale);
    }
}

/// Adds a group's minima, times the sum of its activations, to the outputs.
fn add_minima(outputs: &mut [f32; PANEL], minima: &[f16; PANEL], x_sum: f32) {
    for (output, minimum) in outputs.iter_mut().zip(minima) {
        *output += half_to_f32(*minimum) * x_sum;
    }
}

/// The level of zero where activations are unsigned.
const OFFSET: u8 = 64;

/// Bits of the largest magnitude.
fn amax(x: &[f32]) -> u32 {
    x.iter().fold(0, |max, x| max.max(x.abs().to_bits()))
}

/// Rounds `x` times `factor` to bytes, plus `offset`; padding columns to zero.
fn round(x: &[f32], factor: f32, words: &mut [u32], offset: u8) {
    // Adding 1.5·2²³ rounds to an integer, ties to even, and leaves it in the low bits.
    let magic = 12_582_912.0 + f32::from(offset);
    let level = |x: f32| (x * factor + magic).to_bits() as u8;
    let (quads, rest) = x.as_chunks::<4>();
    let mut words = words.iter_mut();
    for (quad, word) in quads.iter().zip(words.by_ref()) {
        *word = u32::from_le_bytes(quad.map(level));
    }
    let mut last = [offset; 4];
    for (last, x) in last.iter_mut().zip(rest) {
        *last = level(*x);
    }
    if !rest.is_empty()
        && let Some(word) = words.next()
    {
        *word = u32::from_le_bytes(last);
    }
    for word in words {
        *word = u32::from_le_bytes([offset; 4]);
    }
}

/// Rounds each group of a vector to signed bytes; its unit becomes the relative scale and the sum of the levels.
/// Returns what relative scales are multiples of.
fn quantize_groups(x: &[f32], highest: f32, words: &mut [u32], units: &mut [u32]) -> f32 {
    let units = units.as_chunks_mut::<2>().0;
    let mut max = 0;
    for (x, [group_max, _]) in x.chunks(GROUP).zip(&mut *units) {
        *group_max = amax(x);
        max = max.max(*group_max);
    }
    let scales = GroupScales::new(max, highest);
    let groups = x.chunks(GROUP).zip(words.chunks_mut(GROUP_STEPS));
    for ((x, words), [scale, sum]) in groups.zip(units) {
        let (relative, factor) = scales.of_group(*scale);
        round(x, factor, words, 0);
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        *scale = relative as u32;
        *sum = bytes.fold(0, |sum: i32, byte| sum + i32::from(byte as i8)) as u32;
    }
    scales.unit
}

/// Exact for every finite half, subnormals included, in four instructions: the exponents' biases differ by 112.
pub(super) fn half_to_f32(x: f16) -> f32 {
    const TWO_112: f32 = f32::from_bits((127 + 112) << 23);
    let bits = (i32::from(x.to_bits() as i16) << 13) as u32 & 0x8fff_e000;
    f32::from_bits(bits) * TWO_112
}
