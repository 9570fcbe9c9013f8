//! The training loop.

use crate::batches::Batches;
use crate::checkpoint::State;
use crate::files::write_atomically;
use crate::metrics::{self, Measurement};
use crate::optimizer::{StepSize, clip};
use crate::parallel;
use crate::params::Params;
use crate::prepared::{self, Prepared};
use crate::progress::{Progress, clock};
use crate::task::Task;
use crate::vocabulary::Vocabulary;
use anyhow::{Context, Result, ensure};
use attentive::TensorKind;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the command line adds to a task.
#[derive(Clone, Debug)]
pub struct Options {
    /// The task file, for the provenance record.
    pub task: PathBuf,
    /// Directory of the run.
    pub out: PathBuf,
    /// Throw away a checkpoint that is there.
    pub fresh: bool,
    /// Threads; all of the machine when `None`.
    pub threads: Option<usize>,
}

/// How a call of [`train`] ended.
pub enum Ended {
    /// The run reached its end; the state is that of its last step.
    Finished(Box<Run>),
    /// `stop` was set; the checkpoint holds everything.
    Stopped {
        /// Steps done.
        step: u64,
    },
}

/// A run.
pub struct Run {
    /// The task as it was read.
    pub task: Task,
    /// Where its files lie.
    pub out: PathBuf,
    /// The state.
    pub state: State,
    /// The tokenizer.
    pub vocabulary: Vocabulary,
}

impl Run {
    /// Loads the run in a directory.
    ///
    /// # Errors
    /// When it holds no checkpoint, or a damaged one.
    pub fn load(out: &Path) -> Result<Self> {
        let path = out.join(TOKENIZER);
        let json = fs::read_to_string(&path).with_context(|| {
            format!("reading {}, which `attentive train` writes", path.display())
        })?;
        let vocabulary = Vocabulary::from_json(&json)?;
        let (state, task) = State::load(vocabulary.end_of_text(), &out.join(CHECKPOINT))?;
        Ok(Self {
            task,
            out: out.to_owned(),
            state,
            vocabulary,
        })
    }
}

/// Name of the tokenizer's file in a run's directory.
pub const TOKENIZER: &str = "tokenizer.json";
/// Name of the checkpoint in a run's directory.
pub const CHECKPOINT: &str = "checkpoint.safetensors";

/// Bits per byte from a summed loss in nats.
pub fn bits_per_byte(nats: f64, bytes: usize) -> f64 {
    nats / std::f64::consts::LN_2 / bytes as f64
}

/// Trains a task, from its checkpoint if there is one, until its end or until `stop` is set.
///
/// The same task, seed and version of this program give the same weights, whatever the number of threads and however
/// often the run was stopped and resumed, unless its length is given in seconds.
///
/// # Errors
/// When the data, the directory or the checkpoint cannot be used, or the loss is no longer a number.
pub fn train(task: &Task, options: &Options, stop: &AtomicBool) -> Result<Ended> {
    fs::create_dir_all(&options.out)
        .with_context(|| format!("making the directory {}", options.out.display()))?;
    let tokenizer_path = options.out.join(TOKENIZER);
    let checkpoint_path = options.out.join(CHECKPOINT);
    let resume = checkpoint_path.exists() && !options.fresh;
    let vocabulary = match resume {
        true => {
            let json = fs::read_to_string(&tokenizer_path)
                .with_context(|| format!("reading {}", tokenizer_path.display()))?;
            Some(Vocabulary::from_json(&json)?)
        }
        false => None,
    };
    let parts = prepared::parts(task)?;
    let prepared = Prepared::new(task, &parts, vocabulary)?;
    let mut state = match resume {
        true => resumed(task, prepared.vocabulary.end_of_text(), &checkpoint_path)?,
        false => {
            write_atomically(&tokenizer_path, prepared.vocabulary.to_json()?.as_bytes())?;
            let config = task.model.config(prepared.vocabulary.end_of_text())?;
            State::start(Params::random(config, task.training.seed))
        }
    };
    state.position.task_path = Some(options.task.display().to_string());
    let mut trainer = Trainer {
        task,
        prepared: &prepared,
        state,
        threads: options.threads.unwrap_or_else(parallel::threads).max(1),
        out: &options.out,
        checkpoint_path: &checkpoint_path,
        progress: Progress::new(),
    };
    let finished = trainer.run(stop)?;
    trainer.progress.end();
    if !finished {
        let step = trainer.state.position.step;
        return Ok(Ended::Stopped { step });
    }
    Ok(Ended::Finished(Box::new(Run {
        task: task.clone(),
        out: options.out.clone(),
        state: trainer.state,
        vocabulary: prepared.vocabulary,
    })))
}

