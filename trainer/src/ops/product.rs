//! The small matrix products inside attention, which skip what lies above the diagonal.
//!
//! burn multiplies whole matrices; the causal half would be thrown away, and a copy of every head would be made first.
//! A tile is 4 rows by 16 columns: 8 accumulators, 2 loads of b and 4 broadcasts of a for 8 fused multiply-adds, which
//! leaves the loads below the rate of the multipliers.

use attentive::kernels::isa::{Isa, Kernel};

/// Rows of a tile.
const ROWS: usize = 4;
/// Columns of a tile.
pub(crate) const COLS: usize = 16;

/// Which part of a product is computed; the rest of the output is left alone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Output on and below the diagonal (rounded up to tiles): scores.
    OutputBefore,
    /// Inner index up to the output's row: weights times values.
    InnerBefore,
    /// Inner index from the output's row on, and a read by columns: the transpose of the weights times something.
    InnerAfter,
}

/// c = a · b, or with [`Part::InnerAfter`] c = aᵀ · b.
///
/// `a` is `(rows, inner)`, or `(inner, rows)` when transposed, with rows of `a_stride`; `b` is `(inner, cols)` with
/// rows of `cols`, and `c` is `(rows, cols)`. `rows` is a multiple of 4 and `cols` of 16.
pub(crate) struct Product<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) a_stride: usize,
    pub(crate) b: &'a [f32],
    pub(crate) c: &'a mut [f32],
    pub(crate) cols: usize,
    pub(crate) part: Part,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self {
            a,
            a_stride,
            b,
            c,
            cols,
            part,
        } = self;
        for (block, c) in c.chunks_exact_mut(ROWS * cols).enumerate() {
            let row = block * ROWS;
            let last = row + ROWS;
            match part {
                Part::OutputBefore => {
                    let a = &a[row * a_stride..last * a_stride];
                    let end = last.next_multiple_of(COLS).min(cols);
                    for col in (0..end).step_by(COLS) {
                        rows_times(isa, a, a_stride, a_stride, &b[col..], &mut c[col..], cols);
                    }
                }
                Part::InnerBefore => {
                    let a = &a[row * a_stride..last * a_stride];
                    for col in (0..cols).step_by(COLS) {
                        rows_times(isa, a, a_stride, last, &b[col..], &mut c[col..], cols);
                    }
                }
                Part::InnerAfter => {
                    let a = &a[row * a_stride + row..];
                    let b = &b[row * cols..];
                    for col in (0..cols).step_by(COLS) {
                        columns_times(isa, a, a_stride, &b[col..], &mut c[col..], cols);
                    }
                }
            }
        }
    }
}

/// One tile: four rows of a, `inner` elements each.
#[allow(
    clippy::needless_range_loop,
    reason = "zipped iterators stay calls in a kernel this big"
)]
#[inline(always)]
fn rows_times<I: Isa>(
    isa: I,
    a: &[f32],
    a_stride: usize,
    inner: usize,
    b: &[f32],
    c: &mut [f32],
    cols: usize,
) {
    let lines = [0, 1, 2, 3].map(|line| &a[line * a_stride..][..inner]);
    let mut tile = [[isa.splat(0.0); 2]; ROWS];
    let mut at = 0;
    for k in 0..inner {
        let Some(b) = b.get(at..).and_then(<[f32]>::first_chunk::<COLS>) else {
            break;
        };
        let a = [lines[0][k], lines[1][k], lines[2][k], lines[3][k]];
        multiply(isa, &mut tile, a, b);
        at += cols;
    }
    store_tile(isa, tile, c, cols);
}

/// One tile: four columns of a, to the end of a and b.
#[inline(always)]
fn columns_times<I: Isa>(
    isa: I,
    a: &[f32],
    a_stride: usize,
    b: &[f32],
    c: &mut [f32],
    cols: usize,
) {
    let mut tile = [[isa.splat(0.0); 2]; ROWS];
    let (mut a_at, mut b_at) = (0, 0);
    while let (Some(a), Some(b)) = (
        a.get(a_at..).and_then(<[f32]>::first_chunk::<ROWS>),
        b.get(b_at..).and_then(<[f32]>::first_chunk::<COLS>),
    ) {
        multiply(isa, &mut tile, *a, b);
        a_at += a_stride;
        b_at += cols;
    }
    store_tile(isa, tile, c, cols);
}

#[inline(always)]
fn multiply<I: Isa>(isa: I, tile: &mut [[I::F32; 2]; ROWS], a: [f32; ROWS], b: &[f32; COLS]) {
    let (halves, _) = b.as_chunks::<8>();
    let b = [isa.load(&halves[0]), isa.load(&halves[1])];
    for (line, a) in tile.iter_mut().zip(a) {
        let a = isa.splat(a);
        line[0] = isa.fma(a, b[0], line[0]);
        line[1] = isa.fma(a, b[1], line[1]);
    }
}

#[inline(always)]
fn store_tile<I: Isa>(isa: I, tile: [[I::F32; 2]; ROWS], c: &mut [f32], cols: usize) {
    for line in 0..ROWS {
        let (halves, _) = c[line * cols..][..COLS].as_chunks_mut::<8>();
        isa.store(tile[line][0], &mut halves[0]);
        isa.store(tile[line][1], &mut halves[1]);
    }
}
