//! A projection: y = W x + b for n tokens.

use core::ops::Range;

use crate::error::SessionError;
use crate::executor::Executor;
use crate::kernels::layout::PANEL;
use crate::kernels::ops::elementwise::add_bias;
use crate::kernels::ops::matmul::matmul_linked;
use crate::kernels::{Matrix, Vector};
use crate::needs::{Fit, Of};
use crate::part::LINE;
use crate::run::{Run, short};
use crate::spread::{Spread, Work, share};
use crate::tensors::Role;

/// Some rows of a projection, and what they are written to.
struct Rows<'a> {
    weight: Matrix<'a>,
    bias: Option<Vector<'a>>,
    y: &'a mut [f32],
    scratch: &'a mut [u32],
}

/// Cuts the rows of a lone token, whole panels at a time.
impl Work for Rows<'_> {
    fn cut(self, parts: &Range<usize>, middle: usize) -> Result<(Self, Self), SessionError> {
        let (rows, have) = (self.weight.rows(), self.y.len());
        let at = share(rows, parts, middle, PANEL);
        let scratch = share(self.scratch.len(), parts, middle, LINE);
        let (left_y, right_y) = self.y.split_at_mut_checked(at).ok_or(short(at, have))?;
        let have = self.scratch.len();
        let scratches = self.scratch.split_at_mut_checked(scratch);
        let (left_scratch, right_scratch) = scratches.ok_or(short(scratch, have))?;
        let bias = |from, to| self.bias.map(|bias| bias.part(from, to)).transpose();
        let left = Rows {
            weight: self.weight.rows_part(0, at)?,
            bias: bias(0, at)?,
            y: left_y,
            scratch: left_scratch,
        };
        let right = Rows {
            weight: self.weight.rows_part(at, rows)?,
            bias: bias(at, rows)?,
            y: right_y,
            scratch: right_scratch,
        };
        Ok((left, right))
    }
}

/// `x` is (n, cols), `y` (n, rows) of the role's matrix; `bias` is added where the model has it. A lone token is cut by
/// rows.
#[allow(
    clippy::too_many_arguments,
    reason = "a matrix, its input, its output: a struct would only rename them"
)]
pub(crate) fn linear<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    (weight, bias): (Role, Role),
    layer: Option<usize>,
    x: &[f32],
    n: usize,
    y: &mut [f32],
    scratch: &mut [u32],
) -> Result<(), SessionError> {
    let weight = run.model.matrix(weight, layer)?;
    let parts = if n == 1 {
        let work = weight.rows() as u64 * weight.cols() as u64;
        spread.parts(work, weight.rows() / PANEL)
    } else {
        1
    };
    let all = Rows {
        weight,
        bias: match Of::<F>::biases() {
            true => run.model.vector(bias, layer)?,
            false => None,
        },
        y,
        scratch,
    };
    spread.over(parts, all, |rows| {
        matmul_linked::<Of<F>>(run.backend, &rows.weight, x, n, rows.y, rows.scratch)?;
        if let Some(bias) = rows.bias {
            add_bias(run.backend, rows.y, &bias)?;
        }
        Ok(())
    })
}
