//! Tables of vectors that are looked up: tokens and positions.

use super::{stride, to_i16};
use crate::error::ShapeError;

/// Rows of bytes, each with a step of its own.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    cols: usize,
    rows: &'a [i8],
    steps: &'a [i32],
}

impl<'a> Table<'a> {
    /// `rows` are (n, [`stride`](super::stride)`(cols)`), `steps` (n): the value of a level in 2⁻¹⁶ of the stream's
    /// unit.
    ///
    /// # Errors
    /// When there are not as many rows as steps.
    pub const fn new(cols: usize, rows: &'a [i8], steps: &'a [i32]) -> Result<Self, ShapeError> {
        let need = steps.len().saturating_mul(stride(cols));
        match ShapeError::check_eq("rows", need, rows.len()) {
            Ok(()) => Ok(Self { cols, rows, steps }),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a row and their step.
    fn row(&self, index: usize) -> Result<(&'a [i8], i32), ShapeError> {
        let outside = ShapeError {
            what: "rows",
            need: index.saturating_add(1),
            have: self.steps.len(),
        };
        let from = index.saturating_mul(stride(self.cols));
        let row = self.rows.get(from..).and_then(|rows| rows.get(..self.cols));
        match (row, self.steps.get(index)) {
            (Some(row), Some(&step)) => Ok((row, step)),
            _ => Err(outside),
        }
    }
}

/// x = x + row `index` of the table, rounded once.
///
/// # Errors
/// When the table has no such row, or `x` has not its columns.
pub fn embed(table: &Table<'_>, index: usize, x: &mut [i16]) -> Result<(), ShapeError> {
    ShapeError::check_eq("x", table.cols, x.len())?;
    let (row, step) = table.row(index)?;
    for (x, &level) in x.iter_mut().zip(row) {
        let value = (i64::from(level) * i64::from(step) + (1 << 15)) >> 16;
        *x = to_i16(i32::from(*x).saturating_add(value as i32));
    }
    Ok(())
}
