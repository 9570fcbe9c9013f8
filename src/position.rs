//! Where a token stands: tables and sines added to the embedding, or angles for the rotation of queries and keys.

use crate::config::{Position, RotaryStyle};
use crate::error::SessionError;
use crate::kernels::ops::elementwise::add;
use crate::kernels::ops::embed::dequantize_row_linked;
use crate::kernels::ops::position as kernel;
use crate::needs::{Fit, Of};
use crate::part::Part;
use crate::run::Run;

/// Adds to the residual stream of some tokens what the model adds for their positions. Uses `y`.
pub(crate) fn add_positions<F: Fit>(
    run: Run<'_, F>,
    tokens: &mut Part<'_>,
) -> Result<(), SessionError> {
    let config = run.model.config();
    let (position, role) = run.positions();
    let table = match position {
        Position::None | Position::Rotary { .. } => return Ok(()),
        Position::Sinusoidal if Of::<F>::sinusoidal() => None,
        Position::Learned if Of::<F>::learned() => Some(run.model.matrix(role, None)?),
        _ => return Err(SessionError::NotLinked),
    };
    let rows = tokens.x.chunks_mut(config.dim.max(1));
    for ((token, x), row) in rows.enumerate().zip(tokens.y.chunks_mut(config.dim.max(1))) {
        let position = tokens.tokens.position::<F>(token);
        match &table {
            Some(table) => dequantize_row_linked::<Of<F>>(run.backend, table, position, row)?,
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

/// Writes the angles, (n, head_dim), of some tokens' positions.
///
/// An angle is computed in f32, so positions beyond 2²⁴ blur.
pub(crate) fn set_angles<F: Fit>(
    run: Run<'_, F>,
    tokens: &mut Part<'_>,
) -> Result<(), SessionError> {
    let config = run.model.config();
    if let Position::Rotary { .. } = config.position {
        let rows = tokens.angles.chunks_mut(config.head_dim.max(1));
        for (token, angles) in rows.enumerate() {
            let position = tokens.tokens.position::<F>(token);
            kernel::rotary_angles(position, tokens.frequencies, angles)?;
        }
    }
    Ok(())
}

/// Rotates the queries and keys at the head of each fused row (n, qkv_dim) in place.
pub(crate) fn rotate<F: Fit>(
    run: Run<'_, F>,
    qkv: &mut [f32],
    angles: &[f32],
) -> Result<(), SessionError> {
    let config = run.model.config();
    let Position::Rotary { style, .. } = config.position else {
        return Ok(());
    };
    let style = match style {
        RotaryStyle::Half if Of::<F>::rotary(RotaryStyle::Half) => kernel::RotaryStyle::Half,
        RotaryStyle::Interleaved if Of::<F>::rotary(RotaryStyle::Interleaved) => {
            kernel::RotaryStyle::Interleaved
        }
        _ => return Err(SessionError::NotLinked),
    };
    // Keys follow the queries, so one call turns both.
    let heads = config.heads + config.kv_heads;
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
