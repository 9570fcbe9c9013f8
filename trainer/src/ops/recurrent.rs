//! Recurrent layers, which attention is compared with: LSTM (Hochreiter and Schmidhuber 1997; with a forget gate, Gers et
//! al. 2000) and GRU (Cho et al. 2014; the reset gate behind the product, as cuDNN and PyTorch have it).

use super::linear::{column_panels, multiply, row_panels, sum_over_tokens};
use super::{Backend, Flat, flat, incoming, node, tensor, with_values};
use attentive::kernels::layout::PANEL;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Tensor;
use std::sync::Arc;

/// A recurrent cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Gates in the order input, forget, candidate, output.
    Lstm,
    /// Gates in the order reset, update, candidate.
    Gru,
}

impl Cell {
    /// Number of gates.
    pub const fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }
}

impl Cell {
    /// From the inputs' share of the gates, the product with the state before, and that state (hidden, cell): the gates
    /// behind their nonlinearity, what is kept besides, and the state after.
    fn advance(
        self,
        inputs: &[f32],
        product: &[f32],
        (hidden, cell): (&[f32], &[f32]),
        out: &mut [f32],
        inner: &mut [f32],
        after: &mut [f32],
    ) {
        let width = hidden.len();
        for k in 0..width {
            let sum = |gate: usize| inputs[gate * width + k] + product[gate * width + k];
            match self {
                Cell::Lstm => {
                    let (i, f, o) = (sigmoid(sum(0)), sigmoid(sum(1)), sigmoid(sum(3)));
                    let g = sum(2).tanh();
                    inner[k] = f * cell[k] + i * g;
                    after[k] = o * inner[k].tanh();
                    (out[k], out[width + k]) = (i, f);
                    (out[2 * width + k], out[3 * width + k]) = (g, o);
                }
                Cell::Gru => {
                    let (r, z) = (sigmoid(sum(0)), sigmoid(sum(1)));
                    inner[k] = product[2 * width + k];
                    let c = (inputs[2 * width + k] + r * inner[k]).tanh();
                    after[k] = (1.0 - z) * c + z * hidden[k];
                    (out[k], out[width + k], out[2 * width + k]) = (r, z, c);
                }
            }
        }
    }
}

/// A recurrent layer that takes one step after the other, without gradients.
pub struct Stepper {
    cell: Cell,
    /// The weights of the state, by columns.
    across: Vec<f32>,
    hidden: Vec<f32>,
    inner: Vec<f32>,
    gates: Vec<f32>,
    product: Vec<f32>,
}

impl Stepper {
    /// From zeros on; `weight` is that of [`recurrent`].
    pub fn new(cell: Cell, weight: &[f32], width: usize) -> Self {
        Self {
            cell,
            across: transposed(weight, width),
            hidden: vec![0.0; width],
            inner: vec![0.0; width],
            gates: vec![0.0; cell.gates() * width],
            product: vec![0.0; cell.gates() * width],
        }
    }

    /// Back to zeros.
    pub fn reset(&mut self) {
        self.hidden.fill(0.0);
        self.inner.fill(0.0);
    }

    /// The state after a step, whose inputs' share of the gates is given.
    pub fn step(&mut self, inputs: &[f32]) -> &[f32] {
        times(&self.across, &self.hidden, &mut self.product);
        let (hidden, cell) = (self.hidden.clone(), self.inner.clone());
        let (out, inner, after) = (&mut self.gates, &mut self.inner, &mut self.hidden);
        let before = (hidden.as_slice(), cell.as_slice());
        self.cell
            .advance(inputs, &self.product, before, out, inner, after);
        &self.hidden
    }
}

/// `out` = the matrix whose columns are given, (inputs, outputs), times `x`.
pub fn times(across: &[f32], x: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for (x, column) in x.iter().zip(across.chunks_exact(out.len())) {
        add_scaled(out, column, *x);
    }
}

/// What the backward pass needs, each `(n, gates · width)` or `(n, width)`.
#[derive(Clone, Debug, Default)]
struct States {
    /// Gates behind their nonlinearity.
    gates: Vec<f32>,
    /// LSTM: cells. GRU: the product that the reset gate is multiplied with.
    inner: Vec<f32>,
    /// Hidden states.
    hidden: Vec<f32>,
}

#[derive(Clone, Debug)]
struct Recurrent {
    backend: Backend,
    cell: Cell,
    lens: Arc<[usize]>,
    width: usize,
}

#[derive(Clone, Debug)]
struct Saved {
    layer: Recurrent,
    states: Arc<States>,
    weight: Flat,
}

