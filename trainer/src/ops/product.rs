//! The small matrix products inside attention, which skip what lies above the diagonal where attention is causal.
//!
//! burn multiplies whole matrices; the causal half would be thrown away, and a copy of every head would be made first.
//! A tile is 6 rows by 16 columns: with 12 accumulators no multiply-add waits for the one before it, and 2 loads of b
//! and 6 broadcasts of a for 12 of them leave the loads below the rate of the multipliers. The last rows are a tile of 4.

use attentive::kernels::isa::{Isa, Kernel};

/// Rows of a tile.
const ROWS: usize = 6;
/// Columns of a tile.
pub(crate) const COLS: usize = 16;

/// Which product it is, and, where attention is causal, which part of it is computed; the rest of the output is left
/// alone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Scores; causal: output on and below the diagonal (rounded up to tiles).
    Scores,
    /// Weights times values; causal: inner index up to the output's row.
    Weights,
    /// The transpose of the weights times something, a read by columns; causal: inner index from the output's row on.
    Transposed,
}

/// Where what a row of scores holds ends, of `rows`: causal, where the tiles on its diagonal do.
pub(crate) fn scores_end(causal: bool, row: usize, rows: usize) -> usize {
    if !causal {
        return rows;
    }
    let tile = (row / ROWS + 1) * ROWS;
    tile.next_multiple_of(COLS).min(rows)
}

/// c = a · b, or with [`Part::Transposed`] c = aᵀ · b.
///
/// `a` is `(rows, inner)`, or `(inner, rows)` when transposed, with rows of `a_stride`; `b` is `(inner, cols)` with
/// rows of `cols`, and `c` is `(rows, cols)`. Both are multiples of 16.
pub(crate) struct Product<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) a_stride: usize,
    pub(crate) b: &'a [f32],
    pub(crate) c: &'a mut [f32],
    pub(crate) cols: usize,
    pub(crate) part: Part,
    pub(crate) causal: bool,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let rows = self.c.len() / self.cols;
        let sixes = rows / ROWS * ROWS;
        for row in (0..sixes).step_by(ROWS) {
            self.tiles::<I, ROWS>(isa, row);
        }
        // Of a multiple of sixteen rows, 0, 2 or 4 are left.
        match rows - sixes {
            0 => {}
            2 => self.tiles::<I, 2>(isa, sixes),
            _ => self.tiles::<I, 4>(isa, sixes),
        }
    }
}

impl Product<'_> {
    /// The tiles of M rows.
    #[inline(always)]
    fn tiles<I: Isa, const M: usize>(&mut self, isa: I, row: usize) {
        let Self {
            a,
            a_stride,
            b,
            ref mut c,
            cols,
            part,
            causal,
        } = *self;
        let last = row + M;
        let c = &mut c[row * cols..last * cols];
        match part {
            Part::Scores => {
                let a = &a[row * a_stride..last * a_stride];
                let end = scores_end(causal, row, cols);
                for col in (0..end).step_by(COLS) {
                    let c = &mut c[col..];
                    rows_times::<I, M>(isa, a, a_stride, a_stride, &b[col..], c, cols);
                }
            }
            Part::Weights => {
                let inner = if causal { last } else { a_stride };
                let a = &a[row * a_stride..last * a_stride];
                for col in (0..cols).step_by(COLS) {
                    let c = &mut c[col..];
                    rows_times::<I, M>(isa, a, a_stride, inner, &b[col..], c, cols);
                }
            }
            Part::Transposed => {
                let first = if causal { row } else { 0 };
                let a = &a[first * a_stride + row..];
                let b = &b[first * cols..];
                for col in (0..cols).step_by(COLS) {
                    columns_times::<I, M>(isa, a, a_stride, &b[col..], &mut c[col..], cols);
                }
            }
        }
    }
}

/// One tile: M rows of a, `inner` elements each.
#[allow(
    clippy::needless_range_loop,
    reason = "zipped iterators stay calls in a kernel this big"
)]
#[inline(always)]
fn rows_times<I: Isa, const M: usize>(
    isa: I,
    a: &[f32],
    a_stride: usize,
    inner: usize,
    b: &[f32],
    c: &mut [f32],
    cols: usize,
) {
    let mut lines: [&[f32]; M] = [&[]; M];
    for m in 0..M {
        lines[m] = &a[m * a_stride..][..inner];
    }
    let mut tile = [[isa.splat(0.0); 2]; M];
    let mut at = 0;
    for k in 0..inner {
        let Some(b) = b.get(at..).and_then(<[f32]>::first_chunk::<COLS>) else {
            break;
        };
        let mut values = [0.0; M];
        for m in 0..M {
            values[m] = lines[m][k];
        }
        multiply(isa, &mut tile, values, b);
        at += cols;
    }
    store_tile(isa, tile, c, cols);
}

/// One tile: M columns of a, to the end of a and b.
#[inline(always)]
fn columns_times<I: Isa, const M: usize>(
    isa: I,
    a: &[f32],
    a_stride: usize,
    b: &[f32],
    c: &mut [f32],
    cols: usize,
) {
    let mut tile = [[isa.splat(0.0); 2]; M];
    let (mut a_at, mut b_at) = (0, 0);
    while let (Some(a), Some(b)) = (
        a.get(a_at..).and_then(<[f32]>::first_chunk::<M>),
        b.get(b_at..).and_then(<[f32]>::first_chunk::<COLS>),
    ) {
        multiply(isa, &mut tile, *a, b);
        a_at += a_stride;
        b_at += cols;
    }
    store_tile(isa, tile, c, cols);
}

#[allow(
    clippy::needless_range_loop,
    reason = "zipped iterators stay calls in a kernel this big"
)]
#[inline(always)]
fn multiply<I: Isa, const M: usize>(
    isa: I,
    tile: &mut [[I::F32; 2]; M],
    a: [f32; M],
    b: &[f32; COLS],
) {
    let (halves, _) = b.as_chunks::<8>();
    let b = [isa.load(&halves[0]), isa.load(&halves[1])];
    for m in 0..M {
        let a = isa.splat(a[m]);
        tile[m][0] = isa.fma(a, b[0], tile[m][0]);
        tile[m][1] = isa.fma(a, b[1], tile[m][1]);
    }
}

#[inline(always)]
fn store_tile<I: Isa, const M: usize>(isa: I, tile: [[I::F32; 2]; M], c: &mut [f32], cols: usize) {
    for line in 0..M {
        let (halves, _) = c[line * cols..][..COLS].as_chunks_mut::<8>();
        isa.store(tile[line][0], &mut halves[0]);
        isa.store(tile[line][1], &mut halves[1]);
    }
}
