//! 8-bit weights times 7-bit activations.
//!
//! The x86 byte product wants one unsigned operand. With a scale per row, activations are offset by 64, and the offset
//! comes off through the corrections that lie beside the weights: they hold for a whole vector only. With a scale per
//! 32 columns, of weights and of activations, the weights are offset by 128 where they are loaded, and each group's sum
//! starts at −128·Σa. Seven bits keep a pair of products within i16 (2·127·128 = 32 512, 2·255·63 = 32 130), so that
//! nothing saturates and the sums are exact.

use half::f16;

use super::activations::{I8_GROUPS, ROW, Rows, Tile, quantize};
use super::panel::{
    GROUP_STEPS, Panel, Step, as_panels, as_steps, group_steps, load_f16, load_i32, panel_of,
    store, times,
};
use super::scalar;
use crate::ShapeError;
use crate::isa::{Isa, Kernel};
use crate::layout::{GROUP, PANEL};

/// Vectors of a tile: 4 × 16 outputs are eight accumulators, which with two registers of weights, one of activations
/// and a constant leave a third of AVX2's sixteen registers for products in flight.
const TILE: usize = 4;

/// Vectors of a tile where a register holds sixteen lanes and there are 32 of them.
const WIDE_TILE: usize = 8;

/// From so many columns on, one vector meets four panels at a time. Shorter ones are of matrices that lie in a cache
/// with their layer, where one stream is as fast or faster.
const COLS_OF_FOUR: usize = 1024;

/// y = W x for weights with a scale per row.
pub(super) struct RowProduct<'a> {
    pub(super) weights: &'a [i8],
    pub(super) scales: &'a [f16],
    pub(super) corrections: &'a [i32],
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) scratch: &'a mut [u32],
}

impl Kernel for RowProduct<'_> {
    type Output = Result<(), ShapeError>;
    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        if !I::VECTORS {
            scalar::row_product(self)
        } else if self.x.len() == self.cols {
            self.one(isa)
        } else if I::WIDE {
            self.many::<I, WIDE_TILE>(isa)
        } else {
            self.many::<I, TILE>(isa)
        }
    }
}

impl RowProduct<'_> {
    /// One vector.
    #[inline(always)]
    fn one<I: Isa>(self, isa: I) -> Result<(), ShapeError> {
        let steps = steps(self.cols);
        let x = quantize::<I, 1, ROW>(isa, self.x, self.cols, self.scratch)?;
        let x_scale = x.scales.first().copied().unwrap_or_default();
        let (weights, scales) = (as_steps(self.weights), as_panels(self.scales));
        let corrections = as_panels(self.corrections);
        let mut y = self.y.chunks_mut(PANEL);
        let fours = match self.cols {
            COLS_OF_FOUR.. => corrections.as_chunks::<4>().0,
            _ => &[],
        };
        let mut panels = weights.chunks(steps);
        for (starts, scales) in fours.iter().zip(scales.as_chunks::<4>().0) {
            let mut sums = [[isa.splat_i32(0); 2]; 4];
            for (sums, start) in sums.iter_mut().zip(starts) {
                *sums = load_i32(isa, start);
            }
            isa.add_i8_panels(&mut sums, next_four(&mut panels), x.words);
            for ((sums, scales), y) in sums.iter().zip(scales).zip(&mut y) {
                store(isa, scaled(isa, *sums, load_f16(isa, scales), x_scale), y);
            }
        }
        let parameters = corrections.iter().zip(scales).skip(4 * fours.len());
        for ((panel, (start, scales)), y) in panels.zip(parameters).zip(y) {
            let mut sums = load_i32(isa, start);
            isa.add_i8_panel(&mut sums, panel, x.words);
            store(isa, scaled(isa, sums, load_f16(isa, scales), x_scale), y);
        }
        Ok(())
    }

    /// Many vectors: each panel stays in the first cache level for all tiles of vectors.
    #[inline(always)]
    fn many<I: Isa, const M: usize>(self, isa: I) -> Result<(), ShapeError> {
        let x = quantize::<I, M, ROW>(isa, self.x, self.cols, self.scratch)?;
        let mut panels = as_steps(self.weights).chunks(steps(self.cols));
        let mut next = panels.next().unwrap_or_default();
        let parameters = as_panels(self.corrections)
            .iter()
            .zip(as_panels(self.scales));
        for (p, (corrections, scales)) in parameters.enumerate() {
            let steps = core::mem::replace(&mut next, panels.next().unwrap_or_default());
            let panel = RowPanel {
                steps,
                corrections,
                scales,
                rows: self.rows,
                row: p * PANEL,
            };
            x.each::<I, M, _>(isa, &panel, next, self.y, self.rows);
        }
        Ok(())
    }
}

/// The next four panels; empty ones where there are no more.
#[inline(always)]
fn next_four<'a>(panels: &mut core::slice::Chunks<'a, Step<i8>>) -> [&'a [Step<i8>]; 4] {
    let mut four: [&[Step<i8>]; 4] = [&[]; 4];
    for (to, from) in four.iter_mut().zip(panels) {
        *to = from;
    }
    four
}

