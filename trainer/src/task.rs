//! What to train, on what and for how long: the task file.

use crate::frontend::Frontend;
use crate::pairs::Files;
use crate::provenance::{Levels, Picture};
use crate::sounds::Sounds;
use crate::start::Start;
use crate::stories::Stories;
use crate::tagging::{Marks, Words};
use anyhow::{Context, Result, ensure};
use attentive::frontend::PatchSpec;
use attentive::{
    Architecture, Attention, Biases, Config, Ffn, Input, Norm, NormPlace, Output, Pooling,
    Position as CorePosition, Reading, RotaryStyle, Source, Window,
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
    /// Weights to begin with; random ones without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Dimensions.
    pub model: ModelSpec,
    /// Optimizer, schedule, length of the run.
    pub training: Training,
}

/// The data, of one of ten kinds, and its parts.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Directory of `.txt` files, one document each, for a decoder to continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<PathBuf>,
    /// File of lines of a label, a tab and a text, for an encoder to tell apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentences: Option<PathBuf>,
    /// Pictures, for an encoder to tell apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures: Option<Pictures>,
    /// Clips of spoken words, for an encoder to tell apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sounds: Option<Sounds>,
    /// Questions about stories that are made from a seed, for an encoder to answer in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stories: Option<Stories>,
    /// Texts and their translations, for an encoder–decoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<Files>,
    /// Texts that mean the same, for an encoder to give them like vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alike: Option<Files>,
    /// File of questions about passages that hold the answers, for an encoder to find them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<PathBuf>,
    /// File of words and their tags, after CoNLL, for an encoder to tag words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged: Option<PathBuf>,
    /// Texts without their marks and capitals, for an encoder to put them back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marks: Option<Marks>,
    /// Where it comes from, for the provenance record.
    pub source: String,
    /// Its licence, for the provenance record.
    pub licence: String,
    /// Share of each document, in whole chapters at its end, or of the examples, that no training sees.
    pub test_share: f64,
    /// Share of each document, in whole chapters before those, or of the examples, that decides when to stop.
    pub validation_share: f64,
}

/// Grey pictures of one size.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pictures {
    /// File of lines of pixels, row by row, and a label, with commas between them; with `labels`, an IDX file of bytes
    /// (LeCun et al. 1998, MNIST), `(pictures, height, width)`.
    pub file: PathBuf,
    /// IDX file of the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// IDX file of pictures that no training sees, in the place of a share of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_file: Option<PathBuf>,
    /// IDX file of their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_labels: Option<PathBuf>,
    /// Names of the classes, by the numbers of an IDX file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Rows of a picture.
    pub height: usize,
    /// Columns of a picture.
    pub width: usize,
    /// The number that a white pixel has in the file; a black one has 0.
    pub levels: u32,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Subtracted from pixels of 0 to 1.
    pub mean: f32,
    /// What they are then divided by.
    pub deviation: f32,
    /// Pictures are moved by up to so many pixels in each direction when they are trained on.
    #[serde(default)]
    pub shift: usize,
}

impl Pictures {
    /// What a weights file says of them.
    pub fn record(&self) -> Picture {
        Picture {
            height: self.height,
            width: self.width,
            channels: 1,
            patch: self.patch,
            mean: Levels::All(self.mean),
            deviation: Levels::All(self.deviation),
        }
    }

    /// How they are cut into patches.
    pub fn spec(&self) -> PatchSpec {
        self.record().spec()
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.test_file.is_some() == self.test_labels.is_some()
                && (self.labels.is_some() || self.test_file.is_none() && self.names.is_none()),
            "an IDX file of pictures needs one of labels: give labels, and test_labels where there is a test_file"
        );
        ensure!(
            (1..=255).contains(&self.levels),
            "levels should lie between 1 and 255, not {}",
            self.levels
        );
        let mut patches = vec![0.0; self.height.saturating_mul(self.width).min(1 << 24)];
        self.spec().cut(&vec![0; patches.len()], &mut patches)?;
        Ok(())
    }
}

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
    /// Share of the elements that are dropped, of embeddings and of each block's output.
    #[serde(default)]
    pub dropout: f32,
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

fn betas() -> [f32; 2] {
    [0.9, 0.95]
}

