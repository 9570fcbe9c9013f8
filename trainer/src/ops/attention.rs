//! Self-attention, causal or of every token to every other, rotary positions included.
//!
//! One head at a time: its queries, keys and values are copied out of the projection's rows (rotated on the way),
//! padded to whole tiles; the products then skip everything above the diagonal of a causal one. The backward pass computes the softmax
//! weights again: a head's stay in the second cache level, while keeping `heads · seq_len²` floats of every sequence
//! and layer takes longer to write and to read than the products and exponentials do.

use super::lanes::dot;
use super::product::{COLS, Part, Product, scores_end};
use super::{Backend, Flat, Unary, flat, unary, with_values};
use anyhow::{Result, ensure};
use attentive::kernels::isa::{Isa, Kernel};
use attentive::kernels::ops::position::{rotary_angles, rotary_frequencies};
use attentive::kernels::ops::softmax::softmax;
use attentive::{Attention as Options, Config, Position, RotaryStyle, Window};
use burn::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// What attention needs to know of a model.
#[derive(Clone, Debug)]
pub struct AttentionShape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Tokens of each sequence.
    lens: Arc<[usize]>,
    /// Whether a query sees what is later.
    reads: bool,
    /// The keys that a query sees, of all that are not later.
    window: Option<Window>,
    /// Cosines, then sines, of each position; none without rotary positions.
    angles: Option<(RotaryStyle, Arc<[f32]>)>,
}

impl AttentionShape {
    /// For sequences of those lengths, without a window.
    ///
    /// # Errors
    /// When the model has soft caps or sinks, whose gradients are not written.
    pub fn new(config: &Config, lens: &[usize]) -> Result<Self> {
        let Options {
            soft_cap, sinks, ..
        } = config.attention;
        ensure!(
            soft_cap.is_none() && !sinks,
            "the trainer has no gradients for attention with a soft cap or sinks: such a model runs, but it cannot be \
             trained, calibrated or fine-tuned here"
        );
        let angles = match config.position {
            Position::Rotary { style, base } => {
                let mut frequencies = vec![0.0; config.head_dim / 2];
                rotary_frequencies(base, &mut frequencies);
                let longest = lens.iter().copied().max().unwrap_or(0);
                let mut angles = vec![0.0; longest * config.head_dim];
                for (position, row) in angles.chunks_exact_mut(config.head_dim).enumerate() {
                    // A row has twice as many elements as there are frequencies, by construction.
                    let _ = rotary_angles(position, &frequencies, row);
                }
                Some((style, angles.into()))
            }
            Position::None | Position::Learned | Position::Sinusoidal => None,
        };
        Ok(Self {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            lens: lens.into(),
            reads: config.reading().is_some(),
            window: None,
            angles,
        })
    }

    /// The same with a window.
    pub fn with_window(self, window: Option<Window>) -> Self {
        Self { window, ..self }
    }

    /// Hides the scores that a query's window does not reach; `seen` ends with the query's own.
    fn hide(&self, seen: &mut [f32]) {
        let Some(Window { len, keep, .. }) = self.window else {
            return;
        };
        let first = seen.len().saturating_sub(len);
        if let Some(hidden) = seen.get_mut(keep..first) {
            hidden.fill(f32::NEG_INFINITY);
        }
    }

