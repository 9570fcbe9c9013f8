//! 8-bit weights times 7-bit activations.
//!
//! Activations are offset by 64 to be unsigned, as the x86 byte product wants one unsigned operand, and the offset comes
//! off through the corrections that lie beside the weights. Seven bits keep a pair of products within i16 (2·127·127 =
//! 32 258), so that nothing saturates and the sums are exact.

use half::f16;

use super::activations::quantize;
use super::panel::{GROUP_STEPS, Panel, Step, as_panels, as_steps, load_f16, store};
use super::scalar;
use crate::ShapeError;
use crate::isa::{Isa, Kernel};
use crate::layout::{GROUP, PANEL};

/// Vectors of a tile: 4 × 16 outputs are eight accumulators, which with two registers of weights, one of activations and
/// a constant leave a third of AVX2's sixteen registers for products in flight.
const TILE: usize = 4;

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

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        if !I::VECTORS {
            scalar::row_product(self)
        } else if self.x.len() == self.cols {
            self.one(isa)
        } else {
            self.many(isa)
        }
    }
}

impl RowProduct<'_> {
    /// One vector: two panels at a time give four chains of additions and two streams of weights.
    #[inline(always)]
    fn one<I: Isa>(self, isa: I) -> Result<(), ShapeError> {
        let steps = steps(self.cols);
        let x = quantize::<I, 1, false>(isa, self.x, self.cols, self.scratch)?;
        let corrections = as_panels(self.corrections).chunks(2);
        let scales = as_panels(self.scales).chunks(2);
        let weights = as_steps(self.weights).chunks(2 * steps);
        let parameters = corrections.zip(scales);
        for ((panels, parameters), y) in weights.zip(parameters).zip(self.y.chunks_mut(2 * PANEL)) {
            match (panels.split_at_checked(steps), parameters) {
                (Some((a, b)), ([c0, c1], [s0, s1])) => {
                    let (y0, y1) = y.split_at_mut_checked(PANEL).unwrap_or_default();
                    let tiles = [
                        RowTile {
                            corrections: c0,
                            scales: s0,
                            x_scales: x.scales,
                            rows: PANEL,
                            first: 0,
                        },
                        RowTile {
                            corrections: c1,
                            scales: s1,
                            x_scales: x.scales,
                            rows: PANEL,
                            first: 0,
                        },
                    ];
                    row_pair(isa, [a, b], x.words, tiles, [y0, y1]);
                }
                (_, ([corrections], [scales])) => {
                    let tile = RowTile {
                        corrections,
                        scales,
                        x_scales: x.scales,
                        rows: PANEL,
                        first: 0,
                    };
                    tile.compute::<I, 1>(isa, panels, x.words, y);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Many vectors: each panel stays in the first cache level for all tiles of vectors.
    #[inline(always)]
    fn many<I: Isa>(self, isa: I) -> Result<(), ShapeError> {
        let steps = steps(self.cols);
        let x = quantize::<I, TILE, false>(isa, self.x, self.cols, self.scratch)?;
        let panels = as_steps(self.weights).chunks(steps);
        let parameters = as_panels(self.corrections)
            .iter()
            .zip(as_panels(self.scales));
        for (p, (panel, (corrections, scales))) in panels.zip(parameters).enumerate() {
            let tiles = x.words.chunks(steps * TILE).zip(x.scales.chunks(TILE));
            for ((words, x_scales), y) in tiles.zip(self.y.chunks_mut((self.rows * TILE).max(1))) {
                let tile = RowTile {
                    corrections,
                    scales,
                    x_scales,
                    rows: self.rows,
                    first: p * PANEL,
                };
                match x_scales.len() {
                    TILE => tile.compute::<I, TILE>(isa, panel, words, y),
                    3 => tile.compute::<I, 3>(isa, panel, words, y),
                    2 => tile.compute::<I, 2>(isa, panel, words, y),
                    _ => tile.compute::<I, 1>(isa, panel, words, y),
                }
            }
        }
        Ok(())
    }
}

/// Two panels times one vector.
#[inline(always)]
fn row_pair<I: Isa>(
    isa: I,
    [a, b]: [&[Step<i8>]; 2],
    words: &[u32],
    tiles: [RowTile<'_>; 2],
    y: [&mut [f32]; 2],
) {
    let [[mut a0, mut a1], [mut b0, mut b1]] = [tiles[0].start(isa), tiles[1].start(isa)];
    for ((a, b), x) in a.iter().zip(b).zip(words) {
        let x = isa.splat4_u8(x.to_le_bytes());
        a0 = isa.dot4_u7(a0, x, isa.load_bytes_i8(&a[0]));
        a1 = isa.dot4_u7(a1, x, isa.load_bytes_i8(&a[1]));
        b0 = isa.dot4_u7(b0, x, isa.load_bytes_i8(&b[0]));
        b1 = isa.dot4_u7(b1, x, isa.load_bytes_i8(&b[1]));
    }
    let [y0, y1] = y;
    tiles[0].finish(isa, [[a0, a1]], y0);
    tiles[1].finish(isa, [[b0, b1]], y1);
}

/// What a tile of `I8Row` needs beside its two streams.
struct RowTile<'a> {
    corrections: &'a Panel<i32>,
    scales: &'a Panel<f16>,
    x_scales: &'a [u32],
    /// Distance of the vectors' outputs.
    rows: usize,
    /// First row of the panel.
    first: usize,
}

impl RowTile<'_> {
    /// One panel times M vectors.
    #[inline(always)]
    fn compute<I: Isa, const M: usize>(
        &self,
        isa: I,
        panel: &[Step<i8>],
        words: &[u32],
        y: &mut [f32],
    ) {
        let mut sums = [self.start(isa); M];
        for (step, words) in panel.iter().zip(words.as_chunks::<M>().0) {
            add_step(isa, &mut sums, step, words);
        }
        self.finish(isa, sums, y);
    }

    #[inline(always)]
    fn start<I: Isa>(&self, isa: I) -> [I::I32; 2] {
        [
            isa.load_i32(&self.corrections[0]),
            isa.load_i32(&self.corrections[1]),
        ]
    }

    /// Rounds integer sums to outputs: sum · weight scale · activation scale, in this order on every backend.
    #[inline(always)]
    fn finish<I: Isa, const M: usize>(&self, isa: I, sums: [[I::I32; 2]; M], y: &mut [f32]) {
        let [s0, s1] = load_f16(isa, self.scales);
        for ((sums, x_scale), y) in sums
            .into_iter()
            .zip(self.x_scales)
            .zip(y.chunks_mut(self.rows.max(1)))
        {
            let x_scale = isa.splat(f32::from_bits(*x_scale));
            let y0 = isa.mul(isa.mul(isa.to_f32(sums[0]), s0), x_scale);
            let y1 = isa.mul(isa.mul(isa.to_f32(sums[1]), s1), x_scale);
            store(isa, [y0, y1], y.get_mut(self.first..).unwrap_or_default());
        }
    }
}

/// y = W x for weights with a scale for every 32 columns of a row.
pub(super) struct GroupProduct<'a> {
    pub(super) weights: &'a [i8],
    pub(super) scales: &'a [f16],
    pub(super) corrections: &'a [f32],
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) scratch: &'a mut [u32],
}

