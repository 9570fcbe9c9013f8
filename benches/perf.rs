//! `perf [--json] [--backend NAME] [FILTER…]`: every case beside the limit of the machine, measured in the same run.

use attentive_benches::case::{Bound, Case, name_matches};
use attentive_benches::cases;
use attentive_benches::measure::{Figure, Stopwatch};
use attentive_kernels::Backend;
use serde::Serialize;
use std::process::ExitCode;

const USAGE: &str = "\
usage: perf [--json] [--backend NAME] [--tries N] [--list] [FILTER…]

Measures the cases whose name contains a FILTER (`*` stands for anything; without a FILTER, all of them).
  --json          one JSON object a line
  --backend NAME  the kernels' instruction set; the best one without it
  --tries N       so many tries while something else disturbs the machine (default 4)
  --list          only the names";

/// More tries than this hardly ever find a machine quiet that was not quiet before.
const TRIES: usize = 4;

struct Options {
    json: bool,
    list: bool,
    backend: Backend,
    tries: usize,
    filters: Vec<String>,
}

/// One line of `--json`. The first five fields are the contract.
#[derive(Serialize)]
struct Line<'a> {
    case: &'a str,
    value: f64,
    unit: String,
    limit: f64,
    fraction: f64,
    limit_name: &'a str,
    backend: &'a str,
    bytes: usize,
    scratch_bytes: usize,
    disturbed: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(message) => return refuse(&message),
    };
    let all = cases::all();
    for filter in &options.filters {
        if !all.iter().any(|case| name_matches(filter, &case.name)) {
            return refuse(&format!(
                "no case matches \"{filter}\"; there are\n{}",
                names(&all)
            ));
        }
    }
    let chosen = |case: &&Case| {
        options.filters.is_empty()
            || options
                .filters
                .iter()
                .any(|filter| name_matches(filter, &case.name))
    };
    let cases: Vec<&Case> = all.iter().filter(chosen).collect();
    if options.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return ExitCode::SUCCESS;
    }
    run(&cases, &options)
}

fn run(cases: &[&Case], options: &Options) -> ExitCode {
    let stopwatch = Stopwatch::new(options.tries);
    let mut disturbed = false;
    if !options.json {
        print_head();
    }
    for case in cases {
        match stopwatch.measure(case, options.backend) {
            Ok(figure) if options.json => print_json(case, options.backend, figure),
            Ok(figure) => {
                disturbed |= figure.disturbed;
                print_row(case, options.backend, figure);
            }
            Err(error) => {
                eprintln!("{}: {error}", case.name);
                return ExitCode::FAILURE;
            }
        }
    }
    if disturbed {
        println!("~ something else was using the core in every try; the figure is a lower bound");
    }
    ExitCode::SUCCESS
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(2)
}

fn names(cases: &[Case]) -> String {
    let lines: Vec<String> = cases
        .iter()
        .map(|case| format!("  {}", case.name))
        .collect();
    lines.join("\n")
}

/// `None` asks for help.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        json: false,
        list: false,
        backend: Backend::detect(),
        tries: TRIES,
        filters: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => options.json = true,
            "--list" => options.list = true,
            "--help" | "-h" => return Ok(None),
            "--backend" => {
                let name = arguments.next().ok_or("--backend needs a name")?;
                options.backend = Backend::by_name(&name).ok_or_else(|| {
                    let have: Vec<&str> =
                        Backend::available().map(|backend| backend.name()).collect();
                    format!(
                        "this machine has no backend \"{name}\", only {}",
                        have.join(", ")
                    )
                })?;
            }
            "--tries" => {
                let number = arguments.next().ok_or("--tries needs a number")?;
                options.tries = number
                    .parse()
                    .map_err(|_| format!("--tries needs a number, not \"{number}\""))?;
            }
            flag if flag.starts_with('-') => return Err(format!("unknown option {flag}\n{USAGE}")),
            _ => options.filters.push(argument),
        }
    }
    Ok(Some(options))
}

/// The limits run on the machine's best instructions, whatever the backend.
fn backend_name(case: &Case, backend: Backend) -> &'static str {
    match case.bound {
        Bound::Itself => "machine",
        _ => backend.name(),
    }
}

fn print_head() {
    println!(
        "{:<36} {:<8} {:>9} {:<7} {:>9} {:<8} {:>8} {:>12} {:>9}",
        "case", "backend", "value", "unit", "limit", "of", "fraction", "bytes", "scratch"
    );
}

fn print_row(case: &Case, backend: Backend, figure: Figure) {
    let fraction = match case.bound {
        Bound::Itself => String::new(),
        _ => format!("{:.3}", figure.value / figure.limit),
    };
    println!(
        "{:<36} {:<8} {:>9.1} {:<7} {:>9.1} {:<8} {:>8} {:>12} {:>9}{}",
        case.name,
        backend_name(case, backend),
        figure.value,
        case.unit,
        figure.limit,
        case.bound.name(),
        fraction,
        case.bytes,
        figure.scratch_bytes,
        if figure.disturbed { " ~" } else { "" }
    );
}

fn print_json(case: &Case, backend: Backend, figure: Figure) {
    let line = Line {
        case: &case.name,
        value: round(figure.value, 100.0),
        unit: case.unit.to_string(),
        limit: round(figure.limit, 100.0),
        fraction: round(figure.value / figure.limit, 1000.0),
        limit_name: case.bound.name(),
        backend: backend_name(case, backend),
        bytes: case.bytes,
        scratch_bytes: figure.scratch_bytes,
        disturbed: figure.disturbed,
    };
    match serde_json::to_string(&line) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("{}: {error}", case.name),
    }
}

fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
