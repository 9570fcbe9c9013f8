//! Parts of matrices and vectors, so that cores can share a product.

use super::{Matrix, MatrixData, Vector};
use crate::error::ShapeError;
use crate::layout::{PANEL, WeightLens, weight_lens};

impl Matrix<'_> {
    /// The matrix of the rows `from..to` alone, borrowed from the same memory: a product with it gives the bits that
    /// the whole product gives for these rows, so that several cores can share one.
    ///
    /// # Errors
    /// [`ShapeError`] when the range is empty or reaches beyond the matrix, `from` is no multiple of [`PANEL`], or `to`
    /// is neither a multiple of it nor the last row's end.
    pub fn rows_part(&self, from: usize, to: usize) -> Result<Self, ShapeError> {
        ShapeError::check_at_most("end of a matrix' part", self.rows, to)?;
        ShapeError::check_eq("first row of a matrix' part", from - from % PANEL, from)?;
        if to != self.rows {
            ShapeError::check_eq("end of a matrix' part", to - to % PANEL, to)?;
        }
        let rows = to.saturating_sub(from);
        let format = self.format();
        weight_lens(format, from, self.cols)
            .zip(weight_lens(format, rows, self.cols))
            .and_then(|(before, lens)| self.data.part(before, lens))
            .ok_or(ShapeError {
                what: "elements of a matrix' part",
                need: to,
                have: self.rows,
            })
            .and_then(|data| Self::new(rows, self.cols, data))
    }
}

impl MatrixData<'_> {
    /// The elements after the first `before`, as many as `lens` says; `None` where there are fewer.
    fn part(self, before: WeightLens, lens: WeightLens) -> Option<Self> {
        fn cut<T>(all: &[T], before: usize, len: usize) -> Option<&[T]> {
            all.get(before..)?.get(..len)
        }
        Some(match self {
            MatrixData::F32(weights) => MatrixData::F32(cut(weights, before.data, lens.data)?),
            MatrixData::F16(weights) => MatrixData::F16(cut(weights, before.data, lens.data)?),
            MatrixData::I8Row {
                weights,
                scales,
                corrections,
            } => MatrixData::I8Row {
                weights: cut(weights, before.data, lens.data)?,
                scales: cut(scales, before.scales, lens.scales)?,
                corrections: cut(corrections, before.corrections, lens.corrections)?,
            },
            MatrixData::I8Group32 { weights, scales } => MatrixData::I8Group32 {
                weights: cut(weights, before.data, lens.data)?,
                scales: cut(scales, before.scales, lens.scales)?,
            },
            MatrixData::I4Group32 { weights, scales } => MatrixData::I4Group32 {
                weights: cut(weights, before.data, lens.data)?,
                scales: cut(scales, before.scales, lens.scales)?,
            },
            MatrixData::U4Group32 {
                weights,
                scales,
                minima,
            } => MatrixData::U4Group32 {
                weights: cut(weights, before.data, lens.data)?,
                scales: cut(scales, before.scales, lens.scales)?,
                minima: cut(minima, before.minima, lens.minima)?,
            },
        })
    }
}

impl Vector<'_> {
    /// The elements `from..to`.
    ///
    /// # Errors
    /// [`ShapeError`] when there are fewer.
    pub fn part(&self, from: usize, to: usize) -> Result<Self, ShapeError> {
        let part = match *self {
            Vector::F32(v) => v.get(from..to).map(Vector::F32),
            Vector::F16(v) => v.get(from..to).map(Vector::F16),
        };
        part.ok_or(ShapeError {
            what: "end of a vector's part",
            need: self.len(),
            have: to,
        })
    }
}

#[cfg(test)]
mod tests;