impl Kernel for GroupProduct<'_> {
    type Output = Result<(), ShapeError>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        if !I::VECTORS {
            return scalar::group_product(self);
        }
        let steps = steps(self.cols);
        let x = quantize::<I, TILE, false>(isa, self.x, self.cols, self.scratch)?;
        let scales = as_panels(self.scales).chunks(steps / GROUP_STEPS);
        let parameters = scales.zip(as_panels(self.corrections));
        let panels = as_steps(self.weights).chunks(steps);
        for (p, (panel, (scales, corrections))) in panels.zip(parameters).enumerate() {
            let tiles = x.words.chunks(steps * TILE).zip(x.scales.chunks(TILE));
            for ((words, x_scales), y) in tiles.zip(self.y.chunks_mut((self.rows * TILE).max(1))) {
                let tile = GroupTile {
                    corrections,
                    scales,
                    x_scales,
                    rows: self.rows,
                    first: p * PANEL,
                };
                match x_scales.len() {
                    TILE => tile.compute::<I, TILE>(isa, panel, words, y),
                    3 => tile.compute::<I, 3>(isa, panel, words, y),
                    2 => tile.compute::<I, 2>(isa, panel, words, y),
                    _ => tile.compute::<I, 1>(isa, panel, words, y),
                }
            }
        }
        Ok(())
    }
}

/// What a tile of `I8Group32` needs beside its two streams.
struct GroupTile<'a> {
    corrections: &'a Panel<f32>,
    scales: &'a [Panel<f16>],
    x_scales: &'a [u32],
    rows: usize,
    first: usize,
}

impl GroupTile<'_> {
    /// One panel times M vectors.
    #[inline(always)]
    fn compute<I: Isa, const M: usize>(
        &self,
        isa: I,
        panel: &[Step<i8>],
        words: &[u32],
        y: &mut [f32],
    ) {
        let mut outputs = [[isa.splat(0.0); 2]; M];
        let words = words.as_chunks::<M>().0.as_chunks::<GROUP_STEPS>().0;
        let panel = panel.as_chunks::<GROUP_STEPS>().0;
        for ((group, words), scales) in panel.iter().zip(words).zip(self.scales) {
            let mut sums = [[isa.splat_i32(0); 2]; M];
            for (step, words) in group.iter().zip(words) {
                add_step(isa, &mut sums, step, words);
            }
            let [s0, s1] = load_f16(isa, scales);
            for ([y0, y1], sums) in outputs.iter_mut().zip(sums) {
                *y0 = isa.fma(isa.to_f32(sums[0]), s0, *y0);
                *y1 = isa.fma(isa.to_f32(sums[1]), s1, *y1);
            }
        }
        let [c0, c1] = [
            isa.load(&self.corrections[0]),
            isa.load(&self.corrections[1]),
        ];
        for (([y0, y1], x_scale), y) in outputs
            .into_iter()
            .zip(self.x_scales)
            .zip(y.chunks_mut(self.rows.max(1)))
        {
            let x_scale = isa.splat(f32::from_bits(*x_scale));
            let values = [
                isa.mul(isa.add(y0, c0), x_scale),
                isa.mul(isa.add(y1, c1), x_scale),
            ];
            store(isa, values, y.get_mut(self.first..).unwrap_or_default());
        }
    }
}

/// Adds four columns of sixteen rows times M vectors.
#[inline(always)]
fn add_step<I: Isa, const M: usize>(
    isa: I,
    sums: &mut [[I::I32; 2]; M],
    step: &Step<i8>,
    words: &[u32; M],
) {
    let (w0, w1) = (isa.load_bytes_i8(&step[0]), isa.load_bytes_i8(&step[1]));
    for ([s0, s1], x) in sums.iter_mut().zip(words) {
        let x = isa.splat4_u8(x.to_le_bytes());
        *s0 = isa.dot4_u7(*s0, x, w0);
        *s1 = isa.dot4_u7(*s1, x, w1);
    }
}

/// Steps of a panel: a multiple of [`GROUP_STEPS`], not zero.
#[inline(always)]
fn steps(cols: usize) -> usize {
    cols.div_ceil(GROUP).max(1) * GROUP_STEPS
}
