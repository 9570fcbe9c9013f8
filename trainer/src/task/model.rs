//! The model's part of a task: its dimensions.

use anyhow::{Result, ensure};
use attentive::{
    Architecture, Attention, Biases, Config, Ffn, Input, Norm, NormPlace, Output, Pooling,
    Position as CorePosition, Reading, RotaryStyle, Source, Window,
};
use serde::{Deserialize, Serialize};

/// Dimensions; see [`Config`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Tokens of the vocabulary; 1 for pictures and sounds.
    #[serde(default = "one_token")]
    pub vocab_len: usize,
    /// Classes of an encoder; without, the model is a decoder or an encoder–decoder, unless it has tags, makes vectors or finds spans.
    #[serde(default)]
    pub classes: usize,
    /// Tags of an encoder that tags words.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tags: usize,
    /// Whether the model is an encoder that makes a vector of a text.
    #[serde(default, skip_serializing_if = "is_false")]
    pub embedding: bool,
    /// Whether the model is an encoder that finds spans: answers to questions.
    #[serde(default, skip_serializing_if = "is_false")]
    pub spans: bool,
    /// Types by which an encoder tells two texts apart (BERT: 2).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub types: usize,
    /// Whether an encoder has a norm of the sum of its embeddings (BERT).
    #[serde(default, skip_serializing_if = "is_false")]
    pub embedding_norm: bool,
    /// Layers of an encoder–decoder's encoder; without, the model has no source.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub source_layers: usize,
    /// Positions of an encoder–decoder's source; as many as the decoder has when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_len: Option<usize>,
    /// How an encoder makes one vector of its tokens'.
    #[serde(default)]
    pub pooling: PoolingKind,
    /// Width of the residual stream.
    pub dim: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; as many as query heads when left out.
    #[serde(default)]
    pub kv_heads: Option<usize>,
    /// Width of a head; dim / heads when left out.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Width inside the feed-forward block.
    pub hidden_dim: usize,
    /// Positions.
    pub context_len: usize,
    /// Kind of norm.
    #[serde(default)]
    pub norm: NormKind,
    /// Place of the norms.
    #[serde(default)]
    pub norm_place: Place,
    /// Added to the variance inside a norm.
    #[serde(default = "norm_eps")]
    pub norm_eps: f32,
    /// Whether a norm stands before the logits; by default with norms before the blocks only.
    #[serde(default)]
    pub final_norm: Option<bool>,
    /// The feed-forward block.
    #[serde(default)]
    pub ffn: FfnKind,
    /// Positions.
    #[serde(default)]
    pub position: PositionKind,
    /// Base of the rotary frequencies.
    #[serde(default = "rotary_base")]
    pub rotary_base: f32,
    /// Keys that a query sees, its own among them; all that are not later when left out.
    #[serde(default)]
    pub window: Option<usize>,
    /// First keys of the text that a window keeps in sight.
    #[serde(default)]
    pub window_keep: usize,
    /// Of so many layers the last has no window; 0 when every layer has one.
    #[serde(default)]
    pub window_full_every: usize,
    /// Whether the logits use the token embedding.
    #[serde(default = "yes")]
    pub tied: bool,
    /// Projections that carry a bias: qkv, out, up, down, norm, output.
    #[serde(default)]
    pub biases: Vec<Bias>,
    /// Factor of the token embedding.
    #[serde(default = "one")]
    pub embedding_scale: f32,
}

/// Kind of norm.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// RMSNorm.
    #[default]
    Rms,
    /// LayerNorm.
    Layer,
}

/// Place of the norms.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Before the blocks.
    #[default]
    Pre,
    /// After the residual sums.
    Post,
}

/// The feed-forward block.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FfnKind {
    /// Gated SiLU.
    #[default]
    Swiglu,
    /// Gated GELU (tanh).
    Geglu,
    /// GELU, tanh form.
    GeluTanh,
    /// GELU, error function.
    GeluErf,
    /// ReLU.
    Relu,
    /// SiLU.
    Silu,
}

/// Positions.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionKind {
    /// None.
    None,
    /// A trained table.
    Learned,
    /// Sines and cosines.
    Sinusoidal,
    /// Rotary by halves.
    #[default]
    RotaryHalf,
    /// Rotary by pairs.
    RotaryInterleaved,
}

/// How an encoder makes one vector of its tokens'.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolingKind {
    /// Their mean.
    #[default]
    Mean,
    /// The first one's.
    First,
}

