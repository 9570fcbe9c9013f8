//! Where a model comes from: the record inside a weights file.

use crate::checkpoint::State;
use crate::sounds::Sound;
use crate::tagging::Words;
use crate::task::{Pictures, Task};
use anyhow::{Context, Result};
use attentive::frontend::PatchSpec;
use serde::{Deserialize, Serialize};

/// Written as TOML.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Provenance {
    /// Name of the task.
    pub name: String,
    /// The task file, from the directory that the command was started in.
    pub task: String,
    /// What made the weights.
    pub command: String,
    /// Seed of the run.
    pub seed: u64,
    /// The weights file that the run began with; random weights without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Names of the classes or tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// What the words are that are tagged; of a model that tags tokens none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<Words>,
    /// The data.
    pub data: Text,
    /// How pictures become patches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<Picture>,
    /// How clips become patches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<Sound>,
    /// The run.
    pub training: Run,
    /// How the floats became integers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// On what was held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Test>,
}

/// How pictures become patches, in the order of [`PatchSpec`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
pub struct Picture {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 for grey, 3 for red, green and blue.
    #[serde(default = "grey", skip_serializing_if = "is_grey")]
    pub channels: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Subtracted from pixels of 0 to 1.
    pub mean: Levels,
    /// What they are then divided by.
    pub deviation: Levels,
}

fn grey() -> usize {
    1
}

fn is_grey(channels: &usize) -> bool {
    *channels == 1
}

/// A number for all channels, or one for each.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Levels {
    /// The same.
    All(f32),
    /// Of red, green and blue.
    Each([f32; 3]),
}

impl Levels {
    fn of_channels(self, rest: f32) -> [f32; 4] {
        match self {
            Self::All(level) => [level; 4],
            Self::Each([red, green, blue]) => [red, green, blue, rest],
        }
    }
}

impl Picture {
    /// How they are cut.
    pub fn spec(&self) -> PatchSpec {
        PatchSpec {
            height: self.height,
            width: self.width,
            channels: self.channels,
            patch: self.patch,
            mean: self.mean.of_channels(0.0),
            deviation: self.deviation.of_channels(1.0),
        }
    }

    /// The patches of a picture, `(patches, patch_len)`.
    ///
    /// # Errors
    /// When it has another size.
    pub fn cut(&self, pixels: &[u8]) -> Result<Vec<f32>> {
        let spec = self.spec();
        let mut patches = vec![0.0; spec.patches() * spec.patch_len()];
        spec.cut(pixels, &mut patches)?;
        Ok(patches)
    }
}

/// The data.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Text {
    /// Whence.
    pub source: String,
    /// Under which licence.
    pub licence: String,
    /// What was held out.
    pub split: String,
}

/// The run.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Run {
    /// Steps of the weights in the file.
    pub step: u64,
    /// Examples seen until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequences: Option<u64>,
    /// Tokens seen until then, of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Of the validation part at that step, of what is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_bits_per_byte: Option<f64>,
    /// Of the validation part at that step, of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// Wall clock of the whole run.
    pub seconds: u64,
}

/// How the floats became integers.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Quantization {
    /// What made the integers.
    pub command: String,
    /// Format of the matrices.
    pub matrices: String,
    /// Format of the token embedding.
    pub embedding: String,
    /// Steps of quantization-aware fine-tuning.
    pub fine_tuning_steps: u64,
}

/// On what was held out.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Test {
    /// Of a text.
    Text(TextTest),
    /// Of examples.
    Classes(ClassTest),
    /// Of pairs.
    Translation(TranslationTest),
    /// Of questions.
    Answers(AnswerTest),
    /// Of tagged words.
    Tags(TagTest),
    /// Of texts that mean the same.
    Alike(AlikeTest),
}

/// On held-out pairs: each source looks for its target among all targets.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct AlikeTest {
    /// Share of the sources to which their target is nearest.
    pub nearest: f64,
    /// The same with the f32 weights.
    pub nearest_f32: f64,
    /// Mean of one over the target's place.
    pub reciprocal_rank: f64,
    /// Pairs.
    pub pairs: u64,
}

/// On held-out words.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct TagTest {
    /// F1 over chunks.
    pub f1: f64,
    /// The same with the f32 weights.
    pub f1_f32: f64,
    /// Share of the words whose tag is right.
    pub tag_accuracy: f64,
    /// Words.
    pub words: u64,
}

