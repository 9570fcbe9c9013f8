//! Float weights, in f32 or f16, times f32 activations, summed in f32.

use half::f16;

use super::panel::{Panel, as_panels, load_f16, store};
use super::scalar;
use crate::isa::{Isa, Kernel};
use crate::layout::PANEL;

/// A float that a panel can be loaded from.
pub(super) trait Weight: Copy {
    fn load<I: Isa>(isa: I, from: &Panel<Self>) -> [I::F32; 2];
    fn to_f32(self) -> f32;
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

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if !I::VECTORS {
            scalar::float_product(self);
        } else if self.x.len() == self.cols {
            self.one(isa);
        } else {
            self.many(isa);
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

    /// Many vectors: tiles of 4 × 16 outputs, eight accumulators; a panel stays in the first cache level for all of them.
    #[inline(always)]
    fn many<I: Isa>(self, isa: I) {
        let (rows, cols) = (self.rows.max(1), self.cols.max(1));
        for (p, panel) in as_panels(self.weights).chunks(cols).enumerate() {
            for (x, y) in self.x.chunks(4 * cols).zip(self.y.chunks_mut(4 * rows)) {
                let mut vectors = x.chunks(cols);
                if let (Some(a), Some(b), Some(c), Some(d)) = (
                    vectors.next(),
                    vectors.next(),
                    vectors.next(),
                    vectors.next(),
                ) {
                    let mut sums = [[isa.splat(0.0); 2]; 4];
                    for ((((w, a), b), c), d) in panel.iter().zip(a).zip(b).zip(c).zip(d) {
                        let w = W::load(isa, w);
                        for (sum, x) in sums.iter_mut().zip([a, b, c, d]) {
                            add(isa, sum, w, isa.splat(*x));
                        }
                    }
                    for (sum, y) in sums.into_iter().zip(y.chunks_mut(rows)) {
                        store(isa, sum, y.get_mut(p * PANEL..).unwrap_or_default());
                    }
                } else {
                    for (x, y) in x.chunks(cols).zip(y.chunks_mut(rows)) {
                        store(
                            isa,
                            one_panel(isa, panel, x),
                            y.get_mut(p * PANEL..).unwrap_or_default(),
                        );
                    }
                }
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