impl Task {
    /// What a checkpoint has in common with the task that it belongs to. Its length, learning rate and the like may change.
    ///
    /// # Errors
    /// None that a task can cause.
    pub(crate) fn identity(&self) -> Result<String> {
        let training = &self.training;
        Ok(format!(
            "{} {} {} {:?}",
            serde_json::to_string(&self.data)?,
            serde_json::to_string(&self.model)?,
            serde_json::to_string(&self.start)?,
            (
                training.seed,
                training.seq_len,
                training.batch,
                training.micro_batch
            )
        ))
    }

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
        let pictures = task.data.pictures.as_ref();
        let has_test = pictures.is_some_and(|pictures| pictures.test_file.is_some());
        ensure!(
            shares
                .iter()
                .all(|share| (0.0..0.5).contains(share) && (*share > 0.0 || has_test)),
            "test_share and validation_share should lie between 0 and 0.5, not {shares:?}"
        );
        let data = &task.data;
        let kinds = [
            data.texts.is_some(),
            data.sentences.is_some(),
            data.pictures.is_some(),
            data.sounds.is_some(),
            data.stories.is_some(),
            data.pairs.is_some(),
            data.alike.is_some(),
            data.questions.is_some(),
            data.tagged.is_some(),
            data.marks.is_some(),
        ];
        ensure!(
            kinds.iter().filter(|is| **is).count() == 1,
            "data should be one of texts, sentences, pictures, sounds, stories, pairs, alike, questions, tagged \
             and marks"
        );
        ensure!(
            (task.model.classes == 0)
                == (task.writes()
                    || data.alike.is_some()
                    || data.questions.is_some()
                    || task.words().is_some()),
            "a model has classes (now {}) exactly where it tells examples apart",
            task.model.classes
        );
        ensure!(
            task.model.embedding == data.alike.is_some(),
            "a model makes vectors (embedding = {}) exactly where it learns from texts that are alike",
            task.model.embedding
        );
        ensure!(
            data.alike.is_none() || task.training.micro_batch > 1,
            "a text is told apart from the others of its micro_batch, which should be 2 at least"
        );
        ensure!(
            (task.model.tags > 0) == task.words().is_some(),
            "a model has tags (now {}) exactly where it learns from tagged words or marks",
            task.model.tags
        );
        ensure!(
            data.marks.as_ref().is_none_or(|marks| marks.words > 0),
            "words of the marks should be at least 1"
        );
        ensure!(
            task.model.spans == data.questions.is_some(),
            "a model finds spans (now {}) exactly where it learns from questions",
            task.model.spans
        );
        ensure!(
            data.questions.is_none() || task.start.is_some(),
            "questions are too few to learn a language from: give the task a [start]"
        );
        ensure!(
            (task.model.source_layers > 0) == data.pairs.is_some(),
            "a model has source_layers (now {}) exactly where it learns from pairs",
            task.model.source_layers
        );
        ensure!(
            data.texts.is_none() || task.training.dropout == 0.0,
            "dropout is for examples, not for texts"
        );
        if let Some(pictures) = &data.pictures {
            pictures.check()?;
        }
        if let Some(sounds) = &data.sounds {
            sounds.check()?;
        }
        let frontend = Frontend::of(&task);
        if let Some(frontend) = frontend {
            let need = frontend.patches() + 1;
            ensure!(
                need <= task.model.context_len,
                "what is told apart has {need} tokens, context_len is {}",
                task.model.context_len
            );
        }
        task.config(frontend.is_none().then_some(0))?;
        Ok(task)
    }

    /// The model's configuration, with `end_of_text` as the token that ends a text.
    ///
    /// # Errors
    /// What [`Config::check`] finds.
    pub fn config(&self, end_of_text: Option<u32>) -> Result<Config> {
        let patch = Frontend::of(self).map_or(0, |frontend| frontend.patch_len());
        self.model.config(patch, end_of_text)
    }

    /// What the words are, of an encoder that tags them.
    pub fn words(&self) -> Option<Words> {
        match (&self.data.tagged, &self.data.marks) {
            (Some(_), _) => Some(Words::Plain),
            (_, Some(_)) => Some(Words::Marks),
            _ => None,
        }
    }

    /// Whether the model writes texts, which are measured in bits per byte while it learns.
    pub fn writes(&self) -> bool {
        self.data.texts.is_some() || self.data.pairs.is_some()
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
        let shares = [
            self.final_share,
            self.warmup_share,
            self.weight_decay,
            self.dropout,
        ];
        ensure!(
            shares
                .iter()
                .chain(&self.betas)
                .all(|x| (0.0..=1.0).contains(x)),
            "final_share, warmup_share, weight_decay, dropout and betas should lie between 0 and 1"
        );
        Ok(())
    }
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

    fn config(&self, patch: usize, end_of_text: Option<u32>) -> Result<Config> {
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