    fn qkv_dim(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// The rows of each sequence.
    fn sequences<'a>(&self, rows: &'a [f32], width: usize) -> impl Iterator<Item = &'a [f32]> {
        let mut rest = rows;
        self.lens.iter().map(move |len| {
            let (rows, after) = rest.split_at(len * width);
            rest = after;
            rows
        })
    }

    /// The same for writing.
    fn sequences_mut<'a>(
        &self,
        rows: &'a mut [f32],
        width: usize,
    ) -> impl Iterator<Item = &'a mut [f32]> {
        let mut rest = rows;
        self.lens.iter().map(move |len| {
            let (rows, after) = std::mem::take(&mut rest).split_at_mut(len * width);
            rest = after;
            rows
        })
    }

    /// Columns of a head's buffers.
    fn cols(&self) -> usize {
        self.head_dim.next_multiple_of(COLS)
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

    /// Copies a head out of the rows of a sequence, times `factor`; what is padding in `out` stays.
    fn take(&self, rows: &[f32], width: usize, head: usize, factor: f32, out: &mut [f32]) {
        let columns = self.columns(head);
        for (out, row) in out
            .chunks_exact_mut(self.cols())
            .zip(rows.chunks_exact(width))
        {
            for (out, x) in out.iter_mut().zip(&row[columns.clone()]) {
                *out = x * factor;
            }
        }
    }

    /// Rotates each row by its position, or back.
    fn rotate(&self, head: &mut [f32], back: bool) {
        let Some((style, angles)) = &self.angles else {
            return;
        };
        let pairs = self.head_dim / 2;
        let sign = if back { -1.0 } else { 1.0 };
        let turn = |a: &mut f32, b: &mut f32, cosine: f32, sine: f32| {
            let sine = sign * sine;
            (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
        };
        let rows = head.chunks_exact_mut(self.cols());
        for (row, angles) in rows.zip(angles.chunks_exact(self.head_dim)) {
            let (cosines, sines) = angles.split_at(pairs);
            let angles = cosines.iter().zip(sines);
            match style {
                RotaryStyle::Half => {
                    let (low, high) = row.split_at_mut(pairs);
                    for ((a, b), (cosine, sine)) in low.iter_mut().zip(high).zip(angles) {
                        turn(a, b, *cosine, *sine);
                    }
                }
                RotaryStyle::Interleaved => {
                    for ([a, b], (cosine, sine)) in row.as_chunks_mut().0.iter_mut().zip(angles) {
                        turn(a, b, *cosine, *sine);
                    }
                }
            }
        }
    }

    /// Adds a head's gradient into the rows of a sequence, times `factor`.
    fn give(&self, head_rows: &[f32], rows: &mut [f32], width: usize, head: usize, factor: f32) {
        let columns = self.columns(head);
        for (head_row, row) in head_rows
            .chunks_exact(self.cols())
            .zip(rows.chunks_exact_mut(width))
        {
            for (to, x) in row[columns.clone()].iter_mut().zip(head_row) {
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

/// softmax(q·kᵀ / √head_dim) · v for each head, over the sequence's keys, in a decoder
/// those that are not later (Vaswani et al. 2017, eq. 1).
///
/// `qkv` is `(n, qkv_dim)`, query heads, key heads, value heads, n the sum of the shape's lengths; the output is
/// `(n, heads · head_dim)`.
pub fn attention(backend: Backend, qkv: Tensor<2>, shape: AttentionShape) -> Tensor<2> {
    unary(Attention { backend, shape }, qkv)
}

/// A head of a sequence, ready for products; the buffers serve one head after the other.
struct Head {
    /// Tokens of the sequence.
    len: usize,
    /// [`Head::len`] in whole tiles.
    rows: usize,
    /// Scaled by 1 / √head_dim.
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    /// Keys or values by columns.
    across: Vec<f32>,
    /// Softmax weights `(rows, rows)`; what lies beyond the tiles on the diagonal is never read.
    weights: Vec<f32>,
}

impl Head {
    fn new(shape: &AttentionShape, len: usize) -> Self {
        let rows = len.next_multiple_of(COLS);
        let zeros = || vec![0.0; rows * shape.cols()];
        Self {
            len,
            rows,
            query: zeros(),
            key: zeros(),
            value: zeros(),
            across: zeros(),
            weights: vec![0.0; rows * rows],
        }
    }
}

/// Gradients of a head.
struct HeadGradient {
    /// Of its output.
    output: Vec<f32>,
    /// Of its scores, shaped as the weights.
    scores: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
}

impl HeadGradient {
    fn new(shape: &AttentionShape, rows: usize) -> Self {
        let zeros = || vec![0.0; rows * shape.cols()];
        Self {
            output: zeros(),
            scores: vec![0.0; rows * rows],
            query: zeros(),
            key: zeros(),
            value: zeros(),
        }
    }
}

impl Attention {
    /// Takes a head out of the rows of a sequence and computes its softmax weights.
    fn weigh(&self, rows: &[f32], index: usize, head: &mut Head) {
        let shape = &self.shape;
        let (width, cols) = (shape.qkv_dim(), shape.cols());
        shape.take(rows, width, index, shape.scale(), &mut head.query);
        shape.rotate(&mut head.query, false);
        shape.take(rows, width, shape.key_head(index), 1.0, &mut head.key);
        shape.rotate(&mut head.key, false);
        shape.take(rows, width, shape.value_head(index), 1.0, &mut head.value);
        transpose(&head.key, cols, &mut head.across);
        let (query, keys) = (&head.query, &head.across);
        self.product(
            Part::Scores,
            query,
            cols,
            keys,
            &mut head.weights,
            head.rows,
        );
        for (i, row) in head.weights.chunks_exact_mut(head.rows).enumerate() {
            let end = scores_end(!shape.reads, i, head.rows);
            let len = if shape.reads { head.len } else { i + 1 };
            let (seen, others) = row[..end].split_at_mut(len);
            shape.hide(seen);
            softmax(self.backend, seen);
            others.fill(0.0);
        }
    }

    /// c = a·b, or aᵀ·b, with `cols` columns.
    fn product(
        &self,
        part: Part,
        a: &[f32],
        a_stride: usize,
        b: &[f32],
        c: &mut [f32],
        cols: usize,
    ) {
        self.backend.run(Product {
            a,
            a_stride,
            b,
            c,
            cols,
            part,
            causal: !self.shape.reads,
        });
    }

    /// From the gradient of a head's output to those of its query (not scaled), key and value.
    fn backward_head(&self, head: &mut Head, to: &mut HeadGradient) {
        let (rows, cols) = (head.rows, self.shape.cols());
        let (weights, output, scores) = (&head.weights, &to.output, &mut to.scores);
        transpose(&head.value, cols, &mut head.across);
        self.product(Part::Scores, output, cols, &head.across, scores, rows);
        self.backend.run(SoftmaxGradient {
            weights,
            scores,
            rows,
            causal: !self.shape.reads,
        });
        self.product(Part::Transposed, weights, rows, output, &mut to.value, cols);
        self.product(Part::Weights, scores, rows, &head.key, &mut to.query, cols);
        let query = &head.query;
        self.product(Part::Transposed, scores, rows, query, &mut to.key, cols);
        self.shape.rotate(&mut to.query, true);
        self.shape.rotate(&mut to.key, true);
    }
}

impl Unary for Attention {
    /// Projections.
    type Saved = Flat;

    fn forward(&self, qkv: &Flat, keep: bool) -> (Flat, Option<Self::Saved>) {
        let shape = &self.shape;
        let (width, out_width) = (shape.qkv_dim(), shape.heads * shape.head_dim);
        let cols = shape.cols();
        let mut out = Vec::new();
        with_values(qkv, |qkv| {
            out.resize(qkv.len() / width * out_width, 0.0);
            let outs = shape.sequences_mut(&mut out, out_width);
            for (rows, out) in shape.sequences(qkv, width).zip(outs) {
                let mut head = Head::new(shape, rows.len() / width);
                let mut head_out = vec![0.0; head.rows * cols];
                for index in 0..shape.heads {
                    self.weigh(rows, index, &mut head);
                    let (weights, value, inner) = (&head.weights, &head.value, head.rows);
                    self.product(Part::Weights, weights, inner, value, &mut head_out, cols);
                    shape.give(&head_out, out, out_width, index, 1.0);
                }
            }
        });
        let n = out.len() / out_width;
        (flat(out, [n, out_width]), keep.then(|| qkv.clone()))
    }

    fn backward(&self, qkv: Self::Saved, gradient: &Flat) -> Flat {
        let shape = &self.shape;
        let (width, out_width) = (shape.qkv_dim(), shape.heads * shape.head_dim);
        let mut out = Vec::new();
        with_values(&qkv, |qkv| {
            with_values(gradient, |gradient| {
                out.resize(qkv.len(), 0.0);
                let gradients = shape.sequences(gradient, out_width);
                let outs = shape.sequences_mut(&mut out, width);
                for ((rows, gradient), out) in shape.sequences(qkv, width).zip(gradients).zip(outs)
                {
                    let mut head = Head::new(shape, rows.len() / width);
                    let mut to = HeadGradient::new(shape, head.rows);
                    for index in 0..shape.heads {
                        self.weigh(rows, index, &mut head);
                        shape.take(gradient, out_width, index, 1.0, &mut to.output);
                        self.backward_head(&mut head, &mut to);
                        shape.give(&to.query, out, width, index, shape.scale());
                        shape.give(&to.key, out, width, shape.key_head(index), 1.0);
                        shape.give(&to.value, out, width, shape.value_head(index), 1.0);
                    }
                }
            });
        });
        let n = out.len() / width;
        flat(out, [n, width])
    }
}

/// `(rows, cols)` to `(cols, rows)`.
fn transpose(head: &[f32], cols: usize, out: &mut [f32]) {
    let rows = head.len() / cols;
    for (row, head) in head.chunks_exact(cols).enumerate() {
        for (out, x) in out.chunks_exact_mut(rows).zip(head) {
            out[row] = *x;
        }
    }
}

/// From the gradient of the softmax weights (in `scores`) to that of the scores: w·(g − Σ w·g), row by row.
struct SoftmaxGradient<'a> {
    weights: &'a [f32],
    scores: &'a mut [f32],
    rows: usize,
    causal: bool,
}

impl Kernel for SoftmaxGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let rows = self.rows;
        let lines = self.weights.chunks_exact(rows);
        for (i, (weights, scores)) in lines.zip(self.scores.chunks_exact_mut(rows)).enumerate() {
            // Tiles reach beyond what is seen, where the weights are zero and the products finite.
            let end = scores_end(self.causal, i, rows);
            let (weights, scores) = (&weights[..end], &mut scores[..end]);
            let mean = dot(isa, weights, scores);
            for (score, weight) in scores.iter_mut().zip(weights) {
                *score = weight * (*score - mean);
            }
        }
    }
}
