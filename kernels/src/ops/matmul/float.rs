//! Float weights, in f32 or f16, times f32 activations, summed in f32.

use half::f16;

use super::panel::{Panel, as_panels, load_f16, panel_of, store};
use super::scalar;
use crate::isa::{Isa, Kernel};
use crate::layout::PANEL;

/// Vectors of a tile: 6 × 16 outputs are twelve chains of multiply-adds, which with two registers of weights and one of
/// activations fill AVX2's sixteen. (Measured with 64 columns, on Intel Sapphire Rapids: four vectors are 15 % slower.)
const TILE: usize = 6;

/// Vectors of a tile where a register holds sixteen lanes and there are 32 of them.
const WIDE_TILE: usize = 8;

/// A float that a panel can be loaded from.
pub(super) trait Weight: Copy {
    fn load<I: Isa>(isa: I, from: &Panel<Self>) -> [I::F32; 2];
    fn to_f32(self) -> f32;
    /// [`Isa::add_f32_tile`] or [`Isa::add_f16_tile`].
    fn add_tile<I: Isa, const M: usize>(
        isa: I,
        sums: &mut [[I::F32; 2]; M],
        panel: &[Panel<Self>],
        x: [&[f32]; M],
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
    fn add_tile<I: Isa, const M: usize>(
        isa: I,
        sums: &mut [[I::F32; 2]; M],
        panel: &[Panel<f32>],
        x: [&[f32]; M],
    ) {
        isa.add_f32_tile(sums, panel, x);
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
    fn add_tile<I: Isa, const M: usize>(
        isa: I,
        sums: &mut [[I::F32; 2]; M],
        panel: &[Panel<f16>],
        x: [&[f32]; M],
    ) {
        isa.add_f16_tile(sums, panel, x);
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
            self.many::<I, WIDE_TILE>(isa);
        } else {
            self.many::<I, TILE>(isa);
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

    /// Many vectors, in tiles of M; a panel stays in the first cache level for all of them.
    #[inline(always)]
    fn many<I: Isa, const M: usize>(self, isa: I) {
        let (rows, cols) = (self.rows.max(1), self.cols.max(1));
        for (p, panel) in as_panels(self.weights).chunks(cols).enumerate() {
            let tile = PanelTile {
                panel,
                rows,
                cols,
                row: p * PANEL,
            };
            let wide = self.x.len() / cols / M * M;
            let (x, mut x_left) = self.x.split_at_checked(wide * cols).unwrap_or_default();
            let (y, mut y_left) = self.y.split_at_mut_checked(wide * rows).unwrap_or_default();
            for (x, y) in x.chunks_exact(M * cols).zip(y.chunks_exact_mut(M * rows)) {
                tile.multiply::<I, M>(isa, x, y);
            }
            // What M does not divide is left to tiles of 4, 2 and 1, so that each is compiled for few widths.
            while !x_left.is_empty() {
                let width = match x_left.len() / cols {
                    4.. if M > 4 => 4,
                    2.. => 2,
                    _ => 1,
                };
                let (x, x_behind) = x_left.split_at_checked(width * cols).unwrap_or_default();
                let (y, y_behind) = y_left
                    .split_at_mut_checked(width * rows)
                    .unwrap_or_default();
                match width {
                    4 => tile.multiply::<I, 4>(isa, x, y),
                    2 => tile.multiply::<I, 2>(isa, x, y),
                    _ => tile.multiply::<I, 1>(isa, x, y),
                }
                (x_left, y_left) = (x_behind, y_behind);
            }
        }
    }
}

/// A panel that is multiplied with tiles of vectors.
struct PanelTile<'a, W> {
    panel: &'a [Panel<W>],
    rows: usize,
    cols: usize,
    /// First row of the panel.
    row: usize,
}

impl<W: Weight> PanelTile<'_, W> {
    #[allow(
        clippy::needless_range_loop,
        reason = "zipped iterators over arrays may stay calls, whose arguments wait for all stores before them"
    )]
    #[inline(always)]
    fn multiply<I: Isa, const M: usize>(&self, isa: I, x: &[f32], y: &mut [f32]) {
        let mut vectors: [&[f32]; M] = [&[]; M];
        for m in 0..M {
            let columns = m * self.cols..(m + 1) * self.cols;
            vectors[m] = x.get(columns).unwrap_or_default();
        }
        let mut sums = [[isa.splat(0.0); 2]; M];
        W::add_tile(isa, &mut sums, self.panel, vectors);
        for m in 0..M {
            let y = panel_of(y, m * self.rows + self.row, self.rows - self.row);
            store(isa, sums[m], y);
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
