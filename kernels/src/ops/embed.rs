//! One row of a packed matrix as f32: the lookup of an embedding.

use half::f16;

use crate::kinds::not_linked;
use crate::layout::{GROUP, PANEL, WeightFormat, cols_padded};
use crate::{Backend, Everything, Linked, Matrix, MatrixData, ShapeError};

/// Writes row `row` of `matrix` to `out` (`cols` long): exact for the float formats, weight · scale (+ minimum)
/// rounded once for the integer ones.
///
/// A row is spread over a panel, so no instruction set reads it faster than plain code does; `backend` changes nothing.
///
/// # Errors
/// [`ShapeError`] when there is no such row or `out` has another length.
pub fn dequantize_row(
    backend: Backend,
    matrix: &Matrix<'_>,
    row: usize,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    dequantize_row_linked::<Everything>(backend, matrix, row, out)
}

/// As [`dequantize_row`], for the formats of `L` alone: the code for others is not linked.
///
/// # Errors
/// Those of [`dequantize_row`], and a matrix whose format is not one of `L`'s.
pub fn dequantize_row_linked<L: Linked>(
    _backend: Backend,
    matrix: &Matrix<'_>,
    row: usize,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    if row >= rows {
        return Err(ShapeError {
            what: "rows of the matrix",
            need: row.saturating_add(1),
            have: rows,
        });
    }
    ShapeError::check_eq("the row of output", cols, out.len())?;
    let r = row % PANEL;
    let panel = row / PANEL;
    let padded = cols_padded(matrix.format(), cols);
    let groups = padded / GROUP;
    let links = |format| L::KINDS.has_weights(format);
    match matrix.data() {
        MatrixData::F32(weights) if links(WeightFormat::F32) => {
            let columns = skip(weights, panel * padded * PANEL).as_chunks::<PANEL>().0;
            for (out, column) in out.iter_mut().zip(columns) {
                *out = column[r];
            }
        }
        MatrixData::F16(weights) if links(WeightFormat::F16) => {
            let columns = skip(weights, panel * padded * PANEL).as_chunks::<PANEL>().0;
            for (out, column) in out.iter_mut().zip(columns) {
                *out = column[r].to_f32();
            }
        }
        MatrixData::I8Row {
            weights, scales, ..
        } if links(WeightFormat::I8Row) => {
            let quads = skip(weights, panel * padded * PANEL).as_chunks::<4>().0;
            let scale = scales.get(row).copied().unwrap_or(f16::ZERO).to_f32();
            bytes_to(out, quads, r, scale);
        }
        MatrixData::I8Group32 {
            weights, scales, ..
        } if links(WeightFormat::I8Group32) => {
            let quads = skip(weights, panel * padded * PANEL).as_chunks::<4>().0;
            let scales = skip(scales, panel * groups * PANEL).as_chunks::<PANEL>().0;
            for (g, (out, scales)) in out.chunks_mut(GROUP).zip(scales).enumerate() {
                bytes_to(
                    out,
                    skip(quads, g * (GROUP / 4) * PANEL),
                    r,
                    scales[r].to_f32(),
                );
            }
        }
        MatrixData::I4Group32 { weights, scales } if links(WeightFormat::I4Group32) => {
            let quads = skip(weights, panel * padded * PANEL / 2).as_chunks::<4>().0;
            let scales = skip(scales, panel * groups * PANEL).as_chunks::<PANEL>().0;
            for (g, (out, scales)) in out.chunks_mut(GROUP).zip(scales).enumerate() {
                nibbles_to(out, skip(quads, g * (GROUP / 8) * PANEL), r, |nibble| {
                    (nibble - 8.0) * scales[r].to_f32()
                });
            }
        }
        MatrixData::U4Group32 {
            weights,
            scales,
            minima,
        } if links(WeightFormat::U4Group32) => {
            let quads = skip(weights, panel * padded * PANEL / 2).as_chunks::<4>().0;
            let scales = skip(scales, panel * groups * PANEL).as_chunks::<PANEL>().0;
            let minima = skip(minima, panel * groups * PANEL).as_chunks::<PANEL>().0;
            let parameters = scales.iter().zip(minima);
            for (g, (out, (scales, minima))) in out.chunks_mut(GROUP).zip(parameters).enumerate() {
                // At most 15 bits wide, the product is exact: only the sum rounds.
                nibbles_to(out, skip(quads, g * (GROUP / 8) * PANEL), r, |nibble| {
                    nibble * scales[r].to_f32() + minima[r].to_f32()
                });
            }
        }
        _ => return Err(not_linked()),
    }
    Ok(())
}

/// `quads` are `[column / 4][PANEL]` of four columns each, `r` the row in the panel.
fn bytes_to(out: &mut [f32], quads: &[[i8; 4]], r: usize, scale: f32) {
    for (out, quad) in out.chunks_mut(4).zip(quads.as_chunks::<PANEL>().0) {
        for (out, weight) in out.iter_mut().zip(quad[r % PANEL]) {
            *out = f32::from(weight) * scale;
        }
    }
}

/// `quads` are `[column / 8][PANEL]`, four columns in the low nibbles and the next four in the high ones.
fn nibbles_to(out: &mut [f32], quads: &[[u8; 4]], r: usize, weight: impl Fn(f32) -> f32) {
    for (out, quad) in out.chunks_mut(8).zip(quads.as_chunks::<PANEL>().0) {
        let bytes = quad[r % PANEL];
        let nibbles = bytes
            .iter()
            .map(|byte| byte & 15)
            .chain(bytes.iter().map(|byte| byte >> 4));
        for (out, nibble) in out.iter_mut().zip(nibbles) {
            *out = weight(f32::from(nibble));
        }
    }
}

/// What follows the first `len` elements; nothing if there are fewer.
fn skip<T>(from: &[T], len: usize) -> &[T] {
    from.get(len..).unwrap_or(&[])
}