#[derive(Debug)]
struct RecurrentBackward;

/// Hidden states `(n, width)` of each sequence, whose lengths add up to n, from zeros on.
///
/// `inputs` are the inputs' share of the gates, `(n, gates · width)`, biases included; `weight` is that of the state
/// before, `(gates · width, width)`.
pub fn recurrent(
    backend: Backend,
    cell: Cell,
    inputs: Tensor<2>,
    weight: Tensor<2>,
    lens: &[usize],
) -> Tensor<2> {
    let (inputs, weight) = (node(inputs), node(weight));
    let [n, _] = inputs.shape().dims::<2>();
    let [_, width] = weight.shape().dims::<2>();
    let layer = Recurrent {
        backend,
        cell,
        lens: lens.into(),
        width,
    };
    let states = with_values(inputs.primitive(), |inputs| {
        with_values(weight.primitive(), |weight| layer.forward(inputs, weight))
    });
    let out = flat(states.hidden.clone(), [n, width]);
    let prepared = RecurrentBackward
        .prepare::<NoCheckpointing>([inputs.node(), weight.node()])
        .compute_bound()
        .stateful();
    tensor(match prepared {
        OpsKind::Tracked(prepared) => {
            let saved = Saved {
                layer,
                states: Arc::new(states),
                weight: weight.into_primitive(),
            };
            prepared.finish(saved, out)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    })
}

impl Recurrent {
    /// The first row of each sequence, and its length.
    fn sequences(&self) -> Vec<(usize, usize)> {
        let mut at = 0;
        let sequence = |len: &usize| {
            let from = at;
            at += len;
            (from, *len)
        };
        self.lens.iter().map(sequence).collect()
    }

    /// The rows of a step of all sequences that have it: these go side by side, so that the weights are read once.
    fn rows(sequences: &[(usize, usize)], step: usize) -> Vec<usize> {
        let row = |(from, len): &(usize, usize)| (step < *len).then_some(from + step);
        sequences.iter().filter_map(row).collect()
    }

    fn forward(&self, inputs: &[f32], weight: &[f32]) -> States {
        let (width, gates) = (self.width, self.cell.gates() * self.width);
        let panels = row_panels(weight, width);
        let n = inputs.len() / gates;
        let mut states = States {
            gates: vec![0.0; n * gates],
            inner: vec![0.0; n * width],
            hidden: vec![0.0; n * width],
        };
        let sequences = self.sequences();
        let longest = self.lens.iter().copied().max().unwrap_or(0);
        for step in 0..longest {
            let rows = Self::rows(&sequences, step);
            let before = |all: &[f32]| -> Vec<f32> {
                match step {
                    0 => vec![0.0; rows.len() * width],
                    _ => gathered(all, &rows, width, 1),
                }
            };
            let (hidden, cell) = (before(&states.hidden), before(&states.inner));
            let product = multiply(self.backend, &panels, [gates, width], &hidden);
            for (index, row) in rows.into_iter().enumerate() {
                let of = |width: usize| index * width..(index + 1) * width;
                let before = (&hidden[of(width)], &cell[of(width)]);
                self.cell.advance(
                    &inputs[row * gates..][..gates],
                    &product[of(gates)],
                    before,
                    &mut states.gates[row * gates..][..gates],
                    &mut states.inner[row * width..][..width],
                    &mut states.hidden[row * width..][..width],
                );
            }
        }
        states
    }

    /// Gradients of the inputs, and of what the state before is multiplied to.
    fn backward(&self, states: &States, weight: &[f32], gradient: &[f32]) -> [Vec<f32>; 2] {
        let (width, gates) = (self.width, self.cell.gates() * self.width);
        let n = gradient.len() / width;
        let mut panels = vec![0.0; width.next_multiple_of(PANEL) * gates];
        column_panels(weight, width, &mut panels);
        let mut to_inputs = vec![0.0; n * gates];
        let mut to_products = vec![0.0; n * gates];
        // Of the state of a row, and of its cell, from the step after it.
        let mut to_hidden = vec![0.0; n * width];
        let mut to_cell = vec![0.0; n * width];
        let zeros = vec![0.0; width];
        let sequences = self.sequences();
        let longest = self.lens.iter().copied().max().unwrap_or(0);
        for step in (0..longest).rev() {
            let rows = Self::rows(&sequences, step);
            for &row in &rows {
                let before = |all: &'_ [f32]| match step {
                    0 => zeros.clone(),
                    _ => all[(row - 1) * width..][..width].to_vec(),
                };
                let (hidden, cell) = (before(&states.hidden), before(&states.inner));
                let inner = &states.inner[row * width..][..width];
                let out = &states.gates[row * gates..][..gates];
                let inputs = &mut to_inputs[row * gates..][..gates];
                let products = &mut to_products[row * gates..][..gates];
                let gradient = &gradient[row * width..][..width];
                // What goes to the step before, besides what its product gives.
                let (mut passed, mut cell_passed) = (zeros.clone(), zeros.clone());
                for k in 0..width {
                    let g = gradient[k] + to_hidden[row * width + k];
                    match self.cell {
                        Cell::Lstm => {
                            let (i, f) = (out[k], out[width + k]);
                            let (c, o) = (out[2 * width + k], out[3 * width + k]);
                            let bent = inner[k].tanh();
                            let of_cell = to_cell[row * width + k] + g * o * (1.0 - bent * bent);
                            inputs[k] = of_cell * c * i * (1.0 - i);
                            inputs[width + k] = of_cell * cell[k] * f * (1.0 - f);
                            inputs[2 * width + k] = of_cell * i * (1.0 - c * c);
                            inputs[3 * width + k] = g * bent * o * (1.0 - o);
                            cell_passed[k] = of_cell * f;
                        }
                        Cell::Gru => {
                            let (r, z, c) = (out[k], out[width + k], out[2 * width + k]);
                            let of_candidate = g * (1.0 - z) * (1.0 - c * c);
                            inputs[k] = of_candidate * inner[k] * r * (1.0 - r);
                            inputs[width + k] = g * (hidden[k] - c) * z * (1.0 - z);
                            inputs[2 * width + k] = of_candidate;
                            passed[k] = g * z;
                        }
                    }
                }
                products.copy_from_slice(inputs);
                if self.cell == Cell::Gru {
                    for k in 0..width {
                        products[2 * width + k] *= out[k];
                    }
                }
                if step > 0 {
                    to_hidden[(row - 1) * width..][..width].copy_from_slice(&passed);
                    to_cell[(row - 1) * width..][..width].copy_from_slice(&cell_passed);
                }
            }
            if step > 0 {
                let products = gathered(&to_products, &rows, gates, 0);
                let given = multiply(self.backend, &panels, [width, gates], &products);
                for (row, given) in rows.iter().zip(given.chunks_exact(width)) {
                    add_scaled(&mut to_hidden[(row - 1) * width..][..width], given, 1.0);
                }
            }
        }
        [to_inputs, to_products]
    }

    /// Of each step the state before it, `(n, width)`.
    fn before(&self, states: &States) -> Vec<f32> {
        let width = self.width;
        let mut out = vec![0.0; states.hidden.len()];
        let mut at = 0;
        for &len in &*self.lens {
            let rows = len.saturating_sub(1) * width;
            let from = &states.hidden[at..at + rows];
            out[at + width..][..rows].copy_from_slice(from);
            at += len * width;
        }
        out
    }
}

