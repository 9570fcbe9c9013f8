//! Softmax of a vector.

use crate::Backend;
use crate::isa::{Isa, Kernel};
use crate::math::exp;

/// Replaces `x` by `exp(x − max x) / Σ exp(x − max x)`.
///
/// Accuracy: 2 ULP of the exponential and a sum in eight partial sums: a relative error of about 3e-7 + 6e-8 · len / 8.
/// A NaN or +∞ anywhere makes everything NaN, as does a vector of −∞.
pub fn softmax(backend: Backend, x: &mut [f32]) {
    backend.run(Softmax(x));
}

struct Softmax<'a>(&'a mut [f32]);

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (lanes, tail) = self.0.as_chunks_mut::<8>();
        // The tail in a vector of its own; e^−∞ adds nothing.
        let mut last = [f32::NEG_INFINITY; 8];
        for (last, x) in last.iter_mut().zip(&*tail) {
            *last = *x;
        }
        let mut max = isa.load(&last);
        for x in &*lanes {
            max = isa.max(max, isa.load(x));
        }
        let max = isa.splat(isa.max_lane(max));
        let mut sum = exp(isa, isa.sub(isa.load(&last), max));
        isa.store(sum, &mut last);
        for x in &mut *lanes {
            let e = exp(isa, isa.sub(isa.load(x), max));
            isa.store(e, x);
            sum = isa.add(sum, e);
        }
        let factor = 1.0 / isa.sum(sum);
        for x in lanes {
            isa.store(isa.mul(isa.load(x), isa.splat(factor)), x);
        }
        for (x, last) in tail.iter_mut().zip(last) {
            *x = last * factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::softmax;
    use crate::reference;
    use crate::testing::{Rng, STRIDE, backends};
    use std::{vec, vec::Vec};

    #[test]
    fn equals_the_oracle() {
        let mut random = Rng(1);
        for backend in backends() {
            for len in (0..=33).step_by(STRIDE) {
                for offset in (0..8).step_by(STRIDE) {
                    let spread = [0.1, 3.0, 1e4][random.index(3)];
                    let x: Vec<f32> = (0..offset + len)
                        .map(|_| random.normal() * spread)
                        .collect();
                    let mut got = x.clone();
                    softmax(backend, &mut got[offset..]);
                    assert_eq!(got[..offset], x[..offset]);
                    let mut expected = vec![0.0; len];
                    reference::softmax::softmax(&x[offset..], &mut expected);
                    for (got, expected) in got[offset..].iter().zip(&expected) {
                        let error = (f64::from(*got) - expected).abs();
                        // x − max is rounded, which the exponential makes a relative error.
                        let tolerance =
                            expected * (1e-6 + 1.2e-7 * 12.0 * f64::from(spread)) + 1e-37;
                        assert!(
                            error <= tolerance,
                            "{} len {len}: {got} for {expected}",
                            backend.name()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_nan() {
        for backend in backends() {
            for bad in [f32::NAN, f32::INFINITY] {
                for at in [0, 7, 8, 12] {
                    let mut x = [0.5; 13];
                    x[at] = bad;
                    softmax(backend, &mut x);
                    assert!(
                        x.iter().all(|x| x.is_nan()),
                        "{} {bad} at {at}: {x:?}",
                        backend.name()
                    );
                }
            }
            let mut masked = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
            softmax(backend, &mut masked);
            assert_eq!(masked, [0.0, 1.0, 0.0]);
        }
    }
}
