//! Float weights, in f32 or f16, times f32 activations, summed in f32.

use half::f16;

use super::panel::{Panel, as_panels, load_f16, panel_of, store};
use super::scalar;
use crate::isa::{Ahead, Isa, Kernel};
use crate::layout::PANEL;

/// Vectors of a tile: 6 × 16 outputs are twelve chains of multiply-adds, which with two registers of weights and one of
/// activations fill AVX2's sixteen. (Measured with 64 columns, on Intel Sapphire Rapids: four vectors are 15 % slower.)
const TILE: usize = 6;

/// Vectors of a tile where a register holds sixteen lanes and there are 32 of them, and panels that it is multiplied with
/// at a time: a vector's number is loaded for two multiply-adds, else loads would be what limits them.
const WIDE_TILE: usize = 8;
const WIDE_PANELS: usize = 2;

/// A float that a panel can be loaded from.
pub(super) trait Weight: Copy {
    fn load<I: Isa>(isa: I, from: &Panel<Self>) -> [I::F32; 2];
    fn to_f32(self) -> f32;
    /// [`Isa::add_f32_tile`] or [`Isa::add_f16_tile`].
    fn add_tile<I: Isa, const P: usize, const M: usize>(
        isa: I,
        sums: &mut [[[I::F32; 2]; M]; P],
        panels: [&[Panel<Self>]; P],
        x: [&[f32]; M],
        next: Ahead,
    );
}

impl Weight for f32 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &Panel<f32>) -> [I::F32; 2] {
        [isa.load(&from[0]), isa.load(&from[1])]
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn add_tile<I: Isa, const P: usize, const M: usize>(
        isa: I,
        sums: &mut [[[I::F32; 2]; M]; P],
        panels: [&[Panel<f32>]; P],
        x: [&[f32]; M],
        next: Ahead,
    ) {
        isa.add_f32_tile(sums, panels, x, next);
    }
}

impl Weight for f16 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &Panel<f16>) -> [I::F32; 2] {
        load_f16(isa, from)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        scalar::half_to_f32(self)
    }

    #[inline(always)]
    fn add_tile<I: Isa, const P: usize, const M: usize>(
        isa: I,
        sums: &mut [[[I::F32; 2]; M]; P],
        panels: [&[Panel<f16>]; P],
        x: [&[f32]; M],
        next: Ahead,
    ) {
        isa.add_f16_tile(sums, panels, x, next);
    }
}

/// y = W x.
pub(super) struct Product<'a, W> {
    pub(super) weights: &'a [W],
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl<W: Weight> Kernel for Product<'_, W> {
    type Output = ();
    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if !I::VECTORS {
            scalar::float_product(self);
        } else if self.x.len() == self.cols {
            self.one(isa);
        } else if I::WIDE {
            self.many::<I, WIDE_PANELS, WIDE_TILE>(isa);
        } else {
            self.many::<I, 1, TILE>(isa);
        }
    }
}

impl<W: Weight> Product<'_, W> {
    /// One vector: four panels at a time are eight chains of multiply-adds, as many as hide their latency.
    #[inline(always)]
    fn one<I: Isa>(self, isa: I) {
        let cols = self.cols.max(1);
        for (panels, y) in as_panels(self.weights)
            .chunks(4 * cols)
            .zip(self.y.chunks_mut(4 * PANEL))
        {
            let mut each = panels.chunks(cols);
            if let (Some(a), Some(b), Some(c), Some(d)) =
                (each.next(), each.next(), each.next(), each.next())
            {
                let mut sums = [[isa.splat(0.0); 2]; 4];
                for ((((a, b), c), d), x) in a.iter().zip(b).zip(c).zip(d).zip(self.x) {
                    let x = isa.splat(*x);
                    for (sum, w) in sums.iter_mut().zip([a, b, c, d]) {
                        add(isa, sum, W::load(isa, w), x);
                    }
                }
                for (sum, y) in sums.into_iter().zip(y.chunks_mut(PANEL)) {
                    store(isa, sum, y);
                }
            } else {
                for (panel, y) in panels.chunks(cols).zip(y.chunks_mut(PANEL)) {
                    store(isa, one_panel(isa, panel, self.x), y);
                }
            }
        }
    }

    /// Many vectors, in tiles of M; P panels stay in the nearest caches for all of them.
    #[inline(always)]
    fn many<I: Isa, const P: usize, const M: usize>(self, isa: I) {
        let cols = self.cols.max(1);
        let mut all = Tiles {
            x: self.x,
            y: self.y,
            rows: self.rows.max(1),
            cols,
        };
        for (index, panels) in as_panels(self.weights).chunks(P * cols).enumerate() {
            let row = index * P * PANEL;
            let mut each = panels.chunks(cols);
            let mut whole: [&[_]; P] = [&[]; P];
            for panel in &mut whole {
                *panel = each.next().unwrap_or_default();
            }
            if panels.len() == P * cols {
                all.multiply::<I, W, P, M>(isa, whole, row);
                continue;
            }
            for (p, panel) in panels.chunks(cols).enumerate() {
                all.multiply::<I, W, 1, M>(isa, [panel], row + p * PANEL);
            }
        }
    }
}

