//! The whole state of a run in one file, written atomically.
//!
//! safetensors: `weight/…`, `mean/…`, `square/…` and `best/…` by the names of [`name`], and as
//! metadata the task, the position in the run and the measurements so far. The order of the data follows from the seed
//! and the step, so there is no generator to save.

use crate::files::write_atomically;
use crate::metrics::Measurement;
use crate::optimizer::Adam;
use crate::params::{Params, name, shapes};
use crate::task::Task;
use anyhow::{Context, Result, bail, ensure};
use attentive::Config;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// Where a run stands.
#[derive(Clone, Debug)]
pub struct State {
    /// Weights now.
    pub params: Params,
    /// Moments of the optimizer.
    pub adam: Adam,
    /// Weights at the best measurement so far; empty before the first.
    pub best: Vec<Vec<f32>>,
    /// Numbers.
    pub position: Position,
}

/// The numbers of a [`State`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Position {
    /// Steps done.
    pub step: u64,
    /// Wall clock spent so far.
    pub seconds: f64,
    /// Summed training loss and targets since the last measurement.
    pub since: (f64, u64),
    /// Wall clock at the last measurement.
    pub measured_at_seconds: f64,
    /// Step and [`Measurement::cost`] of the best measurement.
    pub best: Option<(u64, f64)>,
    /// Measurements since the best one.
    pub stale: u32,
    /// Whether the run has reached its end.
    pub finished: bool,
    /// The task file as the command named it.
    #[serde(default)]
    pub task_path: Option<String>,
    /// What trains, where it is not `attentive train`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// All measurements.
    pub measurements: Vec<Measurement>,
}

/// Keys of the metadata.
const TASK: &str = "attentive.task";
const POSITION: &str = "attentive.position";
/// Prefixes of the tensors' names.
const PARTS: [&str; 4] = ["weight", "mean", "square", "best"];

impl State {
    /// Before the first step.
    pub fn start(params: Params) -> Self {
        Self {
            adam: Adam::new(params.zeros()),
            params,
            best: Vec::new(),
            position: Position::default(),
        }
    }

    /// Saves everything.
    ///
    /// # Errors
    /// When the file cannot be written; the one before stays.
    pub fn save(&self, task: &Task, path: &Path) -> Result<()> {
        let groups = [
            &self.params.tensors,
            &self.adam.mean,
            &self.adam.square,
            &self.best,
        ];
        let mut tensors = Vec::new();
        for (part, group) in PARTS.iter().zip(groups) {
            for (shape, values) in shapes(&self.params.config).zip(group) {
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                tensors.push((
                    format!("{part}/{}", name(&shape)),
                    vec![shape.rows, shape.cols],
                    bytes,
                ));
            }
        }
        let mut views = Vec::new();
        for (name, shape, bytes) in &tensors {
            views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
        }
        let metadata = HashMap::from([
            (TASK.to_owned(), serde_json::to_string(task)?),
            (POSITION.to_owned(), serde_json::to_string(&self.position)?),
        ]);
        let bytes = safetensors::serialize(views, Some(metadata))?;
        write_atomically(path, &bytes)
    }

    /// Loads what [`State::save`] wrote, and the task it belongs to; `end_of_text` is the vocabulary's, if there is one.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn load(end_of_text: Option<u32>, path: &Path) -> Result<(Self, Task)> {
        let read = || -> Result<(Self, Task)> {
            let bytes = std::fs::read(path)?;
            let (_, header) = SafeTensors::read_metadata(&bytes)?;
            let metadata = header.metadata().as_ref().context("no metadata")?;
            let entry = |key: &str| metadata.get(key).with_context(|| format!("no {key}"));
            let task: Task = serde_json::from_str(entry(TASK)?)?;
            let config = task.config(end_of_text)?;
            let position: Position = serde_json::from_str(entry(POSITION)?)?;
            let tensors = SafeTensors::deserialize(&bytes)?;
            let mut groups = Vec::new();
            for part in PARTS {
                groups.push(match part == "best" && position.best.is_none() {
                    true => Vec::new(),
                    false => group(&config, &tensors, part)?,
                });
            }
            let Ok([weights, mean, square, best]) = <[_; 4]>::try_from(groups) else {
                bail!("four groups of tensors");
            };
            let state = Self {
                params: Params::new(config, weights)?,
                adam: Adam { mean, square },
                best,
                position,
            };
            Ok((state, task))
        };
        read().with_context(|| format!("reading the checkpoint {}", path.display()))
    }

    /// The weights of the best measurement, or the current ones before any.
    pub fn best_params(&self) -> Params {
        let mut params = self.params.clone();
        if !self.best.is_empty() {
            params.tensors.clone_from(&self.best);
        }
        params
    }
}

fn group(config: &Config, tensors: &SafeTensors<'_>, part: &str) -> Result<Vec<Vec<f32>>> {
    let mut out = Vec::new();
    for shape in shapes(config) {
        let tensor = tensors.tensor(&format!("{part}/{}", name(&shape)))?;
        ensure!(
            tensor.dtype() == Dtype::F32 && tensor.shape() == [shape.rows, shape.cols],
            "{part}/{} should be f32 of {} by {}",
            name(&shape),
            shape.rows,
            shape.cols
        );
        let (values, _) = tensor.data().as_chunks::<4>();
        out.push(
            values
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
        );
    }
    Ok(out)
}
