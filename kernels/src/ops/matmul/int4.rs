//! 4-bit weights times 8-bit activations.
//!
//! A weight is stored as u = w + 8, unsigned as the x86 byte product wants it, and a group's products stay in i16: two
//! 16-bit lanes make an output's sum, and each starts at −4·Σa, so that together they take off 8·Σa. A lane's value is
//! Σ(u−4)·a over its own 16 columns minus 4·Σa over the other lane's, at most 16·127·11 + 16·127·4 = 30 480 in magnitude,
//! so wrapping sums are exact. Weights with minima start at 0, which leaves 16·15·127 = 30 480 again; a minimum is multiplied
//! by Σa, once a group.

use half::f16;

use super::activations::quantize;
use super::panel::{GROUP_STEPS, Panel, Step, as_panels, as_steps, load, load_f16, store};
use super::scalar;
use crate::ShapeError;
use crate::isa::{Isa, Kernel};
use crate::layout::{GROUP, PANEL};

/// Vectors of a tile: 6 × 16 outputs are twelve accumulators of sixteen registers, so that the two loads of weights serve
/// twelve products.
const TILE: usize = 6;

/// Groups that are unpacked at a time: 4 KB of the first cache level.
const UNPACKED: usize = 8;

/// The packed bytes of a group: four pairs of steps.
type PackedGroup = [Step<u8>; GROUP_STEPS / 2];

/// The nibbles of a group as bytes.
type Group = [Step<u8>; GROUP_STEPS];

/// y = W x, for weights scale · (u − 8), or with MINIMA scale · u + minimum.
pub(super) struct Product<'a, const MINIMA: bool> {
    pub(super) weights: &'a [u8],
    pub(super) scales: &'a [f16],
    /// In the place of the scales; without MINIMA any slice of that length, which nothing reads.
    pub(super) minima: &'a [f16],
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) scratch: &'a mut [u32],
}

impl<const MINIMA: bool> Kernel for Product<'_, MINIMA> {
    type Output = Result<(), ShapeError>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        if !I::VECTORS {
            scalar::nibble_product(self)
        } else if self.x.len() == self.cols {
            self.one(isa)
        } else {
            self.many(isa)
        }
    }
}