/// A panel of `I8Row`.
struct RowPanel<'a> {
    steps: &'a [Step<i8>],
    corrections: &'a Panel<i32>,
    scales: &'a Panel<f16>,
    /// Distance of the vectors' outputs.
    rows: usize,
    /// First row of the panel.
    row: usize,
}

impl<I: Isa> Rows<I> for RowPanel<'_> {
    #[inline(always)]
    fn multiply<const M: usize>(&self, isa: I, x: Tile<'_, M>, y: &mut [f32]) {
        let mut sums = [load_i32(isa, self.corrections); M];
        isa.add_i8_tile(&mut sums, self.steps, x.words);
        let scales = load_f16(isa, self.scales);
        for (m, (sums, x_scale)) in sums.iter().zip(&x.scales).enumerate() {
            let y = panel_of(y, m * self.rows + self.row, self.rows - self.row);
            store(isa, scaled(isa, *sums, scales, *x_scale), y);
        }
    }
}

/// Rounds integer sums to outputs: sum · weight scale · activation scale, in this order on every backend.
#[inline(always)]
fn scaled<I: Isa>(isa: I, sums: [I::I32; 2], scales: [I::F32; 2], x_scale: u32) -> [I::F32; 2] {
    let by_row = [
        isa.mul(isa.to_f32(sums[0]), scales[0]),
        isa.mul(isa.to_f32(sums[1]), scales[1]),
    ];
    times(isa, by_row, x_scale)
}

/// y = W x for weights with a scale for every 32 columns of a row.
pub(super) struct GroupProduct<'a> {
    pub(super) weights: &'a [i8],
    pub(super) scales: &'a [f16],
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) scratch: &'a mut [u32],
}

impl Kernel for GroupProduct<'_> {
    type Output = Result<(), ShapeError>;
    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        if !I::VECTORS {
            scalar::group_product(self)
        } else if self.x.len() == self.cols {
            self.one(isa)
        } else if I::WIDE {
            self.many::<I, WIDE_TILE>(isa)
        } else {
            self.many::<I, TILE>(isa)
        }
    }
}

impl GroupProduct<'_> {
    /// One vector.
    #[inline(always)]
    fn one<I: Isa>(self, isa: I) -> Result<(), ShapeError> {
        let steps = steps(self.cols);
        let x = quantize::<I, 1, I8_GROUPS>(isa, self.x, self.cols, self.scratch)?;
        let units = x.units.as_chunks().0;
        let x_scale = x.scales.first().copied().unwrap_or_default();
        let scales = as_panels(self.scales).chunks(steps / GROUP_STEPS);
        let panels = as_steps(self.weights).chunks(steps).zip(scales);
        for ((panel, scales), y) in panels.zip(self.y.chunks_mut(PANEL)) {
            let outputs = isa.dot_i8_panel(panel.as_chunks().0, scales, x.words, units);
            store(isa, times(isa, outputs, x_scale), y);
        }
        Ok(())
    }

    /// Many vectors: each panel stays in the first cache level for all tiles of vectors.
    #[inline(always)]
    fn many<I: Isa, const M: usize>(self, isa: I) -> Result<(), ShapeError> {
        let steps = steps(self.cols);
        let group_steps = group_steps();
        let x = quantize::<I, M, I8_GROUPS>(isa, self.x, self.cols, self.scratch)?;
        let scales = as_panels(self.scales).chunks(steps / GROUP_STEPS);
        let mut panels = as_steps(self.weights).chunks(steps);
        let mut next = panels.next().unwrap_or_default();
        for (p, scales) in scales.enumerate() {
            let panel = core::mem::replace(&mut next, panels.next().unwrap_or_default());
            let panel = GroupPanel {
                groups: panel.as_chunks().0,
                steps: group_steps,
                scales,
                rows: self.rows,
                row: p * PANEL,
            };
            x.each::<I, M, _>(isa, &panel, next, self.y, self.rows);
        }
        Ok(())
    }
}

/// A panel of `I8Group32`.
struct GroupPanel<'a> {
    groups: &'a [[Step<i8>; GROUP_STEPS]],
    /// Of a group.
    steps: usize,
    scales: &'a [Panel<f16>],
    /// Distance of the vectors' outputs.
    rows: usize,
    /// First row of the panel.
    row: usize,
}

impl<I: Isa> Rows<I> for GroupPanel<'_> {
    #[inline(always)]
    fn multiply<const M: usize>(&self, isa: I, x: Tile<'_, M>, y: &mut [f32]) {
        let mut outputs = [[isa.splat(0.0); 2]; M];
        isa.add_i8_groups(
            &mut outputs,
            self.groups,
            self.scales,
            x.words,
            x.units,
            self.steps,
        );
        for (m, (output, x_scale)) in outputs.iter().zip(&x.scales).enumerate() {
            let y = panel_of(y, m * self.rows + self.row, self.rows - self.row);
            store(isa, times(isa, *output, *x_scale), y);
        }
    }
}

/// Steps of a panel: a multiple of [`GROUP_STEPS`], not zero.
#[inline(always)]
fn steps(cols: usize) -> usize {
    cols.div_ceil(GROUP).max(1) * GROUP_STEPS
}
