//! Dropout (Srivastava et al. 2014): some elements become zero, the others grow, so that the mean stays.

use super::{Flat, Unary, flat, unary, with_values};
use crate::random::Random;
use burn::backend::TensorMetadata;
use burn::tensor::Tensor;

#[derive(Clone, Debug)]
struct Dropout {
    rate: f32,
    seed: u64,
}

/// Each element of `x` becomes 0 with the probability `rate`, else it is divided by 1 − rate. The same seed drops the
/// same elements.
pub fn dropout(x: Tensor<2>, rate: f32, seed: u64) -> Tensor<2> {
    unary(Dropout { rate, seed }, x)
}

impl Dropout {
    fn apply(&self, x: &Flat) -> Flat {
        let shape = x.shape().dims::<2>();
        let mut random = Random::new(self.seed);
        // Compared with 16 bits of a draw, four elements a draw.
        let limit = (self.rate * 65536.0) as u16;
        let factor = 65536.0 / (65536.0 - f32::from(limit));
        let mut out = with_values(x, <[f32]>::to_vec);
        for four in out.chunks_mut(4) {
            let mut bits = random.bits();
            for x in four {
                *x = if bits as u16 >= limit {
                    *x * factor
                } else {
                    0.0
                };
                bits >>= 16;
            }
        }
        flat(out, shape)
    }
}

impl Unary for Dropout {
    type Saved = ();

    fn forward(&self, x: &Flat, keep: bool) -> (Flat, Option<()>) {
        (self.apply(x), keep.then_some(()))
    }

    fn backward(&self, (): (), gradient: &Flat) -> Flat {
        self.apply(gradient)
    }
}
