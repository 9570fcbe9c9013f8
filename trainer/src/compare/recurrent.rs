//! A recurrent network in the place of attention: embeddings or patches, one layer, and what the model gives of it:
//! classes or a vector from the mean of its states, or the next token of each, or the tag of each word, or where an answer
//! begins and ends. For the last two it reads the text in both directions (Graves and Schmidhuber 2005). To translate it
//! reads the source and then writes on (Sutskever et al. 2014).

use crate::batches::Batch;
use crate::loss::{Aim, Loss, gradients_of, highest};
use crate::network::Drops;
use crate::ops::{Cell, Stepper, embed, linear, pool, recurrent, times, transposed};
use crate::random::Random;
use anyhow::{Context, Result, bail};
use attentive::kernels::Backend;
use attentive::{Config, Output, Pooling};
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::Arc;

/// What comes of the states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gives {
    /// Logits of classes.
    Classes,
    /// Logits of the tags of words.
    Tags,
    /// Logits of each token for being an answer's first and its last.
    Spans,
    /// A vector.
    Vectors,
    /// Logits of the token after each, through the embedding.
    Tokens,
}

impl Gives {
    /// Directions in which the text is read.
    fn directions(self) -> usize {
        match self {
            Self::Tags | Self::Spans => 2,
            Self::Classes | Self::Vectors | Self::Tokens => 1,
        }
    }
}

/// Its weights.
#[derive(Clone, Debug)]
pub struct Recurrent {
    cell: Cell,
    patches: bool,
    gives: Gives,
    aim: Aim,
    width: usize,
    /// The embedding, or the weights and biases of patches; for each direction weights and biases of the inputs and weights
    /// of the states; of the head weights and biases. Biases have one row.
    shapes: Vec<[usize; 2]>,
    pub(super) tensors: Vec<Vec<f32>>,
}

impl Recurrent {
    /// With about as many parameters as that model has, and embeddings as wide.
    ///
    /// # Errors
    /// When the model is an encoder of hidden states, which have no targets.
    pub fn like(config: &Config, cell: Cell, seed: u64) -> Result<Self> {
        let (dim, patch) = (
            config.dim,
            config.reading().map_or(0, |reading| reading.patch),
        );
        let (gives, outputs) = match config.reading() {
            Some(reading) => match reading.output {
                Output::Classes(classes) => (Gives::Classes, classes),
                Output::Tags(tags) => (Gives::Tags, tags),
                Output::Span => (Gives::Spans, 2),
                Output::Embedding { .. } => (Gives::Vectors, dim),
                Output::Hidden => bail!("encoders of hidden states have no targets"),
            },
            None => (Gives::Tokens, dim),
        };
        let directions = gives.directions();
        let shapes = |width: usize| {
            let mut shapes = match patch {
                0 => vec![[config.vocab_len, dim]],
                _ => vec![[dim, patch], [1, dim]],
            };
            let gates = cell.gates() * width;
            for _ in 0..directions {
                shapes.extend([[gates, dim], [1, gates], [gates, width]]);
            }
            shapes.extend([[outputs, directions * width], [1, outputs]]);
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
            gives,
            aim: Aim::of(config),
            width,
            shapes,
            tensors,
        })
    }

    /// As people write it.
    pub(super) fn name(&self) -> String {
        let cell = match self.cell {
            Cell::Gru => "GRU, f32",
            Cell::Lstm => "LSTM, f32",
        };
        match self.gives.directions() {
            1 => cell.to_owned(),
            _ => format!("{cell}, both directions"),
        }
    }

    /// Width of its states.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Trained numbers.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|t| t.len() as u64).sum()
    }

    /// Names and shapes of the tensors.
    pub(super) fn named(&self) -> Vec<(String, [usize; 2])> {
        let numbers = 0..self.shapes.len();
        let names = numbers.map(|number| number.to_string());
        names.zip(self.shapes.iter().copied()).collect()
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
            gives: self.gives,
            aim: self.aim,
            backend,
            weights: self.shapes.iter().zip(&self.tensors).map(tensor).collect(),
        }
    }
}

/// The same as burn tensors.
pub(super) struct RecurrentNetwork {
    cell: Cell,
    patches: bool,
    gives: Gives,
    aim: Aim,
    backend: Backend,
    weights: Vec<Tensor<2>>,
}

impl RecurrentNetwork {
    pub(super) fn gradients(&self, batch: &Batch) -> Result<(f64, Vec<Vec<f32>>)> {
        let loss = self.aim.summed(self.backend, self.logits(batch)?, batch)?;
        let gradients = loss.backward();
        gradients_of(
            loss,
            self.weights.iter().map(|weight| weight.grad(&gradients)),
        )
    }

    pub(super) fn loss(&self, batch: &Batch) -> Result<Loss> {
        self.aim.loss(self.backend, self.logits(batch)?, batch)
    }

    /// Logits or vectors, row by row.
    pub(super) fn rows(&self, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        let logits = self.logits(batch)?;
        let [_, width] = logits.dims();
        let values = logits.into_data().try_into_vec::<f32>();
        let values = values.context("logits are f32")?;
        Ok(values.chunks_exact(width).map(<[f32]>::to_vec).collect())
    }

