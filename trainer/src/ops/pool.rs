//! One vector of each sequence's.

use super::{Flat, Unary, flat, unary, with_values};
use attentive::Pooling;
use burn::backend::TensorMetadata;
use burn::tensor::Tensor;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Pool {
    pooling: Pooling,
    lens: Arc<[usize]>,
}

/// The first row, or the mean of the rows, of each sequence of `x`, `(n, dim)`, whose lengths add up to n; the output is
/// `(sequences, dim)`.
pub fn pool(x: Tensor<2>, pooling: Pooling, lens: &[usize]) -> Tensor<2> {
    let lens = lens.into();
    unary(Pool { pooling, lens }, x)
}

impl Pool {
    /// Rows of a sequence that count.
    fn counted(&self, len: usize) -> usize {
        match self.pooling {
            Pooling::Mean => len,
            Pooling::First | Pooling::None => 1,
        }
    }
}

impl Unary for Pool {
    /// Shape of the input.
    type Saved = [usize; 2];

    fn forward(&self, x: &Flat, keep: bool) -> (Flat, Option<[usize; 2]>) {
        let shape = x.shape().dims::<2>();
        let [_, dim] = shape;
        let mut out = vec![0.0; self.lens.len() * dim];
        with_values(x, |x| {
            let mut rows = x.chunks_exact(dim);
            for (out, &len) in out.chunks_exact_mut(dim).zip(&*self.lens) {
                let counted = self.counted(len);
                for row in rows.by_ref().take(len).enumerate() {
                    if row.0 < counted {
                        out.iter_mut().zip(row.1).for_each(|(sum, x)| *sum += x);
                    }
                }
                out.iter_mut().for_each(|x| *x /= counted as f32);
            }
        });
        (flat(out, [self.lens.len(), dim]), keep.then_some(shape))
    }

    fn backward(&self, [n, dim]: [usize; 2], gradient: &Flat) -> Flat {
        let mut out = vec![0.0; n * dim];
        with_values(gradient, |gradient| {
            let mut rows = out.chunks_exact_mut(dim);
            for (gradient, &len) in gradient.chunks_exact(dim).zip(&*self.lens) {
                let counted = self.counted(len);
                for (index, row) in rows.by_ref().take(len).enumerate() {
                    if index < counted {
                        let pairs = row.iter_mut().zip(gradient);
                        pairs.for_each(|(to, x)| *to = x / counted as f32);
                    }
                }
            }
        });
        flat(out, [n, dim])
    }
}
