//! What to train, on what and for how long: the task file.

use anyhow::{Context, Result, ensure};
use attentive::{
    Architecture, Attention, Biases, Config, Ffn, Norm, NormPlace, Position as CorePosition,
    RotaryStyle, Window,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A task file. Paths in it count from the directory that the command is started in.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Name of the files that are written: letters, digits, `-`, `_`.
    pub name: String,
    /// The text.
    pub data: Data,
    /// Dimensions.
    pub model: ModelSpec,
    /// Optimizer, schedule, length of the run.
    pub training: Training,
}

/// The text and its parts.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Directory of `.txt` files, one document each.
    pub texts: PathBuf,
    /// Where the text comes from, for the provenance record.
    pub source: String,
    /// Its licence, for the provenance record.
    pub licence: String,
    /// Share of each document, in whole chapters at its end, that no training sees.
    pub test_share: f64,
    /// Share of each document, in whole chapters before those, that decides when to stop.
    pub validation_share: f64,
}

/// Dimensions; see [`Config`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Tokens of the vocabulary.
    pub vocab_len: usize,
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

/// Optimizer, schedule, length of the run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Seed of the weights and of the order of the data.
    pub seed: u64,
    /// Tokens of a training sequence.
    pub seq_len: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// Sequences that one thread takes at a time; part of the result, since sums are taken micro-batch by micro-batch.
    pub micro_batch: usize,
    /// Steps of the whole run.
    #[serde(default)]
    pub steps: Option<u64>,
    /// Wall clock of the whole run in seconds; with both, whichever comes first. A run by the clock is not repeatable.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// Largest learning rate.
    pub learning_rate: f32,
    /// The learning rate ends at this share of the largest.
    pub final_share: f32,
    /// Share of the run in which the learning rate rises.
    pub warmup_share: f32,
    /// Decay of the matrices, as in AdamW.
    pub weight_decay: f32,
    /// β₁ and β₂ of AdamW.
    #[serde(default = "betas")]
    pub betas: [f32; 2],
    /// Largest norm of a gradient.
    pub clip: f32,
    /// Steps between two measurements on the validation part.
    pub evaluate_every: u64,
    /// Measurements without improvement after which the run stops.
    pub patience: u32,
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

fn betas() -> [f32; 2] {
    [0.9, 0.95]
}

impl Task {
    /// Reads and checks a task file.
    ///
    /// # Errors
    /// When it cannot be read, names an unknown field, lacks one, or asks for something impossible.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading the task file {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in the task file {}", path.display()))
    }

    /// The same from text.
    ///
    /// # Errors
    /// As [`Task::read`].
    pub fn parse(text: &str) -> Result<Self> {
        let task: Self = toml::from_str(text)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        ensure!(
            !task.name.is_empty() && task.name.chars().all(plain),
            "name should be letters, digits, - and _, not {:?}",
            task.name
        );
        task.training.check()?;
        ensure!(
            task.training.seq_len <= task.model.context_len,
            "seq_len {} exceeds context_len {}",
            task.training.seq_len,
            task.model.context_len
        );
        let shares = [task.data.test_share, task.data.validation_share];
        ensure!(
            shares
                .iter()
                .all(|share| (0.0..0.5).contains(share) && *share > 0.0),
            "test_share and validation_share should lie between 0 and 0.5, not {shares:?}"
        );
        task.model.config(0)?;
        Ok(task)
    }
}

impl Training {
    fn check(&self) -> Result<()> {
        ensure!(
            self.steps.is_some() || self.seconds.is_some(),
            "a run needs an end: give steps, seconds or both"
        );
        ensure!(
            self.batch > 0 && self.micro_batch > 0 && self.batch.is_multiple_of(self.micro_batch),
            "batch {} should be a multiple of micro_batch {}",
            self.batch,
            self.micro_batch
        );
        ensure!(
            self.seq_len > 0 && self.evaluate_every > 0 && self.patience > 0,
            "seq_len, evaluate_every and patience should be at least 1"
        );
        let positive = [
            self.learning_rate,
            self.clip,
            self.seconds.unwrap_or(1.0) as f32,
        ];
        ensure!(
            positive.iter().all(|x| x.is_finite() && *x > 0.0),
            "learning_rate, clip and seconds should be positive, not {positive:?}"
        );
        let shares = [self.final_share, self.warmup_share, self.weight_decay];
        ensure!(
            shares
                .iter()
                .chain(&self.betas)
                .all(|x| (0.0..=1.0).contains(x)),
            "final_share, warmup_share, weight_decay and betas should lie between 0 and 1"
        );
        Ok(())
    }
}

impl ModelSpec {
    /// The configuration, with `end_of_text` as the token that ends a text.
    ///
    /// # Errors
    /// What [`Config::check`] finds.
    pub fn config(&self, end_of_text: u32) -> Result<Config> {
        let heads = self.heads.max(1);
        let has = |bias| self.biases.contains(&bias);
        let base = self.rotary_base;
        ensure!(
            self.window.is_some() || (self.window_keep, self.window_full_every) == (0, 0),
            "window_keep and window_full_every say something about a window: give its length as `window` too"
        );
        let config = Config {
            architecture: Architecture::Decoder,
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
            position: match self.position {
                PositionKind::None => CorePosition::None,
                PositionKind::Learned => CorePosition::Learned,
                PositionKind::Sinusoidal => CorePosition::Sinusoidal,
                PositionKind::RotaryHalf => CorePosition::Rotary {
                    style: RotaryStyle::Half,
                    base,
                },
                PositionKind::RotaryInterleaved => CorePosition::Rotary {
                    style: RotaryStyle::Interleaved,
                    base,
                },
            },
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
            begin_of_text: None,
            end_of_text: Some(end_of_text),
        };
        config
            .check()
            .map_err(|error| anyhow::anyhow!("the model's dimensions: {error}"))?;
        Ok(config)
    }
}
