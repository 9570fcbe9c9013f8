//! RMSNorm and LayerNorm, without their bias.

use super::lanes::{dot, sum};
use super::{Backend, Flat, flat, incoming, node, tensor, with_values};
use attentive::Norm;
use attentive::kernels::isa::{Isa, Kernel};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Tensor;
use std::sync::Arc;

#[derive(Debug)]
struct NormBackward;

#[derive(Clone, Debug)]
struct Saved {
    backend: Backend,
    x: Flat,
    gain: Flat,
    /// Mean and reciprocal deviation of each row.
    rows: Arc<[[f32; 2]]>,
}

/// (x − mean) / √(variance + eps) · gain for each row of `x` `(n, dim)` (Ba et al. 2016); RMSNorm takes the mean as
/// zero (Zhang and Sennrich 2019).
pub fn norm(backend: Backend, x: Tensor<2>, gain: Tensor<1>, kind: Norm, eps: f32) -> Tensor<2> {
    let (x, gain) = (node(x), node(gain));
    let [n, dim] = x.shape().dims::<2>();
    let mut out = vec![0.0; n * dim];
    let mut rows = vec![[0.0; 2]; n];
    with_values(x.primitive(), |x| {
        with_values(gain.primitive(), |gain| {
            backend.run(Forward {
                x,
                gain,
                out: &mut out,
                rows: &mut rows,
                kind,
                eps,
            });
        });
    });
    let out = flat(out, [n, dim]);
    let prepared = NormBackward
        .prepare::<NoCheckpointing>([x.node(), gain.node()])
        .compute_bound()
        .stateful();
    tensor(match prepared {
        OpsKind::Tracked(prepared) => {
            let saved = Saved {
                backend,
                x: x.into_primitive(),
                gain: gain.into_primitive(),
                rows: rows.into(),
            };
            prepared.finish((saved, kind == Norm::Layer), out)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    })
}

impl Backward<Flex, 2> for NormBackward {
    /// And whether there is a mean.
    type State = (Saved, bool);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = incoming(&ops, grads);
        let (saved, centred) = ops.state;
        let [n, dim] = gradient.shape().dims::<2>();
        let mut to_x = vec![0.0; n * dim];
        let mut to_gain = vec![0.0; dim];
        with_values(&saved.x, |x| {
            with_values(&saved.gain, |gain| {
                with_values(&gradient, |gradient| {
                    saved.backend.run(Reverse {
                        x,
                        gain,
                        gradient,
                        rows: &saved.rows,
                        centred,
                        to_x: &mut to_x,
                        to_gain: &mut to_gain,
                    });
                });
            });
        });
        let [x, gain] = ops.parents;
        if let Some(x) = x {
            grads.register::<Flex>(x.id, flat(to_x, [n, dim]));
        }
        if let Some(gain) = gain {
            grads.register::<Flex>(gain.id, flat(to_gain, [dim]));
        }
    }
}

struct Forward<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    out: &'a mut [f32],
    rows: &'a mut [[f32; 2]],
    kind: Norm,
    eps: f32,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let dim = self.gain.len();
        let rows = self.x.chunks_exact(dim).zip(self.out.chunks_exact_mut(dim));
        for ((x, out), row) in rows.zip(self.rows) {
            let mean = match self.kind {
                Norm::Rms => 0.0,
                Norm::Layer => sum(isa, x) / dim as f32,
            };
            for (out, x) in out.iter_mut().zip(x) {
                *out = x - mean;
            }
            let variance = dot(isa, out, out) / dim as f32;
            let factor = 1.0 / (variance + self.eps).sqrt();
            *row = [mean, factor];
            for (out, gain) in out.iter_mut().zip(self.gain) {
                *out = *out * factor * gain;
            }
        }
    }
}

/// With x̂ the normalised row and g the gradient times the gain: factor·(g − mean(g) − x̂·mean(g·x̂)).
struct Reverse<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    gradient: &'a [f32],
    rows: &'a [[f32; 2]],
    centred: bool,
    to_x: &'a mut [f32],
    to_gain: &'a mut [f32],
}

impl Kernel for Reverse<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let dim = self.gain.len();
        let mut scaled = vec![0.0; dim];
        let mut normal = vec![0.0; dim];
        let rows = self
            .x
            .chunks_exact(dim)
            .zip(self.gradient.chunks_exact(dim));
        for (((x, gradient), [mean, factor]), to_x) in
            rows.zip(self.rows).zip(self.to_x.chunks_exact_mut(dim))
        {
            for (normal, x) in normal.iter_mut().zip(x) {
                *normal = (x - mean) * factor;
            }
            for ((scaled, gradient), gain) in scaled.iter_mut().zip(gradient).zip(self.gain) {
                *scaled = gradient * gain;
            }
            for ((to, gradient), normal) in self.to_gain.iter_mut().zip(gradient).zip(&normal) {
                *to += gradient * normal;
            }
            let shift = match self.centred {
                true => sum(isa, &scaled) / dim as f32,
                false => 0.0,
            };
            let along = dot(isa, &scaled, &normal) / dim as f32;
            for ((to, scaled), normal) in to_x.iter_mut().zip(&scaled).zip(&normal) {
                *to = factor * (scaled - shift - normal * along);
            }
        }
    }
}
