//! The command `attentive`.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use attentive_trainer::task::Task;
use attentive_trainer::train::{Ended, Options, train};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Trains, quantizes, measures and runs the models of attentive.
#[derive(Parser)]
#[command(name = "attentive", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model, or go on where a run was stopped
    Train {
        /// The task file
        task: PathBuf,
        /// Directory of the run [default: trainer/runs/NAME]
        #[arg(long)]
        out: Option<PathBuf>,
        /// Begin anew, although there is a checkpoint
        #[arg(long)]
        fresh: bool,
        /// Go on from a checkpoint, and fail if there is none
        #[arg(long, conflicts_with = "fresh")]
        resume: bool,
        /// Threads [default: all cores]
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        threads: Option<u16>,
    },
}

/// Status of a run that was stopped, as a shell reports SIGINT.
const STOPPED: u8 = 130;
/// Status of every error.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Train {
            task,
            out,
            fresh,
            resume,
            threads,
        } => {
            let task = Task::read(&task)?;
            let out = out.unwrap_or_else(|| ["trainer", "runs", &task.name].iter().collect());
            anyhow::ensure!(
                !resume || out.join("checkpoint.safetensors").exists(),
                "there is no checkpoint in {} to resume from: leave out --resume to begin",
                out.display()
            );
            let options = Options {
                out,
                fresh,
                threads: threads.map(usize::from),
            };
            let stop = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&stop);
            ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
                .context("asking for Ctrl-C")?;
            match train(&task, &options, &stop)? {
                Ended::Stopped { step } => {
                    println!("stopped after step {step}; the same command goes on from there");
                    Ok(ExitCode::from(STOPPED))
                }
                Ended::Finished(_) => Ok(ExitCode::SUCCESS),
            }
        }
    }
}
