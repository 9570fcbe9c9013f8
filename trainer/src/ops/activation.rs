//! The nonlinearity of the feed-forward block, gated or not.

use super::{Backend, Flat, Unary, flat, unary, with_values};
use attentive::Ffn;
use attentive::kernels::isa::{Isa, Kernel};
use attentive::kernels::ops::elementwise;
use burn::backend::TensorMetadata;
use burn::tensor::Tensor;

#[derive(Clone, Debug)]
struct Activation {
    backend: Backend,
    ffn: Ffn,
}

/// `(n, up_dim)` to `(n, hidden_dim)`: act(gate) · up of a gated block, whose rows are gate, then up; else act(up).
pub fn activation(backend: Backend, x: Tensor<2>, ffn: Ffn) -> Tensor<2> {
    unary(Activation { backend, ffn }, x)
}

impl Unary for Activation {
    type Saved = Flat;

    fn forward(&self, x: &Flat, keep: bool) -> (Flat, Option<Flat>) {
        let [n, up_dim] = x.shape().dims::<2>();
        let hidden = if self.ffn.is_gated() {
            up_dim / 2
        } else {
            up_dim
        };
        let mut out = Vec::with_capacity(n * hidden);
        with_values(x, |x| {
            for x in x.chunks_exact(up_dim) {
                let (gate, up) = x.split_at(hidden);
                let start = out.len();
                out.extend_from_slice(gate);
                let out = &mut out[start..];
                apply(self.backend, self.ffn, out);
                for (out, up) in out.iter_mut().zip(up) {
                    *out *= up;
                }
            }
        });
        (flat(out, [n, hidden]), keep.then(|| x.clone()))
    }

    fn backward(&self, x: Flat, gradient: &Flat) -> Flat {
        let [n, up_dim] = x.shape().dims::<2>();
        let [_, hidden] = gradient.shape().dims::<2>();
        let mut out = Vec::with_capacity(n * up_dim);
        let mut row = vec![0.0; up_dim];
        let mut value = vec![0.0; hidden];
        let mut slope = vec![0.0; hidden];
        with_values(&x, |x| {
            with_values(gradient, |gradient| {
                let rows = x.chunks_exact(up_dim).zip(gradient.chunks_exact(hidden));
                for (x, gradient) in rows {
                    let (gate, up) = x.split_at(hidden);
                    value.copy_from_slice(gate);
                    apply(self.backend, self.ffn, &mut value);
                    slopes(self.backend, self.ffn, gate, &mut slope);
                    let (to_gate, to_up) = row.split_at_mut(hidden);
                    self.backend.run(Chain {
                        gradient,
                        slope: &slope,
                        value: &value,
                        up,
                        to_gate,
                        to_up,
                    });
                    out.extend_from_slice(&row);
                }
            });
        });
        flat(out, [n, up_dim])
    }
}

/// to_gate = gradient·slope (·up), to_up = gradient·value; without a gate, `up` and `to_up` are empty.
struct Chain<'a> {
    gradient: &'a [f32],
    slope: &'a [f32],
    value: &'a [f32],
    up: &'a [f32],
    to_gate: &'a mut [f32],
    to_up: &'a mut [f32],
}

impl Kernel for Chain<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        for ((to, gradient), slope) in self.to_gate.iter_mut().zip(self.gradient).zip(self.slope) {
            *to = gradient * slope;
        }
        for (to, up) in self.to_gate.iter_mut().zip(self.up) {
            *to *= up;
        }
        for ((to, gradient), value) in self.to_up.iter_mut().zip(self.gradient).zip(self.value) {
            *to = gradient * value;
        }
    }
}

/// The nonlinearity, in place.
fn apply(backend: Backend, ffn: Ffn, x: &mut [f32]) {
    match ffn {
        Ffn::SwiGlu | Ffn::Silu => elementwise::silu(backend, x),
        Ffn::GeGlu | Ffn::GeluTanh => elementwise::gelu_tanh(backend, x),
        Ffn::GeluErf => elementwise::gelu_erf(backend, x),
        Ffn::Relu => elementwise::relu(backend, x),
    }
}

/// √(2/π).
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
/// Coefficient of the cube in GELU's tanh form (Hendrycks & Gimpel 2016).
const CUBE: f32 = 0.044_715;

/// The derivative of the nonlinearity at each x.
fn slopes(backend: Backend, ffn: Ffn, x: &[f32], slope: &mut [f32]) {
    match ffn {
        Ffn::SwiGlu | Ffn::Silu => {
            for (slope, x) in slope.iter_mut().zip(x) {
                *slope = -x;
            }
            elementwise::exp(backend, slope);
            backend.run(SiluSlope { x, slope });
        }
        Ffn::GeGlu | Ffn::GeluTanh => {
            for (slope, x) in slope.iter_mut().zip(x) {
                *slope = 2.0 * SQRT_2_OVER_PI * (x + CUBE * x * x * x);
            }
            elementwise::exp(backend, slope);
            for (slope, x) in slope.iter_mut().zip(x) {
                let tanh = 1.0 - 2.0 / (*slope + 1.0);
                let inner = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBE * x * x);
                *slope = 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner;
            }
        }
        Ffn::GeluErf => {
            for (slope, x) in slope.iter_mut().zip(x) {
                let normal = 0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2));
                *slope = normal + x * 0.5 * SQRT_2_OVER_PI * (-0.5 * x * x).exp();
            }
        }
        Ffn::Relu => {
            for (slope, x) in slope.iter_mut().zip(x) {
                *slope = f32::from(*x > 0.0);
            }
        }
    }
}

/// From e^(−x) in `slope`: σ(1 + x(1 − σ)).
struct SiluSlope<'a> {
    x: &'a [f32],
    slope: &'a mut [f32],
}

impl Kernel for SiluSlope<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        for (slope, x) in self.slope.iter_mut().zip(self.x) {
            let sigmoid = 1.0 / (1.0 + *slope);
            *slope = sigmoid * (1.0 + x * (1.0 - sigmoid));
        }
    }
}
