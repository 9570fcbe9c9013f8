//! Where a model comes from: the record inside a weights file.

use crate::checkpoint::State;
use crate::task::Task;
use anyhow::{Context, Result};
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
    /// The text.
    pub data: Text,
    /// The run.
    pub training: Run,
    /// How the floats became integers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// On the held-out text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Test>,
}

/// The text.
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
    /// Tokens seen until then.
    pub tokens: u64,
    /// Of the validation part at that step.
    pub validation_bits_per_byte: f64,
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

/// On the held-out text.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Test {
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
    /// Of a run's best weights.
    pub fn of(task: &Task, state: &State) -> Self {
        let position = &state.position;
        let default = || format!("trainer/tasks/{}.toml", task.name);
        let path = position.task_path.clone().unwrap_or_else(default);
        let (step, bits) = position.best.unwrap_or((position.step, f64::NAN));
        let training = &task.training;
        Self {
            name: task.name.clone(),
            command: format!("attentive train {path}"),
            task: path,
            seed: training.seed,
            data: Text {
                source: task.data.source.clone(),
                licence: task.data.licence.clone(),
                split: format!(
                    "whole chapters at the end of every document: {} test, {} validation before it",
                    task.data.test_share, task.data.validation_share
                ),
            },
            training: Run {
                step,
                tokens: step * (training.batch * training.seq_len) as u64,
                validation_bits_per_byte: rounded(bits),
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

/// Four decimals: more would claim a precision that the measurement does not have.
pub fn rounded(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}
