//! `attentive train`.

use anyhow::{Context, Result, ensure};
use attentive_trainer::produce::finish;
use attentive_trainer::task::Task;
use attentive_trainer::train::{CHECKPOINT, Ended, Options, train};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What to train.
#[derive(Args)]
pub(crate) struct Request {
    /// The task file
    task: PathBuf,
    /// Directory of the run [default: trainer/runs/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Begin anew, although there is a checkpoint
    #[arg(long)]
    fresh: bool,
    /// Go on from a checkpoint, and fail if there is none (without: go on if there is one)
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Threads [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

/// Status of a run that was stopped, as a shell reports SIGINT.
const STOPPED: u8 = 130;

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let task = Task::read(&request.task)?;
    let default = || ["trainer", "runs", &task.name].iter().collect();
    let out = request.out.unwrap_or_else(default);
    ensure!(
        !request.resume || out.join(CHECKPOINT).exists(),
        "there is no checkpoint in {} to resume from: leave out --resume to begin",
        out.display()
    );
    let options = Options {
        task: request.task,
        out,
        // A run by the clock is for a look: its checkpoint is only gone on with when asked for.
        fresh: request.fresh || (task.training.seconds.is_some() && !request.resume),
        threads: request.threads.map(usize::from),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("asking for Ctrl-C")?;
    match train(&task, &options, &stop)? {
        Ended::Stopped { step } => {
            println!(
                "stopped after step {step}; the same command with --resume goes on from there"
            );
            Ok(ExitCode::from(STOPPED))
        }
        Ended::Finished(run) => {
            finish(*run)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
