//! Products with a weights matrix.
//!
//! The output and the gradient of the input are products of the core itself, on weights packed once a micro-batch; the
//! gradient of the weights is a sum over tokens, for which both operands are packed here, block by block.
//! burn's own product is as fast inside, but zeroes its output and then copies it to an aligned place.

use super::{Backend, Flat, flat, incoming, node, tensor, with_values};
use attentive::kernels::isa::{Ahead, Isa, Kernel};
use attentive::kernels::layout::PANEL;
use attentive::kernels::ops::matmul::matmul;
use attentive::kernels::{Matrix, MatrixData};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Tensor;

/// Vectors that are multiplied with all weights before the next: whole tiles of 6 and of 8, and few enough that they
/// stay in the second cache level.
const VECTORS: usize = 96;
/// Tokens that are summed before the sum is added to the gradient: a panel of them fits the first cache level.
const TOKENS: usize = 256;
/// Rows of a tile of the weights' gradient; with a panel's two registers, twelve chains of multiply-adds.
const ROWS: usize = 6;
/// The same where a register holds sixteen lanes.
const WIDE_ROWS: usize = 8;
/// Tiles whose rows are gathered at a time: a cache line of them holds sixteen.
const TILES: usize = 2;

#[derive(Debug)]
struct LinearBackward;

#[derive(Clone, Debug)]
struct Saved {
    backend: Backend,
    x: Flat,
    weight: Flat,
}

/// x·wᵀ: `x` is `(n, inputs)`, `weight` `(outputs, inputs)`, the output `(n, outputs)`.
///
/// # Panics
/// When the inputs of both differ in number, or there are none.
pub fn linear(backend: Backend, x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let (x, weight) = (node(x), node(weight));
    let [n, inputs] = x.shape().dims::<2>();
    let [outputs, columns] = weight.shape().dims::<2>();
    assert_eq!(inputs, columns, "columns of the input and of the weights");
    let out = with_values(x.primitive(), |x| {
        let panels = with_values(weight.primitive(), |weight| row_panels(weight, inputs));
        multiply(backend, &panels, [outputs, inputs], x)
    });
    let out = flat(out, [n, outputs]);
    let prepared = LinearBackward
        .prepare::<NoCheckpointing>([x.node(), weight.node()])
        .compute_bound()
        .stateful();
    tensor(match prepared {
        OpsKind::Tracked(prepared) => {
            let saved = Saved {
                backend,
                x: x.into_primitive(),
                weight: weight.into_primitive(),
            };
            prepared.finish(saved, out)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    })
}

impl Backward<Flex, 2> for LinearBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = incoming(&ops, grads);
        let Saved { backend, x, weight } = ops.state;
        let [n, outputs] = gradient.shape().dims::<2>();
        let [_, inputs] = x.shape().dims::<2>();
        let [to_x, to_weight] = ops.parents;
        with_values(&gradient, |gradient| {
            if let Some(parent) = to_x {
                let mut panels = vec![0.0; inputs.next_multiple_of(PANEL) * outputs];
                with_values(&weight, |weight| column_panels(weight, inputs, &mut panels));
                let out = multiply(backend, &panels, [inputs, outputs], gradient);
                grads.register::<Flex>(parent.id, flat(out, [n, inputs]));
            }
            if let Some(parent) = to_weight {
                let out = with_values(&x, |x| {
                    sum_over_tokens(backend, gradient, outputs, x, inputs)
                });
                grads.register::<Flex>(parent.id, flat(out, [outputs, inputs]));
            }
        });
    }
}

/// Every vector of `x` times a packed matrix of that shape.
pub(super) fn multiply(
    backend: Backend,
    panels: &[f32],
    [rows, cols]: [usize; 2],
    x: &[f32],
) -> Vec<f32> {
    let len = x.len() / cols * rows;
    // Written a few columns at a time in the cache, and to memory in whole blocks, which need no zeros first.
    let mut block = vec![0.0; len.min(VECTORS * rows)];
    let mut out = Vec::with_capacity(len);
    let product = Matrix::new(rows, cols, MatrixData::F32(panels)).and_then(|matrix| {
        for x in x.chunks(VECTORS * cols) {
            let n = x.len() / cols;
            let block = &mut block[..n * rows];
            matmul(backend, &matrix, x, n, block, &mut [])?;
            out.extend_from_slice(block);
        }
        Ok(())
    });
    match product {
        Ok(()) => out,
        Err(error) => panic!("a product with a {rows} by {cols} matrix: {error}"),
    }
}

/// Σ over the tokens of left ⊗ right: `left` is `(n, rows)`, `right` `(n, cols)`, the sum `(rows, cols)`.
pub(super) fn sum_over_tokens(
    backend: Backend,
    left: &[f32],
    rows: usize,
    right: &[f32],
    cols: usize,
) -> Vec<f32> {
    let mut out = vec![0.0; rows * cols];
    let mut panels = vec![0.0; TOKENS * cols.next_multiple_of(PANEL)];
    let blocks = left.chunks(TOKENS * rows).zip(right.chunks(TOKENS * cols));
    for (left, right) in blocks {
        let tokens = right.len() / cols;
        let panels = &mut panels[..tokens * cols.next_multiple_of(PANEL)];
        column_panels(right, cols, panels);
        backend.run(SumOverTokens {
            left,
            panels,
            tokens,
            out: &mut out,
            rows,
            cols,
        });
    }
    out
}

