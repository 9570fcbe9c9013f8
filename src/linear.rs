//! A projection: y = W x + b for n tokens.

use crate::error::SessionError;
use crate::kernels::ops::elementwise::add_bias;
use crate::kernels::ops::matmul::matmul;
use crate::run::Run;
use crate::tensors::Role;

/// `x` is (n, cols), `y` (n, rows) of the role's matrix; `bias` is added where the model has it.
pub(crate) fn linear(
    run: Run<'_>,
    (weight, bias): (Role, Role),
    layer: Option<usize>,
    x: &[f32],
    n: usize,
    y: &mut [f32],
    scratch: &mut [u32],
) -> Result<(), SessionError> {
    let matrix = run.model.matrix(weight, layer)?;
    matmul(run.backend, &matrix, x, n, y, scratch)?;
    if let Some(bias) = run.model.vector(bias, layer)? {
        add_bias(run.backend, y, &bias)?;
    }
    Ok(())
}
