//! `attentive compare`.

use anyhow::{Context, Result, bail};
use attentive_trainer::compare::{self, Row};
use attentive_trainer::ops::Cell;
use attentive_trainer::prepared::{Corpus, Prepared};
use attentive_trainer::produce::{INT4, INT8, Quality, Source};
use attentive_trainer::task::Task;
use attentive_trainer::train::{Ended, Options, train};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What to compare.
#[derive(Args)]
pub(crate) struct Request {
    /// The task file of a model that tells classes apart
    task: PathBuf,
    /// Directory of its run, which is trained to its end first [default: trainer/runs/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let task = Task::read(&request.task)?;
    let corpus = Corpus::load(&task)?;
    let Corpus::Labelled(examples) = &corpus else {
        bail!(
            "{} continues texts; models that tell classes apart are compared",
            request.task.display()
        );
    };
    let default = || ["trainer", "runs", &task.name].iter().collect();
    let options = Options {
        task: request.task,
        out: request.out.unwrap_or_else(default),
        fresh: false,
        threads: None,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("asking for Ctrl-C")?;
    let Ended::Finished(run) = train(&task, &options, &stop)? else {
        bail!("stopped; the same command goes on from there");
    };
    let prepared = Prepared::new(&task, &corpus, run.vocabulary.clone())?;
    let mut rows = vec![compare::majority(examples)];
    rows.push(compare::linear(examples, task.training.seed));
    for cell in [Cell::Gru, Cell::Lstm] {
        rows.push(compare::recurrent(&task, cell, &prepared, examples, &stop)?);
    }
    rows.push(compare::attention(&task, &run.state, &prepared, examples)?);
    let source = Source::of_run(*run)?;
    let importance = source.importance(&prepared)?;
    let floats = source.f32()?.quality.figure();
    for (name, formats) in [("int8", INT8), ("int4", INT4)] {
        if let Quality::Classes(test) = source.calibrated(formats, &importance, floats)?.quality {
            rows.push(Row {
                name: format!("attention, {name}"),
                parameters: source.params.config.parameters(),
                seconds_per_epoch: None,
                test,
            });
        }
    }
    println!(
        "\n{}: {} training examples, {} test examples, {} classes\n",
        task.name,
        examples.train.len(),
        examples.test.len(),
        examples.labels.len()
    );
    println!("| model | parameters | seconds an epoch | right, % |");
    println!("|---|---|---|---|");
    for row in rows {
        let seconds = row.seconds_per_epoch.map(|seconds| format!("{seconds:.2}"));
        println!(
            "| {} | {} | {} | {:.2} |",
            row.name,
            row.parameters,
            seconds.unwrap_or_default(),
            100.0 * row.test.share()
        );
    }
    Ok(ExitCode::SUCCESS)
}
