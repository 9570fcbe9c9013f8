//! Products of a packed weights matrix with one or many activation vectors.
//!
//! W of shape `(rows, cols)` lies in panels of sixteen rows ([`WeightFormat`]): every load of a weight serves sixteen
//! outputs without a horizontal sum, and a product reads memory once, forward. Activations of the integer formats are
//! quantized here, and interleaved by tiles of vectors, so that an inner loop walks through exactly two streams. They
//! get a scale where the weights have one: each group of 32 columns its own, and with `I8Row` the whole vector one. (A
//! scale per vector costs a language model several times as much of its accuracy.)
//!
//! # The same bits, one at a time or many
//! Each output is summed over its columns (or groups) in order, whatever the number of vectors: a token computed alone
//! equals, bit for bit, the same token in a batch. Integer sums are exact, and `I8Row` rounds only after them, so
//! `I8Row` gives the same bits on every backend; the other formats differ between backends by fused or separate
//! multiply-adds.
//!
//! # Not-a-number and extremes
//! An activation vector that holds an infinity or a NaN gives NaN outputs (integer formats), or what IEEE arithmetic
//! gives (float formats). In the integer formats a vector whose largest magnitude is below 2⁻¹⁰⁰ counts as zero.

mod activations;
mod float;
mod int4;
mod int8;
mod panel;
mod scalar;

use crate::backend::compiled_here;
use crate::kinds::not_linked;
use crate::layout::{GROUP, WeightFormat};
use crate::{Backend, Everything, Linked, Matrix, MatrixData, ShapeError};
use half::f16;

/// The most vectors that are quantized at a time; more are served in blocks, each of which reads the weights again.
const TOKENS_MAX: usize = 128;

/// Length in words of the scratch that [`matmul`] needs for `n` vectors of a matrix with `cols` columns, of any format
/// and any number of rows: a byte per activation, two words for each 32, and a word a vector.
///
/// More than 128 vectors need no more scratch than 128.
pub const fn matmul_scratch_len(cols: usize, n: usize) -> usize {
    let tokens = if n < TOKENS_MAX { n } else { TOKENS_MAX };
    let groups = cols.div_ceil(GROUP);
    // For each group eight words of activations, one for their scale and one for their sum; one for the vector's scale.
    let words = groups.saturating_mul(GROUP / 4 + 2).saturating_add(1);
    words.saturating_mul(tokens)
}

/// y = W x for `n` vectors: `x` is `(n, cols)`, `y` is `(n, rows)`, both row-major.
///
/// Accuracy: `F32` and `F16` sum in f32. The integer formats round activations and multiply exact integers: `I8Row`
/// rounds each vector to 7 bits (scale amax/63), `I8Group32` every 32 columns to 7 bits, `I4Group32` and `U4Group32`
/// every 32 columns to 8 bits (amax/127). The scales of groups are whole multiples of 1/8192 of the vector's. Against exact arithmetic on Gaussian data that is a relative error of about
/// 1.3e-2, 1.0e-2 and 0.5e-2 of the output's norm.
///
/// # Errors
/// [`ShapeError`] when `x` or `y` has the wrong length or `scratch` is shorter than [`matmul_scratch_len`] (the float
/// formats use none).
pub fn matmul(
    backend: Backend,
    w: &Matrix<'_>,
    x: &[f32],
    n: usize,
    y: &mut [f32],
    scratch: &mut [u32],
) -> Result<(), ShapeError> {
    matmul_linked::<Everything>(backend, w, x, n, y, scratch)
}

