//! Attention: causal, of every token to every other, rotary positions included, or of a text's tokens to a source's.
//!
//! One head at a time: its queries, keys and values are copied out of the projection's rows (rotated on the way),
//! padded to whole tiles; the products then skip everything above the diagonal of a causal one. The backward pass computes the softmax
//! weights again: a head's stay in the second cache level, while keeping `heads · seq_len²` floats of every sequence
//! and layer takes longer to write and to read than the products and exponentials do.

use super::lanes::dot;
use super::product::{COLS, Part, Product, scores_end};
use super::{Backend, Flat, Unary, flat, incoming, node, tensor, unary, with_values};
use anyhow::{Result, ensure};
use attentive::kernels::isa::{Isa, Kernel};
use attentive::kernels::ops::position::{rotary_angles, rotary_frequencies};
use attentive::kernels::ops::softmax::softmax;
use attentive::{Attention as Options, Config, Position, RotaryStyle, Window};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// What attention needs to know of a model.
#[derive(Clone, Debug)]
pub struct AttentionShape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Queries and keys of each sequence.
    lens: Arc<[(usize, usize)]>,
    /// Whether a query sees no key that is later.
    causal: bool,
    /// The keys that a query sees, of all that are not later.
    window: Option<Window>,
    /// Cosines, then sines, of each position; none without rotary positions.
    angles: Option<(RotaryStyle, Arc<[f32]>)>,
}

impl AttentionShape {
    /// Of the tokens of texts of those lengths to each other: all of an encoder's, a decoder's to those before; without
    /// a window.
    ///
    /// # Errors
    /// When the model has soft caps or sinks, whose gradients are not written.
    pub fn new(config: &Config, lens: &[usize]) -> Result<Self> {
        let causal = config.reading().is_none();
        let angles = angles(config, lens);
        Self::of(config, lens.iter().map(|len| (*len, *len)), causal, angles)
    }

    /// Of the tokens of an encoder–decoder's sources to each other.
    ///
    /// # Errors
    /// As [`AttentionShape::new`].
    pub fn of_sources(config: &Config, lens: &[usize]) -> Result<Self> {
        let angles = angles(config, lens);
        Self::of(config, lens.iter().map(|len| (*len, *len)), false, angles)
    }

    /// Of the tokens of texts to those of their sources.
    ///
    /// # Errors
    /// As [`AttentionShape::new`], and when there are not as many sources as texts.
    pub fn to_sources(config: &Config, lens: &[usize], sources: &[usize]) -> Result<Self> {
        ensure!(
            lens.len() == sources.len(),
            "{} texts have {} sources",
            lens.len(),
            sources.len()
        );
        let lens = lens.iter().copied().zip(sources.iter().copied());
        Self::of(config, lens, false, None)
    }