impl Backward<Flex, 2> for RecurrentBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = incoming(&ops, grads);
        let Saved {
            layer,
            states,
            weight,
        } = ops.state;
        let [n, width] = gradient.shape().dims::<2>();
        let gates = layer.cell.gates() * width;
        let [to_inputs, to_products] = with_values(&gradient, |gradient| {
            with_values(&weight, |weight| layer.backward(&states, weight, gradient))
        });
        let [inputs, weight] = ops.parents;
        if let Some(parent) = weight {
            let before = layer.before(&states);
            let sum = sum_over_tokens(layer.backend, &to_products, gates, &before, width);
            grads.register::<Flex>(parent.id, flat(sum, [gates, width]));
        }
        if let Some(parent) = inputs {
            grads.register::<Flex>(parent.id, flat(to_inputs, [n, gates]));
        }
    }
}

/// Rows of a matrix, or those so many before them.
fn gathered(all: &[f32], rows: &[usize], width: usize, before: usize) -> Vec<f32> {
    let row = |row: &usize| &all[(row - before) * width..][..width];
    rows.iter().flat_map(row).copied().collect()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// y += x · factor.
fn add_scaled(y: &mut [f32], x: &[f32], factor: f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x * factor;
    }
}

/// `(rows, cols)` to `(cols, rows)`.
pub fn transposed(matrix: &[f32], cols: usize) -> Vec<f32> {
    let rows = matrix.len() / cols;
    let mut out = vec![0.0; matrix.len()];
    for (row, values) in matrix.chunks_exact(cols).enumerate() {
        for (out, x) in out.chunks_exact_mut(rows).zip(values) {
            out[row] = *x;
        }
    }
    out
}
