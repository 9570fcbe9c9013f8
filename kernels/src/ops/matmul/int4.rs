//! 4-bit weights times 8-bit activations.
//!
//! A weight is stored as u = w + 8, unsigned as the x86 byte product wants it, and a group's products stay in i16: two
//! 16-bit lanes make an output's sum, and each starts at −4·Σa, so that together they take off 8·Σa. A lane's value is
//! Σ(u−4)·a over its own 16 columns minus 4·Σa over the other lane's, at most 16·127·11 + 16·127·4 = 30 480 in magnitude,
//! so wrapping sums are exact. Weights with minima start at 0, which leaves 16·15·127 = 30 480 again; a minimum is multiplied
//! by Σa, once a group.

use half::f16;

use super::activations::{FLOATS, Rows, STARTS, Tile, quantize};
use super::panel::{
    GROUP_STEPS, Panel, Step, as_panels, as_steps, group_steps, load, load_f16, panel_of, store,
};
use super::scalar;
use crate::ShapeError;
use crate::isa::{Isa, Kernel};
use crate::layout::{GROUP, PANEL};

/// Vectors of a tile: 4 × 16 outputs are eight accumulators of sixteen registers.
const TILE: usize = 4;

/// Groups that are unpacked at a time, at most: 12 KB of the first cache level, and 1.5 KB of scales.
const UNPACKED: usize = 24;

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
        } else {
            match (self.x.len() == self.cols, MINIMA) {
                (true, true) => self.one::<I, FLOATS>(isa),
                (true, false) => self.one::<I, STARTS>(isa),
                (false, true) => self.many::<I, FLOATS>(isa),
                (false, false) => self.many::<I, STARTS>(isa),
            }
        }
    }
}

impl<const MINIMA: bool> Product<'_, MINIMA> {
    /// One vector: nibbles are unpacked in registers.
    #[inline(always)]
    fn one<I: Isa, const SUMS: u8>(self, isa: I) -> Result<(), ShapeError> {
        let groups = self.cols.div_ceil(GROUP).max(1);
        let x = quantize::<I, 1, SUMS>(isa, self.x, self.cols, self.scratch)?;
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
                let start = if MINIMA { 0 } else { *sum };
                let sums = isa.dot_u4_packed(start, group, words);
                add_group(isa, &mut outputs, sums, load_f16(isa, scales));
                if MINIMA {
                    add_minima(isa, &mut outputs, *sum, load_f16(isa, minima));
                }
            }
            let x_scale = isa.splat(x_scale);
            let outputs = [isa.mul(outputs[0], x_scale), isa.mul(outputs[1], x_scale)];
            store(isa, outputs, y);
        }
        Ok(())
    }

    /// Many vectors: a few groups of a panel are unpacked once for all tiles; between them, the outputs hold the sums.
    #[inline(always)]
    fn many<I: Isa, const SUMS: u8>(self, isa: I) -> Result<(), ShapeError> {
        let groups = self.cols.div_ceil(GROUP).max(1);
        let x = quantize::<I, TILE, SUMS>(isa, self.x, self.cols, self.scratch)?;
        let steps = group_steps();
        let mut unpacked = [Unpacked::ZERO; UNPACKED];
        let panels = as_groups(self.weights).chunks(groups);
        let parameters = as_panels(self.scales)
            .chunks(groups)
            .zip(as_panels(self.minima).chunks(groups));
        // Even blocks: 27 groups are taken as 14 and 13.
        let block = groups.div_ceil(groups.div_ceil(UNPACKED));
        for (p, (panel, (scales, minima))) in panels.zip(parameters).enumerate() {
            let parameters = scales.chunks(block).zip(minima.chunks(block));
            for (b, (packed, (scales, minima))) in panel.chunks(block).zip(parameters).enumerate() {
                let parameters = scales.iter().zip(minima);
                for ((to, from), (scales, minima)) in
                    unpacked.iter_mut().zip(packed).zip(parameters)
                {
                    to.unpack(isa, from, scales, minima);
                }
                let block = Block::<MINIMA> {
                    steps,
                    groups: unpacked.get(..packed.len()).unwrap_or_default(),
                    rows: self.rows,
                    row: p * PANEL,
                    first: b * block,
                    last: b * block + packed.len() == groups,
                };
                x.each::<I, TILE>(isa, &block, self.y, self.rows);
            }
        }
        Ok(())
    }
}

/// A group of a panel, ready for many vectors.
#[derive(Clone, Copy)]
struct Unpacked {
    steps: Group,
    scales: Panel<f32>,
    minima: Panel<f32>,
}

