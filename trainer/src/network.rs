//! The decoder family on burn: the same models that the core runs, with gradients.

use crate::ops::{AttentionShape, activation, attention, cross_entropy, embed, linear, norm};
use crate::params::{Params, shapes};
use anyhow::{Context, Result, ensure};
use attentive::kernels::Backend;
use attentive::kernels::ops::position::sinusoidal;
use attentive::{NormPlace, Position, Role, TensorKind};
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::Arc;

/// Sees the input `(n, cols)` of every matrix product: role and layer of the matrix, then the values.
pub type Observer<'a> = &'a mut dyn FnMut(Role, Option<usize>, &[f32]);

/// Weights as burn tensors.
pub struct Network {
    config: attentive::Config,
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

    /// Logits `(n, vocab_len)` of whole sequences: `tokens` holds them one after the other, `seq_len` each.
    ///
    /// # Errors
    /// When the tokens are not whole sequences, one is outside the vocabulary, a sequence is longer than a learned
    /// position table, or attention has a soft cap or sinks.
    pub fn logits(&self, tokens: &[u32], seq_len: usize) -> Result<Tensor<2>> {
        self.forward(tokens, seq_len, &mut |_, _, _| {})
    }

    /// The same, showing the input of every matrix product to `observer`.
    ///
    /// # Errors
    /// As [`Network::logits`].
    pub fn observed(&self, tokens: &[u32], seq_len: usize, observer: Observer<'_>) -> Result<()> {
        self.forward(tokens, seq_len, &mut |role, layer, x| {
            let values = x.clone().into_data().try_into_vec::<f32>();
            observer(role, layer, &values.unwrap_or_default());
        })?;
        Ok(())
    }

    /// Summed loss over the tokens in nats, and its gradients in file order.
    ///
    /// # Errors
    /// As [`Network::logits`].
    pub fn gradients(
        &self,
        tokens: &[u32],
        targets: &[u32],
        seq_len: usize,
    ) -> Result<(f64, Vec<Vec<f32>>)> {
        let loss = self.loss_tensor(tokens, targets, seq_len)?;
        let gradients = loss.backward();
        let mut out = Vec::with_capacity(self.matrices.len());
        for (matrix, vector) in self.matrices.iter().zip(&self.vectors) {
            let data = match (matrix, vector) {
                (Some(matrix), _) => matrix.grad(&gradients).map(Tensor::into_data),
                (_, Some(vector)) => vector.grad(&gradients).map(Tensor::into_data),
                _ => None,
            };
            let data = data.context("a weight took no part in the loss")?;
            out.push(data.try_into_vec::<f32>().context("gradients are f32")?);
        }
        Ok((scalar(loss)?, out))
    }

    /// Summed loss over the tokens in nats.
    ///
    /// # Errors
    /// As [`Network::logits`].
    pub fn loss(&self, tokens: &[u32], targets: &[u32], seq_len: usize) -> Result<f64> {
        scalar(self.loss_tensor(tokens, targets, seq_len)?)
    }

    fn loss_tensor(&self, tokens: &[u32], targets: &[u32], seq_len: usize) -> Result<Tensor<1>> {
        self.check(targets)?;
        let logits = self.logits(tokens, seq_len)?;
        Ok(cross_entropy(self.backend, logits, targets.into()))
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        let vocab_len = self.config.vocab_len;
        let outside = tokens.iter().find(|&&token| token as usize >= vocab_len);
        ensure!(
            outside.is_none(),
            "token {outside:?} is outside the vocabulary of {vocab_len}"
        );
        Ok(())
    }

