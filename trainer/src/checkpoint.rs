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
use anyhow::{Context, Result, ensure};
use attentive::Config;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
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
        save(
            task,
            &self.position,
            &named(&self.params.config),
            groups,
            path,
        )
    }

    /// Loads what [`State::save`] wrote, and the task it belongs to; `end_of_text` is the vocabulary's, if there is one.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn load(end_of_text: Option<u32>, path: &Path) -> Result<(Self, Task)> {
        let read = || -> Result<(Self, Task)> {
            let saved = Saved::<Position>::open(path)?;
            let (task, position) = (saved.task, saved.position);
            let config = task.config(end_of_text)?;
            let has_best = position.best.is_some();
            let [weights, mean, square, best] = groups(&saved.bytes, &named(&config), has_best)?;
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

/// Names and shapes of a model's tensors.
fn named(config: &Config) -> Vec<(String, [usize; 2])> {
    shapes(config)
        .map(|shape| (name(&shape), [shape.rows, shape.cols]))
        .collect()
}

/// Saves weights, the optimizer's moments and the best weights so far (or none), with where the run stands.
///
/// # Errors
/// When the file cannot be written; the one before stays.
pub(crate) fn save(
    task: &Task,
    position: &impl Serialize,
    shapes: &[(String, [usize; 2])],
    groups: [&Vec<Vec<f32>>; 4],
    path: &Path,
) -> Result<()> {
    let mut tensors = Vec::new();
    for (part, group) in PARTS.iter().zip(groups) {
        for ((name, shape), values) in shapes.iter().zip(group) {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            tensors.push((format!("{part}/{name}"), shape.to_vec(), bytes));
        }
    }
    let mut views = Vec::new();
    for (name, shape, bytes) in &tensors {
        views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    let metadata = HashMap::from([
        (TASK.to_owned(), serde_json::to_string(task)?),
        (POSITION.to_owned(), serde_json::to_string(position)?),
    ]);
    let bytes = safetensors::serialize(views, Some(metadata))?;
    write_atomically(path, &bytes)
}

/// What [`save`] wrote; the tensors are read by [`groups`].
pub(crate) struct Saved<P> {
    pub(crate) task: Task,
    pub(crate) position: P,
    pub(crate) bytes: Vec<u8>,
}

impl<P: DeserializeOwned> Saved<P> {
    /// # Errors
    /// When the file is not there, or damaged.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let metadata = header.metadata().as_ref().context("no metadata")?;
        let entry = |key: &str| metadata.get(key).with_context(|| format!("no {key}"));
        Ok(Self {
            task: serde_json::from_str(entry(TASK)?)?,
            position: serde_json::from_str(entry(POSITION)?)?,
            bytes,
        })
    }
}

/// Weights, means, squares and the best weights, each a tensor after the other.
pub(crate) type Groups = [Vec<Vec<f32>>; 4];

/// The four groups of tensors, the last of which may be missing.
///
/// # Errors
/// A tensor that is missing or of another shape.
pub(crate) fn groups(
    bytes: &[u8],
    shapes: &[(String, [usize; 2])],
    has_best: bool,
) -> Result<Groups> {
    let tensors = SafeTensors::deserialize(bytes)?;
    let mut groups = [const { Vec::new() }; 4];
    for (part, group) in PARTS.iter().zip(&mut groups) {
        if *part == "best" && !has_best {
            continue;
        }
        for (name, [rows, cols]) in shapes {
            let tensor = tensors.tensor(&format!("{part}/{name}"))?;
            ensure!(
                tensor.dtype() == Dtype::F32 && tensor.shape() == [*rows, *cols],
                "{part}/{name} should be f32 of {rows} by {cols}"
            );
            let (values, _) = tensor.data().as_chunks::<4>();
            group.push(
                values
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes))
                    .collect(),
            );
        }
    }
    Ok(groups)
}