/// On held-out questions, of which each has its answer in its passage.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct AnswerTest {
    /// Mean F1 over words.
    pub f1: f64,
    /// The same with the f32 weights.
    pub f1_f32: f64,
    /// Share of the answers whose words are the same.
    pub exact_match: f64,
    /// Questions.
    pub questions: u64,
}

/// On held-out pairs, by the likeliest next token.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct TranslationTest {
    /// chrF, 0 to 100.
    pub chrf: f64,
    /// The same with the f32 weights.
    pub chrf_f32: f64,
    /// BLEU, 0 to 100.
    pub bleu: f64,
    /// Pairs.
    pub sentences: u64,
}

/// On held-out examples.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ClassTest {
    /// Share of the examples whose class has the highest logit.
    pub accuracy: f64,
    /// The same with the f32 weights.
    pub accuracy_f32: f64,
    /// Examples.
    pub examples: u64,
}

/// On the held-out text.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct TextTest {
    /// Bits per byte of the cleaned text.
    pub bits_per_byte: f64,
    /// Bits per byte of the f32 weights.
    pub bits_per_byte_f32: f64,
    /// e to the loss of a token.
    pub perplexity: f64,
    /// Bytes of the text.
    pub bytes: u64,
    /// Windows of a context, each beginning half a context after the one before.
    pub context: u64,
}

impl Provenance {
    /// Of a run's best weights; `labels` are the names of the classes or tags.
    pub fn of(task: &Task, state: &State, labels: Option<Vec<String>>) -> Self {
        let position = &state.position;
        let default = || format!("trainer/tasks/{}.toml", task.name);
        let path = position.task_path.clone().unwrap_or_else(default);
        let (step, cost) = position.best.unwrap_or((position.step, f64::NAN));
        let training = &task.training;
        let data = &task.data;
        let text = data.texts.is_some();
        let split = match (text, &data.sounds) {
            _ if data.questions.is_some() => "passages by a fixed shuffle",
            _ if data.tagged.is_some() => "sentences by a fixed shuffle",
            _ if data.marks.is_some() => "whole chapters at the end of every document",
            (true, _) => "whole chapters at the end of every document",
            (_, Some(_)) => "speakers by a fixed shuffle",
            _ => "examples by a fixed shuffle",
        };
        let sequences = step * training.batch as u64;
        let picture = data.pictures.as_ref().map(Pictures::record);
        Self {
            name: task.name.clone(),
            command: match &position.command {
                Some(command) => command.clone(),
                None => format!("attentive train {path}"),
            },
            task: path,
            seed: training.seed,
            start: task
                .start
                .as_ref()
                .map(|start| start.file.display().to_string()),
            labels,
            words: task.words(),
            data: Text {
                source: data.source.clone(),
                licence: data.licence.clone(),
                split: format!(
                    "{split}: {} test, {} validation before it",
                    data.test_share, data.validation_share
                ),
            },
            picture,
            sound: data.sounds.as_ref().map(|sounds| sounds.sound),
            training: Run {
                step,
                sequences: (!text).then_some(sequences),
                tokens: text.then_some(sequences * training.seq_len as u64),
                validation_bits_per_byte: task.writes().then(|| rounded(cost)),
                validation_accuracy: (!task.writes()).then(|| rounded(1.0 - cost)),
                seconds: position.seconds as u64,
            },
            quantization: None,
            test: None,
        }
    }

    /// As TOML.
    ///
    /// # Errors
    /// Never in practice: the structure has nothing that TOML cannot say.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("writing the provenance record")
    }

    /// From TOML.
    ///
    /// # Errors
    /// When the text is not such a record.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).context("the file's provenance record is not one of this program")
    }
}

impl Test {
    /// What was measured of the floats: bits per byte, the share of right answers, chrF, or F1.
    pub fn f32_figure(&self) -> f64 {
        match self {
            Self::Text(test) => test.bits_per_byte_f32,
            Self::Classes(test) => test.accuracy_f32,
            Self::Translation(test) => test.chrf_f32,
            Self::Answers(test) => test.f1_f32,
            Self::Tags(test) => test.f1_f32,
            Self::Alike(test) => test.nearest_f32,
        }
    }
}

/// Four decimals: more would claim a precision that the measurement does not have.
pub fn rounded(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}
