//! A recurrent network that tells classes apart: embeddings or patches, one layer, the mean of its states, a head.

use crate::batches::Batch;
use crate::network::{Drops, Loss, gradients_of, loss_of};
use crate::ops::{Cell, cross_entropy, embed, linear, pool, recurrent};
use crate::random::Random;
use anyhow::{Context, Result, ensure};
use attentive::kernels::Backend;
use attentive::{Config, Pooling};
use burn::tensor::{Device, Tensor, TensorData};

/// Its weights.
#[derive(Clone, Debug)]
pub struct Recurrent {
    cell: Cell,
    patches: bool,
    width: usize,
    /// The embedding, or the weights and biases of patches; weights and biases of the inputs; weights of the states; of
    /// the head weights and biases. Biases have one row.
    shapes: Vec<[usize; 2]>,
    pub(super) tensors: Vec<Vec<f32>>,
}

impl Recurrent {
    /// With about as many parameters as that encoder has, and embeddings as wide.
    ///
    /// # Errors
    /// When the model is no encoder of classes.
    pub fn like(config: &Config, cell: Cell, seed: u64) -> Result<Self> {
        let reading = config.reading().context("an encoder is compared")?;
        let classes = reading.head_rows();
        ensure!(classes > 0, "an encoder of classes is compared");
        let (dim, patch) = (config.dim, reading.patch);
        let shapes = |width: usize| {
            let mut shapes = match patch {
                0 => vec![[config.vocab_len, dim]],
                _ => vec![[dim, patch], [1, dim]],
            };
            let gates = cell.gates() * width;
            shapes.extend([[gates, dim], [1, gates], [gates, width]]);
            shapes.extend([[classes, width], [1, classes]]);
            shapes
        };
        let count = |width| {
            shapes(width)
                .iter()
                .map(|[r, c]| (r * c) as u64)
                .sum::<u64>()
        };
        let most = config.parameters();
        let width = (1..).take_while(|width| count(*width) <= most).last();
        let width = width.context("too few parameters for a recurrent network")?;
        let mut random = Random::new(seed);
        let shapes = shapes(width);
        let tensor = |[rows, cols]: &[usize; 2]| match rows {
            1 => vec![0.0; *cols],
            _ if *cols == width => random.normal(rows * cols, 1.0 / (width as f32).sqrt()),
            _ => random.normal(rows * cols, 1.0 / (*cols as f32).sqrt()),
        };
        let tensors = shapes.iter().map(tensor).collect();
        Ok(Self {
            cell,
            patches: patch > 0,
            width,
            shapes,
            tensors,
        })
    }

    /// Width of its states.
    pub fn width(&self) -> usize {
        self.width
    }

    pub(super) fn decayed(&self) -> Vec<bool> {
        self.shapes.iter().map(|[rows, _]| *rows > 1).collect()
    }

    pub(super) fn network(&self, backend: Backend, train: bool) -> RecurrentNetwork {
        let device = Device::flex().autodiff();
        let tensor = |(shape, values): (&[usize; 2], &Vec<f32>)| {
            let data = TensorData::new(values.clone(), *shape);
            let tensor = Tensor::<2>::from_data(data, &device);
            if train { tensor.require_grad() } else { tensor }
        };
        RecurrentNetwork {
            cell: self.cell,
            patches: self.patches,
            backend,
            weights: self.shapes.iter().zip(&self.tensors).map(tensor).collect(),
        }
    }
}

/// The same as burn tensors.
pub(super) struct RecurrentNetwork {
    cell: Cell,
    patches: bool,
    backend: Backend,
    weights: Vec<Tensor<2>>,
}

impl RecurrentNetwork {
    pub(super) fn gradients(&self, batch: &Batch) -> Result<(f64, Vec<Vec<f32>>)> {
        let logits = self.logits(batch)?;
        let loss = cross_entropy(self.backend, logits, batch.targets.as_slice().into());
        let gradients = loss.backward();
        gradients_of(
            loss,
            self.weights.iter().map(|weight| weight.grad(&gradients)),
        )
    }

    pub(super) fn loss(&self, batch: &Batch) -> Result<Loss> {
        loss_of(self.backend, self.logits(batch)?, &batch.targets)
    }

    fn logits(&self, batch: &Batch) -> Result<Tensor<2>> {
        let mut weights = self.weights.iter().cloned();
        let mut next = || weights.next().context("seven or eight tensors");
        let mut drop = Drops::new(batch.dropout);
        let mut lens = batch.lens.clone();
        let x = match self.patches {
            false => embed(next()?, batch.inputs.as_slice().into(), 1.0),
            true => {
                // There is no token before the patches.
                lens.iter_mut().for_each(|len| *len -= 1);
                let (weight, bias) = (next()?, next()?);
                let n = lens.iter().sum::<usize>();
                let data = TensorData::new(batch.patches.clone(), [n, weight.dims()[1]]);
                let x = Tensor::from_data(data, &weight.device());
                linear(self.backend, x, weight) + bias
            }
        };
        let inputs = linear(self.backend, drop.apply(x), next()?) + next()?;
        let states = recurrent(self.backend, self.cell, inputs, next()?, &lens);
        let pooled = pool(drop.apply(states), Pooling::Mean, &lens);
        Ok(linear(self.backend, pooled, next()?) + next()?)
    }
}
