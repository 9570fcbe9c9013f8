//! Training a recurrent network as the model was trained.

use super::recurrent::Recurrent;
use crate::batches::Batch;
use crate::checkpoint::{self, Groups, Saved, groups};
use crate::loss::Loss;
use crate::ops::Cell;
use crate::optimizer::{Adam, StepSize, clip};
use crate::parallel::{self, each, summed};
use crate::prepared::Prepared;
use crate::progress::{Progress, clock};
use crate::task::Task;
use anyhow::{Context, Result, bail, ensure};
use attentive::kernels::Backend;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The network that was best on the validation part, and seconds of an epoch.
pub(super) struct Rival {
    pub(super) model: Recurrent,
    pub(super) seconds_per_epoch: f64,
}

/// Where a rival's training stands.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Position {
    /// Steps done.
    step: u64,
    /// Wall clock spent so far.
    seconds: f64,
    /// Cost of the best measurement.
    best: Option<f64>,
}

/// A rival in training.
struct Trained {
    model: Recurrent,
    adam: Adam,
    /// Weights at the best measurement; empty before the first.
    best: Vec<Vec<f32>>,
    position: Position,
}

impl Trained {
    /// Goes on from the checkpoint, if there is one of the same task; else it begins.
    fn resume(task: &Task, cell: Cell, prepared: &Prepared, path: &Path) -> Result<Self> {
        let config = task.config(prepared.end_of_text())?;
        let mut model = Recurrent::like(&config, cell, task.training.seed)?;
        let named = model.named();
        let read = || -> Result<Option<(Position, Groups)>> {
            let saved = Saved::<Position>::open(path)?;
            if saved.task.identity()? != task.identity()? {
                return Ok(None);
            }
            let groups = groups(&saved.bytes, &named, saved.position.best.is_some())?;
            Ok(Some((saved.position, groups)))
        };
        let saved = match path.exists() {
            true => read().with_context(|| format!("reading {}", path.display()))?,
            false => None,
        };
        let Some((position, [weights, mean, square, best])) = saved else {
            let zeros = model.tensors.iter().map(|t| vec![0.0; t.len()]).collect();
            return Ok(Self {
                adam: Adam::new(zeros),
                best: Vec::new(),
                position: Position::default(),
                model,
            });
        };
        model.tensors = weights;
        Ok(Self {
            adam: Adam { mean, square },
            best,
            position,
            model,
        })
    }

    fn save(&self, task: &Task, path: &Path) -> Result<()> {
        let Adam { mean, square } = &self.adam;
        let groups = [&self.model.tensors, mean, square, &self.best];
        checkpoint::save(task, &self.position, &self.model.named(), groups, path)
    }
}

/// Trains a network with as many parameters as the task's model, on the same batches for as many steps. Its checkpoint
/// lies in the directory `out`: the same command goes on from there, and what has reached its end is not trained again.
///
/// # Errors
/// Those of the forward pass, when the loss is no longer a number, a damaged checkpoint, and when `stop` is set.
pub(super) fn train(
    task: &Task,
    cell: Cell,
    prepared: &Prepared,
    out: &Path,
    stop: &AtomicBool,
) -> Result<Rival> {
    let training = &task.training;
    let path = out.join(format!("{cell:?}.safetensors").to_lowercase());
    let mut trained = Trained::resume(task, cell, prepared, &path)?;
    let mut samples = prepared.samples(training, training.seed)?;
    let (backend, threads) = (Backend::detect(), parallel::threads());
    let progress = Progress::new();
    let start = Instant::now();
    // A run by the clock is as long by the clock.
    let steps = training.steps.unwrap_or(u64::MAX);
    let seconds = training.seconds.unwrap_or(f64::INFINITY);
    let before = trained.position.seconds;
    let done_at = |position: &Position| {
        let of_steps = position.step as f64 / steps as f64;
        of_steps.max(position.seconds / seconds).min(1.0)
    };
    let mut done = done_at(&trained.position);
    while done < 1.0 {
        if stop.load(Ordering::Relaxed) {
            trained.save(task, &path)?;
            bail!("stopped; the same command goes on from there");
        }
        let Trained {
            model,
            adam,
            position,
            ..
        } = &mut trained;
        let micro = samples.step(position.step, training.batch, training.micro_batch)?;
        let make = || model.network(backend, true);
        let parts = each(make, &micro, threads, |network, batch| {
            network.gradients(batch)
        })?;
        let (loss, mut gradients) = summed(parts)?;
        let targets: usize = micro.iter().map(|batch| batch.targets.len()).sum();
        let norm = clip(&mut gradients, 1.0 / targets as f32, training.clip);
        ensure!(
            loss.is_finite() && norm.is_finite(),
            "the loss of the {cell:?} is no longer a number"
        );
        let size = StepSize {
            number: position.step + 1,
            learning_rate: training.learning_rate_at(done),
            weight_decay: training.weight_decay,
            betas: training.betas,
        };
        let decayed = model.decayed();
        adam.step(&mut model.tensors, &gradients, size, |index| decayed[index]);
        position.step += 1;
        position.seconds = before + start.elapsed().as_secs_f64();
        done = done_at(position);
        let (step, spent) = (position.step, position.seconds);
        let left = Duration::from_secs_f64((spent * (1.0 - done) / done.max(1e-6)).min(1e6));
        let speed = step as f64 * training.batch as f64 / spent;
        progress.step(done, loss / targets as f64, speed, left);
        if done >= 1.0 || step.is_multiple_of(training.evaluate_every) {
            let loss = loss_of(&trained.model, &prepared.validation, backend, threads)?;
            let targets = |batch: &Batch| batch.targets.len();
            let count: usize = prepared.validation.iter().map(targets).sum();
            // As the model's own cost: nats of texts, wrong ones of examples.
            let (cost, said) = match prepared.validation_bytes {
                0 => {
                    let right = loss.right as f64 / count as f64;
                    (1.0 - right, format!("accuracy {:.2} %", 100.0 * right))
                }
                bytes => {
                    let bits = crate::train::bits_per_byte(loss.nats, bytes);
                    (bits, format!("bits/byte {bits:.4}"))
                }
            };
            if trained.position.best.is_none_or(|best| cost <= best) {
                trained.position.best = Some(cost);
                trained.best.clone_from(&trained.model.tensors);
            }
            trained.save(task, &path)?;
            progress.line(&format!(
                "{cell:?} step {step:>6}  {said}  {speed:.0} sequences/s  {} left",
                clock(left)
            ));
        }
    }
    progress.end();
    let Trained {
        mut model,
        best,
        position,
        ..
    } = trained;
    let sequences = position.step as usize * training.batch;
    let epochs = sequences as f64 / samples.per_epoch() as f64;
    model.tensors = best;
    Ok(Rival {
        model,
        seconds_per_epoch: position.seconds / epochs,
    })
}

fn loss_of(model: &Recurrent, batches: &[Batch], backend: Backend, threads: usize) -> Result<Loss> {
    let make = || model.network(backend, false);
    let parts = each(make, batches, threads, |network, batch| network.loss(batch))?;
    Ok(parts.into_iter().sum())
}

/// Rows of logits of each batch.
///
/// # Errors
/// Those of the forward pass.
pub(super) fn rows(model: &Recurrent, batches: &[Batch]) -> Result<Vec<Vec<Vec<f32>>>> {
    let make = || model.network(Backend::detect(), false);
    each(make, batches, parallel::threads(), |network, batch| {
        network.rows(batch)
    })
}