impl<const MINIMA: bool> Product<'_, MINIMA> {
    /// One vector: nibbles are unpacked in registers.
    #[inline(always)]
    fn one<I: Isa>(self, isa: I) -> Result<(), ShapeError> {
        let groups = self.cols.div_ceil(GROUP).max(1);
        let x = quantize::<I, 1, true>(isa, self.x, self.cols, self.scratch)?;
        let words = x.words.as_chunks::<GROUP_STEPS>().0;
        let x_scale = x.scales.first().map_or(0.0, |bits| f32::from_bits(*bits));
        let panels = as_groups(self.weights).chunks(groups);
        let parameters = as_panels(self.scales)
            .chunks(groups)
            .zip(as_panels(self.minima).chunks(groups));
        for ((panel, (scales, minima)), y) in panels.zip(parameters).zip(self.y.chunks_mut(PANEL)) {
            let mut outputs = [isa.splat(0.0); 2];
            let activations = words.iter().zip(x.sums);
            let parameters = scales.iter().zip(minima);
            for ((group, (words, sum)), (scales, minima)) in
                panel.iter().zip(activations).zip(parameters)
            {
                let mut lanes = [start::<I, MINIMA>(isa, *sum); 2];
                for (bytes, [x0, x1]) in group.iter().zip(words.as_chunks::<2>().0) {
                    let (x0, x1) = (signed(isa, *x0), signed(isa, *x1));
                    for (lanes, bytes) in lanes.iter_mut().zip(bytes) {
                        let bytes = isa.load_bytes_u8(bytes);
                        *lanes = isa.dot2_u4(*lanes, isa.low_nibbles(bytes), x0);
                        *lanes = isa.dot2_u4(*lanes, isa.high_nibbles(bytes), x1);
                    }
                }
                add_group(isa, &mut outputs, lanes, load_f16(isa, scales));
                if MINIMA {
                    add_minima(isa, &mut outputs, *sum, load_f16(isa, minima));
                }
            }
            let x_scale = isa.splat(x_scale);
            store(
                isa,
                [isa.mul(outputs[0], x_scale), isa.mul(outputs[1], x_scale)],
                y,
            );
        }
        Ok(())
    }

    /// Many vectors: a few groups of a panel are unpacked once for all tiles; between them, the outputs hold the sums.
    #[inline(always)]
    fn many<I: Isa>(self, isa: I) -> Result<(), ShapeError> {
        let groups = self.cols.div_ceil(GROUP).max(1);
        let x = quantize::<I, TILE, true>(isa, self.x, self.cols, self.scratch)?;
        let mut unpacked = [[[[0; 32]; 2]; GROUP_STEPS]; UNPACKED];
        let panels = as_groups(self.weights).chunks(groups);
        let parameters = as_panels(self.scales)
            .chunks(groups)
            .zip(as_panels(self.minima).chunks(groups));
        for (p, (panel, (scales, minima))) in panels.zip(parameters).enumerate() {
            let parameters = scales.chunks(UNPACKED).zip(minima.chunks(UNPACKED));
            for (b, (packed, (scales, minima))) in
                panel.chunks(UNPACKED).zip(parameters).enumerate()
            {
                for (to, from) in unpacked.iter_mut().zip(packed) {
                    unpack(isa, from, to);
                }
                let block = Block::<MINIMA> {
                    groups: unpacked.get(..packed.len()).unwrap_or_default(),
                    scales,
                    minima,
                    rows: self.rows,
                    row: p * PANEL,
                    group: b * UNPACKED,
                    last: b * UNPACKED + packed.len() == groups,
                };
                let tiles = x
                    .words
                    .chunks(groups * GROUP_STEPS * TILE)
                    .zip(x.sums.chunks(groups * TILE));
                let outputs = x
                    .scales
                    .chunks(TILE)
                    .zip(self.y.chunks_mut((self.rows * TILE).max(1)));
                for ((words, sums), (x_scales, y)) in tiles.zip(outputs) {
                    match x_scales.len() {
                        TILE => block.compute::<I, TILE>(isa, words, sums, x_scales, y),
                        5 => block.compute::<I, 5>(isa, words, sums, x_scales, y),
                        4 => block.compute::<I, 4>(isa, words, sums, x_scales, y),
                        3 => block.compute::<I, 3>(isa, words, sums, x_scales, y),
                        2 => block.compute::<I, 2>(isa, words, sums, x_scales, y),
                        _ => block.compute::<I, 1>(isa, words, sums, x_scales, y),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Some unpacked groups of one panel.
struct Block<'a, const MINIMA: bool> {
    groups: &'a [Group],
    scales: &'a [Panel<f16>],
    minima: &'a [Panel<f16>],
    rows: usize,
    /// First row of the panel.
    row: usize,
    /// First of the groups.
    group: usize,
    /// Whether these are the panel's last groups.
    last: bool,
}

impl<const MINIMA: bool> Block<'_, MINIMA> {
    /// Adds the groups' share to the outputs of M vectors.
    #[inline(always)]
    fn compute<I: Isa, const M: usize>(
        &self,
        isa: I,
        words: &[u32],
        sums: &[u32],
        x_scales: &[u32],
        y: &mut [f32],
    ) {
        let words = words
            .as_chunks::<M>()
            .0
            .as_chunks::<GROUP_STEPS>()
            .0
            .get(self.group..)
            .unwrap_or_default();
        let sums = sums
            .as_chunks::<M>()
            .0
            .get(self.group..)
            .unwrap_or_default();
        let mut outputs = [[isa.splat(0.0); 2]; M];
        if self.group > 0 {
            for (output, y) in outputs.iter_mut().zip(y.chunks(self.rows.max(1))) {
                *output = load(isa, y.get(self.row..).unwrap_or_default());
            }
        }
        let activations = words.iter().zip(sums);
        let parameters = self.scales.iter().zip(self.minima);
        for ((group, (words, sums)), (scales, minima)) in
            self.groups.iter().zip(activations).zip(parameters)
        {
            let mut lanes = [[isa.zero_i16(); 2]; M];
            for (lanes, sum) in lanes.iter_mut().zip(sums) {
                *lanes = [start::<I, MINIMA>(isa, *sum); 2];
            }
            for (step, words) in group.iter().zip(words) {
                let (w0, w1) = (isa.load_bytes_u8(&step[0]), isa.load_bytes_u8(&step[1]));
                for ([l0, l1], x) in lanes.iter_mut().zip(words) {
                    let x = signed(isa, *x);
                    *l0 = isa.dot2_u4(*l0, w0, x);
                    *l1 = isa.dot2_u4(*l1, w1, x);
                }
            }
            let scales = load_f16(isa, scales);
            for (outputs, lanes) in outputs.iter_mut().zip(lanes) {
                add_group(isa, outputs, lanes, scales);
            }
            if MINIMA {
                let minima = load_f16(isa, minima);
                for (outputs, sum) in outputs.iter_mut().zip(sums) {
                    add_minima(isa, outputs, *sum, minima);
                }
            }
        }
        for (([y0, y1], x_scale), y) in outputs
            .into_iter()
            .zip(x_scales)
            .zip(y.chunks_mut(self.rows.max(1)))
        {
            let x_scale = isa.splat(if self.last {
                f32::from_bits(*x_scale)
            } else {
                1.0
            });
            store(
                isa,
                [isa.mul(y0, x_scale), isa.mul(y1, x_scale)],
                y.get_mut(self.row..).unwrap_or_default(),
            );
        }
    }
}

/// Scales a group's integer sums and adds them to the outputs.
#[inline(always)]
fn add_group<I: Isa>(isa: I, outputs: &mut [I::F32; 2], lanes: [I::I16; 2], scales: [I::F32; 2]) {
    for ((output, lanes), scale) in outputs.iter_mut().zip(lanes).zip(scales) {
        *output = isa.fma(isa.to_f32(isa.sum_pairs(lanes)), scale, *output);
    }
}

/// Adds a group's minima times the sum of its activations, an integer below 2²⁴, to the outputs.
#[inline(always)]
fn add_minima<I: Isa>(isa: I, outputs: &mut [I::F32; 2], sum: u32, minima: [I::F32; 2]) {
    let sum = isa.splat(sum as i32 as f32);
    for (output, minimum) in outputs.iter_mut().zip(minima) {
        *output = isa.fma(minimum, sum, *output);
    }
}

#[inline(always)]
fn unpack<I: Isa>(isa: I, from: &PackedGroup, to: &mut Group) {
    for ([low, high], bytes) in to.as_chunks_mut::<2>().0.iter_mut().zip(from) {
        for ((low, high), bytes) in low.iter_mut().zip(high).zip(bytes) {
            let bytes = isa.load_bytes_u8(bytes);
            isa.store_bytes(isa.low_nibbles(bytes), low);
            isa.store_bytes(isa.high_nibbles(bytes), high);
        }
    }
}

/// −4·Σa in each of an output's two lanes; |Σa| ≤ 32·127, so it fits. With minima, 0.
#[inline(always)]
fn start<I: Isa, const MINIMA: bool>(isa: I, sum: u32) -> I::I16 {
    if MINIMA {
        isa.zero_i16()
    } else {
        isa.splat_i16((sum as i16).wrapping_mul(-4))
    }
}

#[inline(always)]
fn signed<I: Isa>(isa: I, word: u32) -> I::Bytes {
    isa.splat4_u8(word.to_le_bytes())
}

#[inline(always)]
fn as_groups(weights: &[u8]) -> &[PackedGroup] {
    as_steps(weights).as_chunks().0
}
