//! Products of a matrix of bytes with vectors of bytes.

use super::scaled;
use crate::Backend;
use crate::error::ShapeError;
use crate::isa::{Isa, Kernel};

/// Rows of weights begin at multiples of so many bytes, and are filled up with zeros.
pub const ROW_ALIGN: usize = 16;

/// Bytes from one row of weights to the next.
pub const fn stride(cols: usize) -> usize {
    cols.next_multiple_of(ROW_ALIGN)
}

/// A matrix whose product with a vector is scaled row by row.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    rows: usize,
    cols: usize,
    weights: &'a [i8],
    multipliers: &'a [i32],
    biases: &'a [i32],
    pairs: &'a [i32],
}

impl<'a> Product<'a> {
    /// Most columns: their products, of −128 with −128, stay below 2³¹ together with any bias below 2³⁰.
    pub const COLS_MAX: usize = 1 << 16;

    /// `weights` are (rows, [`stride`](stride)`(cols)`), `multipliers`, `biases` and `pairs` (rows). A row's pair sum
    /// ([`pair_sums`]) saves Armv7E-M half of its multiplications; wrong ones make wrong products there, and there only.
    ///
    /// # Errors
    /// When a length is another, or there are no columns or more than [`Product::COLS_MAX`].
    pub const fn new(
        rows: usize,
        cols: usize,
        weights: &'a [i8],
        multipliers: &'a [i32],
        biases: &'a [i32],
        pairs: &'a [i32],
    ) -> Result<Self, ShapeError> {
        if let Err(error) = ShapeError::check_at_most("columns", Self::COLS_MAX, cols) {
            return Err(error);
        }
        if let Err(error) = ShapeError::check_at_least("columns", 1, cols) {
            return Err(error);
        }
        let need = rows.saturating_mul(stride(cols));
        if let Err(error) = ShapeError::check_eq("weights", need, weights.len()) {
            return Err(error);
        }
        if let Err(error) = ShapeError::check_eq("multipliers", rows, multipliers.len()) {
            return Err(error);
        }
        if let Err(error) = ShapeError::check_eq("biases", rows, biases.len()) {
            return Err(error);
        }
        if let Err(error) = ShapeError::check_eq("pair sums", rows, pairs.len()) {
            return Err(error);
        }
        Ok(Self {
            rows,
            cols,
            weights,
            multipliers,
            biases,
            pairs,
        })
    }

    /// Rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub const fn cols(&self) -> usize {
        self.cols
    }
}

/// `out[v][i] = scaled(bias + Σ w·x[v], multiplier)` for some vectors and the rows from `first` on, as many as `out` has
/// places for each.
///
/// `x` is (vectors, columns) and `out` (vectors, rows). Exact up to the one rounding of [`scaled`].
///
/// # Errors
/// When `x` has not vectors of the matrix's columns, `out` has not the same room for each, there are fewer rows, or the weights do
/// not begin at a word: an address that 4 divides.
pub fn product(
    backend: Backend,
    matrix: &Product<'_>,
    x: &[i8],
    first: usize,
    out: &mut [i32],
) -> Result<(), ShapeError> {
    let cols = matrix.cols.max(1);
    let vectors = x.len().div_ceil(cols).max(1);
    let rows = out.len() / vectors;
    ShapeError::check_eq("x", vectors.saturating_mul(cols), x.len())?;
    ShapeError::check_eq("out", vectors.saturating_mul(rows), out.len())?;
    ShapeError::check_at_most("rows", matrix.rows, first.saturating_add(rows))?;
    let offset = matrix.weights.as_ptr().addr() % 4;
    ShapeError::check_eq("address of the weights, modulo 4", 0, offset)?;
    if rows == 0 {
        return Ok(());
    }
    let stride = stride(matrix.cols);
    let rows = Rows {
        weights: (matrix.weights)
            .get(first.saturating_mul(stride)..)
            .unwrap_or_default(),
        multipliers: matrix.multipliers.get(first..).unwrap_or_default(),
        biases: matrix.biases.get(first..).unwrap_or_default(),
        pairs: matrix.pairs.get(first..).unwrap_or_default(),
        stride,
        cols,
        rows,
        x,
        out,
    };
    #[cfg(attentive_dsp)]
    {
        let _ = backend;
        #[cfg(attentive_helium)]
        super::helium::product(rows);
        #[cfg(not(attentive_helium))]
        super::dsp::product(rows);
    }
    #[cfg(not(attentive_dsp))]
    backend.run(rows);
    Ok(())
}

/// Σ w·w' of the pairs of columns (0, 1), (2, 3), … of each row.
///
/// Of an even number of columns Σ w·x = Σ (w + x')·(w' + x) − Σ w·w' − Σ x·x' (Winograd 1968), which has half as many
/// multiplications that depend on both.
///
/// # Errors
/// When `weights` are not (rows, [`stride`](stride)`(cols)`) with a row for each element of `out`.
pub fn pair_sums(cols: usize, weights: &[i8], out: &mut [i32]) -> Result<(), ShapeError> {
    let stride = stride(cols);
    ShapeError::check_eq("weights", out.len().saturating_mul(stride), weights.len())?;
    for (out, row) in out.iter_mut().zip(weights.chunks_exact(stride.max(1))) {
        let pairs = row.as_chunks::<2>().0.iter();
        *out = pairs.map(|[a, b]| i32::from(*a) * i32::from(*b)).sum();
    }
    Ok(())
}

/// Rows of a product, from the first that is computed: one at least.
pub(super) struct Rows<'a> {
    pub(super) weights: &'a [i8],
    pub(super) multipliers: &'a [i32],
    pub(super) biases: &'a [i32],
    #[cfg_attr(
        any(not(attentive_dsp), attentive_helium),
        allow(dead_code, reason = "the DSP extension's code alone reads them")
    )]
    pub(super) pairs: &'a [i32],
    pub(super) stride: usize,
    pub(super) cols: usize,
    pub(super) rows: usize,
    pub(super) x: &'a [i8],
    pub(super) out: &'a mut [i32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    const PRODUCTS: bool = true;

    /// Plain code: what the compiler makes of it has an instruction set's vectors.
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let vectors = self.x.chunks_exact(self.cols.max(1));
        for (x, out) in vectors.zip(self.out.chunks_exact_mut(self.rows.max(1))) {
            let scales = self.multipliers.iter().zip(self.biases);
            let rows = self.weights.chunks_exact(self.stride.max(1)).zip(scales);
            for (out, (row, (&multiplier, &bias))) in out.iter_mut().zip(rows) {
                *out = scaled(bias.wrapping_add(dot(row, x)), multiplier);
            }
        }
    }
}

/// Σ a·b over the shorter of both.
#[inline(always)]
pub(super) fn dot(a: &[i8], b: &[i8]) -> i32 {
    let mut sum = 0i32;
    for (&a, &b) in a.iter().zip(b) {
        sum = sum.wrapping_add(i32::from(a) * i32::from(b));
    }
    sum
}
