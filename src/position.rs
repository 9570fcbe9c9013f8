//! Where a token stands: tables and sines added to the embedding, or angles for the rotation of queries and keys.

use crate::config::{Position, RotaryStyle};
use crate::error::SessionError;
use crate::kernels::ops::elementwise::add;
use crate::kernels::ops::embed::dequantize_row;
use crate::kernels::ops::position as kernel;
use crate::run::Run;
use crate::tensors::Role;

/// Adds to each row of `x`, (n, dim), what the model adds for the positions from `first` on. `row` has dim elements.
pub(crate) fn add_positions(
    run: Run<'_>,
    first: usize,
    x: &mut [f32],
    row: &mut [f32],
) -> Result<(), SessionError> {
    let config = run.model.config();
    let table = match config.position {
        Position::None | Position::Rotary { .. } => return Ok(()),
        Position::Sinusoidal => None,
        Position::Learned => Some(run.model.matrix(Role::PositionEmbedding, None)?),
    };
    for (token, x) in x.chunks_mut(config.dim.max(1)).enumerate() {
        let position = first.saturating_add(token);
        match &table {
            Some(table) => dequantize_row(run.backend, table, position, row)?,
            None => kernel::sinusoidal(position, row),
        }
        add(run.backend, x, row)?;
    }
    Ok(())
}

/// Writes the frequencies once for all positions; nothing for a model without rotary positions.
pub(crate) fn set_frequencies(position: &Position, frequencies: &mut [f32]) {
    if let Position::Rotary { base, .. } = *position {
        kernel::rotary_frequencies(base, frequencies);
    }
}

/// Writes the angles of `n` positions from `first` on: `angles` is (n, head_dim).
///
/// An angle is computed in f32, so positions beyond 2²⁴ blur.
pub(crate) fn set_angles(
    run: Run<'_>,
    first: usize,
    n: usize,
    frequencies: &[f32],
    angles: &mut [f32],
) -> Result<(), SessionError> {
    let config = run.model.config();
    if let Position::Rotary { .. } = config.position {
        for (token, angles) in angles
            .chunks_mut(config.head_dim.max(1))
            .take(n)
            .enumerate()
        {
            kernel::rotary_angles(first.saturating_add(token), frequencies, angles)?;
        }
    }
    Ok(())
}

/// Rotates the queries and keys at the head of each fused row (n, qkv_dim) in place.
pub(crate) fn rotate(
    run: Run<'_>,
    n: usize,
    qkv: &mut [f32],
    angles: &[f32],
) -> Result<(), SessionError> {
    let config = run.model.config();
    let Position::Rotary { style, .. } = config.position else {
        return Ok(());
    };
    let style = match style {
        RotaryStyle::Half => kernel::RotaryStyle::Half,
        RotaryStyle::Interleaved => kernel::RotaryStyle::Interleaved,
    };
    // Keys follow the queries, so one call turns both.
    let heads = config.heads + config.kv_heads;
    let angles = angles
        .get(..n.saturating_mul(config.head_dim))
        .unwrap_or_default();
    kernel::rotary(
        run.backend,
        qkv,
        config.qkv_dim(),
        heads,
        config.head_dim,
        angles,
        style,
    )?;
    Ok(())
}
