//! What comes of an encoder's tokens: a pooled vector, classes, tags, spans.

use crate::config::{Output, Pooling, Reading};
use crate::error::SessionError;
use crate::executor::Executor;
use crate::kernels::Backend;
use crate::kernels::ops::elementwise::{add, exp};
use crate::linear::linear;
use crate::needs::Fit;
use crate::norm::norm;
use crate::run::{Run, part, part_mut};
use crate::spread::Spread;
use crate::tensors::Role;
use crate::workspace::Activations;

/// Norms the residual stream of `n` tokens where the model does, and writes the model's output to `out`.
pub(crate) fn output<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    reading: &Reading,
    n: usize,
    activations: &mut Activations<'_>,
    out: &mut [f32],
) -> Result<(), SessionError> {
    let config = run.model.config();
    let Activations {
        x,
        y,
        wide,
        scratch,
        ..
    } = activations;
    let x = part_mut(x, 0, n.saturating_mul(config.dim))?;
    if config.final_norm {
        let y = part_mut(y, 0, x.len())?;
        let roles = (Role::FinalNormGain, Role::FinalNormBias);
        norm(run, roles, None, x, y)?;
        copy(x, y);
    }
    let head = (Role::HeadWeight, Role::HeadBias);
    let rows = reading.head_rows();
    if matches!(reading.output, Output::Tags(_) | Output::Span) {
        let out = part_mut(out, 0, n.saturating_mul(rows))?;
        return linear(run, spread, head, None, x, n, out, scratch);
    }
    let mut pooled = part_mut(y, 0, config.dim)?;
    match reading.pooling {
        Pooling::None => return Ok(()),
        Pooling::First => copy(pooled, part(x, 0, config.dim)?),
        Pooling::Mean => mean(run.backend, x, n, pooled)?,
    }
    if reading.pooler {
        let dense = part_mut(wide, 0, config.dim)?;
        let roles = (Role::PoolerWeight, Role::PoolerBias);
        linear(run, spread, roles, None, pooled, 1, dense, scratch)?;
        tanh(run.backend, dense);
        pooled = dense;
    }
    match reading.output {
        Output::Embedding { unit } => {
            let out = part_mut(out, 0, config.dim)?;
            copy(out, pooled);
            if unit {
                normalize(out);
            }
            Ok(())
        }
        _ => {
            let out = part_mut(out, 0, rows)?;
            linear(run, spread, head, None, pooled, 1, out, scratch)
        }
    }
}

fn copy(to: &mut [f32], from: &[f32]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from;
    }
}

/// The mean of the rows of `x`, (n, dim).
fn mean(backend: Backend, x: &[f32], n: usize, out: &mut [f32]) -> Result<(), SessionError> {
    out.fill(0.0);
    for row in x.chunks_exact(out.len().max(1)) {
        add(backend, out, row)?;
    }
    let count = n.max(1) as f32;
    for x in out {
        *x /= count;
    }
    Ok(())
}

/// tanh(x) = 1 − 2/(e^2x + 1), within 2·10⁻⁷ (absolute); e^2x may be infinite.
fn tanh(backend: Backend, x: &mut [f32]) {
    for x in &mut *x {
        *x *= 2.0;
    }
    exp(backend, x);
    for x in x {
        *x = 1.0 - 2.0 / (*x + 1.0);
    }
}

/// x / |x|; a vector of zeros stays.
fn normalize(x: &mut [f32]) {
    // In f64, so that no square overflows or vanishes.
    let square: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    if square > 0.0 {
        let factor = 1.0 / libm::sqrt(square);
        for x in x {
            *x = (f64::from(*x) * factor) as f32;
        }
    }
}
