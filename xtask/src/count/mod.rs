//! `cargo xtask count`: instructions that the hot kernels execute, exactly, and held against what is recorded.
//!
//! Emulators count: Callgrind for x86-64, QEMU for aarch64 and for the boards of the firmware. The same program executes
//! the same instructions each time, whatever else the machine does, so a count is a bar that a time cannot be: growth is
//! the code's, not the neighbour's. A case is named `<machine>/<case of perf>`; a machine is one entry of
//! [`machines::all`].

mod machines;
mod record;

use crate::{BadInput, test::Outcome};
use anyhow::{Result, ensure};
use record::{Change, Record};
use serde_json::json;
use std::collections::BTreeMap;

/// Instructions of one run, by name of the case.
type Counts = BTreeMap<String, u64>;

/// What is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Other people's kernels for the Cortex-M4 as well, which are not recorded
    #[arg(long)]
    peers: bool,
    /// Make what is counted the recorded values
    #[arg(long)]
    bless: bool,
    /// Only cases whose name contains one of these; `*` stands for anything
    filters: Vec<String>,
}

/// Counts, prints, and records if asked to.
pub(crate) fn run(options: &Options) -> Result<()> {
    let counts = count(&options.filters)?;
    let mut record = Record::read()?;
    let peers = match options.peers {
        true => machines::peers()?,
        false => Counts::new(),
    };
    for (case, &value) in counts.iter().chain(&peers) {
        if options.json {
            println!(
                "{}",
                json!({ "case": case, "value": value, "unit": "instructions" })
            );
        } else {
            let change = match record.get(case) {
                Some(before) => format!("{:+.2} %", record::percent(before, value)),
                None => "not recorded".into(),
            };
            println!("{case:<44} {value:>12} {change:>14}");
        }
    }
    if options.bless {
        let path = record.accept(counts, options.filters.is_empty())?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// Every count against the record: growth fails, and so does a case that only one of the two has.
pub(crate) fn check() -> Result<Outcome> {
    let counts = count(&[])?;
    let record = Record::read()?;
    let changes = record.compare(&counts, machines::counts);
    let (bad, good): (Vec<&Change>, Vec<&Change>) =
        changes.iter().partition(|change| change.is_failure());
    let lines = |changes: &[&Change]| -> String {
        changes
            .iter()
            .map(|change| format!("\n  {change}"))
            .collect()
    };
    ensure!(
        bad.is_empty(),
        "{}\nof {} cases:{}\nwhat is meant to be so is accepted by `cargo xtask count --bless`",
        record.compiler_note()?,
        counts.len(),
        lines(&bad)
    );
    Ok(Outcome::Held(match good.as_slice() {
        [] => format!("{} cases as recorded", counts.len()),
        fell => format!(
            "{} cases; some need fewer instructions, accept that by `cargo xtask count --bless`:{}",
            counts.len(),
            lines(fell)
        ),
    }))
}

fn count(filters: &[String]) -> Result<Counts> {
    let mut counts = Counts::new();
    let mut names = Vec::new();
    for machine in machines::all() {
        let mut chosen = machine.cases()?;
        names.extend(chosen.iter().cloned());
        chosen.retain(|name| {
            filters.is_empty() || filters.iter().any(|filter| is_match(filter, name))
        });
        if !chosen.is_empty() {
            counts.extend(machine.count(&chosen)?);
        }
    }
    if counts.is_empty() {
        let message = format!(
            "no case matches {}; there are\n  {}",
            filters.join(" or "),
            names.join("\n  ")
        );
        return Err(BadInput(message).into());
    }
    Ok(counts)
}

/// Whether `filter` is in `name`; `*` stands for anything.
fn is_match(filter: &str, name: &str) -> bool {
    let mut rest = name;
    filter.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::is_match;

    #[test]
    fn filters() {
        let name = "x86/gemv/i8/768x288";
        for yes in ["", "gemv", "x86*i8", name] {
            assert!(is_match(yes, name), "{yes}");
        }
        for no in ["gemm", "i8*x86", "gemv*gemv"] {
            assert!(!is_match(no, name), "{no}");
        }
    }
}
