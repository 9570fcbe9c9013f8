//! The three families on burn: the same models that the core runs, with gradients.

use crate::batches::{Batch, Dropout};
use crate::loss::{Aim, Loss, gradients_of};
use crate::ops::{
    AttentionShape, activation, attention, cross_attention, dropout, embed, linear, norm, pool,
};
use crate::params::{Params, shapes};
use anyhow::{Context, Result, ensure};
use attentive::kernels::Backend;
use attentive::kernels::ops::position::sinusoidal;
use attentive::{Input, NormPlace, Output, Pooling, Position, Reading, Role, Source, TensorKind};
use burn::tensor::{Device, Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;

/// A place in a forward pass, by the role of a matrix or of a norm's gain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// What goes into a product, (n, cols), or a norm, (n, dim).
    Input(Role),
    /// What comes out: (n, rows), with its bias, or (n, dim).
    Output(Role),
}

/// Sees what goes into and out of every matrix product and norm: the place, the layer, the values.
pub type Observer<'a> = &'a mut dyn FnMut(Point, Option<usize>, &[f32]);

/// The same inside a pass.
type Observe<'a> = &'a mut dyn FnMut(Point, Option<usize>, &Tensor<2>);

/// Weights as burn tensors.
pub struct Network {
    config: attentive::Config,
    aim: Aim,
    backend: Backend,
    matrices: Vec<Option<Tensor<2>>>,
    vectors: Vec<Option<Tensor<1>>>,
}

impl Network {
    /// Copies the weights; with `train`, gradients are recorded.
    pub fn new(params: &Params, backend: Backend, train: bool) -> Self {
        let device = Device::flex().autodiff();
        let mut network = Self {
            config: params.config,
            aim: Aim::of(&params.config),
            backend,
            matrices: Vec::new(),
            vectors: Vec::new(),
        };
        for (shape, values) in shapes(&params.config).zip(&params.tensors) {
            let values = values.clone();
            let (mut matrix, mut vector) = (None, None);
            match shape.kind {
                TensorKind::Matrix => {
                    let data = TensorData::new(values, [shape.rows, shape.cols]);
                    matrix = Some(Tensor::<2>::from_data(data, &device));
                }
                TensorKind::Vector => {
                    let data = TensorData::new(values, [shape.cols]);
                    vector = Some(Tensor::<1>::from_data(data, &device));
                }
            }
            if train {
                matrix = matrix.map(Tensor::require_grad);
                vector = vector.map(Tensor::require_grad);
            }
            network.matrices.push(matrix);
            network.vectors.push(vector);
        }
        network
    }

    /// Logits of each token over the vocabulary, `(n, vocab_len)`, or of an encoder's sequences over the classes, or of its
    /// words over the tags.
    ///
    /// # Errors
    /// When the lengths do not add up, a token is outside the vocabulary, a sequence is longer than a learned position
    /// table, attention has a soft cap or sinks, or the model gives something else.
    pub fn logits(&self, batch: &Batch) -> Result<Tensor<2>> {
        self.forward(batch, &mut |_, _, _| {})
    }

    /// The same, showing what goes into and out of every product and norm to `observer`.
    ///
    /// # Errors
    /// As [`Network::logits`].
    pub fn observed(&self, batch: &Batch, observer: Observer<'_>) -> Result<()> {
        self.forward(batch, &mut |point, layer, x| {
            let values = x.clone().into_data().try_into_vec::<f32>();
            observer(point, layer, &values.unwrap_or_default());
        })?;
        Ok(())
    }

    /// Summed loss over the targets in nats, and its gradients in file order.
    ///
    /// # Errors
    /// As [`Network::logits`].
    pub fn gradients(&self, batch: &Batch) -> Result<(f64, Vec<Vec<f32>>)> {
        let logits = self.logits(batch)?;
        let loss = self.aim.summed(self.backend, logits, batch)?;
        let gradients = loss.backward();
        let weights = self.matrices.iter().zip(&self.vectors);
        let gradient = |(matrix, vector): (&Option<Tensor<2>>, &Option<Tensor<1>>)| {
            let of_matrix = matrix.as_ref().and_then(|matrix| matrix.grad(&gradients));
            let vector = vector.as_ref().and_then(|vector| vector.grad(&gradients));
            of_matrix.or(vector.map(|vector| vector.unsqueeze::<2>()))
        };
        gradients_of(loss, weights.map(gradient))
    }

    /// Summed loss over the targets, and how many of them have the highest logit.
    ///
    /// # Errors
    /// As [`Network::logits`].
    pub fn loss(&self, batch: &Batch) -> Result<Loss> {
        self.aim.loss(self.backend, self.logits(batch)?, batch)
    }

