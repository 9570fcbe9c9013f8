//! Tokens per second of a training step (gradients and optimizer) of a task's model, on random tokens.
//!
//! ```text
//! cargo run --profile trainer -p attentive-trainer --example speed -- trainer/tasks/austen-1m.toml [THREADS] [STEPS]
//! ```

use anyhow::{Context, Result};
use attentive::TensorKind;
use attentive_trainer::batches::{Batches, Samples};
use attentive_trainer::optimizer::{Adam, StepSize, clip};
use attentive_trainer::parallel;
use attentive_trainer::params::Params;
use attentive_trainer::random::Random;
use attentive_trainer::task::Task;
use std::path::Path;
use std::time::Instant;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().context("the first argument is a task file")?;
    let threads = args.next().map_or(Ok(parallel::threads()), |n| n.parse())?;
    let steps: u64 = args.next().map_or(Ok(8), |n| n.parse())?;
    let task = Task::read(Path::new(&path))?;
    let training = &task.training;
    let config = task.config(Some(0))?;
    let mut params = Params::random(config, training.seed);
    let mut adam = Adam::new(params.zeros());
    let mut random = Random::new(training.seed);
    let draw = |_| random.below(config.vocab_len) as u32;
    let tokens: Vec<u32> = (0..training.batch * training.seq_len * 4)
        .map(draw)
        .collect();
    let mut batches = Batches::new(&tokens, training.seq_len, training.seed)?;
    let count = training.batch * training.seq_len;
    let matrix = |index| {
        let shape = config.tensor(index);
        shape.is_some_and(|shape| shape.kind == TensorKind::Matrix)
    };
    let mut best = f64::INFINITY;
    for step in 0..steps {
        let start = Instant::now();
        let micro = batches.step(step, training.batch, training.micro_batch)?;
        let (_, mut gradients) = parallel::gradients(&params, &micro, threads)?;
        clip(&mut gradients, 1.0 / count as f32, training.clip);
        let size = StepSize {
            number: step + 1,
            learning_rate: training.learning_rate,
            weight_decay: training.weight_decay,
            betas: training.betas,
        };
        adam.step(&mut params.tensors, &gradients, size, matrix);
        let seconds = start.elapsed().as_secs_f64();
        best = best.min(seconds);
        println!(
            "step {step}: {:.0} ms, {:.0} tokens/s",
            seconds * 1e3,
            count as f64 / seconds
        );
    }
    println!(
        "{} parameters, {count} tokens a step, {threads} threads: at best {:.0} ms a step, {:.0} tokens/s",
        config.parameters(),
        best * 1e3,
        count as f64 / best
    );
    Ok(())
}
