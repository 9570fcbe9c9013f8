//! Products of a matrix of bytes, or of four bits a number, with vectors of bytes.

use super::quads::{QUAD, quads_len};
use super::scaled;
use crate::Backend;
use crate::error::ShapeError;
use crate::isa::{Isa, Kernel};
use crate::kinds::{Everything, not_linked};

/// Rows of weights begin at multiples of so many bytes, and are filled up with zeros.
pub const ROW_ALIGN: usize = 16;

/// Bytes from one row of weights to the next.
pub const fn stride(cols: usize) -> usize {
    cols.next_multiple_of(ROW_ALIGN)
}

/// Numbers of a matrix.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// Bytes: (rows, [`stride`](stride)`(cols)`).
    I8(&'a [i8]),
    /// Four bits each, four rows together ([`pack_quads`](super::pack_quads)): [`quads_len`](super::quads_len) numbers. A
    /// level is the upper half of a byte whose lower half is 0, so that it counts sixteen times.
    I4(&'a [u16]),
}

impl Weights<'_> {
    /// How many numbers, and how many there should be.
    const fn lens(&self, rows: usize, cols: usize) -> (usize, usize) {
        match self {
            Self::I8(bytes) => (bytes.len(), rows.saturating_mul(stride(cols))),
            Self::I4(quads) => (quads.len(), quads_len(rows, cols)),
        }
    }

    /// How many pair sums.
    const fn pairs(&self, rows: usize) -> usize {
        match self {
            Self::I8(_) => rows,
            Self::I4(_) => rows / QUAD * 2,
        }
    }

    /// Rows that do not fill a four.
    const fn left_over(&self, rows: usize) -> usize {
        match self {
            Self::I8(_) => 0,
            Self::I4(_) => rows % QUAD,
        }
    }

    fn address(&self) -> usize {
        match self {
            Self::I8(bytes) => bytes.as_ptr().addr(),
            Self::I4(quads) => quads.as_ptr().addr(),
        }
    }
}

/// A matrix whose product with a vector is scaled row by row.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    rows: usize,
    cols: usize,
    weights: Weights<'a>,
    multipliers: &'a [i32],
    biases: &'a [i32],
    pairs: &'a [i32],
}

impl<'a> Product<'a> {
    /// Most columns: their products, of −128 with −128, stay below 2³¹ together with any bias below 2³⁰.
    pub const COLS_MAX: usize = 1 << 16;

