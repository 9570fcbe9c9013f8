//! The loss: softmax, logarithm and the choice of the target in one pass, without a one-hot matrix.

use super::{Backend, Flat, Unary, flat, unary, with_values};
use attentive::kernels::ops::softmax::softmax;
use burn::backend::TensorMetadata;
use burn::tensor::Tensor;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct CrossEntropy {
    backend: Backend,
    targets: Arc<[u32]>,
}

/// Σ over the rows of `logits` `(n, vocab)` of −ln of the softmax of the row at its target, in nats; the output has one
/// element.
///
/// # Panics
/// When a target is not a column.
pub fn cross_entropy(backend: Backend, logits: Tensor<2>, targets: Arc<[u32]>) -> Tensor<1> {
    unary(CrossEntropy { backend, targets }, logits)
}

impl Unary for CrossEntropy {
    /// Probabilities and their number in a row.
    type Saved = (Arc<Vec<f32>>, usize);

    fn forward(&self, logits: &Flat, keep: bool) -> (Flat, Option<Self::Saved>) {
        let [_, vocab] = logits.shape().dims::<2>();
        let mut loss = 0.0f64;
        let mut probabilities = with_values(logits, <[f32]>::to_vec);
        for (row, &target) in probabilities.chunks_exact_mut(vocab).zip(&*self.targets) {
            softmax(self.backend, row);
            // Far below any probability that matters, but its logarithm is finite.
            loss -= f64::from(row[target as usize].max(f32::MIN_POSITIVE)).ln();
        }
        let saved = keep.then(|| (Arc::new(probabilities), vocab));
        (flat(vec![loss as f32], [1]), saved)
    }

    fn backward(&self, (probabilities, vocab): Self::Saved, gradient: &Flat) -> Flat {
        let factor = with_values(gradient, |gradient| gradient[0]);
        // Usually nobody else holds them, and they become the gradient where they are.
        let mut out = Arc::try_unwrap(probabilities).unwrap_or_else(|shared| (*shared).clone());
        if factor != 1.0 {
            for x in &mut out {
                *x *= factor;
            }
        }
        for (row, &target) in out.chunks_exact_mut(vocab).zip(&*self.targets) {
            row[target as usize] -= factor;
        }
        flat(out, [self.targets.len(), vocab])
    }
}