    fn of(
        config: &Config,
        lens: impl Iterator<Item = (usize, usize)>,
        causal: bool,
        angles: Option<(RotaryStyle, Arc<[f32]>)>,
    ) -> Result<Self> {
        let Options {
            soft_cap, sinks, ..
        } = config.attention;
        ensure!(
            soft_cap.is_none() && !sinks,
            "the trainer has no gradients for attention with a soft cap or sinks: such a model runs, but it cannot be \
             trained, calibrated or fine-tuned here"
        );
        Ok(Self {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            lens: lens.collect(),
            causal,
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

    /// Width of a row of queries, or of what attention gives.
    fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of a row of keys and values.
    fn kv_dim(&self) -> usize {
        2 * self.kv_heads * self.head_dim
    }

    /// Columns of a head's buffers.
    fn cols(&self) -> usize {
        self.head_dim.next_multiple_of(COLS)
    }

    /// The columns of a projection's row that hold a head: the query heads come first, then keys, then values.
    fn columns(&self, head: usize) -> Range<usize> {
        head * self.head_dim..(head + 1) * self.head_dim
    }

    /// Place of a query head's keys among the keys' heads.
    fn key_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
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

/// Cosines, then sines, of each position up to the longest of the texts; none without rotary positions.
fn angles(config: &Config, lens: &[usize]) -> Option<(RotaryStyle, Arc<[f32]>)> {
    let Position::Rotary { style, base } = config.position else {
        return None;
    };
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

/// Rows of query heads, and rows of key heads with value heads behind them.
#[derive(Clone, Copy)]
enum Rows<'a> {
    /// In the same rows, one behind the other.
    Joint(&'a [f32]),
    /// Each in rows of its own.
    Apart { queries: &'a [f32], keys: &'a [f32] },
}

/// The same for writing.
enum RowsMut<'a> {
    Joint(&'a mut [f32]),
    Apart {
        queries: &'a mut [f32],
        keys: &'a mut [f32],
    },
}

/// Rows and the heads in them.
struct Place<T> {
    rows: T,
    width: usize,
    /// Heads that stand before the first of its kind.
    first: usize,
}

impl<'a> Rows<'a> {
    fn queries(self, shape: &AttentionShape) -> Place<&'a [f32]> {
        let (rows, width) = match self {
            Self::Joint(rows) => (rows, shape.q_dim() + shape.kv_dim()),
            Self::Apart { queries, .. } => (queries, shape.q_dim()),
        };
        let first = 0;
        Place { rows, width, first }
    }

    fn keys(self, shape: &AttentionShape) -> Place<&'a [f32]> {
        let (rows, width, first) = match self {
            Self::Joint(rows) => (rows, shape.q_dim() + shape.kv_dim(), shape.heads),
            Self::Apart { keys, .. } => (keys, shape.kv_dim(), 0),
        };
        Place { rows, width, first }
    }

    /// The rows of a sequence of so many queries and keys, and those behind it.
    fn split(self, shape: &AttentionShape, (queries, keys): (usize, usize)) -> (Self, Self) {
        let at = queries * self.queries(shape).width;
        match self {
            Self::Joint(rows) => {
                let (head, tail) = rows.split_at(at);
                (Self::Joint(head), Self::Joint(tail))
            }
            Self::Apart {
                queries,
                keys: all_keys,
            } => {
                let (queries, queries_after) = queries.split_at(at);
                let (keys, keys_after) = all_keys.split_at(keys * shape.kv_dim());
                let after = Self::Apart {
                    queries: queries_after,
                    keys: keys_after,
                };
                (Self::Apart { queries, keys }, after)
            }
        }
    }
}

impl<'a> RowsMut<'a> {
    fn queries(&mut self, shape: &AttentionShape) -> Place<&mut [f32]> {
        let (rows, width) = match self {
            Self::Joint(rows) => (&mut **rows, shape.q_dim() + shape.kv_dim()),
            Self::Apart { queries, .. } => (&mut **queries, shape.q_dim()),
        };
        let first = 0;
        Place { rows, width, first }
    }

    fn keys(&mut self, shape: &AttentionShape) -> Place<&mut [f32]> {
        let (rows, width, first) = match self {
            Self::Joint(rows) => (&mut **rows, shape.q_dim() + shape.kv_dim(), shape.heads),
            Self::Apart { keys, .. } => (&mut **keys, shape.kv_dim(), 0),
        };
        Place { rows, width, first }
    }

    /// As [`Rows::split`].
    fn split(self, shape: &AttentionShape, (queries, keys): (usize, usize)) -> (Self, Self) {
        match self {
            Self::Joint(rows) => {
                let (head, tail) = rows.split_at_mut(queries * (shape.q_dim() + shape.kv_dim()));
                (Self::Joint(head), Self::Joint(tail))
            }
            Self::Apart {
                queries: all_queries,
                keys: all_keys,
            } => {
                let (queries, queries_after) = all_queries.split_at_mut(queries * shape.q_dim());
                let (keys, keys_after) = all_keys.split_at_mut(keys * shape.kv_dim());
                let after = Self::Apart {
                    queries: queries_after,
                    keys: keys_after,
                };
                (Self::Apart { queries, keys }, after)
            }
        }
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

/// The same of queries `(n, heads · head_dim)` to the keys and values of sources, `(m, 2 · kv_heads · head_dim)`.
pub fn cross_attention(
    backend: Backend,
    queries: Tensor<2>,
    keys: Tensor<2>,
    shape: AttentionShape,
) -> Tensor<2> {
    let (queries, keys) = (node(queries), node(keys));
    let [n, width] = queries.shape().dims::<2>();
    let attention = Attention { backend, shape };
    let out = with_values(queries.primitive(), |queries| {
        with_values(keys.primitive(), |keys| {
            attention.outputs(Rows::Apart { queries, keys }, n)
        })
    });
    let out = flat(out, [n, width]);
    let prepared = CrossBackward
        .prepare::<NoCheckpointing>([queries.node(), keys.node()])
        .compute_bound()
        .stateful();
    tensor(match prepared {
        OpsKind::Tracked(prepared) => {
            let saved = [queries.into_primitive(), keys.into_primitive()];
            prepared.finish((attention, saved), out)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    })
}

#[derive(Debug)]
struct CrossBackward;

impl Backward<Flex, 2> for CrossBackward {
    type State = (Attention, [Flat; 2]);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = incoming(&ops, grads);
        let (attention, [queries, keys]) = ops.state;
        let shapes = [&queries, &keys].map(|tensor| tensor.shape().dims::<2>());
        let [mut to_queries, mut to_keys] = shapes.map(|[rows, cols]| vec![0.0; rows * cols]);
        let to = RowsMut::Apart {
            queries: &mut to_queries,
            keys: &mut to_keys,
        };
        with_values(&queries, |queries| {
            with_values(&keys, |keys| {
                let rows = Rows::Apart { queries, keys };
                with_values(&gradient, |gradient| {
                    attention.gradients(rows, gradient, to)
                });
            });
        });
        for (parent, (values, shape)) in ops
            .parents
            .into_iter()
            .zip([to_queries, to_keys].into_iter().zip(shapes))
        {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, flat(values, shape));
            }
        }
    }
}

/// A head of a sequence, ready for products; the buffers serve one head after the other.
struct Head {
    /// Keys of the sequence.
    keys: usize,
    /// [`Head::keys`] in whole tiles.
    key_rows: usize,
    /// Scaled by 1 / √head_dim; whole tiles of rows, as the others.
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    /// Keys or values by columns.
    across: Vec<f32>,
    /// Softmax weights `(query rows, key rows)`; what lies beyond the tiles on the diagonal is never read.
    weights: Vec<f32>,
}

impl Head {
    fn new(shape: &AttentionShape, (queries, keys): (usize, usize)) -> Self {
        let [query_rows, key_rows] = [queries, keys].map(|len| len.next_multiple_of(COLS));
        let zeros = |rows: usize| vec![0.0; rows * shape.cols()];
        Self {
            keys,
            key_rows,
            query: zeros(query_rows),
            key: zeros(key_rows),
            value: zeros(key_rows),
            across: zeros(key_rows),
            weights: vec![0.0; query_rows * key_rows],
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
    fn new(head: &Head) -> Self {
        let zeros = |like: &Vec<f32>| vec![0.0; like.len()];
        Self {
            output: zeros(&head.query),
            scores: zeros(&head.weights),
            query: zeros(&head.query),
            key: zeros(&head.key),
            value: zeros(&head.value),
        }
    }
}

impl Attention {
    /// Takes a head out of the rows of a sequence and computes its softmax weights.
    fn weigh(&self, rows: Rows<'_>, index: usize, head: &mut Head) {
        let shape = &self.shape;
        let cols = shape.cols();
        let queries = rows.queries(shape);
        let query = queries.first + index;
        shape.take(
            queries.rows,
            queries.width,
            query,
            shape.scale(),
            &mut head.query,
        );
        shape.rotate(&mut head.query, false);
        let keys = rows.keys(shape);
        let key = keys.first + shape.key_head(index);
        shape.take(keys.rows, keys.width, key, 1.0, &mut head.key);
        shape.rotate(&mut head.key, false);
        let value = key + shape.kv_heads;
        shape.take(keys.rows, keys.width, value, 1.0, &mut head.value);
        transpose(&head.key, cols, &mut head.across);
        let (query, keys) = (&head.query, &head.across);
        let (scores, width) = (&mut head.weights, head.key_rows);
        self.product(Part::Scores, query, cols, keys, scores, width);
        for (i, row) in head.weights.chunks_exact_mut(head.key_rows).enumerate() {
            let end = scores_end(shape.causal, i, head.key_rows);
            let len = if shape.causal { i + 1 } else { head.keys };
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
            causal: self.shape.causal,
        });
    }

    /// From the gradient of a head's output to those of its query (not scaled), key and value.
    fn backward_head(&self, head: &mut Head, to: &mut HeadGradient) {
        let (rows, cols) = (head.key_rows, self.shape.cols());
        let (weights, output, scores) = (&head.weights, &to.output, &mut to.scores);
        transpose(&head.value, cols, &mut head.across);
        self.product(Part::Scores, output, cols, &head.across, scores, rows);
        self.backend.run(SoftmaxGradient {
            weights,
            scores,
            rows,
            causal: self.shape.causal,
        });
        self.product(Part::Transposed, weights, rows, output, &mut to.value, cols);
        self.product(Part::Weights, scores, rows, &head.key, &mut to.query, cols);
        let query = &head.query;
        self.product(Part::Transposed, scores, rows, query, &mut to.key, cols);
        self.shape.rotate(&mut to.query, true);
        self.shape.rotate(&mut to.key, true);
    }

    /// What `n` queries get.
    fn outputs(&self, mut rows: Rows<'_>, n: usize) -> Vec<f32> {
        let shape = &self.shape;
        let (width, cols) = (shape.q_dim(), shape.cols());
        let mut out = vec![0.0; n * width];
        let mut rest = out.as_mut_slice();
        for &lens in &*shape.lens {
            let (sequence, after) = rows.split(shape, lens);
            rows = after;
            let (out, after) = rest.split_at_mut(lens.0 * width);
            rest = after;
            let mut head = Head::new(shape, lens);
            let mut head_out = vec![0.0; head.query.len()];
            for index in 0..shape.heads {
                self.weigh(sequence, index, &mut head);
                let (weights, value, inner) = (&head.weights, &head.value, head.key_rows);
                self.product(Part::Weights, weights, inner, value, &mut head_out, cols);
                shape.give(&head_out, out, width, index, 1.0);
            }
        }
        out
    }

    /// Adds the gradients of queries, keys and values to `to`.
    fn gradients(&self, mut rows: Rows<'_>, gradient: &[f32], mut to: RowsMut<'_>) {
        let shape = &self.shape;
        let width = shape.q_dim();
        let mut gradient = gradient;
        for &lens in &*shape.lens {
            let (sequence, after) = rows.split(shape, lens);
            rows = after;
            let (output, after) = gradient.split_at(lens.0 * width);
            gradient = after;
            let (mut out, after) = to.split(shape, lens);
            to = after;
            let mut head = Head::new(shape, lens);
            let mut of_head = HeadGradient::new(&head);
            for index in 0..shape.heads {
                self.weigh(sequence, index, &mut head);
                shape.take(output, width, index, 1.0, &mut of_head.output);
                self.backward_head(&mut head, &mut of_head);
                let HeadGradient {
                    query, key, value, ..
                } = &of_head;
                let Place { rows, width, first } = out.queries(shape);
                shape.give(query, rows, width, first + index, shape.scale());
                let Place { rows, width, first } = out.keys(shape);
                let at = first + shape.key_head(index);
                shape.give(key, rows, width, at, 1.0);
                shape.give(value, rows, width, at + shape.kv_heads, 1.0);
            }
        }
    }
}

impl Unary for Attention {
    /// Projections.
    type Saved = Flat;

    fn forward(&self, qkv: &Flat, keep: bool) -> (Flat, Option<Self::Saved>) {
        let [n, _] = qkv.shape().dims::<2>();
        let out = with_values(qkv, |qkv| self.outputs(Rows::Joint(qkv), n));
        let out = flat(out, [n, self.shape.q_dim()]);
        (out, keep.then(|| qkv.clone()))
    }

    fn backward(&self, qkv: Self::Saved, gradient: &Flat) -> Flat {
        let shape = qkv.shape().dims::<2>();
        let mut out = vec![0.0; shape.iter().product()];
        with_values(&qkv, |qkv| {
            with_values(gradient, |gradient| {
                self.gradients(Rows::Joint(qkv), gradient, RowsMut::Joint(&mut out));
            });
        });
        flat(out, shape)
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