/// A projection that can carry a bias.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// Queries, keys, values.
    Qkv,
    /// Attention output.
    Out,
    /// Up (and gate).
    Up,
    /// Down.
    Down,
    /// LayerNorm.
    Norm,
    /// Logits.
    Output,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn is_false(is: &bool) -> bool {
    !is
}

fn one_token() -> usize {
    1
}

fn norm_eps() -> f32 {
    1e-5
}

fn rotary_base() -> f32 {
    10_000.0
}

fn yes() -> bool {
    true
}

fn one() -> f32 {
    1.0
}

impl ModelSpec {
    /// Positions of an encoder–decoder's source.
    pub fn source_len(&self) -> usize {
        self.source_len.unwrap_or(self.context_len)
    }

    fn position(&self) -> CorePosition {
        let base = self.rotary_base;
        let rotary = |style| CorePosition::Rotary { style, base };
        match self.position {
            PositionKind::None => CorePosition::None,
            PositionKind::Learned => CorePosition::Learned,
            PositionKind::Sinusoidal => CorePosition::Sinusoidal,
            PositionKind::RotaryHalf => rotary(RotaryStyle::Half),
            PositionKind::RotaryInterleaved => rotary(RotaryStyle::Interleaved),
        }
    }

    fn architecture(&self, patch: usize) -> Architecture {
        let pooling = match self.pooling {
            PoolingKind::Mean => Pooling::Mean,
            PoolingKind::First => Pooling::First,
        };
        let (output, pooling) = match (self.classes, self.source_layers, self.spans) {
            (.., true) => (Output::Span, Pooling::None),
            _ if self.tags > 0 => (Output::Tags(self.tags), Pooling::None),
            _ if self.embedding => (Output::Embedding { unit: true }, pooling),
            (0, 0, _) => return Architecture::Decoder,
            (0, layers, _) => {
                return Architecture::EncoderDecoder(Source {
                    layers,
                    len: self.source_len(),
                    position: self.position(),
                    input: Input::Tokens,
                });
            }
            (classes, ..) => (Output::Classes(classes), pooling),
        };
        Architecture::Encoder(Reading {
            types: self.types,
            embedding_norm: self.embedding_norm,
            pooling,
            pooler: false,
            output,
            patch,
        })
    }

    pub(super) fn config(&self, patch: usize, end_of_text: Option<u32>) -> Result<Config> {
        let heads = self.heads.max(1);
        let has = |bias| self.biases.contains(&bias);
        ensure!(
            self.window.is_some() || (self.window_keep, self.window_full_every) == (0, 0),
            "window_keep and window_full_every say something about a window: give its length as `window` too"
        );
        let config = Config {
            architecture: self.architecture(patch),
            vocab_len: self.vocab_len,
            dim: self.dim,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads.unwrap_or(self.heads),
            head_dim: self.head_dim.unwrap_or(self.dim / heads),
            hidden_dim: self.hidden_dim,
            context_len: self.context_len,
            norm: match self.norm {
                NormKind::Rms => Norm::Rms,
                NormKind::Layer => Norm::Layer,
            },
            norm_place: match self.norm_place {
                Place::Pre => NormPlace::Pre,
                Place::Post => NormPlace::Post,
            },
            norm_eps: self.norm_eps,
            final_norm: self.final_norm.unwrap_or(self.norm_place == Place::Pre),
            ffn: match self.ffn {
                FfnKind::Swiglu => Ffn::SwiGlu,
                FfnKind::Geglu => Ffn::GeGlu,
                FfnKind::GeluTanh => Ffn::GeluTanh,
                FfnKind::GeluErf => Ffn::GeluErf,
                FfnKind::Relu => Ffn::Relu,
                FfnKind::Silu => Ffn::Silu,
            },
            position: self.position(),
            attention: Attention {
                window: self.window.map(|len| Window {
                    len,
                    keep: self.window_keep,
                    full_every: self.window_full_every,
                }),
                ..Attention::PLAIN
            },
            tied: self.tied,
            biases: Biases {
                qkv: has(Bias::Qkv),
                out: has(Bias::Out),
                up: has(Bias::Up),
                down: has(Bias::Down),
                norm: has(Bias::Norm),
                output: has(Bias::Output),
            },
            embedding_scale: self.embedding_scale,
            // A translation begins with what ended the one before.
            begin_of_text: end_of_text.filter(|_| self.source_layers > 0),
            end_of_text,
        };
        config
            .check()
            .map_err(|error| anyhow::anyhow!("the model's dimensions: {error}"))?;
        Ok(config)
    }
}
