//! `cargo xtask test`: every check of the workspace, one line each, and one line at the end.

mod assembly;
mod device;
mod golden;
mod steps;

pub(crate) use device::bless;

use crate::process::{self, tail};
use anyhow::Result;
use std::time::Instant;

/// What a step found.
pub(crate) enum Outcome {
    /// Individual tests, counted.
    Tests {
        passed: u32,
        failed: u32,
        output: String,
    },
    /// A single check that held; the note is shown beside it.
    Held(String),
    /// Not possible on this machine; says why.
    Skipped(String),
}

/// Runs the steps, shows them as they end and adds them up.
struct Suite {
    passed: u32,
    failed: u32,
    failures: Vec<(String, String)>,
}

impl Suite {
    fn step(&mut self, name: &str, check: impl FnOnce() -> Result<Outcome>) {
        let start = Instant::now();
        let outcome = check();
        let seconds = start.elapsed().as_secs_f64();
        let (word, note) = match outcome {
            Ok(Outcome::Tests {
                passed, failed: 0, ..
            }) => {
                self.passed += passed;
                ("ok", format!("{passed} passed"))
            }
            Ok(Outcome::Tests {
                passed,
                failed,
                output,
            }) => {
                self.passed += passed;
                self.failed += failed;
                self.failures.push((name.to_owned(), tail(&output, 80)));
                ("FAILED", format!("{passed} passed, {failed} failed"))
            }
            Ok(Outcome::Held(note)) => {
                self.passed += 1;
                ("ok", note)
            }
            Ok(Outcome::Skipped(why)) => ("skipped", why),
            Err(error) => {
                self.failed += 1;
                self.failures.push((name.to_owned(), format!("{error:#}")));
                ("FAILED", String::new())
            }
        };
        println!(
            "{word:<8}{seconds:>7.1} s  {name}{}{note}",
            if note.is_empty() { "" } else { ": " }
        );
    }
}

/// Runs what is too long for every day: the ignored tests of the kernels, which print how far they are.
pub(crate) fn long() -> Result<()> {
    let line = "test --release --package attentive-kernels --features std --lib exhaustive";
    process::run(process::cargo(line).args(["--", "--ignored", "--nocapture", "--test-threads=1"]))
}

/// Runs everything (`quick`: only what takes seconds); whether all of it passed.
pub(crate) fn run(quick: bool) -> Result<bool> {
    let start = Instant::now();
    let mut suite = Suite {
        passed: 0,
        failed: 0,
        failures: Vec::new(),
    };
    steps::all(&mut suite, quick);
    for (name, text) in &suite.failures {
        println!("\n──── failed: {name}\n{text}");
    }
    println!("\n{:.0} s", start.elapsed().as_secs_f64());
    println!("{} passed, {} failed", suite.passed, suite.failed);
    Ok(suite.failed == 0)
}