    /// `multipliers` and `biases` are (rows), `pairs` the [`pair_sums`] of the bytes, one a row, or the
    /// [`quad_sums`](super::quad_sums), two for four rows. They save Armv7E-M half of its multiplications; wrong ones make
    /// wrong products there, and there only.
    ///
    /// # Errors
    /// When a length is another, there are no columns or more than [`Product::COLS_MAX`], or rows of four bits are no
    /// multiple of four.
    pub const fn new(
        rows: usize,
        cols: usize,
        weights: Weights<'a>,
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
        if let Err(error) = ShapeError::check_eq("rows, modulo 4", 0, weights.left_over(rows)) {
            return Err(error);
        }
        let (have, need) = weights.lens(rows, cols);
        if let Err(error) = ShapeError::check_eq("weights", need, have) {
            return Err(error);
        }
        if let Err(error) = ShapeError::check_eq("multipliers", rows, multipliers.len()) {
            return Err(error);
        }
        if let Err(error) = ShapeError::check_eq("biases", rows, biases.len()) {
            return Err(error);
        }
        if let Err(error) = ShapeError::check_eq("pair sums", weights.pairs(rows), pairs.len()) {
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

/// What a program's products are of, as a type that stands for it: the code for other matrices is not linked.
pub trait Linked {
    /// Whether some have four bits a number.
    const QUADS: bool;
}

impl Linked for Everything {
    const QUADS: bool = true;
}

/// `out[v][i] = scaled(bias + Σ w·x[v], multiplier)` for some vectors and the rows from `first` on, as many as `out` has
/// places for each.
///
/// `x` is (vectors, columns) and `out` (vectors, rows). Exact up to the one rounding of [`scaled`].
///
/// # Errors
/// When `x` has not vectors of the matrix's columns, `out` has not the same room for each, there are fewer rows, rows of four
/// bits are not whole fours, or the weights do not begin at a word: an address that 4 divides.
pub fn product(
    backend: Backend,
    matrix: &Product<'_>,
    x: &[i8],
    first: usize,
    out: &mut [i32],
) -> Result<(), ShapeError> {
    product_linked::<Everything>(backend, matrix, x, first, out)
}

/// As [`product`], for the matrices of `L` alone.
///
/// # Errors
/// Those of [`product`], and a matrix that is not one of `L`'s.
pub fn product_linked<L: Linked>(
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
    let left_over = matrix.weights.left_over(first | rows);
    ShapeError::check_eq("rows, modulo 4", 0, left_over)?;
    let offset = matrix.weights.address() % 4;
    ShapeError::check_eq("address of the weights, modulo 4", 0, offset)?;
    if rows == 0 {
        return Ok(());
    }
    let stride = stride(matrix.cols);
    let pairs = matrix.weights.pairs(first);
    let work = Rows {
        weights: &[(); 0],
        multipliers: matrix.multipliers.get(first..).unwrap_or_default(),
        biases: matrix.biases.get(first..).unwrap_or_default(),
        pairs: matrix.pairs.get(pairs..).unwrap_or_default(),
        stride,
        cols,
        rows,
        x,
        out,
    };
    match matrix.weights {
        Weights::I8(bytes) => {
            let work = work.with(bytes.get(first * stride..).unwrap_or_default());
            #[cfg(all(attentive_dsp, not(attentive_helium)))]
            super::dsp::product(work);
            #[cfg(attentive_helium)]
            super::helium::product(work);
            #[cfg(not(attentive_dsp))]
            of_bytes(backend, work);
        }
        Weights::I4(_) if !L::QUADS => return Err(not_linked()),
        Weights::I4(quads) => {
            let work = work.with(quads.get(first / QUAD * stride..).unwrap_or_default());
            #[cfg(all(attentive_dsp, not(attentive_helium)))]
            super::dsp::product_of_quads(work);
            #[cfg(attentive_helium)]
            super::helium::product_of_quads(work);
            #[cfg(not(attentive_dsp))]
            of_quads(backend, work);
        }
    }
    #[cfg(attentive_dsp)]
    let _ = backend;
    Ok(())
}

// These two are this crate's own code, with its optimization, whatever that of the program is.
#[cfg(not(attentive_dsp))]
#[inline(never)]
fn of_bytes(backend: Backend, work: Rows<'_, i8>) {
    backend.run(work);
}

#[cfg(not(attentive_dsp))]
#[inline(never)]
fn of_quads(backend: Backend, work: Rows<'_, u16>) {
    backend.run(work);
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

/// Rows of a product, from the first that is computed: one at least, of fours of rows a multiple of four.
pub(super) struct Rows<'a, T> {
    pub(super) weights: &'a [T],
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

impl<'a, T> Rows<'a, T> {
    /// The same of other weights.
    fn with<U>(self, weights: &'a [U]) -> Rows<'a, U> {
        let Self {
            multipliers,
            biases,
            pairs,
            stride,
            cols,
            rows,
            x,
            out,
            ..
        } = self;
        Rows {
            weights,
            multipliers,
            biases,
            pairs,
            stride,
            cols,
            rows,
            x,
            out,
        }
    }
}

impl Kernel for Rows<'_, i8> {
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

/// Calls `each` with the elements at the same places of both, in order, up to the end of the shorter.
///
/// Compilers make vectors of a plain loop; where there are none, half of its instructions are about the loop itself, so that
/// there it goes over eights.
#[inline(always)]
pub(super) fn in_eights<A: Copy, B: Copy>(a: &[A], b: &[B], mut each: impl FnMut(A, B)) {
    let mut all = |a: &[A], b: &[B]| {
        for (&a, &b) in a.iter().zip(b) {
            each(a, b);
        }
    };
    if !cfg!(any(target_arch = "arm", target_arch = "riscv32")) {
        return all(a, b);
    }
    let len = a.len().min(b.len());
    let (a, b) = (a.get(..len).unwrap_or(a), b.get(..len).unwrap_or(b));
    let (eights_a, rest_a) = a.as_chunks::<8>();
    let (eights_b, rest_b) = b.as_chunks::<8>();
    for (a, b) in eights_a.iter().zip(eights_b) {
        all(a, b);
    }
    all(rest_a, rest_b);
}

/// Σ a·b over the shorter of both.
#[inline(always)]
pub(super) fn dot<A: Copy + Into<i32>>(a: &[A], b: &[i8]) -> i32 {
    let mut sum = 0i32;
    in_eights(a, b, |a, b| {
        sum = sum.wrapping_add(a.into().wrapping_mul(i32::from(b)));
    });
    sum
}
