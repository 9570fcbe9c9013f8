//! Causal self-attention, rotary positions included.
//!
//! One head at a time: its queries, keys and values are copied out of the projection's rows (rotated on the way), padded
//! to whole tiles; the products then skip everything above the diagonal. The softmax weights are kept for the backward
//! pass, which costs `heads · seq_len²` floats a sequence and saves computing the scores twice.

use super::lanes::dot;
use super::product::{Part, Product};
use super::{Backend, Flat, Unary, flat, unary, with_values};
use attentive::kernels::isa::{Isa, Kernel};
use attentive::kernels::ops::position::{rotary_angles, rotary_frequencies};
use attentive::kernels::ops::softmax::softmax;
use attentive::{Config, Position, RotaryStyle};
use burn::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// What attention needs to know of a model.
#[derive(Clone, Debug)]
pub struct AttentionShape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    seq_len: usize,
    /// Cosines, then sines, of each position; none without rotary positions.
    angles: Option<(RotaryStyle, Arc<[f32]>)>,
}

impl AttentionShape {
    /// For sequences of `seq_len` tokens.
    pub fn new(config: &Config, seq_len: usize) -> Self {
        let angles = match config.position {
            Position::Rotary { style, base } => {
                let mut frequencies = vec![0.0; config.head_dim / 2];
                rotary_frequencies(base, &mut frequencies);
                let mut angles = vec![0.0; seq_len * config.head_dim];
                for (position, row) in angles.chunks_exact_mut(config.head_dim).enumerate() {
                    // A row has twice as many elements as there are frequencies, by construction.
                    let _ = rotary_angles(position, &frequencies, row);
                }
                Some((style, angles.into()))
            }
            Position::None | Position::Learned | Position::Sinusoidal => None,
        };
        Self {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            seq_len,
            angles,
        }
    }

