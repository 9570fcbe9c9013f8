//! `attentive prepare`.

use anyhow::{Result, ensure};
use attentive_trainer::pytorch::prepare;
use attentive_trainer::task::Task;
use attentive_trainer::train::CHECKPOINT;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to prepare, and where.
#[derive(Args)]
pub(crate) struct Request {
    /// The task file
    task: PathBuf,
    /// Directory of the run [default: trainer/runs/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Begin anew, although there is a run
    #[arg(long)]
    fresh: bool,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let task = Task::read(&request.task)?;
    let default = || ["trainer", "runs", &task.name].iter().collect();
    let out: PathBuf = request.out.unwrap_or_else(default);
    ensure!(
        request.fresh || !out.join(CHECKPOINT).exists(),
        "there is a run in {}: name another directory with --out, or throw it away with --fresh",
        out.display()
    );
    prepare(&task, &request.task, &out)?;
    println!(
        "prepared {}; torchrun trainer/pytorch/train.py trains there, then `attentive import` makes files of it",
        out.display()
    );
    Ok(ExitCode::SUCCESS)
}
