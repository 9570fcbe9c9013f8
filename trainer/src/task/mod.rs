//! What to train, on what and for how long: the task file.

mod model;

use crate::frontend::Frontend;
use crate::pairs::Files;
use crate::provenance::{Levels, Picture};
use crate::sounds::Sounds;
use crate::start::Start;
use crate::stories::Stories;
use crate::tagging::{Marks, Words};
use anyhow::{Context, Result, ensure};
use attentive::Config;
use attentive::frontend::PatchSpec;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub use model::{Bias, FfnKind, ModelSpec, NormKind, Place, PoolingKind, PositionKind};

/// A task file. Paths in it count from the directory that the command is started in.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Name of the files that are written: letters, digits, `-`, `_`.
    pub name: String,
    /// The data.
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
        let told_apart = data.sentences.is_some()
            || data.pictures.is_some()
            || data.sounds.is_some()
            || data.stories.is_some();
        ensure!(
            (task.model.classes > 0) == told_apart,
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
