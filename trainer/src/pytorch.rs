//! Training elsewhere: a run's directory for PyTorch, and its weights back.
//!
//! `prepare` writes what `trainer/pytorch/train.py` needs, which knows nothing of tokenizers, splits or files of data:
//! [`MODEL`] says what the model is, [`TRAIN`] and [`VALIDATION`] hold the data as the model reads it, and the checkpoint
//! holds the weights before the first step. The script writes [`WEIGHTS`]; `adopt` makes them the run's.

use crate::batches::Batch;
use crate::checkpoint::State;
use crate::files::write_atomically;
use crate::params::{Params, name, shapes};
use crate::prepared::{Corpus, Prepared};
use crate::task::Task;
use crate::train::{CHECKPOINT, Run, TOKENIZER};
use anyhow::{Context, Result, ensure};
use attentive::{Config, TensorKind};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::path::Path;

/// What the model is, and how it is trained.
pub const MODEL: &str = "model.json";
/// What it learns from.
pub const TRAIN: &str = "train.safetensors";
/// What decides when to stop.
pub const VALIDATION: &str = "validation.safetensors";
/// What the script writes: tensors by their names, and the steps as metadata.
pub const WEIGHTS: &str = "pytorch.safetensors";

/// Writes a run's directory before its first step; `path` is the task's file.
///
/// # Errors
/// When the data cannot be read, or a file cannot be written.
pub fn prepare(task: &Task, path: &Path, out: &Path) -> Result<()> {
    let data = &task.data;
    ensure!(
        task.start.is_none()
            && data.questions.is_none()
            && data.alike.is_none()
            && task.words().is_none(),
        "PyTorch begins with random weights and learns no spans, tags or vectors: `attentive train` takes this task"
    );
    std::fs::create_dir_all(out)
        .with_context(|| format!("making the directory {}", out.display()))?;
    let corpus = Corpus::load(task)?;
    let prepared = Prepared::new(task, &corpus, None)?;
    let end_of_text = prepared.end_of_text();
    let config = task.config(end_of_text)?;
    let mut state = State::start(Params::random(config, task.training.seed));
    state.position.task_path = Some(path.display().to_string());
    state.position.command = Some(format!("trainer/pytorch/train.py {}", path.display()));
    if let Some(vocabulary) = &prepared.vocabulary {
        write_atomically(&out.join(TOKENIZER), vocabulary.to_json()?.as_bytes())?;
    }
    let train = prepared.training_batch(task)?;
    write_atomically(&out.join(TRAIN), &serialized(&train, &config)?)?;
    let validation = joined(&prepared.validation);
    write_atomically(&out.join(VALIDATION), &serialized(&validation, &config)?)?;
    let model = serde_json::to_vec_pretty(&model(task, &config)?)?;
    write_atomically(&out.join(MODEL), &model)?;
    state.save(task, &out.join(CHECKPOINT))
}

/// Whether a directory holds weights that the script wrote.
pub fn is_here(dir: &Path) -> bool {
    dir.join(WEIGHTS).exists() && dir.join(CHECKPOINT).exists()
}

/// The run with the weights that the script wrote.
///
/// # Errors
/// When a tensor is missing or has another shape.
pub fn adopt(dir: &Path) -> Result<Run> {
    let mut run = Run::load(dir)?;
    let path = dir.join(WEIGHTS);
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let read = || -> Result<(Vec<Vec<f32>>, u64)> {
        let file = SafeTensors::deserialize(&bytes)?;
        let config = run.state.params.config;
        let mut tensors = Vec::new();
        for shape in shapes(&config) {
            let name = name(&shape);
            let expected = match shape.kind {
                TensorKind::Matrix => vec![shape.rows, shape.cols],
                TensorKind::Vector => vec![shape.cols],
            };
            let tensor = file
                .tensor(&name)
                .with_context(|| format!("tensor {name} is missing; expected {expected:?}"))?;
            ensure!(
                tensor.dtype() == Dtype::F32 && tensor.shape() == expected,
                "tensor {name} is {:?} {:?}; expected F32 {expected:?}",
                tensor.dtype(),
                tensor.shape()
            );
            let (values, _) = tensor.data().as_chunks();
            tensors.push(values.iter().map(|x| f32::from_le_bytes(*x)).collect());
        }
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let steps = header.metadata().as_ref().and_then(|all| all.get("steps"));
        let steps = steps.and_then(|steps| steps.parse().ok());
        Ok((tensors, steps.context("the metadata have no steps")?))
    };
    let (tensors, steps) = read().with_context(|| path.display().to_string())?;
    run.state.params = Params::new(run.state.params.config, tensors)?;
    run.state.best = Vec::new();
    run.state.position.step = steps;
    run.state.position.finished = true;
    run.state.save(&run.task, &dir.join(CHECKPOINT))?;
    Ok(run)
}