    fn qkv_dim(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Rows of a head's buffers: whole tiles.
    fn rows(&self) -> usize {
        self.seq_len.next_multiple_of(16)
    }

    /// Columns of a head's buffers.
    fn cols(&self) -> usize {
        self.head_dim.next_multiple_of(16)
    }

    /// The columns of a projection's row that hold a head: the query heads come first, then keys, then values.
    fn columns(&self, head: usize) -> Range<usize> {
        head * self.head_dim..(head + 1) * self.head_dim
    }

    fn key_head(&self, head: usize) -> usize {
        self.heads + head / (self.heads / self.kv_heads)
    }

    fn value_head(&self, head: usize) -> usize {
        self.key_head(head) + self.kv_heads
    }

    /// Copies a head out of the rows of a sequence, times `factor`.
    fn take(&self, rows: &[f32], width: usize, head: usize, factor: f32) -> Vec<f32> {
        let mut out = vec![0.0; self.rows() * self.cols()];
        for (out, row) in out
            .chunks_exact_mut(self.cols())
            .zip(rows.chunks_exact(width))
        {
            for (out, x) in out.iter_mut().zip(&row[self.columns(head)]) {
                *out = x * factor;
            }
        }
        out
    }

    /// Rotates each row by its position, or back.
    fn rotate(&self, head: &mut [f32], back: bool) {
        let Some((style, angles)) = &self.angles else {
            return;
        };
        let pairs = self.head_dim / 2;
        let sign = if back { -1.0 } else { 1.0 };
        let rows = head.chunks_exact_mut(self.cols());
        for (row, angles) in rows.zip(angles.chunks_exact(self.head_dim)) {
            let (cosines, sines) = angles.split_at(pairs);
            for (i, (cosine, sine)) in cosines.iter().zip(sines).enumerate() {
                let (first, second) = match style {
                    RotaryStyle::Half => (i, i + pairs),
                    RotaryStyle::Interleaved => (2 * i, 2 * i + 1),
                };
                let (a, b, sine) = (row[first], row[second], sign * sine);
                row[first] = a * cosine - b * sine;
                row[second] = b * cosine + a * sine;
            }
        }
    }

    /// Adds a head's gradient into the rows of a sequence, times `factor`.
    fn give(&self, head_rows: &[f32], rows: &mut [f32], width: usize, head: usize, factor: f32) {
        for (head_row, row) in head_rows
            .chunks_exact(self.cols())
            .zip(rows.chunks_exact_mut(width))
        {
            for (to, x) in row[self.columns(head)].iter_mut().zip(head_row) {
                *to += x * factor;
            }
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

#[derive(Clone, Debug)]
struct Attention {
    backend: Backend,
    shape: AttentionShape,
}

/// softmax(q·kᵀ / √head_dim) · v for each head, over the keys that are not later (Vaswani et al. 2017, eq. 1).
///
/// `qkv` is `(n, qkv_dim)`, query heads, key heads, value heads, n a multiple of the shape's `seq_len`; the output is
/// `(n, heads · head_dim)`.
pub fn attention(backend: Backend, qkv: Tensor<2>, shape: AttentionShape) -> Tensor<2> {
    unary(Attention { backend, shape }, qkv)
}

/// A head of a sequence, ready for products.
struct Head {
    /// Scaled by 1 / √head_dim.
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
}

impl Attention {
    fn head(&self, rows: &[f32], head: usize) -> Head {
        let shape = &self.shape;
        let width = shape.qkv_dim();
        let mut query = shape.take(rows, width, head, shape.scale());
        shape.rotate(&mut query, false);
        let mut key = shape.take(rows, width, shape.key_head(head), 1.0);
        shape.rotate(&mut key, false);
        let value = shape.take(rows, width, shape.value_head(head), 1.0);
        Head { query, key, value }
    }

    /// c += a·b, or aᵀ·b.
    fn product(&self, part: Part, a: &[f32], a_stride: usize, b: &[f32], c: &mut [f32]) {
        let cols = match part {
            Part::OutputBefore => self.shape.rows(),
            Part::InnerBefore | Part::InnerAfter => self.shape.cols(),
        };
        self.backend.run(Product {
            a,
            a_stride,
            b,
            c,
            cols,
            part,
        });
    }

    /// Softmax weights of a head into `weights`, `(rows, rows)`, zeros above the diagonal; returns its output.
    fn forward_head(&self, head: &Head, weights: &mut [f32]) -> Vec<f32> {
        let (rows, cols) = (self.shape.rows(), self.shape.cols());
        let keys = transposed(&head.key, cols);
        self.product(Part::OutputBefore, &head.query, cols, &keys, weights);
        for (i, row) in weights.chunks_exact_mut(rows).enumerate() {
            let (seen, later) = row.split_at_mut(i + 1);
            softmax(self.backend, seen);
            later.fill(0.0);
        }
        let mut out = vec![0.0; rows * cols];
        self.product(Part::InnerBefore, weights, rows, &head.value, &mut out);
        out
    }

    /// Gradients of a head's query (not scaled), key and value.
    fn backward_head(&self, head: &Head, weights: &[f32], gradient: &[f32]) -> Head {
        let (rows, cols) = (self.shape.rows(), self.shape.cols());
        let values = transposed(&head.value, cols);
        let mut scores = vec![0.0; rows * rows];
        self.product(Part::OutputBefore, gradient, cols, &values, &mut scores);
        self.backend.run(SoftmaxGradient {
            weights,
            scores: &mut scores,
            rows,
        });
        let [mut query, mut key, mut value] = [(); 3].map(|()| vec![0.0; rows * cols]);
        self.product(Part::InnerAfter, weights, rows, gradient, &mut value);
        self.product(Part::InnerBefore, &scores, rows, &head.key, &mut query);
        self.product(Part::InnerAfter, &scores, rows, &head.query, &mut key);
        self.shape.rotate(&mut query, true);
        self.shape.rotate(&mut key, true);
        Head { query, key, value }
    }
}

impl Unary for Attention {
    /// Projections and softmax weights `[sequences][heads][rows][rows]`.
    type Saved = (Flat, Arc<Vec<f32>>);

    fn forward(&self, qkv: &Flat, keep: bool) -> (Flat, Option<Self::Saved>) {
        let shape = &self.shape;
        let (width, out_width) = (shape.qkv_dim(), shape.heads * shape.head_dim);
        let weights_len = shape.rows() * shape.rows();
        let mut weights = vec![0.0; weights_len];
        let mut kept = Vec::new();
        let mut out = Vec::new();
        with_values(qkv, |qkv| {
            let n = qkv.len() / width;
            out.resize(n * out_width, 0.0);
            let heads = n / shape.seq_len * shape.heads;
            kept.resize(if keep { heads * weights_len } else { 0 }, 0.0);
            let mut slots = kept.chunks_exact_mut(weights_len);
            for (rows, out) in qkv
                .chunks_exact(shape.seq_len * width)
                .zip(out.chunks_exact_mut(shape.seq_len * out_width))
            {
                for head in 0..shape.heads {
                    let weights = slots.next().unwrap_or(&mut weights);
                    if !keep {
                        weights.fill(0.0);
                    }
                    let head_out = self.forward_head(&self.head(rows, head), weights);
                    shape.give(&head_out, out, out_width, head, 1.0);
                }
            }
        });
        let n = out.len() / out_width;
        let saved = keep.then(|| (qkv.clone(), Arc::new(kept)));
        (flat(out, [n, out_width]), saved)
    }

    fn backward(&self, (qkv, weights): Self::Saved, gradient: &Flat) -> Flat {
        let shape = &self.shape;
        let (width, out_width) = (shape.qkv_dim(), shape.heads * shape.head_dim);
        let mut out = Vec::new();
        with_values(&qkv, |qkv| {
            with_values(gradient, |gradient| {
                out.resize(qkv.len(), 0.0);
                let mut weights = weights.chunks_exact(shape.rows() * shape.rows());
                for ((rows, gradient), out) in qkv
                    .chunks_exact(shape.seq_len * width)
                    .zip(gradient.chunks_exact(shape.seq_len * out_width))
                    .zip(out.chunks_exact_mut(shape.seq_len * width))
                {
                    for (head, weights) in (0..shape.heads).zip(&mut weights) {
                        let gradient = shape.take(gradient, out_width, head, 1.0);
                        let to = self.backward_head(&self.head(rows, head), weights, &gradient);
                        shape.give(&to.query, out, width, head, shape.scale());
                        shape.give(&to.key, out, width, shape.key_head(head), 1.0);
                        shape.give(&to.value, out, width, shape.value_head(head), 1.0);
                    }
                }
            });
        });
        let n = out.len() / width;
        flat(out, [n, width])
    }
}

/// `(rows, cols)` to `(cols, rows)`.
fn transposed(head: &[f32], cols: usize) -> Vec<f32> {
    let rows = head.len() / cols;
    let mut out = vec![0.0; head.len()];
    for (row, head) in head.chunks_exact(cols).enumerate() {
        for (out, x) in out.chunks_exact_mut(rows).zip(head) {
            out[row] = *x;
        }
    }
    out
}

/// From the gradient of the softmax weights (in `scores`) to that of the scores: w·(g − Σ w·g), row by row.
struct SoftmaxGradient<'a> {
    weights: &'a [f32],
    scores: &'a mut [f32],
    rows: usize,
}

impl Kernel for SoftmaxGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let rows = self.rows;
        let lines = self.weights.chunks_exact(rows);
        for (i, (weights, scores)) in lines.zip(self.scores.chunks_exact_mut(rows)).enumerate() {
            // Tiles reach beyond the diagonal, where the weights are zero and the products finite.
            let end = (i + 1).next_multiple_of(16).min(rows);
            let (weights, scores) = (&weights[..end], &mut scores[..end]);
            let mean = dot(isa, weights, scores);
            for (score, weight) in scores.iter_mut().zip(weights) {
                *score = weight * (*score - mean);
            }
        }
    }
}