/// All vectors, which are multiplied with some panels at a time.
struct Tiles<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    rows: usize,
    cols: usize,
}

impl Tiles<'_> {
    /// Multiplies with the panels that begin with row `row`. What M does not divide is left to a tile of M, 4, 2 or 1
    /// vectors, so that each is compiled for few widths: a tile of four takes as long as one of three, whose
    /// chains of multiply-adds are too few.
    #[inline(always)]
    fn multiply<I: Isa, W: Weight, const P: usize, const M: usize>(
        &mut self,
        isa: I,
        panels: [&[Panel<W>]; P],
        row: usize,
    ) {
        let (rows, cols) = (self.rows, self.cols);
        let (mut x, mut y) = (self.x, &mut *self.y);
        let mut left = x.len() / cols;
        // The panels that follow are asked for while these are multiplied, by each tile its share of them: memory has as
        // long to bring them as these take.
        let bytes = P * cols * size_of::<Panel<W>>();
        let share = bytes / left.div_ceil(M).max(1);
        let mut next = bytes;
        while left > 0 {
            let count = left.min(M);
            left -= count;
            let (x_tile, x_left) = x.split_at_checked(count * cols).unwrap_or_default();
            let (y_tile, y_left) = y.split_at_mut_checked(count * rows).unwrap_or_default();
            let tile = Tile {
                x: x_tile,
                y: y_tile,
                rows,
                cols,
                row,
                next: Ahead::new(next, share, cols, size_of::<Panel<W>>()),
            };
            next += share;
            match count {
                5.. => tile.multiply::<I, W, P, M>(isa, panels),
                3.. => tile.multiply::<I, W, P, 4>(isa, panels),
                2 => tile.multiply::<I, W, P, 2>(isa, panels),
                _ => tile.multiply::<I, W, P, 1>(isa, panels),
            }
            (x, y) = (x_left, y_left);
        }
    }
}

/// At most as many vectors as a tile has.
struct Tile<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    rows: usize,
    cols: usize,
    /// First row of the panels.
    row: usize,
    next: Ahead,
}

impl Tile<'_> {
    #[allow(
        clippy::needless_range_loop,
        reason = "zipped iterators over arrays may stay calls, whose arguments wait for all stores before them"
    )]
    #[inline(always)]
    fn multiply<I: Isa, W: Weight, const P: usize, const M: usize>(
        self,
        isa: I,
        panels: [&[Panel<W>]; P],
    ) {
        // Where there are fewer vectors than the tile has, the first is multiplied in their place, for nothing.
        let first = self.x.get(..self.cols).unwrap_or_default();
        let mut vectors = [first; M];
        for m in 0..M {
            let columns = m * self.cols..(m + 1) * self.cols;
            vectors[m] = self.x.get(columns).unwrap_or(first);
        }
        let mut sums = [[[isa.splat(0.0); 2]; M]; P];
        W::add_tile(isa, &mut sums, panels, vectors, self.next);
        for p in 0..P {
            let row = self.row + p * PANEL;
            for m in 0..M {
                // Empty where there is no such vector.
                let y = panel_of(self.y, m * self.rows + row, self.rows - row);
                store(isa, sums[p][m], y);
            }
        }
    }
}

/// One panel times one vector.
#[inline(always)]
fn one_panel<I: Isa, W: Weight>(isa: I, panel: &[Panel<W>], x: &[f32]) -> [I::F32; 2] {
    let mut sum = [isa.splat(0.0); 2];
    for (w, x) in panel.iter().zip(x) {
        add(isa, &mut sum, W::load(isa, w), isa.splat(*x));
    }
    sum
}

#[inline(always)]
fn add<I: Isa>(isa: I, sum: &mut [I::F32; 2], w: [I::F32; 2], x: I::F32) {
    sum[0] = isa.fma(w[0], x, sum[0]);
    sum[1] = isa.fma(w[1], x, sum[1]);
}