    fn forward(&self, batch: &Batch, observe: Observe<'_>) -> Result<Tensor<2>> {
        let (tokens, lens) = (&batch.inputs, &batch.lens);
        self.check(tokens, lens)?;
        let mut drop = Drops::new(batch.dropout);
        let heard = match self.config.source() {
            Some(source) => {
                let states = self.source(source, batch, &mut drop, observe)?;
                let shape = AttentionShape::to_sources(&self.config, lens, &batch.source_lens)?;
                Some(Heard { states, shape })
            }
            None => None,
        };
        let x = drop.apply(self.embedded(batch, observe)?);
        let stack = Stack {
            layers: 0..self.config.layers,
            shape: AttentionShape::new(&self.config, lens)?,
            heard,
        };
        let mut x = self.stack(x, &stack, &mut drop, observe)?;
        if self.config.final_norm {
            x = self.norm(x, Role::FinalNormGain, Role::FinalNormBias, None, observe)?;
        }
        if let Some(reading) = self.config.reading() {
            return self.head(x, reading, batch, observe);
        }
        let output = match self.config.tied {
            true => Role::TokenEmbedding,
            false => Role::OutputWeight,
        };
        self.linear(x, output, Role::OutputBias, None, observe)
    }

    /// What an encoder–decoder's encoder makes of the sources, `(m, dim)`.
    fn source(
        &self,
        source: &Source,
        batch: &Batch,
        drop: &mut Drops,
        observe: Observe<'_>,
    ) -> Result<Tensor<2>> {
        ensure!(
            source.input == Input::Tokens,
            "the trainer has gradients for sources of tokens, not of sound"
        );
        let (tokens, lens) = (&batch.sources, &batch.source_lens);
        self.check(tokens, lens)?;
        let table = self.matrix(Role::TokenEmbedding, None)?;
        let x = embed(table, tokens.as_slice().into(), self.config.embedding_scale);
        let learned = (Role::SourcePositionEmbedding, source.len);
        let x = drop.apply(self.placed(x, source.position, learned, lens)?);
        let first = self.config.layers;
        let stack = Stack {
            layers: first..first + source.layers,
            shape: AttentionShape::of_sources(&self.config, lens)?,
            heard: None,
        };
        let x = self.stack(x, &stack, drop, observe)?;
        match self.config.final_norm {
            true => self.norm(x, Role::SourceNormGain, Role::SourceNormBias, None, observe),
            false => Ok(x),
        }
    }

    fn check(&self, tokens: &[u32], lens: &[usize]) -> Result<()> {
        ensure!(
            tokens.len() == lens.iter().sum::<usize>() && !lens.contains(&0),
            "{} tokens are not sequences of {lens:?}",
            tokens.len()
        );
        inside(tokens, self.config.vocab_len)
    }

