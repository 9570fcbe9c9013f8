//! Row-major f32 matrices into the packed formats: what a trainer needs to write a weights file.
//!
//! Quantizing takes two steps, so that a trainer may choose the scales itself (calibration, quantization-aware
//! training): [`choose_scales`] (or [`choose_scales_and_minima`]) writes f16 scales, `pack_*` quantizes with the scales
//! that it is given. A scale is rounded to f16 *before* the weights are divided by it, so what is trained against is
//! what is run.
//!
//! Weights that are integers already, of a file that somebody else quantized, keep their values: `pack_*_levels` only
//! moves them, and the scales are copied to where [`scale_index`] says.
//!
//! Plain safe code without allocation; nothing here is on the path of inference. Slices have the lengths that
//! [`WeightFormat`] states.

mod float;
mod int;
mod minima;
mod scales;

use core::fmt;

use crate::error::ShapeError;
use crate::layout::{GROUP, PANEL, WeightFormat, WeightLens, weight_lens};
use crate::matrix::Matrix;

pub use float::{pack_f16, pack_f32};
pub use int::{
    pack_i4_group32, pack_i4_group32_levels, pack_i8_group32, pack_i8_group32_levels, pack_i8_row,
    pack_i8_row_levels, pack_u4_group32, pack_u4_group32_levels, quantize, quantize_above,
};
pub use minima::choose_scales_and_minima;
pub use scales::{ScaleMethod, choose_scales};

/// Why a matrix cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PackError {
    /// A slice has the wrong length.
    Shape(ShapeError),
    /// An element, its importance or its scale is infinite or NaN.
    NotFinite {
        /// Row of the element.
        row: usize,
        /// Column of the element.
        col: usize,
    },
    /// An element is too large for the format: it or its scale exceeds what f16 holds.
    Overflow {
        /// Row of the element.
        row: usize,
        /// Column of the element.
        col: usize,
    },
    /// An integer that the format does not have.
    Level {
        /// Row of the integer.
        row: usize,
        /// Column of the integer.
        col: usize,
        /// The format's lowest.
        lowest: i8,
        /// The format's highest.
        highest: i8,
    },
    /// The format has no scales to choose, or minima beside them.
    NoScales(WeightFormat),
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackError::Shape(error) => error.fmt(f),
            PackError::NotFinite { row, col } => {
                write!(f, "row {row}, column {col}: infinite or not a number")
            }
            PackError::Overflow { row, col } => {
                write!(f, "row {row}, column {col}: too large for half precision")
            }
            PackError::Level {
                row,
                col,
                lowest,
                highest,
            } => {
                write!(
                    f,
                    "row {row}, column {col}: not in the format's {lowest}..={highest}"
                )
            }
            PackError::NoScales(format) => {
                write!(
                    f,
                    "{format:?} has no scales, or minima that are chosen with them"
                )
            }
        }
    }
}

impl core::error::Error for PackError {}

impl From<ShapeError> for PackError {
    fn from(error: ShapeError) -> Self {
        PackError::Shape(error)
    }
}

/// A row-major matrix that reads as zero outside its shape, which is how panels are filled up.
#[derive(Clone, Copy)]
struct Source<'a> {
    rows: usize,
    cols: usize,
    data: &'a [f32],
}

impl<'a> Source<'a> {
    fn new(rows: usize, cols: usize, data: &'a [f32]) -> Result<Self, PackError> {
        check_shape(rows, cols, data.len())?;
        let source = Source { rows, cols, data };
        match data.iter().position(|x| !x.is_finite()) {
            Some(at) => Err(PackError::NotFinite {
                row: at / cols,
                col: at % cols,
            }),
            None => Ok(source),
        }
    }

    fn at(&self, row: usize, col: usize) -> f32 {
        if row >= self.rows || col >= self.cols {
            return 0.0;
        }
        self.data.get(row * self.cols + col).copied().unwrap_or(0.0)
    }

    fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }
}

/// That a row-major matrix has a possible shape and `len` elements.
fn check_shape(rows: usize, cols: usize, len: usize) -> Result<(), PackError> {
    check_eq("rows of the matrix", rows.max(1), rows)?;
    let possible = cols.clamp(1, Matrix::COLS_MAX);
    check_eq("columns of the matrix", possible, cols)?;
    check_eq("elements of the matrix", rows.saturating_mul(cols), len)
}

/// Place of the scale (and the minimum) of row `row`, column `col` in the scales of a matrix with `cols` columns; 0
/// for a format without scales.
pub const fn scale_index(format: WeightFormat, row: usize, col: usize, cols: usize) -> usize {
    match format {
        WeightFormat::F32 | WeightFormat::F16 => 0,
        WeightFormat::I8Row => row,
        WeightFormat::I8Group32 | WeightFormat::I4Group32 | WeightFormat::U4Group32 => {
            (row / PANEL * cols.div_ceil(GROUP) + col / GROUP) * PANEL + row % PANEL
        }
    }
}

fn lens(format: WeightFormat, rows: usize, cols: usize) -> Result<WeightLens, PackError> {
    weight_lens(format, rows, cols).ok_or(
        ShapeError {
            what: "elements of the matrix",
            need: usize::MAX,
            have: rows.saturating_mul(cols),
        }
        .into(),
    )
}

fn check_eq(what: &'static str, need: usize, have: usize) -> Result<(), PackError> {
    if need == have {
        Ok(())
    } else {
        Err(ShapeError { what, need, have }.into())
    }
}

#[cfg(test)]
mod tests;
