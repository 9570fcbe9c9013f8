//! What makes vectors of inputs that are not tokens.
//!
//! Patches are multiplied with a matrix. A source of sound has two convolutions over its frames, the second of which keeps every other one, each
//! with a GELU (Radford et al. 2022, section 2.2).
//!
//! A convolution over three frames is a product with three rows that follow each other. A few windows at a time are
//! copied together for it; only the first convolution's result is kept whole.

use crate::error::SessionError;
use crate::executor::Executor;
use crate::kernels::ops::elementwise::gelu_erf;
use crate::linear::linear;
use crate::needs::Fit;
use crate::run::{Run, part, part_mut};
use crate::spread::Spread;
use crate::tensors::Role;
use crate::workspace::Activations;

/// Makes of `patches`, (n, elements), the residual stream of the tokens 1 to n, without positions.
pub(crate) fn embed_patches<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    patches: &[f32],
    n: usize,
    activations: &mut Activations<'_>,
) -> Result<(), SessionError> {
    let dim = run.model.config().dim;
    let Activations { x, scratch, .. } = activations;
    let x = part_mut(x, dim, n.saturating_mul(dim))?;
    let roles = (Role::PatchWeight, Role::PatchBias);
    linear(run, spread, roles, None, patches, n, x, scratch)
}

/// Frames of a window.
pub(crate) const WINDOW: usize = 3;

/// Windows that are multiplied at once, where there is room.
pub(crate) const WINDOWS: usize = 16;

/// The stem's convolutions, with the width of their inputs and the frames from one window to the next.
struct Convolution {
    roles: (Role, Role),
    cols: usize,
    stride: usize,
}

/// Makes of `frames`, (n, bins), the residual stream of ⌈n / 2⌉ tokens, without positions.
pub(crate) fn stem<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    frames: &[f32],
    bins: usize,
    activations: &mut Activations<'_>,
) -> Result<(), SessionError> {
    let dim = run.model.config().dim;
    let Activations {
        x,
        y,
        wide,
        scratch,
        ..
    } = activations;
    let n = frames.len().checked_div(bins).unwrap_or(0);
    let first = Convolution {
        roles: (Role::Conv1Weight, Role::Conv1Bias),
        cols: bins,
        stride: 1,
    };
    let between = part_mut(wide, 0, n.saturating_mul(dim))?;
    convolve(run, spread, &first, frames, between, y, scratch)?;
    let second = Convolution {
        roles: (Role::Conv2Weight, Role::Conv2Bias),
        cols: dim,
        stride: 2,
    };
    let tokens = n.div_ceil(2);
    let x = part_mut(x, 0, tokens.saturating_mul(dim))?;
    convolve(run, spread, &second, between, x, y, scratch)
}

/// Each row of `out` from the window that begins one row before its own; rows that are not there are zeros.
fn convolve<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    convolution: &Convolution,
    input: &[f32],
    out: &mut [f32],
    windows: &mut [f32],
    scratch: &mut [u32],
) -> Result<(), SessionError> {
    let dim = run.model.config().dim.max(1);
    let Convolution {
        roles,
        cols,
        stride,
    } = *convolution;
    let len = WINDOW.saturating_mul(cols).max(1);
    let at_once = (windows.len() / len).clamp(1, WINDOWS);
    for (block, out) in out
        .chunks_mut(at_once.saturating_mul(dim).max(1))
        .enumerate()
    {
        let n = out.len() / dim;
        let windows = part_mut(windows, 0, n.saturating_mul(len))?;
        for (index, window) in windows.chunks_exact_mut(len).enumerate() {
            let centre = (block * at_once + index) * stride;
            for (offset, row) in window.chunks_exact_mut(cols.max(1)).enumerate() {
                let from = (centre + offset).checked_sub(1);
                let from = from.and_then(|row| input.get(row.checked_mul(cols)?..)?.get(..cols));
                for (index, to) in row.iter_mut().enumerate() {
                    *to = from
                        .and_then(|from| from.get(index))
                        .copied()
                        .unwrap_or(0.0);
                }
            }
        }
        let windows = part(windows, 0, n.saturating_mul(len))?;
        linear(run, spread, roles, None, windows, n, out, scratch)?;
        gelu_erf(run.backend, out);
    }
    Ok(())
}