/// Several batches as one.
fn joined(batches: &[Batch]) -> Batch {
    let mut all = Batch::default();
    for batch in batches {
        all.inputs.extend(&batch.inputs);
        all.targets.extend(&batch.targets);
        all.lens.extend(&batch.lens);
        all.patches.extend(&batch.patches);
        all.sources.extend(&batch.sources);
        all.source_lens.extend(&batch.source_lens);
    }
    all
}

/// A batch as tensors: whole numbers as I64, patches as F32, `(n, elements)`.
fn serialized(batch: &Batch, config: &Config) -> Result<Vec<u8>> {
    let ids = |ids: &[u32]| -> Vec<u8> {
        ids.iter()
            .flat_map(|id| i64::from(*id).to_le_bytes())
            .collect()
    };
    let lens = |lens: &[usize]| -> Vec<u8> {
        lens.iter()
            .flat_map(|len| (*len as i64).to_le_bytes())
            .collect()
    };
    let whole = [
        ("inputs", ids(&batch.inputs)),
        ("targets", ids(&batch.targets)),
        ("lens", lens(&batch.lens)),
        ("sources", ids(&batch.sources)),
        ("source_lens", lens(&batch.source_lens)),
    ];
    let mut views = Vec::new();
    for (name, bytes) in &whole {
        views.push((
            *name,
            TensorView::new(Dtype::I64, vec![bytes.len() / 8], bytes)?,
        ));
    }
    let elements = config.reading().map_or(0, |reading| reading.patch);
    let patches: Vec<u8> = batch.patches.iter().flat_map(|x| x.to_le_bytes()).collect();
    if let Some(count) = batch.patches.len().checked_div(elements) {
        let view = TensorView::new(Dtype::F32, vec![count, elements], &patches)?;
        views.push(("patches", view));
    }
    Ok(safetensors::serialize(views, None)?)
}

fn model(task: &Task, config: &Config) -> Result<Value> {
    let tensor = |shape: attentive::TensorShape| {
        let dims = match shape.kind {
            TensorKind::Matrix => vec![shape.rows, shape.cols],
            TensorKind::Vector => vec![shape.cols],
        };
        json!([name(&shape), dims])
    };
    ensure!(
        task.model.window.is_none(),
        "the PyTorch script has no windows"
    );
    Ok(json!({
        "name": task.name,
        "model": {
            "family": match (config.reading(), config.source()) {
                (Some(_), _) => "encoder",
                (_, Some(_)) => "encoder-decoder",
                _ => "decoder",
            },
            "layers": config.layers,
            "source_layers": config.source_layers(),
            "dim": config.dim,
            "heads": config.heads,
            "kv_heads": config.kv_heads,
            "head_dim": config.head_dim,
            "norm": task.model.norm,
            "norm_place": task.model.norm_place,
            "norm_eps": config.norm_eps,
            "final_norm": config.final_norm,
            "ffn": task.model.ffn,
            "position": task.model.position,
            "rotary_base": task.model.rotary_base,
            "pooling": task.model.pooling,
            "embedding_scale": config.embedding_scale,
            "tied": config.tied,
            "patch": config.reading().map_or(0, |reading| reading.patch),
        },
        "tensors": shapes(config).map(tensor).collect::<Vec<_>>(),
        "training": task.training,
    }))
}
