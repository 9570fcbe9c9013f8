//! The normalisation of a model: RMSNorm or LayerNorm, with or without bias.

use crate::config::Norm;
use crate::error::{SessionError, WeightsError};
use crate::kernels::ops::norm::{layer_norm, rms_norm};
use crate::needs::{Fit, Of};
use crate::run::Run;
use crate::tensors::Role;

/// out = norm(x), row by row; both are (n, dim).
pub(crate) fn norm<F: Fit>(
    run: Run<'_, F>,
    (gain, bias): (Role, Role),
    layer: Option<usize>,
    x: &[f32],
    out: &mut [f32],
) -> Result<(), SessionError> {
    let config = run.model.config();
    let gain_vector = run
        .model
        .vector(gain, layer)?
        .ok_or(WeightsError::Absent { role: gain })?;
    match config.norm {
        Norm::Rms if Of::<F>::norm(Norm::Rms) => {
            rms_norm(run.backend, x, &gain_vector, config.norm_eps, out)?
        }
        Norm::Layer if Of::<F>::norm(Norm::Layer) => {
            let bias = run.model.vector(bias, layer)?;
            layer_norm(
                run.backend,
                x,
                &gain_vector,
                bias.as_ref(),
                config.norm_eps,
                out,
            )?;
        }
        _ => return Err(SessionError::NotLinked),
    }
    Ok(())
}
