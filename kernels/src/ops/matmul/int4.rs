//! 4-bit weights times 8-bit activations.
//!
//! A weight is stored as u = w + 8, unsigned as the x86 byte product wants it, and a group's products stay in i16: two
//! 16-bit lanes make an output's sum, and each starts at −4·Σa, so that together they take off 8·Σa. A lane's value is
//! Σ(u−4)·a over its own 16 columns minus 4·Σa over the other lane's, at most 16·127·11 + 16·127·4 = 30 480 in
//! magnitude, so wrapping sums are exact. Weights with minima start at 0, which leaves 16·15·127 = 30 480 again; a
//! minimum is multiplied by Σa, once a group. A group's activations have a scale of their own: a small integer, which
//! multiplies its sum, times a number of the whole vector, which multiplies the output.

use half::f16;

use super::activations::{I4_GROUPS, Rows, Tile, U4_GROUPS, quantize};
use super::panel::{
    GROUP_STEPS, Step, as_panels, as_steps, group_steps, load, panel_of, store, times,
};
use super::scalar;
use crate::ShapeError;
use crate::isa::{Isa, Kernel, U4Group};
use crate::layout::{GROUP, PANEL};

/// Vectors of a tile: 6 × 16 outputs are twelve accumulators, which with two registers of weights and one of
/// activations leave one. The sums of the groups before lie in memory meanwhile.
const TILE: usize = 6;

/// Vectors of a tile where a register holds sixteen lanes and there are 32 of them.
const WIDE_TILE: usize = 8;

/// Groups that are unpacked at a time, at most: 12 KB of the first cache level, and 1.5 KB of scales.
const UNPACKED: usize = 24;

/// The bits of 1.
const ONE: u32 = 1f32.to_bits();

/// The packed bytes of a group: four pairs of steps.
type PackedGroup = [Step<u8>; GROUP_STEPS / 2];

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
    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        if !I::VECTORS {
            scalar::nibble_product(self)
        } else {
            match (self.x.len() == self.cols, MINIMA) {
                (true, true) => self.one::<I, U4_GROUPS>(isa),
                (true, false) => self.one::<I, I4_GROUPS>(isa),
                (false, true) if I::WIDE => self.many::<I, WIDE_TILE, U4_GROUPS>(isa),
                (false, false) if I::WIDE => self.many::<I, WIDE_TILE, I4_GROUPS>(isa),
                (false, true) => self.many::<I, TILE, U4_GROUPS>(isa),
                (false, false) => self.many::<I, TILE, I4_GROUPS>(isa),
            }
        }
    }
}

impl<const MINIMA: bool> Product<'_, MINIMA> {
    /// One vector: nibbles are unpacked in registers.
    #[inline(always)]
    fn one<I: Isa, const KIND: u8>(self, isa: I) -> Result<(), ShapeError> {
        let groups = self.cols.div_ceil(GROUP).max(1);
        let x = quantize::<I, 1, KIND>(isa, self.x, self.cols, self.scratch)?;
        let panels = as_groups(self.weights).chunks(groups);
        let x_scale = x.scales.first().copied().unwrap_or_default();
        let parameters = as_panels(self.scales)
            .chunks(groups)
            .zip(as_panels(self.minima).chunks(groups));
        for ((panel, (scales, minima)), y) in panels.zip(parameters).zip(self.y.chunks_mut(PANEL)) {
            let units = x.units.as_chunks().0;
            let outputs = isa.dot_u4_panel::<MINIMA>(panel, [scales, minima], x.words, units);
            store(isa, times(isa, outputs, x_scale), y);
        }
        Ok(())
    }

    /// Many vectors: a few groups of a panel are unpacked once for all tiles; between them, the outputs hold the sums.
    #[inline(always)]
    fn many<I: Isa, const M: usize, const KIND: u8>(self, isa: I) -> Result<(), ShapeError> {
        let groups = self.cols.div_ceil(GROUP).max(1);
        let x = quantize::<I, M, KIND>(isa, self.x, self.cols, self.scratch)?;
        let steps = group_steps();
        let mut unpacked = [U4Group::ZERO; UNPACKED];
        let all = as_groups(self.weights);
        let panels = all.chunks(groups);
        let parameters = as_panels(self.scales)
            .chunks(groups)
            .zip(as_panels(self.minima).chunks(groups));
        // Even blocks: 27 groups are taken as 14 and 13.
        let block = groups.div_ceil(groups.div_ceil(UNPACKED));
        for (p, (panel, (scales, minima))) in panels.zip(parameters).enumerate() {
            let parameters = scales.chunks(block).zip(minima.chunks(block));
            for (b, (packed, (scales, minima))) in panel.chunks(block).zip(parameters).enumerate() {
                let end = (p * groups + b * block + packed.len()).min(all.len());
                let next = all.get(end..).unwrap_or_default();
                let next = next.get(..packed.len()).unwrap_or(next).as_flattened();
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
                x.each::<I, M, _>(isa, &block, next, self.y, self.rows);
            }
        }
        Ok(())
    }
}

/// Some unpacked groups of one panel.
struct Block<'a, const MINIMA: bool> {
    groups: &'a [U4Group],
    /// Of a group.
    steps: usize,
    /// Distance of the vectors' outputs.
    rows: usize,
    /// First row of the panel.
    row: usize,
    /// First of the groups.
    first: usize,
    /// Whether there are no groups behind these.
    last: bool,
}

impl<I: Isa, const MINIMA: bool> Rows<I> for Block<'_, MINIMA> {
    /// Adds the groups' share to the outputs of M vectors.
    #[inline(always)]
    fn multiply<const M: usize>(&self, isa: I, x: Tile<'_, M>, y: &mut [f32]) {
        let words = x.words.get(self.first * GROUP_STEPS..).unwrap_or_default();
        let units = x.units.get(self.first..).unwrap_or_default();
        let mut outputs = [[isa.splat(0.0); 2]; M];
        if self.first > 0 {
            for (m, output) in outputs.iter_mut().enumerate() {
                let y = panel_of(y, m * self.rows + self.row, self.rows - self.row);
                *output = load(isa, y);
            }
        }
        isa.add_u4_groups::<M, MINIMA>(&mut outputs, self.groups, words, units, self.steps);
        for (m, (output, x_scale)) in outputs.iter().zip(&x.scales).enumerate() {
            let y = panel_of(y, m * self.rows + self.row, self.rows - self.row);
            let factor = if self.last { *x_scale } else { ONE };
            store(isa, times(isa, *output, factor), y);
        }
    }
}

#[inline(always)]
fn as_groups(weights: &[u8]) -> &[PackedGroup] {
    as_steps(weights).as_chunks().0
}
