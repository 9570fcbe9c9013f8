//! The commands of the workspace: `cargo xtask demo | test | qemu | perf | count | size | unicode`.
//!
//! Each command first sets up what it needs and this machine lacks (`setup`), says so, and never asks.
//! Nothing here is part of the product.

mod count;
mod demo;
mod firmware;
mod peers;
mod process;
mod readme;
mod report;
mod setup;
mod size;
mod test;
mod unicode;

use anyhow::Result;
use clap::{Parser, Subcommand, builder::PossibleValuesParser};
use std::{path::PathBuf, process::ExitCode};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The commands of the workspace"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Generate text on this PC and on a Cortex-M4 under QEMU, and compare
    Demo(demo::Options),
    /// Run every check; the last line is `N passed, N failed`
    Test {
        /// Leave out what takes minutes: other processors, Miri, the README, the trainer
        #[arg(long)]
        quick: bool,
        /// Run nothing but the exhaustive tests: attention and products at all sizes up to 130, on all cores
        #[arg(long, conflicts_with = "quick")]
        long: bool,
        /// Run nothing but the firmware, and make what it says the expected output
        #[arg(long, conflicts_with_all = ["quick", "long"])]
        bless: bool,
    },
    /// Run a firmware binary under QEMU and show what it logs
    Qemu {
        /// Which one
        #[arg(default_value = "generate", value_parser = PossibleValuesParser::new(firmware::BINARIES))]
        binary: String,
        /// The weights in flash: int8, int4 or a path
        #[arg(long, default_value = "int8")]
        model: String,
        /// Of QEMU's; `armv6m` and `armv8m` are the code of smaller processors
        #[arg(long, default_value = firmware::AN386.id, value_parser = PossibleValuesParser::new(firmware::BOARDS.map(|board| board.id)))]
        board: String,
        /// Handed to `generate`: TOKENS TEMPERATURE_THOUSANDTHS SEED PROMPT
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Measure the kernels and the machine's limits; with --peers, other people's programs beside them
    Perf {
        #[command(flatten)]
        peers: peers::Options,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// Only cases whose name contains one of these; `*` stands for anything
        filters: Vec<String>,
    },
    /// Count the instructions of the hot kernels under emulators, and compare with what is recorded
    Count(count::Options),
    /// Flash, RAM and stack of each firmware binary
    Size {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Write the core's tables of characters anew, from the crates that Hugging Face's tokenizers has them from
    Unicode,
}

/// What was asked for makes no sense; says what would.
#[derive(Debug)]
pub(crate) struct BadInput(pub(crate) String);

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            match error.is::<BadInput>() {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::Demo(options) => {
            setup::for_firmware()?;
            demo::run(&options)?;
        }
        Command::Test { bless: true, .. } => {
            setup::for_firmware()?;
            test::bless()?;
        }
        Command::Test { long: true, .. } => test::long()?,
        Command::Test { quick, .. } => {
            setup::for_tests()?;
            return test::run(quick);
        }
        Command::Qemu {
            binary,
            model,
            board,
            args,
        } => {
            setup::for_firmware()?;
            let board = firmware::BOARDS.into_iter().find(|known| known.id == board);
            let board = board.unwrap_or(firmware::AN386);
            let elf = firmware::build_for(board, &binary, &demo::shipped(&model)?)?;
            let run = firmware::run_on(board, &elf, &args, |line| println!("{line}"))?;
            eprintln!("status {}, {:.1} s", run.status, run.seconds);
            return Ok(run.status == 0);
        }
        Command::Perf {
            json,
            filters,
            peers,
        } if peers.peers => return peers::run(&peers, json, &filters),
        Command::Perf { json, filters, .. } => {
            let mut perf =
                process::cargo("run --quiet --release --package attentive-benches --bin perf --");
            let flag = json.then(|| PathBuf::from("--json"));
            process::run(perf.args(flag).args(filters))?;
        }
        Command::Count(options) => {
            setup::for_counts()?;
            count::run(&options)?;
        }
        Command::Size { json } => {
            setup::for_firmware()?;
            size::print(json)?;
        }
        Command::Unicode => unicode::write()?,
    }
    Ok(true)
}
