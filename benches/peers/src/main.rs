//! Measures the workspace's cases beside other people's programs, in turns, and writes `docs/performance.md`.
//!
//! `cargo xtask perf --peers` builds the workers, says what is missing, and calls this.

mod chart;
mod doc;
mod host;
mod options;
mod peers;
mod row;
mod targets;
mod tasks;
mod training;
mod worker;

use anyhow::{Context, Result, anyhow};
use attentive_benches::case::{Bound, Case, name_matches};
use attentive_benches::cases;
use attentive_benches::measure::Stopwatch;
use host::Cores;
use options::Options;
use peers::Peers;
use row::Row;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(message) => return refuse(&message),
    };
    let cases = match cases(&options) {
        Ok(cases) => cases,
        Err(error) => return refuse(&format!("{error:#}")),
    };
    match run(&options, &cases) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(2)
}

/// What is measured: the limits of the machine for the report, and the cases that were asked for.
fn cases(options: &Options) -> Result<Vec<Case>> {
    let mut all = cases::all();
    if let Some([_, attn]) = &options.smollm2 {
        let file = std::fs::read(attn).with_context(|| attn.display().to_string())?;
        let more = cases::e2e::of_file("smollm2-135m", "q4_1", &file);
        all.extend(more.map_err(|error| anyhow!("{}: {error}", attn.display()))?);
    }
    for attn in &options.encoder_attn {
        let file = std::fs::read(attn).with_context(|| attn.display().to_string())?;
        let more = cases::encoder::of_file(&file);
        all.extend(more.map_err(|error| anyhow!("{}: {error}", attn.display()))?);
    }
    let wanted = |name: &str| match options.filters.as_slice() {
        [] => targets::is_reported(name),
        filters => filters.iter().any(|filter| name_matches(filter, name)),
    };
    all.retain(|case| wanted(&case.name));
    if all.is_empty() && !trains(options) {
        anyhow::bail!(
            "no case matches {}; `cargo xtask perf` lists them",
            options.filters.join(", ")
        );
    }
    Ok(all)
}

/// Whether the training is measured.
fn trains(options: &Options) -> bool {
    let matches = |filter: &String| name_matches(filter, training::CASE);
    options.train.is_some() && (options.filters.is_empty() || options.filters.iter().any(matches))
}

/// Returns whether every result was right.
fn run(options: &Options, cases: &[Case]) -> Result<bool> {
    let begin = Instant::now();
    let cores = Cores::current();
    std::fs::create_dir_all(&options.scratch)
        .with_context(|| options.scratch.display().to_string())?;
    // Paths go to processes that may stand elsewhere.
    let scratch = options.scratch.canonicalize()?;
    let peers = Peers::start(options, &scratch)?;
    let stopwatch = Stopwatch::new(options.tries);
    let mut rows = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        eprint!(
            "[{:>4} s] {}/{} {} … ",
            begin.elapsed().as_secs(),
            index + 1,
            cases.len(),
            case.name
        );
        let row = measure(&stopwatch, &peers, case, options)?;
        eprintln!("{}", row.summary());
        if options.json {
            println!("{}", row.json(options.backend.name())?);
        }
        rows.push(row);
    }
    if let (true, Some(commands)) = (trains(options), &options.train) {
        eprintln!("[{:>4} s] {}", begin.elapsed().as_secs(), training::CASE);
        // Its threads need more than the one core that the cases were kept on.
        cores.restore();
        let row = training::measure(commands)?;
        if options.json {
            println!("{}", row.json("f32")?);
        }
        rows.push(row);
    }
    if !options.json {
        print!("{}", row::table(&rows));
    }
    if let Some(path) = &options.doc {
        doc::write(path, &rows, &peers, options)?;
        eprintln!("wrote {}", path.display());
    }
    let wrong = rows.iter().flat_map(Row::wrong);
    let wrong: Vec<String> = wrong.collect();
    wrong.iter().for_each(|line| eprintln!("{line}"));
    eprintln!("{} s", begin.elapsed().as_secs());
    Ok(wrong.is_empty())
}

fn measure(stopwatch: &Stopwatch, peers: &Peers, case: &Case, options: &Options) -> Result<Row> {
    let failed = |error: Box<dyn std::error::Error>| anyhow!("{}: {error}", case.name);
    if case.bound == Bound::Itself {
        let figure = stopwatch.measure(case, options.backend).map_err(failed)?;
        return Ok(Row::new(case, figure, Vec::new()));
    }
    let published = match (&options.smollm2, &options.encoder_onnx) {
        (Some([gguf, _]), _) if case.name.starts_with("e2e/smollm2") => Some(gguf.canonicalize()?),
        (_, Some(onnx)) if case.name.starts_with("e2e/encoder") => Some(onnx.canonicalize()?),
        _ => None,
    };
    let mut absent = Vec::new();
    let (figure, mut standings) = stopwatch
        .measure_beside(case, options.backend, &mut |workload| {
            peers.invite(workload, published.as_deref(), &mut absent)
        })
        .map_err(failed)?;
    standings.extend(absent);
    peers.clear();
    Ok(Row::new(case, figure, standings))
}
