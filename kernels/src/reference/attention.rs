//! Attention as the formula says.

use crate::ops::attention::{AttentionShape, Mask};

/// `out = softmax(scale · q·kᵀ + mask) · v` (Vaswani et al. 2017, equation 1) with q and out `(q_len, q_heads,
/// head_dim)`, k and v `(kv_len, kv_heads, head_dim)`; zero where no key is visible. Soft cap and sinks as
/// [`AttentionShape`] says.
///
/// # Panics
/// If a slice is too short.
pub fn attention(
    shape: &AttentionShape<'_>,
    kv_heads: usize,
    head_dim: usize,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f64],
) {
    let group = shape.q_heads / kv_heads;
    for i in 0..shape.q_len {
        let keys = match shape.mask {
            Mask::Full => shape.kv_len,
            Mask::Causal | Mask::Window { .. } => shape.kv_len - shape.q_len + i + 1,
        };
        let sees = |j: &usize| match shape.mask {
            Mask::Full | Mask::Causal => true,
            Mask::Window { len, keep } => *j + len >= keys || *j < keep,
        };
        for head in 0..shape.q_heads {
            let at = (i * shape.q_heads + head) * head_dim;
            let kv_at = |j: usize| (j * kv_heads + head / group) * head_dim;
            let score = |j: usize| {
                let terms =
                    (0..head_dim).map(|d| f64::from(q[at + d]) * f64::from(k[kv_at(j) + d]));
                let score = terms.sum::<f64>() * f64::from(shape.scale);
                match f64::from(shape.soft_cap) {
                    0.0 => score,
                    cap => cap * libm::tanh(score / cap),
                }
            };
            let sink = shape
                .sinks
                .get(head)
                .map_or(f64::NEG_INFINITY, |sink| f64::from(*sink));
            let max = (0..keys).filter(sees).map(score).fold(sink, f64::max);
            let out = &mut out[at..at + head_dim];
            out.fill(0.0);
            let mut sum = if shape.sinks.is_empty() {
                0.0
            } else {
                libm::exp(sink - max)
            };
            for j in (0..keys).filter(sees) {
                let p = libm::exp(score(j) - max);
                sum += p;
                for (out, v) in out.iter_mut().zip(&v[kv_at(j)..]) {
                    *out += p * f64::from(*v);
                }
            }
            out.iter_mut()
                .for_each(|out| *out /= if keys == 0 { 1.0 } else { sum });
        }
    }
}
