//! Weights as the kernels read them: borrowed, packed, lengths checked once.

mod parts;

use half::f16;

use crate::error::ShapeError;
use crate::layout::{WeightFormat, WeightLens, weight_lens};

/// A weights matrix W of shape `(rows, cols)` in one of the packed layouts; a product computes y = W x.
///
/// The lengths are checked by [`Matrix::new`], so that no kernel has to check them again.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    rows: usize,
    cols: usize,
    data: MatrixData<'a>,
}

/// The packed elements of a [`Matrix`]; [`WeightFormat`] describes each layout.
///
/// Values must keep to what the `pack` functions write (finite scales). Others give other numbers, not a panic.
#[derive(Clone, Copy, Debug)]
pub enum MatrixData<'a> {
    /// [`WeightFormat::F32`].
    F32(&'a [f32]),
    /// [`WeightFormat::F16`].
    F16(&'a [f16]),
    /// [`WeightFormat::I8Row`].
    I8Row {
        /// `[panel][cols_padded / 4][16 rows][4 cols]`, in −128..=127.
        weights: &'a [i8],
        /// One for each row, rows rounded up to 16.
        scales: &'a [f16],
        /// −64·Σw of each row, rows rounded up to 16.
        corrections: &'a [i32],
    },
    /// [`WeightFormat::I8Group32`].
    I8Group32 {
        /// `[panel][cols_padded / 4][16 rows][4 cols]`, in −128..=127.
        weights: &'a [i8],
        /// `[panel][cols_padded / 32][16 rows]`.
        scales: &'a [f16],
    },
    /// [`WeightFormat::I4Group32`].
    I4Group32 {
        /// `[panel][cols_padded / 32][4][16 rows][4 cols]`, two weights + 8 a byte.
        weights: &'a [u8],
        /// `[panel][cols_padded / 32][16 rows]`.
        scales: &'a [f16],
    },
    /// [`WeightFormat::U4Group32`].
    U4Group32 {
        /// `[panel][cols_padded / 32][4][16 rows][4 cols]`, two weights a byte.
        weights: &'a [u8],
        /// `[panel][cols_padded / 32][16 rows]`.
        scales: &'a [f16],
        /// `[panel][cols_padded / 32][16 rows]`.
        minima: &'a [f16],
    },
}

impl MatrixData<'_> {
    /// The format whose layout this data has.
    pub const fn format(&self) -> WeightFormat {
        match self {
            MatrixData::F32(_) => WeightFormat::F32,
            MatrixData::F16(_) => WeightFormat::F16,
            MatrixData::I8Row { .. } => WeightFormat::I8Row,
            MatrixData::I8Group32 { .. } => WeightFormat::I8Group32,
            MatrixData::I4Group32 { .. } => WeightFormat::I4Group32,
            MatrixData::U4Group32 { .. } => WeightFormat::U4Group32,
        }
    }

    const fn lens(&self) -> WeightLens {
        let (data, scales, corrections, minima) = match self {
            MatrixData::F32(weights) => (weights.len(), 0, 0, 0),
            MatrixData::F16(weights) => (weights.len(), 0, 0, 0),
            MatrixData::I8Row {
                weights,
                scales,
                corrections,
            } => (weights.len(), scales.len(), corrections.len(), 0),
            MatrixData::I8Group32 { weights, scales } => (weights.len(), scales.len(), 0, 0),
            MatrixData::I4Group32 { weights, scales } => (weights.len(), scales.len(), 0, 0),
            MatrixData::U4Group32 {
                weights,
                scales,
                minima,
            } => (weights.len(), scales.len(), 0, minima.len()),
        };
        WeightLens {
            data,
            scales,
            corrections,
            minima,
        }
    }
}

impl<'a> Matrix<'a> {
    /// The most columns: a sum of 127·128 over them fits an i32.
    pub const COLS_MAX: usize = 1 << 17;

    /// Checks the lengths of `data` against `(rows, cols)` and joins them.
    ///
    /// # Errors
    /// [`ShapeError`] when a dimension is zero, `cols` exceeds [`Self::COLS_MAX`], or a slice has not exactly the
    /// length that [`WeightFormat`] states for this shape.
    pub const fn new(rows: usize, cols: usize, data: MatrixData<'a>) -> Result<Self, ShapeError> {
        if rows == 0 || cols == 0 {
            return Err(ShapeError {
                what: "rows and columns of the matrix",
                need: 1,
                have: 0,
            });
        }
        if cols > Self::COLS_MAX {
            return Err(ShapeError {
                what: "columns of the matrix",
                need: Self::COLS_MAX,
                have: cols,
            });
        }
        let Some(need) = weight_lens(data.format(), rows, cols) else {
            return Err(ShapeError {
                what: "elements of the matrix",
                need: usize::MAX,
                have: 0,
            });
        };
        let have = data.lens();
        let parts = [
            ("packed weights", need.data, have.data),
            ("weight scales", need.scales, have.scales),
            ("weight corrections", need.corrections, have.corrections),
            ("weight minima", need.minima, have.minima),
        ];
        let mut rest: &[(&'static str, usize, usize)] = &parts;
        while let Some((&(what, need, have), tail)) = rest.split_first() {
            if need != have {
                return Err(ShapeError { what, need, have });
            }
            rest = tail;
        }
        Ok(Matrix { rows, cols, data })
    }

    /// Number of outputs of the product.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs of the product.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The packed elements.
    pub const fn data(&self) -> MatrixData<'a> {
        self.data
    }

    /// The packed layout.
    pub const fn format(&self) -> WeightFormat {
        self.data.format()
    }
}

/// A vector of parameters: a gain of a norm, a bias.
#[derive(Clone, Copy, Debug)]
pub enum Vector<'a> {
    /// As f32.
    F32(&'a [f32]),
    /// As IEEE binary16.
    F16(&'a [f16]),
}

impl Vector<'_> {
    /// Number of elements.
    pub const fn len(&self) -> usize {
        match self {
            Vector::F32(v) => v.len(),
            Vector::F16(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
