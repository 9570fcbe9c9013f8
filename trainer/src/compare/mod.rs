//! Other ways to tell the same examples apart, so that a figure says something: always the most frequent class, logistic
//! regression, and recurrent networks with as many parameters, trained on the same batches for as many steps.

mod linear;
mod recurrent;

use crate::batches::Batch;
use crate::checkpoint::State;
use crate::eval::Accuracy;
use crate::examples::{Encoded, Example, Examples};
use crate::network::Loss;
use crate::ops::Cell;
use crate::optimizer::{Adam, StepSize, clip};
use crate::parallel::{self, each, summed};
use crate::prepared::Prepared;
use crate::progress::{Progress, clock};
use crate::task::Task;
use anyhow::{Result, ensure};
use attentive::kernels::Backend;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use recurrent::Recurrent;

/// A line of the comparison.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// Trained numbers.
    pub parameters: u64,
    /// Seconds of an epoch, measuring included; `None` for what is not trained by epochs.
    pub seconds_per_epoch: Option<f64>,
    /// On the test part.
    pub test: Accuracy,
}

/// The class that most training examples have.
pub fn majority(examples: &Examples) -> Row {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for example in &examples.train {
        *counts.entry(example.class).or_default() += 1;
    }
    let best = counts
        .iter()
        .max_by_key(|(class, count)| (**count, **class));
    let best = best.map(|(class, _)| *class);
    let right = |example: &&Example| Some(example.class) == best;
    Row {
        name: "most frequent class".into(),
        parameters: 0,
        seconds_per_epoch: None,
        test: Accuracy {
            right: examples.test.iter().filter(right).count(),
            examples: examples.test.len(),
        },
    }
}

/// Logistic regression, on hashed n-grams of a text or on the pixels of a picture.
pub fn linear(examples: &Examples, seed: u64) -> Row {
    linear::fit(examples, seed)
}

/// A run's best weights as floats.
///
/// # Errors
/// Those of the forward pass.
pub fn attention(
    task: &Task,
    state: &State,
    prepared: &Prepared,
    examples: &Examples,
) -> Result<Row> {
    let test = test(task, prepared, examples)?;
    let params = state.best_params();
    let loss = parallel::loss(&params, &test, parallel::threads())?;
    let position = &state.position;
    let epochs =
        (position.step as usize * task.training.batch) as f64 / examples.train.len() as f64;
    Ok(Row {
        name: "attention, f32".into(),
        parameters: params.config.parameters(),
        seconds_per_epoch: Some(position.seconds / epochs.max(1e-9)),
        test: accuracy(loss, examples),
    })
}

/// A recurrent network with as many parameters as the task's model, trained as that is.
///
/// # Errors
/// Those of the forward pass, when the loss is no longer a number, and when `stop` is set.
pub fn recurrent(
    task: &Task,
    cell: Cell,
    prepared: &Prepared,
    examples: &Examples,
    stop: &AtomicBool,
) -> Result<Row> {
    let training = &task.training;
    let config = task.config(prepared.vocabulary.as_ref().map(|v| v.end_of_text()))?;
    let mut model = Recurrent::like(&config, cell, training.seed)?;
    let mut adam = Adam::new(model.tensors.iter().map(|t| vec![0.0; t.len()]).collect());
    let mut samples = prepared.samples(training, training.seed)?;
    let (backend, threads) = (Backend::detect(), parallel::threads());
    let progress = Progress::new();
    let start = Instant::now();
    let mut best = (0, model.tensors.clone());
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
            if loss.right >= best.0 {
                best = (loss.right, model.tensors.clone());
            }
            progress.line(&format!(
                "{cell:?} step {step:>6}  accuracy {:.2} %  {speed:.0} sequences/s  {} left",
                100.0 * loss.right as f64 / examples.validation.len() as f64,
                clock(left)
            ));
        }
    }
    progress.end();
    let epochs = (step as usize * training.batch) as f64 / examples.train.len() as f64;
    let seconds_per_epoch = Some(start.elapsed().as_secs_f64() / epochs);
    model.tensors = best.1;
    let loss = loss_of(&model, &test(task, prepared, examples)?, backend, threads)?;
    Ok(Row {
        name: format!("{cell:?}, f32")
            .replace("Lstm", "LSTM")
            .replace("Gru", "GRU"),
        parameters: model.tensors.iter().map(|t| t.len() as u64).sum(),
        seconds_per_epoch,
        test: accuracy(loss, examples),
    })
}

fn loss_of(model: &Recurrent, batches: &[Batch], backend: Backend, threads: usize) -> Result<Loss> {
    let make = || model.network(backend, false);
    let parts = each(make, batches, threads, |network, batch| network.loss(batch))?;
    Ok(parts.into_iter().sum())
}

fn test(task: &Task, prepared: &Prepared, examples: &Examples) -> Result<Vec<Batch>> {
    let encoded = Encoded::new(task, &examples.test, prepared.vocabulary.as_ref())?;
    encoded.batches(task.training.micro_batch)
}

fn accuracy(loss: Loss, examples: &Examples) -> Accuracy {
    Accuracy {
        right: loss.right,
        examples: examples.test.len(),
    }
}