/// The checkpoint, if it belongs to this task. Its length, learning rate and the like may change: the rest of the run
/// follows the new ones.
fn resumed(task: &Task, end_of_text: u32, path: &Path) -> Result<State> {
    let (state, before) = State::load(end_of_text, path)?;
    let identity = |task: &Task| -> Result<String> {
        let training = &task.training;
        Ok(format!(
            "{} {} {:?}",
            serde_json::to_string(&task.data)?,
            serde_json::to_string(&task.model)?,
            (
                training.seed,
                training.seq_len,
                training.batch,
                training.micro_batch
            )
        ))
    };
    ensure!(
        identity(task)? == identity(&before)?,
        "{} belongs to a task with other data, model, seed or batches: use --fresh to begin anew or --out for another \
         directory",
        path.display()
    );
    println!("resumed at step {}", state.position.step);
    Ok(state)
}

struct Trainer<'a> {
    task: &'a Task,
    prepared: &'a Prepared,
    state: State,
    threads: usize,
    out: &'a Path,
    checkpoint_path: &'a Path,
    progress: Progress,
}

impl Trainer<'_> {
    /// Whether the run reached its end.
    fn run(&mut self, stop: &AtomicBool) -> Result<bool> {
        let training = &self.task.training;
        let mut batches = Batches::new(&self.prepared.train, training.seq_len, training.seed)?;
        self.announce(&batches);
        let start = Instant::now();
        let seconds_before = self.state.position.seconds;
        let step_before = self.state.position.step;
        while !self.state.position.finished {
            if stop.load(Ordering::Relaxed) {
                self.state.save(self.task, self.checkpoint_path)?;
                return Ok(false);
            }
            let done = self.done();
            let loss = self.step(&mut batches, done)?;
            let spent = start.elapsed().as_secs_f64();
            self.state.position.seconds = seconds_before + spent;
            let position = &self.state.position;
            let steps = position.step - step_before;
            let tokens = (training.batch * training.seq_len) as f64;
            let left = position.seconds * (1.0 - self.done()) / self.done().max(1e-6);
            self.progress.step(
                self.done(),
                loss,
                steps as f64 * tokens / spent,
                Duration::from_secs_f64(left.min(1e6)),
            );
            let end = self.done() >= 1.0;
            if end || position.step.is_multiple_of(training.evaluate_every) {
                self.measure(&batches)?;
                self.state.position.finished = end || self.exhausted();
                self.state.save(self.task, self.checkpoint_path)?;
            }
        }
        Ok(true)
    }

    fn announce(&self, batches: &Batches<'_>) {
        let (train, bytes) = (self.prepared.train.len(), self.prepared.train_bytes);
        self.progress.line(&format!(
            "{}: {} parameters, {train} training tokens ({:.2} bytes each), {} sequences an epoch, {} threads",
            self.task.name,
            self.state.params.config.parameters(),
            bytes as f64 / train as f64,
            batches.per_epoch(),
            self.threads
        ));
    }

    /// Share of the run that lies behind, by steps or by the clock, whichever is further.
    fn done(&self) -> f64 {
        let position = &self.state.position;
        let share = |now: f64, end: Option<f64>| end.map_or(0.0, |end| now / end);
        let by_steps = share(
            position.step as f64,
            self.task.training.steps.map(|steps| steps as f64),
        );
        by_steps
            .max(share(position.seconds, self.task.training.seconds))
            .min(1.0)
    }

    fn exhausted(&self) -> bool {
        self.state.position.stale >= self.task.training.patience
    }

    /// One step of the optimizer; the mean loss in nats a token.
    fn step(&mut self, batches: &mut Batches<'_>, done: f64) -> Result<f64> {
        let training = &self.task.training;
        let step = self.state.position.step;
        let micro = batches.step(step, training.batch, training.micro_batch);
        let tokens = training.batch * training.seq_len;
        let (loss, mut gradients) =
            parallel::gradients(&self.state.params, &micro, training.seq_len, self.threads)?;
        let norm = clip(&mut gradients, 1.0 / tokens as f32, training.clip);
        ensure!(
            loss.is_finite() && norm.is_finite(),
            "the loss of step {step} is not a number; the last checkpoint is from before: try a lower learning_rate"
        );
        let size = StepSize {
            number: step + 1,
            learning_rate: training.learning_rate_at(done),
            weight_decay: training.weight_decay,
            betas: training.betas,
        };
        let config = self.state.params.config;
        let decayed = |index| {
            let shape = config.tensor(index);
            shape.is_some_and(|shape| shape.kind == TensorKind::Matrix)
        };
        let tensors = &mut self.state.params.tensors;
        self.state.adam.step(tensors, &gradients, size, decayed);
        let position = &mut self.state.position;
        position.step += 1;
        position.since.0 += loss;
        position.since.1 += tokens as u64;
        Ok(loss / tokens as f64)
    }

    /// Measures on the validation part and keeps the weights if they are the best.
    fn measure(&mut self, batches: &Batches<'_>) -> Result<()> {
        let training = &self.task.training;
        let validation = &self.prepared.validation;
        let params = &self.state.params;
        let nats = parallel::loss(params, validation, training.seq_len, self.threads)?;
        let count: usize = validation.iter().map(|batch| batch.targets.len()).sum();
        let bits = bits_per_byte(nats, self.prepared.validation_bytes);
        let done = self.done();
        let position = &mut self.state.position;
        let (train_nats, train_tokens) = std::mem::take(&mut position.since);
        let spent = position.seconds - position.measured_at_seconds;
        position.measured_at_seconds = position.seconds;
        let loss = nats / count as f64;
        let measurement = Measurement {
            step: position.step,
            epoch: (position.step as usize * training.batch) as f64 / batches.per_epoch() as f64,
            train_loss: train_nats / train_tokens.max(1) as f64,
            validation_loss: loss,
            perplexity: loss.exp(),
            bits_per_byte: bits,
            tokens_per_s: train_tokens as f64 / spent.max(1e-9),
            learning_rate: training.learning_rate_at(done),
            seconds: position.seconds,
        };
        if position.best.is_none_or(|(_, best)| bits < best) {
            position.best = Some((position.step, bits));
            position.stale = 0;
            self.state.best.clone_from(&self.state.params.tensors);
        } else {
            position.stale += 1;
        }
        self.progress.line(&line(&measurement));
        position.measurements.push(measurement);
        let measurements = &position.measurements;
        metrics::write_lines(measurements, &self.out.join("metrics.jsonl"))?;
        metrics::write_curve(&self.task.name, measurements, &self.out.join("loss.svg"))
    }
}

fn line(m: &Measurement) -> String {
    format!(
        "step {:>6}  epoch {:>5.2}  training loss {:.3}  validation loss {:.3}  perplexity {:.2}  bits/byte {:.4}  \
         {:.0} tokens/s  {}",
        m.step,
        m.epoch,
        m.train_loss,
        m.validation_loss,
        m.perplexity,
        m.bits_per_byte,
        m.tokens_per_s,
        clock(Duration::from_secs_f64(m.seconds))
    )
}