    fn logits(&self, batch: &Batch) -> Result<Tensor<2>> {
        let mut weights = self.weights.iter().cloned();
        let mut next = || weights.next().context("tensors of all layers");
        let mut drop = Drops::new(batch.dropout);
        let Sequences { tokens, lens, kept } = Sequences::of(batch, self.patches);
        let first = next()?;
        let x = match self.patches {
            false => embed(first.clone(), tokens.as_slice().into(), 1.0),
            true => {
                let bias = next()?;
                let n = lens.iter().sum::<usize>();
                let data = TensorData::new(batch.patches.clone(), [n, first.dims()[1]]);
                let x = Tensor::from_data(data, &first.device());
                linear(self.backend, x, first.clone()) + bias
            }
        };
        let x = drop.apply(x);
        let mut layer = |x: Tensor<2>| {
            let inputs = linear(self.backend, x, next()?) + next()?;
            anyhow::Ok(recurrent(self.backend, self.cell, inputs, next()?, &lens))
        };
        let mut states = layer(x.clone())?;
        if self.gives.directions() == 2 {
            let backwards: Arc<[u32]> = backwards(&lens).into();
            let behind = layer(embed(x, Arc::clone(&backwards), 1.0))?;
            states = Tensor::cat(vec![states, embed(behind, backwards, 1.0)], 1);
        }
        let states = drop.apply(states);
        let states = match (self.gives, kept) {
            (Gives::Classes | Gives::Vectors, _) => pool(states, Pooling::Mean, &lens),
            (_, Some(kept)) => embed(states, kept.as_slice().into(), 1.0),
            (_, None) => states,
        };
        let out = linear(self.backend, states, next()?) + next()?;
        Ok(match self.gives {
            Gives::Tokens => linear(self.backend, out, first),
            _ => out,
        })
    }
}

/// What the network runs over.
struct Sequences {
    tokens: Vec<u32>,
    lens: Vec<usize>,
    /// The rows that have a target, where not all have one.
    kept: Option<Vec<u32>>,
}

impl Sequences {
    fn of(batch: &Batch, patches: bool) -> Self {
        let mut lens = batch.lens.clone();
        if patches {
            // There is no token before the patches.
            lens.iter_mut().for_each(|len| *len -= 1);
        }
        if batch.source_lens.is_empty() {
            return Self {
                tokens: batch.inputs.clone(),
                lens,
                kept: (!batch.places.is_empty()).then(|| batch.places.clone()),
            };
        }
        let mut all = Self {
            tokens: Vec::new(),
            lens: Vec::new(),
            kept: None,
        };
        let mut kept = Vec::new();
        let (mut sources, mut inputs) = (batch.sources.as_slice(), batch.inputs.as_slice());
        for (source, len) in batch.source_lens.iter().zip(&lens) {
            let (before, after) = sources.split_at(*source);
            sources = after;
            let (own, after) = inputs.split_at(*len);
            inputs = after;
            all.tokens.extend(before);
            let from = all.tokens.len() as u32;
            all.tokens.extend(own);
            kept.extend(from..from + *len as u32);
            all.lens.push(source + len);
        }
        all.kept = Some(kept);
        all
    }
}

/// The rows of sequences, the last of each first.
fn backwards(lens: &[usize]) -> Vec<u32> {
    let mut from = 0;
    let mut rows = Vec::new();
    for &len in lens {
        rows.extend((from..from + len as u32).rev());
        from += len as u32;
    }
    rows
}

/// The network as a writer: token after token, without a graph.
pub(super) struct Writer<'a> {
    model: &'a Recurrent,
    stepper: Stepper,
    /// Matrices by their columns: of the inputs, of the output, of the embedding.
    inputs: Vec<f32>,
    output: Vec<f32>,
    embedding: Vec<f32>,
    gates: Vec<f32>,
    narrow: Vec<f32>,
    logits: Vec<f32>,
}

impl<'a> Writer<'a> {
    /// Of a network that gives tokens.
    pub(super) fn new(model: &'a Recurrent) -> Option<Self> {
        let [embedding, inputs, input_bias, states, output, _] = model.tensors.as_slice() else {
            return None;
        };
        let (dim, vocab_len) = match model.shapes.first() {
            Some([rows, cols]) if model.gives == Gives::Tokens => (*cols, *rows),
            _ => return None,
        };
        Some(Self {
            model,
            stepper: Stepper::new(model.cell, states, model.width),
            inputs: transposed(inputs, dim),
            output: transposed(output, model.width),
            embedding: transposed(embedding, dim),
            gates: vec![0.0; input_bias.len()],
            narrow: vec![0.0; dim],
            logits: vec![0.0; vocab_len],
        })
    }

    /// Always the likeliest next token after a source and the token that ends a text, until that comes again or there are
    /// `most`.
    pub(super) fn write(&mut self, source: &[u32], end_of_text: u32, most: usize) -> Vec<u32> {
        self.stepper.reset();
        for token in source {
            self.step(*token);
        }
        let mut out = Vec::new();
        let mut token = end_of_text;
        while out.len() < most {
            self.step(token);
            token = highest(&self.logits) as u32;
            if token == end_of_text {
                break;
            }
            out.push(token);
        }
        out
    }

    fn step(&mut self, token: u32) {
        let tensors = &self.model.tensors;
        let dim = self.narrow.len();
        let row = &tensors[0][token as usize * dim..][..dim];
        times(&self.inputs, row, &mut self.gates);
        add(&mut self.gates, &tensors[2]);
        let state = self.stepper.step(&self.gates);
        times(&self.output, state, &mut self.narrow);
        add(&mut self.narrow, &tensors[5]);
        times(&self.embedding, &self.narrow, &mut self.logits);
    }
}

fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}
