//! The feed-forward block between its two projections.

use crate::config::Ffn;
use crate::error::SessionError;
use crate::kernels::ShapeError;
use crate::kernels::ops::elementwise::{geglu, gelu_erf, gelu_tanh, relu, silu, swiglu};
use crate::needs::{Fit, Of};
use crate::run::Run;

/// Turns (n, up_dim) at the head of `wide` into (n, hidden_dim) there: the activation, or the product of gate and up.
pub(crate) fn activate<F: Fit>(
    run: Run<'_, F>,
    n: usize,
    wide: &mut [f32],
) -> Result<(), SessionError> {
    let config = run.model.config();
    let (backend, hidden) = (run.backend, config.hidden_dim);
    let rows = wide
        .get_mut(..n.saturating_mul(config.up_dim()))
        .unwrap_or_default();
    let width = config.up_dim().max(1);
    let links = Of::<F>::ffn;
    match config.ffn {
        Ffn::SwiGlu if links(Ffn::SwiGlu) => {
            for_gates(rows, width, hidden, |gate, up| swiglu(backend, gate, up))?;
        }
        Ffn::GeGlu if links(Ffn::GeGlu) => {
            for_gates(rows, width, hidden, |gate, up| geglu(backend, gate, up))?;
        }
        Ffn::GeluTanh if links(Ffn::GeluTanh) => gelu_tanh(backend, rows),
        Ffn::GeluErf if links(Ffn::GeluErf) => gelu_erf(backend, rows),
        Ffn::Relu if links(Ffn::Relu) => relu(backend, rows),
        Ffn::Silu if links(Ffn::Silu) => silu(backend, rows),
        _ => return Err(SessionError::NotLinked),
    }
    Ok(())
}

/// Joins gate and up of each row of `width` in the gate's place, and moves the results together.
fn for_gates(
    rows: &mut [f32],
    width: usize,
    hidden: usize,
    join: impl Fn(&mut [f32], &[f32]) -> Result<(), ShapeError>,
) -> Result<(), ShapeError> {
    for row in rows.chunks_mut(width) {
        let (gate, up) = row.split_at_mut_checked(hidden).unwrap_or_default();
        join(gate, up)?;
    }
    close_gaps(rows, width, hidden);
    Ok(())
}

/// Moves the first `width` elements of each row of `stride`, which is at least twice that, together.
fn close_gaps(rows: &mut [f32], stride: usize, width: usize) {
    let len = rows.len();
    let ends = (0..len)
        .step_by(stride.max(1))
        .zip((0..len).step_by(width.max(1)));
    for (from, to) in ends.skip(1) {
        // A row goes where others came from before: never where it still lies itself.
        let (done, left) = rows.split_at_mut_checked(from).unwrap_or_default();
        let to = done.get_mut(to..).unwrap_or_default();
        for (to, from) in to.iter_mut().zip(left).take(width) {
            *to = *from;
        }
    }
}