/// `(rows, cols)` in panels of sixteen rows: `[panels][cols][16]`.
pub(super) fn row_panels(matrix: &[f32], cols: usize) -> Vec<f32> {
    let rows = matrix.len() / cols;
    let mut panels = vec![0.0; rows.next_multiple_of(PANEL) * cols];
    let blocks = matrix.chunks(PANEL * cols);
    for (panel, rows) in panels.chunks_exact_mut(PANEL * cols).zip(blocks) {
        for (lane, row) in rows.chunks_exact(cols).enumerate() {
            for (to, x) in panel.chunks_exact_mut(PANEL).zip(row) {
                to[lane] = *x;
            }
        }
    }
    panels
}

/// `(rows, cols)` in panels of sixteen columns: `[panels][rows][16]`, zeros beyond the last column.
pub(super) fn column_panels(matrix: &[f32], cols: usize, panels: &mut [f32]) {
    let rows = matrix.len() / cols;
    for (index, panel) in panels.chunks_exact_mut(PANEL * rows).enumerate() {
        let (steps, _) = panel.as_chunks_mut::<PANEL>();
        for (to, row) in steps.iter_mut().zip(matrix.chunks_exact(cols)) {
            *to = leading(&row[index * PANEL..]);
        }
    }
}

/// The first N elements, zeros where there are fewer.
#[inline(always)]
fn leading<const N: usize>(from: &[f32]) -> [f32; N] {
    match from.first_chunk::<N>() {
        Some(all) => *all,
        None => std::array::from_fn(|at| from.get(at).copied().unwrap_or(0.0)),
    }
}

/// Adds a block of tokens to `out`.
struct SumOverTokens<'a> {
    /// `(tokens, rows)`.
    left: &'a [f32],
    /// `[panels][tokens][16]`.
    panels: &'a [f32],
    /// `(rows, cols)`.
    out: &'a mut [f32],
    /// At most [`TOKENS`].
    tokens: usize,
    rows: usize,
    cols: usize,
}

impl Kernel for SumOverTokens<'_> {
    type Output = ();
    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if I::WIDE {
            self.tiles::<I, WIDE_ROWS>(isa);
        } else {
            self.tiles::<I, ROWS>(isa);
        }
    }
}

impl SumOverTokens<'_> {
    #[allow(
        clippy::needless_range_loop,
        reason = "zipped iterators stay calls in a kernel this big"
    )]
    #[inline(always)]
    fn tiles<I: Isa, const M: usize>(self, isa: I) {
        let (rows, cols, tokens) = (self.rows, self.cols, self.tokens);
        // The rows of `left` of some tiles, each by tokens.
        let mut lines = [[[0.0; TOKENS]; M]; TILES];
        for (index, out) in self.out.chunks_mut(TILES * M * cols).enumerate() {
            for token in 0..tokens {
                let from = &self.left[token * rows..][..rows][index * TILES * M..];
                for tile in 0..TILES {
                    let values = leading::<M>(from.get(tile * M..).unwrap_or_default());
                    for m in 0..M {
                        lines[tile][m][token] = values[m];
                    }
                }
            }
            for (index, panel) in self.panels.chunks_exact(PANEL * tokens).enumerate() {
                let steps = panel.as_chunks::<8>().0.as_chunks::<2>().0;
                let (first, last) = (index * PANEL, cols.min((index + 1) * PANEL));
                for (lines, out) in lines.iter().zip(out.chunks_mut(M * cols)) {
                    let mut sums = [[[isa.splat(0.0); 2]; M]];
                    let lines = std::array::from_fn(|m| &lines[m][..tokens]);
                    isa.add_f32_tile::<1, M>(&mut sums, [steps], lines, Ahead::NONE);
                    for m in 0..M.min(out.len() / cols) {
                        add(isa, sums[0][m], &mut out[m * cols + first..m * cols + last]);
                    }
                }
            }
        }
    }
}

/// Adds sixteen sums, or as many as `out` has room for.
#[inline(always)]
fn add<I: Isa>(isa: I, sums: [I::F32; 2], out: &mut [f32]) {
    match out.as_chunks_mut::<8>() {
        ([low, high, ..], _) => {
            isa.store(isa.add(isa.load(low), sums[0]), low);
            isa.store(isa.add(isa.load(high), sums[1]), high);
        }
        ([low], rest) => {
            isa.store(isa.add(isa.load(low), sums[0]), low);
            isa.store_partial(isa.add(isa.load_partial(rest), sums[1]), rest);
        }
        ([], rest) => isa.store_partial(isa.add(isa.load_partial(rest), sums[0]), rest),
    }
}
