//! The training loop.

use crate::batches::Samples;
use crate::checkpoint::State;
use crate::files::write_atomically;
use crate::loss::Loss;
use crate::metrics::{self, Measurement};
use crate::optimizer::{StepSize, clip};
use crate::parallel;
use crate::params::Params;
use crate::prepared::{Corpus, Prepared};
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
    /// The tokenizer, of texts.
    pub vocabulary: Option<Vocabulary>,
}

impl Run {
    /// Loads the run in a directory.
    ///
    /// # Errors
    /// When it holds no checkpoint, or a damaged one.
    pub fn load(out: &Path) -> Result<Self> {
        let vocabulary = vocabulary(&out.join(TOKENIZER))?;
        let end_of_text = vocabulary.as_ref().and_then(Vocabulary::end_of_text);
        let (state, task) = State::load(end_of_text, &out.join(CHECKPOINT))?;
        Ok(Self {
            task,
            out: out.to_owned(),
            state,
            vocabulary,
        })
    }
}

/// The tokenizer that a run wrote; none where it has none.
fn vocabulary(path: &Path) -> Result<Option<Vocabulary>> {
    if !path.exists() {
        return Ok(None);
    }
    let json = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(Vocabulary::from_json(&json)?))
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
        true => vocabulary(&tokenizer_path)?,
        false => None,
    };
    let corpus = Corpus::load(task)?;
    let prepared = Prepared::new(task, &corpus, vocabulary)?;
    let end_of_text = prepared.end_of_text();
    let mut state = match resume {
        true => resumed(task, end_of_text, &checkpoint_path)?,
        false => {
            if let Some(vocabulary) = &prepared.vocabulary {
                write_atomically(&tokenizer_path, vocabulary.to_json()?.as_bytes())?;
            }
            let config = task.config(end_of_text)?;
            let seed = task.training.seed;
            State::start(match &task.start {
                Some(start) => start.params(config, seed)?,
                None => Params::random(config, seed),
            })
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
fn resumed(task: &Task, end_of_text: Option<u32>, path: &Path) -> Result<State> {
    let (state, before) = State::load(end_of_text, path)?;
    ensure!(
        task.identity()? == before.identity()?,
        "{} belongs to a task with other data, model, start, seed or batches: use --fresh to begin anew or --out for another \
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
        let prepared = self.prepared;
        let mut samples = prepared.samples(training, training.seed)?;
        let per_epoch = samples.per_epoch();
        self.announce(per_epoch);
        let start = Instant::now();
        let seconds_before = self.state.position.seconds;
        let step_before = self.state.position.step;
        while !self.state.position.finished {
            if stop.load(Ordering::Relaxed) {
                self.state.save(self.task, self.checkpoint_path)?;
                return Ok(false);
            }
            let done = self.done();
            let loss = self.step(samples.as_mut(), done)?;
            let spent = start.elapsed().as_secs_f64();
            self.state.position.seconds = seconds_before + spent;
            let position = &self.state.position;
            let steps = position.step - step_before;
            let left = position.seconds * (1.0 - self.done()) / self.done().max(1e-6);
            self.progress.step(
                self.done(),
                loss,
                steps as f64 * training.batch as f64 / spent,
                Duration::from_secs_f64(left.min(1e6)),
            );
            let end = self.done() >= 1.0;
            if end || position.step.is_multiple_of(training.evaluate_every) {
                self.measure(per_epoch)?;
                self.state.position.finished = end || self.exhausted();
                self.state.save(self.task, self.checkpoint_path)?;
            }
        }
        Ok(true)
    }

    fn announce(&self, per_epoch: usize) {
        self.progress.line(&format!(
            "{}: {} parameters, {}, {per_epoch} sequences an epoch, {} threads",
            self.task.name,
            self.state.params.config.parameters(),
            self.prepared.summary,
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

    /// One step of the optimizer; the mean loss in nats a target.
    fn step(&mut self, samples: &mut dyn Samples, done: f64) -> Result<f64> {
        let training = &self.task.training;
        let step = self.state.position.step;
        let micro = samples.step(step, training.batch, training.micro_batch)?;
        let targets: usize = micro.iter().map(|batch| batch.targets.len()).sum();
        let (loss, mut gradients) = parallel::gradients(&self.state.params, &micro, self.threads)?;
        let norm = clip(&mut gradients, 1.0 / targets as f32, training.clip);
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
        position.since.1 += targets as u64;
        Ok(loss / targets as f64)
    }

    /// Measures on the validation part and keeps the weights if they are the best.
    fn measure(&mut self, per_epoch: usize) -> Result<()> {
        let training = &self.task.training;
        let validation = &self.prepared.validation;
        let Loss { nats, right } = parallel::loss(&self.state.params, validation, self.threads)?;
        let count: usize = validation.iter().map(|batch| batch.targets.len()).sum();
        let bytes = self.prepared.validation_bytes;
        let done = self.done();
        let position = &mut self.state.position;
        let (train_nats, targets) = std::mem::take(&mut position.since);
        let spent = position.seconds - position.measured_at_seconds;
        position.measured_at_seconds = position.seconds;
        let before = position.measurements.last().map_or(0, |m| m.step);
        let sequences = (position.step - before) as f64 * training.batch as f64;
        let loss = nats / count as f64;
        let measurement = Measurement {
            step: position.step,
            epoch: (position.step as usize * training.batch) as f64 / per_epoch as f64,
            train_loss: train_nats / targets.max(1) as f64,
            validation_loss: loss,
            perplexity: loss.exp(),
            bits_per_byte: (bytes > 0).then(|| bits_per_byte(nats, bytes)),
            accuracy: right as f64 / count as f64,
            sequences_per_s: sequences / spent.max(1e-9),
            learning_rate: training.learning_rate_at(done),
            seconds: position.seconds,
        };
        let cost = measurement.cost();
        // Of equal shares of wrong ones the later counts: a measurement has few examples, and the training goes on.
        let better = |best: f64| match measurement.bits_per_byte {
            Some(_) => cost < best,
            None => cost <= best,
        };
        if position.best.is_none_or(|(_, best)| better(best)) {
            position.best = Some((position.step, cost));
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
    let quality = match m.bits_per_byte {
        Some(bits) => format!("perplexity {:.2}  bits/byte {bits:.4}", m.perplexity),
        None => format!("accuracy {:.2} %", 100.0 * m.accuracy),
    };
    format!(
        "step {:>6}  epoch {:>5.2}  training loss {:.3}  validation loss {:.3}  {quality}  {:.0} sequences/s  {}",
        m.step,
        m.epoch,
        m.train_loss,
        m.validation_loss,
        m.sequences_per_s,
        clock(Duration::from_secs_f64(m.seconds))
    )
}