impl Unpacked {
    const ZERO: Self = Self {
        steps: [[[0; 32]; 2]; GROUP_STEPS],
        scales: [[0.0; 8]; 2],
        minima: [[0.0; 8]; 2],
    };

    #[inline(always)]
    fn unpack<I: Isa>(
        &mut self,
        isa: I,
        from: &PackedGroup,
        scales: &Panel<f16>,
        minima: &Panel<f16>,
    ) {
        for ([low, high], bytes) in self.steps.as_chunks_mut::<2>().0.iter_mut().zip(from) {
            for ((low, high), bytes) in low.iter_mut().zip(high).zip(bytes) {
                let bytes = isa.load_bytes_u8(bytes);
                isa.store_bytes(isa.low_nibbles(bytes), low);
                isa.store_bytes(isa.high_nibbles(bytes), high);
            }
        }
        for (to, from) in [(&mut self.scales, scales), (&mut self.minima, minima)] {
            for (to, from) in to.iter_mut().zip(from) {
                isa.store(isa.load_f16(from), to);
            }
        }
    }
}

/// Some unpacked groups of one panel.
struct Block<'a, const MINIMA: bool> {
    groups: &'a [Unpacked],
    /// Of a group.
    steps: usize,
    /// Distance of the vectors' outputs.
    rows: usize,
    /// First row of the panel.
    row: usize,
    /// First of the groups.
    first: usize,
    /// Whether these are the panel's last groups.
    last: bool,
}

impl<I: Isa, const MINIMA: bool> Rows<I> for Block<'_, MINIMA> {
    /// Adds the groups' share to the outputs of M vectors.
    #[inline(always)]
    fn multiply<const M: usize>(&self, isa: I, x: Tile<'_, M>, y: &mut [f32]) {
        let words = x.words.as_chunks::<GROUP_STEPS>().0;
        let words = words.get(self.first..).unwrap_or_default();
        let sums = x.sums.get(self.first..).unwrap_or_default();
        let mut outputs = [[isa.splat(0.0); 2]; M];
        if self.first > 0 {
            for (m, output) in outputs.iter_mut().enumerate() {
                let y = panel_of(y, m * self.rows + self.row, self.rows - self.row);
                *output = load(isa, y);
            }
        }
        for ((group, words), sums) in self.groups.iter().zip(words).zip(sums) {
            let starts = if MINIMA { &[0; M] } else { sums };
            let steps = group.steps.get(..self.steps).unwrap_or_default();
            let products = isa.dot_u4_tile(starts, steps, words);
            let scales = load(isa, group.scales.as_flattened());
            for (outputs, products) in outputs.iter_mut().zip(products) {
                add_group(isa, outputs, products, scales);
            }
            if MINIMA {
                let minima = load(isa, group.minima.as_flattened());
                for (outputs, sum) in outputs.iter_mut().zip(sums) {
                    add_minima(isa, outputs, *sum, minima);
                }
            }
        }
        for (m, ([y0, y1], x_scale)) in outputs.into_iter().zip(x.scales).enumerate() {
            let factor = if self.last {
                f32::from_bits(*x_scale)
            } else {
                1.0
            };
            let factor = isa.splat(factor);
            let y = panel_of(y, m * self.rows + self.row, self.rows - self.row);
            store(isa, [isa.mul(y0, factor), isa.mul(y1, factor)], y);
        }
    }
}

/// Scales a group's integer sums and adds them to the outputs.
#[inline(always)]
fn add_group<I: Isa>(isa: I, outputs: &mut [I::F32; 2], sums: [I::I32; 2], scales: [I::F32; 2]) {
    for ((output, sum), scale) in outputs.iter_mut().zip(sums).zip(scales) {
        *output = isa.fma(isa.to_f32(sum), scale, *output);
    }
}

/// Adds a group's minima times the sum of its activations, an integer below 2²⁴ as an f32's bits, to the outputs.
#[inline(always)]
fn add_minima<I: Isa>(isa: I, outputs: &mut [I::F32; 2], sum: u32, minima: [I::F32; 2]) {
    let sum = isa.splat(f32::from_bits(sum));
    for (output, minimum) in outputs.iter_mut().zip(minima) {
        *output = isa.fma(minimum, sum, *output);
    }
}

#[inline(always)]
fn as_groups(weights: &[u8]) -> &[PackedGroup] {
    as_steps(weights).as_chunks().0
}