    fn stack(
        &self,
        mut x: Tensor<2>,
        stack: &Stack,
        drop: &mut Drops,
        observe: Observe<'_>,
    ) -> Result<Tensor<2>> {
        let pre = self.config.norm_place == NormPlace::Pre;
        for layer in stack.layers.clone().map(Some) {
            let attend = |x: Tensor<2>, observe: Observe<'_>| {
                let qkv = self.linear(x, Role::QkvWeight, Role::QkvBias, layer, observe)?;
                let window = layer.and_then(|layer| self.config.attention.window_of(layer));
                let heads = attention(self.backend, qkv, stack.shape.clone().with_window(window));
                self.linear(heads, Role::OutWeight, Role::OutBias, layer, observe)
            };
            let hear = |x: Tensor<2>, heard: &Heard, observe: Observe<'_>| {
                let (weight, bias) = (Role::CrossKvWeight, Role::CrossKvBias);
                let keys = self.linear(heard.states.clone(), weight, bias, layer, observe)?;
                let queries =
                    self.linear(x, Role::CrossQWeight, Role::CrossQBias, layer, observe)?;
                let heads = cross_attention(self.backend, queries, keys, heard.shape.clone());
                let (weight, bias) = (Role::CrossOutWeight, Role::CrossOutBias);
                self.linear(heads, weight, bias, layer, observe)
            };
            let feed = |x: Tensor<2>, observe: Observe<'_>| {
                let up = self.linear(x, Role::UpWeight, Role::UpBias, layer, observe)?;
                let hidden = activation(self.backend, up, self.config.ffn);
                self.linear(hidden, Role::DownWeight, Role::DownBias, layer, observe)
            };
            let attn_norm = |x, observe: Observe<'_>| {
                self.norm(x, Role::AttnNormGain, Role::AttnNormBias, layer, observe)
            };
            let cross_norm = |x, observe: Observe<'_>| {
                self.norm(x, Role::CrossNormGain, Role::CrossNormBias, layer, observe)
            };
            let ffn_norm = |x, observe: Observe<'_>| {
                self.norm(x, Role::FfnNormGain, Role::FfnNormBias, layer, observe)
            };
            if pre {
                x = x.clone() + drop.apply(attend(attn_norm(x, observe)?, observe)?);
                if let Some(heard) = &stack.heard {
                    x = x.clone() + drop.apply(hear(cross_norm(x, observe)?, heard, observe)?);
                }
                x = x.clone() + drop.apply(feed(ffn_norm(x, observe)?, observe)?);
            } else {
                x = attn_norm(x.clone() + drop.apply(attend(x, observe)?), observe)?;
                if let Some(heard) = &stack.heard {
                    x = cross_norm(x.clone() + drop.apply(hear(x, heard, observe)?), observe)?;
                }
                x = ffn_norm(x.clone() + drop.apply(feed(x, observe)?), observe)?;
            }
        }
        Ok(x)
    }

    /// An encoder's vectors, `(sequences, dim)`, not of unit length, or logits of its classes, `(sequences, classes)`, of words' tags, `(words, tags)`, or of each token for being an
    /// answer's first and its last, `(n, 2)`.
    fn head(
        &self,
        x: Tensor<2>,
        reading: &Reading,
        batch: &Batch,
        observe: Observe<'_>,
    ) -> Result<Tensor<2>> {
        let is_known = matches!(
            reading.output,
            Output::Embedding { .. } | Output::Classes(_) | Output::Tags(_) | Output::Span
        );
        ensure!(
            is_known && !reading.pooler,
            "the trainer has gradients for encoders that make vectors, tell classes apart, tag words or find spans, without a pooler"
        );
        let x = match (reading.output, reading.pooling) {
            (Output::Tags(_), _) => {
                inside(&batch.places, batch.inputs.len()).context("places of words")?;
                embed(x, batch.places.as_slice().into(), 1.0)
            }
            (_, Pooling::None) => x,
            (_, pooling) => pool(x, pooling, &batch.lens),
        };
        if matches!(reading.output, Output::Embedding { .. }) {
            return Ok(x);
        }
        self.linear(x, Role::HeadWeight, Role::HeadBias, None, observe)
    }

    fn embedded(&self, batch: &Batch, observe: Observe<'_>) -> Result<Tensor<2>> {
        let table = self.matrix(Role::TokenEmbedding, None)?;
        let scale = self.config.embedding_scale;
        let (tokens, lens) = (&batch.inputs, &batch.lens);
        let x = match self.config.has(Role::PatchWeight) {
            false => embed(table, tokens.as_slice().into(), scale),
            true => {
                // Row 0 is the token's, the others are those of the patches in their order.
                let first = embed(table, [0].as_slice().into(), scale);
                let patches = self.patches(batch, observe)?;
                let mut patch = 0..;
                let row = |at| {
                    if at == 0 {
                        Some(0)
                    } else {
                        patch.next().map(|p| p + 1)
                    }
                };
                let rows: Option<Vec<u32>> = lens.iter().flat_map(|len| 0..*len).map(row).collect();
                let rows = rows.context("a row for each token")?;
                embed(Tensor::cat(vec![first, patches], 0), rows.into(), 1.0)
            }
        };
        let learned = (Role::PositionEmbedding, self.config.context_len);
        let x = self.placed(x, self.config.position, learned, lens)?;
        let x = match self.config.has(Role::TypeEmbedding) {
            true => x + self.typed(batch)?,
            false => x,
        };
        match self.config.has(Role::EmbeddingNormGain) {
            true => self.norm(
                x,
                Role::EmbeddingNormGain,
                Role::EmbeddingNormBias,
                None,
                observe,
            ),
            false => Ok(x),
        }
    }

    /// With positions added, where the model adds them; `learned` is the table of them and its rows.
    fn placed(
        &self,
        x: Tensor<2>,
        position: Position,
        learned: (Role, usize),
        lens: &[usize],
    ) -> Result<Tensor<2>> {
        let places = || lens.iter().flat_map(|len| 0..*len);
        Ok(match position {
            Position::Learned => {
                let (role, most) = learned;
                let longest = lens.iter().copied().max().unwrap_or(0);
                ensure!(
                    longest <= most,
                    "{longest} tokens exceed the {most} learned positions"
                );
                let ids: Arc<[u32]> = places().map(|at| at as u32).collect();
                x + embed(self.matrix(role, None)?, ids, 1.0)
            }
            Position::Sinusoidal => {
                let [n, dim] = x.dims();
                let mut rows = vec![0.0; n * dim];
                for (at, row) in places().zip(rows.chunks_exact_mut(dim)) {
                    sinusoidal(at, row);
                }
                let data = TensorData::new(rows, [n, dim]);
                x.clone() + Tensor::from_data(data, &x.device())
            }
            Position::None | Position::Rotary { .. } => x,
        })
    }

    /// The rows of the tokens' types.
    fn typed(&self, batch: &Batch) -> Result<Tensor<2>> {
        let n = batch.inputs.len();
        let types = match batch.types.is_empty() {
            true => vec![0; n],
            false => batch.types.clone(),
        };
        ensure!(types.len() == n, "{n} tokens have {} types", types.len());
        let most = self.config.reading().map_or(0, |reading| reading.types);
        inside(&types, most).context("types")?;
        let table = self.matrix(Role::TypeEmbedding, None)?;
        Ok(embed(table, types.into(), 1.0))
    }

    fn patches(&self, batch: &Batch, observe: Observe<'_>) -> Result<Tensor<2>> {
        let elements = self.config.reading().map_or(0, |reading| reading.patch);
        let n = batch.inputs.len() - batch.lens.len();
        ensure!(
            batch.patches.len() == n * elements,
            "{} elements are not {n} patches of {elements}",
            batch.patches.len()
        );
        let data = TensorData::new(batch.patches.clone(), [n, elements]);
        let x = Tensor::from_data(data, &Device::flex().autodiff());
        self.linear(x, Role::PatchWeight, Role::PatchBias, None, observe)
    }

    /// x·wᵀ, and the bias where the model has one.
    fn linear(
        &self,
        x: Tensor<2>,
        weight: Role,
        bias: Role,
        layer: Option<usize>,
        observe: Observe<'_>,
    ) -> Result<Tensor<2>> {
        observe(Point::Input(weight), layer, &x);
        let y = linear(self.backend, x, self.matrix(weight, layer)?);
        let y = match self.vector(bias, layer) {
            Some(bias) => y + bias.unsqueeze::<2>(),
            None => y,
        };
        observe(Point::Output(weight), layer, &y);
        Ok(y)
    }

    fn norm(
        &self,
        x: Tensor<2>,
        gain: Role,
        bias: Role,
        layer: Option<usize>,
        observe: Observe<'_>,
    ) -> Result<Tensor<2>> {
        observe(Point::Input(gain), layer, &x);
        let gains = self
            .vector(gain, layer)
            .context("a norm without its gain")?;
        let config = &self.config;
        let y = norm(self.backend, x, gains, config.norm, config.norm_eps);
        let y = match self.vector(bias, layer) {
            Some(bias) => y + bias.unsqueeze::<2>(),
            None => y,
        };
        observe(Point::Output(gain), layer, &y);
        Ok(y)
    }

    fn matrix(&self, role: Role, layer: Option<usize>) -> Result<Tensor<2>> {
        let index = self.config.tensor_index(role, layer);
        let matrix = index.and_then(|index| self.matrices.get(index)?.clone());
        matrix.with_context(|| format!("the model has no {role:?}"))
    }

    fn vector(&self, role: Role, layer: Option<usize>) -> Option<Tensor<1>> {
        let index = self.config.tensor_index(role, layer)?;
        self.vectors.get(index)?.clone()
    }
}

/// Layers, and what their attention sees.
struct Stack {
    layers: Range<usize>,
    shape: AttentionShape,
    heard: Option<Heard>,
}

/// Sources that were read.
struct Heard {
    /// `(m, dim)`.
    states: Tensor<2>,
    shape: AttentionShape,
}

/// Dropout at one place of a network after the other, each with a seed of its own.
pub(crate) struct Drops {
    dropout: Option<Dropout>,
    places: u64,
}

impl Drops {
    pub(crate) fn new(dropout: Option<Dropout>) -> Self {
        Self { dropout, places: 0 }
    }

    pub(crate) fn apply(&mut self, x: Tensor<2>) -> Tensor<2> {
        let Some(Dropout { rate, seed }) = self.dropout else {
            return x;
        };
        self.places += 1;
        dropout(
            x,
            rate,
            seed ^ self.places.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        )
    }
}

pub(crate) fn inside(tokens: &[u32], len: usize) -> Result<()> {
    let outside = tokens.iter().find(|&&token| token as usize >= len);
    ensure!(
        outside.is_none(),
        "token {outside:?} is outside the vocabulary of {len}"
    );
    Ok(())
}