/// As [`matmul`], for the formats of `L` alone: the code for others is not linked.
///
/// # Errors
/// Those of [`matmul`], and a matrix whose format is not one of `L`'s.
pub fn matmul_linked<L: Linked>(
    backend: Backend,
    w: &Matrix<'_>,
    x: &[f32],
    n: usize,
    y: &mut [f32],
    scratch: &mut [u32],
) -> Result<(), ShapeError> {
    let (rows, cols) = (w.rows(), w.cols());
    ShapeError::check_eq("input vectors", n.saturating_mul(cols), x.len())?;
    ShapeError::check_eq("output vectors", n.saturating_mul(rows), y.len())?;
    let links = |format| L::KINDS.has_weights(format);
    if !links(w.format()) {
        return Err(not_linked());
    }
    match w.data() {
        MatrixData::F32(weights) if links(WeightFormat::F32) => {
            let product = float::Product {
                weights,
                x,
                y,
                rows,
                cols,
            };
            f32_product(backend, product);
        }
        MatrixData::F16(weights) if links(WeightFormat::F16) => {
            let product = float::Product {
                weights,
                x,
                y,
                rows,
                cols,
            };
            f16_product(backend, product);
        }
        _ => {
            ShapeError::check_at_least(
                "scratch of the product",
                matmul_scratch_len(cols, n),
                scratch.len(),
            )?;
            // Even blocks: 130 vectors are served as 65 and 65.
            let blocks = n.div_ceil(TOKENS_MAX).max(1);
            let tokens = n.div_ceil(blocks).max(1);
            let (cols, rows) = (cols.saturating_mul(tokens), rows.saturating_mul(tokens));
            for (x, y) in pairs(x, cols, y, rows) {
                block::<L>(backend, w, x, y, scratch)?;
            }
        }
    }
    Ok(())
}

/// `x` in pieces of `cols` and `y` in pieces of `rows`, side by side.
///
/// Zipped, they would be counted by a division, which where it is not inlined is a path to a panic.
#[inline(always)]
fn pairs<'a>(
    x: &'a [f32],
    cols: usize,
    y: &'a mut [f32],
    rows: usize,
) -> impl Iterator<Item = (&'a [f32], &'a mut [f32])> {
    let (mut x, mut y) = (x.chunks(cols.max(1)), y.chunks_mut(rows.max(1)));
    core::iter::from_fn(move || Some((x.next()?, y.next()?)))
}

/// One block of vectors that the scratch has room for, of an integer format.
fn block<L: Linked>(
    backend: Backend,
    w: &Matrix<'_>,
    x: &[f32],
    y: &mut [f32],
    scratch: &mut [u32],
) -> Result<(), ShapeError> {
    let (rows, cols) = (w.rows(), w.cols());
    let links = |format| L::KINDS.has_weights(format);
    match w.data() {
        MatrixData::I8Row {
            weights,
            scales,
            corrections,
        } if links(WeightFormat::I8Row) => {
            let product = int8::RowProduct {
                weights,
                scales,
                corrections,
                x,
                y,
                rows,
                cols,
                scratch,
            };
            i8_row_product(backend, product)
        }
        MatrixData::I8Group32 { weights, scales } if links(WeightFormat::I8Group32) => {
            let product = int8::GroupProduct {
                weights,
                scales,
                x,
                y,
                rows,
                cols,
                scratch,
            };
            i8_group_product(backend, product)
        }
        MatrixData::I4Group32 { weights, scales } if links(WeightFormat::I4Group32) => {
            let product = int4::Product {
                weights,
                scales,
                minima: scales,
                x,
                y,
                rows,
                cols,
                scratch,
            };
            i4_product(backend, product)
        }
        MatrixData::U4Group32 {
            weights,
            scales,
            minima,
        } if links(WeightFormat::U4Group32) => {
            let product = int4::Product {
                weights,
                scales,
                minima,
                x,
                y,
                rows,
                cols,
                scratch,
            };
            u4_product(backend, product)
        }
        // Floats came this far for nothing; what is not linked came not so far.
        _ => Ok(()),
    }
}

compiled_here! {
    f32_product(float::Product<'_, f32>) -> ();
    f16_product(float::Product<'_, f16>) -> ();
    i8_row_product(int8::RowProduct<'_>) -> Result<(), ShapeError>;
    i8_group_product(int8::GroupProduct<'_>) -> Result<(), ShapeError>;
    i4_product(int4::Product<'_, false>) -> Result<(), ShapeError>;
    u4_product(int4::Product<'_, true>) -> Result<(), ShapeError>;
}

#[cfg(test)]
mod tests;