    fn forward(
        &self,
        tokens: &[u32],
        seq_len: usize,
        observe: &mut dyn FnMut(Role, Option<usize>, &Tensor<2>),
    ) -> Result<Tensor<2>> {
        ensure!(
            seq_len > 0 && tokens.len().is_multiple_of(seq_len),
            "{} tokens are not whole sequences of {seq_len}",
            tokens.len()
        );
        self.check(tokens)?;
        let mut x = self.embedded(tokens, seq_len)?;
        let shape = AttentionShape::new(&self.config, seq_len)?;
        let pre = self.config.norm_place == NormPlace::Pre;
        for layer in (0..self.config.layers).map(Some) {
            let attend = |x: Tensor<2>, observe: &mut dyn FnMut(_, _, &Tensor<2>)| {
                let qkv = self.linear(x, Role::QkvWeight, Role::QkvBias, layer, observe)?;
                let window = layer.and_then(|layer| self.config.attention.window_of(layer));
                let heads = attention(self.backend, qkv, shape.clone().with_window(window));
                self.linear(heads, Role::OutWeight, Role::OutBias, layer, observe)
            };
            let feed = |x: Tensor<2>, observe: &mut dyn FnMut(_, _, &Tensor<2>)| {
                let up = self.linear(x, Role::UpWeight, Role::UpBias, layer, observe)?;
                let hidden = activation(self.backend, up, self.config.ffn);
                self.linear(hidden, Role::DownWeight, Role::DownBias, layer, observe)
            };
            let attn_norm = |x| self.norm(x, Role::AttnNormGain, Role::AttnNormBias, layer);
            let ffn_norm = |x| self.norm(x, Role::FfnNormGain, Role::FfnNormBias, layer);
            if pre {
                x = x.clone() + attend(attn_norm(x)?, observe)?;
                x = x.clone() + feed(ffn_norm(x)?, observe)?;
            } else {
                x = attn_norm(x.clone() + attend(x, observe)?)?;
                x = ffn_norm(x.clone() + feed(x, observe)?)?;
            }
        }
        if self.config.final_norm {
            x = self.norm(x, Role::FinalNormGain, Role::FinalNormBias, None)?;
        }
        let output = match self.config.tied {
            true => Role::TokenEmbedding,
            false => Role::OutputWeight,
        };
        self.linear(x, output, Role::OutputBias, None, observe)
    }

    fn embedded(&self, tokens: &[u32], seq_len: usize) -> Result<Tensor<2>> {
        let table = self.matrix(Role::TokenEmbedding, None)?;
        let x = embed(table, tokens.into(), self.config.embedding_scale);
        match self.config.position {
            Position::Learned => {
                let most = self.config.context_len;
                ensure!(
                    seq_len <= most,
                    "{seq_len} tokens exceed the {most} learned positions"
                );
                let ids: Arc<[u32]> = (0..tokens.len()).map(|at| (at % seq_len) as u32).collect();
                Ok(x + embed(self.matrix(Role::PositionEmbedding, None)?, ids, 1.0))
            }
            Position::Sinusoidal => {
                let dim = self.config.dim;
                let mut rows = vec![0.0; tokens.len() * dim];
                for (at, row) in rows.chunks_exact_mut(dim).enumerate() {
                    sinusoidal(at % seq_len, row);
                }
                let data = TensorData::new(rows, [tokens.len(), dim]);
                Ok(x.clone() + Tensor::from_data(data, &x.device()))
            }
            Position::None | Position::Rotary { .. } => Ok(x),
        }
    }

    /// x·wᵀ, and the bias where the model has one.
    fn linear(
        &self,
        x: Tensor<2>,
        weight: Role,
        bias: Role,
        layer: Option<usize>,
        observe: &mut dyn FnMut(Role, Option<usize>, &Tensor<2>),
    ) -> Result<Tensor<2>> {
        observe(weight, layer, &x);
        let y = linear(self.backend, x, self.matrix(weight, layer)?);
        Ok(match self.vector(bias, layer) {
            Some(bias) => y + bias.unsqueeze::<2>(),
            None => y,
        })
    }

    fn norm(
        &self,
        x: Tensor<2>,
        gain: Role,
        bias: Role,
        layer: Option<usize>,
    ) -> Result<Tensor<2>> {
        let gain = self
            .vector(gain, layer)
            .context("a norm without its gain")?;
        let config = &self.config;
        let y = norm(self.backend, x, gain, config.norm, config.norm_eps);
        Ok(match self.vector(bias, layer) {
            Some(bias) => y + bias.unsqueeze::<2>(),
            None => y,
        })
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

fn scalar(loss: Tensor<1>) -> Result<f64> {
    let values = loss.into_data().try_into_vec::<f32>();
    let values = values.context("a loss is f32")?;
    Ok(f64::from(*values.first().context("a loss is one number")?))
}
