//! `attentive compare`.

use anyhow::{Context, Result, bail};
use attentive_trainer::compare::{Table, table};
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
    /// The task file
    task: PathBuf,
    /// Directory of its run, which is trained to its end first [default: trainer/runs/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let task = Task::read(&request.task)?;
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
    let table = table(*run, &stop)?;
    println!("\n{}: {}\n", task.name, table.about);
    print(&table);
    Ok(ExitCode::SUCCESS)
}

fn print(table: &Table) {
    let thirds = table.thirds.as_ref().map_or(&[][..], |thirds| thirds);
    let more: Vec<String> = table
        .also
        .into_iter()
        .chain(thirds.iter().map(String::as_str))
        .map(|heading| format!(" {heading} |"))
        .collect();
    println!(
        "| model | parameters | seconds an epoch | {} |{}",
        table.unit,
        more.concat()
    );
    println!("|---|---|---|---|{}", "---|".repeat(more.len()));
    // Bits have more figures behind the point than shares.
    let digits = if table.unit == "bits per byte" { 4 } else { 2 };
    for row in &table.rows {
        let seconds = row.seconds_per_epoch.map(|seconds| format!("{seconds:.2}"));
        let thirds = row.thirds.as_ref().map_or(&[][..], |thirds| thirds);
        let figures = row.also.iter().chain(thirds);
        let figures: String = figures.map(|x| format!(" {x:.digits$} |")).collect();
        println!(
            "| {} | {} | {} | {:.digits$} |{figures}",
            row.name,
            row.parameters,
            seconds.unwrap_or_default(),
            row.figure
        );
    }
}
