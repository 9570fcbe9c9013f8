//! Training a recurrent network as the model was trained.

use super::recurrent::Recurrent;
use crate::batches::Batch;
use crate::network::Loss;
use crate::ops::Cell;
use crate::optimizer::{Adam, StepSize, clip};
use crate::parallel::{self, each, summed};
use crate::prepared::Prepared;
use crate::progress::{Progress, clock};
use crate::task::Task;
use anyhow::{Result, ensure};
use attentive::kernels::Backend;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The network that was best on the validation part, and seconds of an epoch.
pub(super) struct Rival {
    pub(super) model: Recurrent,
    pub(super) seconds_per_epoch: f64,
}

/// As people write it.
pub(super) fn name(cell: Cell) -> &'static str {
    match cell {
        Cell::Gru => "GRU, f32",
        Cell::Lstm => "LSTM, f32",
    }
}

/// Trains a network with as many parameters as the task's model, on the same batches for as many steps.
///
/// # Errors
/// Those of the forward pass, when the loss is no longer a number, and when `stop` is set.
pub(super) fn train(
    task: &Task,
    cell: Cell,
    prepared: &Prepared,
    stop: &AtomicBool,
) -> Result<Rival> {
    let training = &task.training;
    let config = task.config(prepared.end_of_text())?;
    let mut model = Recurrent::like(&config, cell, training.seed)?;
    let mut adam = Adam::new(model.tensors.iter().map(|t| vec![0.0; t.len()]).collect());
    let mut samples = prepared.samples(training, training.seed)?;
    let (backend, threads) = (Backend::detect(), parallel::threads());
    let progress = Progress::new();
    let start = Instant::now();
    let mut best = (f64::INFINITY, model.tensors.clone());
    // A run by the clock is as long by the clock.
    let steps = training.steps.unwrap_or(u64::MAX);
    let seconds = training.seconds.unwrap_or(f64::INFINITY);
    let mut step = 0;
    let mut done = 0.0;
    while done < 1.0 {
        ensure!(!stop.load(Ordering::Relaxed), "stopped");
        let micro = samples.step(step, training.batch, training.micro_batch)?;
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
            number: step + 1,
            learning_rate: training.learning_rate_at(done),
            weight_decay: training.weight_decay,
            betas: training.betas,
        };
        let decayed = model.decayed();
        adam.step(&mut model.tensors, &gradients, size, |index| decayed[index]);
        step += 1;
        let spent = start.elapsed().as_secs_f64();
        done = (step as f64 / steps as f64).max(spent / seconds).min(1.0);
        let left = Duration::from_secs_f64((spent * (1.0 - done) / done.max(1e-6)).min(1e6));
        let speed = step as f64 * training.batch as f64 / spent;
        progress.step(done, loss / targets as f64, speed, left);
        if done >= 1.0 || step.is_multiple_of(training.evaluate_every) {
            let loss = loss_of(&model, &prepared.validation, backend, threads)?;
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
            if cost <= best.0 {
                best = (cost, model.tensors.clone());
            }
            progress.line(&format!(
                "{cell:?} step {step:>6}  {said}  {speed:.0} sequences/s  {} left",
                clock(left)
            ));
        }
    }
    progress.end();
    let epochs = (step as usize * training.batch) as f64 / samples.per_epoch() as f64;
    model.tensors = best.1;
    Ok(Rival {
        model,
        seconds_per_epoch: start.elapsed().as_secs_f64() / epochs,
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
