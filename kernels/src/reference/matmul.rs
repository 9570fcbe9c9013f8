//! Products of packed matrices, element by element.

use crate::layout::{GROUP, PANEL, WeightFormat, cols_padded};
use crate::pack::scale_index;
use crate::{Matrix, MatrixData};

/// The stored value of row `row`, column `col`: weight · scale (+ minimum), exact in f64. 0 outside the matrix.
pub fn element(matrix: &Matrix<'_>, row: usize, col: usize) -> f64 {
    let format = matrix.format();
    if row >= matrix.rows() || col >= matrix.cols() {
        return 0.0;
    }
    let scale = scale_index(format, row, col, matrix.cols());
    let at = weight_index(format, row, col, matrix.cols());
    match matrix.data() {
        MatrixData::F32(weights) => f64::from(weights[at]),
        MatrixData::F16(weights) => f64::from(weights[at]),
        MatrixData::I8Row { scales, .. }
        | MatrixData::I8Group32 { scales, .. }
        | MatrixData::I4Group32 { scales, .. } => {
            f64::from(integer(matrix, row, col)) * f64::from(scales[scale])
        }
        MatrixData::U4Group32 { scales, minima, .. } => {
            f64::from(integer(matrix, row, col)) * f64::from(scales[scale])
                + f64::from(minima[scale])
        }
    }
}

/// The stored integer of row `row`, column `col`, without its scale; 0 for the float formats.
pub fn integer(matrix: &Matrix<'_>, row: usize, col: usize) -> i32 {
    let at = weight_index(matrix.format(), row, col, matrix.cols());
    match matrix.data() {
        MatrixData::F32(_) | MatrixData::F16(_) => 0,
        MatrixData::I8Row { weights, .. } | MatrixData::I8Group32 { weights, .. } => {
            i32::from(weights[at])
        }
        MatrixData::I4Group32 { weights, .. } => nibble(weights[at], col) - 8,
        MatrixData::U4Group32 { weights, .. } => nibble(weights[at], col),
    }
}

/// The low nibble of a byte holds the columns 0 to 3 of eight, the high one 4 to 7.
fn nibble(byte: u8, col: usize) -> i32 {
    i32::from(if (col / 4).is_multiple_of(2) {
        byte & 15
    } else {
        byte >> 4
    })
}

/// y = W x for one vector in f64, activations not quantized.
pub fn matvec(matrix: &Matrix<'_>, x: &[f32], y: &mut [f64]) {
    for (row, y) in y.iter_mut().enumerate() {
        *y = x
            .iter()
            .enumerate()
            .map(|(col, x)| element(matrix, row, col) * f64::from(*x))
            .sum();
    }
}

/// What `I8Row` must give, bit for bit, on every backend: exact integers, then two roundings.
pub fn matvec_i8_row(matrix: &Matrix<'_>, x: &[f32], y: &mut [f32]) {
    let MatrixData::I8Row { scales, .. } = matrix.data() else {
        return;
    };
    let amax = x.iter().fold(0f32, |max, x| max.max(x.abs()));
    let (scale, factor) = (amax / 63.0, 63.0 / amax);
    for (row, y) in y.iter_mut().enumerate() {
        let product = |(col, x): (usize, &f32)| {
            let level = if amax > 0.0 {
                libm::rintf(x * factor) as i64
            } else {
                0
            };
            level * i64::from(integer(matrix, row, col))
        };
        let sum: i64 = x.iter().enumerate().map(product).sum();
        *y = sum as f32 * scales[row].to_f32() * scale;
    }
}

/// Place of a weight (for the 4-bit formats, of its byte), by the table of [`WeightFormat`].
fn weight_index(format: WeightFormat, row: usize, col: usize, cols: usize) -> usize {
    let padded = cols_padded(format, cols);
    let (panel, r) = (row / PANEL, row % PANEL);
    match format {
        WeightFormat::F32 | WeightFormat::F16 => (panel * padded + col) * PANEL + r,
        WeightFormat::I8Row | WeightFormat::I8Group32 => {
            panel * padded * PANEL + col / 4 * 64 + r * 4 + col % 4
        }
        WeightFormat::I4Group32 | WeightFormat::U4Group32 => {
            let group = panel * (padded / GROUP) + col / GROUP;
            (group * 4 + col % GROUP / 8) * 64 + r * 4 + col % 4
        }
    }
}
