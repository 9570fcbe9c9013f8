//! The recorded counts: `benches/counts.json`, one line a case, sorted.

use super::Counts;
use crate::process::{self, command, root};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{fmt, fs, path::PathBuf};

/// Growth beyond this fails; a fall beyond it is told. Below it is what a compiler's mood makes of unrelated changes.
const TOLERANCE_PERCENT: u64 = 5;

/// What the file says.
#[derive(Debug)]
pub(super) struct Record {
    /// The compiler that the counts are of.
    rustc: String,
    counts: Counts,
}

/// How a case differs from the record.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    Grew { case: String, from: u64, to: u64 },
    Fell { case: String, from: u64, to: u64 },
    New { case: String, value: u64 },
    Gone { case: String },
}

impl Change {
    /// Whether the test command fails for it.
    pub(super) fn is_failure(&self) -> bool {
        !matches!(self, Self::Fell { .. })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grew { case, from, to } | Self::Fell { case, from, to } => {
                let word = if to > from { "grew" } else { "fell" };
                let percent = percent(*from, *to);
                write!(
                    f,
                    "{case} {word} from {from} to {to} instructions ({percent:+.1} %)"
                )
            }
            Self::New { case, value } => write!(f, "{case} is not recorded: {value} instructions"),
            Self::Gone { case } => write!(f, "{case} is recorded, but there is no such case"),
        }
    }
}

/// The change in percent of `from`.
pub(super) fn percent(from: u64, to: u64) -> f64 {
    (to as f64 / from as f64 - 1.0) * 100.0
}

impl Record {
    fn path() -> PathBuf {
        root().join("benches/counts.json")
    }

    /// Reads the file; a missing one records nothing.
    pub(super) fn read() -> Result<Self> {
        let path = Self::path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self {
                    rustc: rustc()?,
                    counts: Counts::new(),
                });
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let file: Value = serde_json::from_str(text)?;
        let counts = file["instructions"].as_object();
        let counts = counts.context("no object `instructions`")?.iter();
        Ok(Self {
            rustc: file["rustc"].as_str().context("no string `rustc`")?.into(),
            counts: counts
                .map(|(case, value)| {
                    let value = value
                        .as_u64()
                        .with_context(|| format!("{case} is no number"))?;
                    Ok((case.clone(), value))
                })
                .collect::<Result<_>>()?,
        })
    }

    fn text(&self) -> String {
        let file = json!({
            "about": "Instructions of one run of each case, written by `cargo xtask count --bless`",
            "rustc": self.rustc,
            "instructions": self.counts,
        });
        format!("{file:#}\n")
    }

    pub(super) fn get(&self, case: &str) -> Option<u64> {
        self.counts.get(case).copied()
    }

    /// Every case that is not as recorded, within the tolerance. A recorded case is missed if `expected` of this
    /// computer.
    pub(super) fn compare(&self, counts: &Counts, expected: impl Fn(&str) -> bool) -> Vec<Change> {
        let gone = self
            .counts
            .keys()
            .filter(|case| !counts.contains_key(*case) && expected(case))
            .map(|case| Change::Gone { case: case.clone() });
        let counted = counts.iter().filter_map(|(case, &to)| {
            let case = case.clone();
            let Some(from) = self.get(&case) else {
                return Some(Change::New { case, value: to });
            };
            // In whole numbers: 5 % exactly is no more than 5 %.
            let (less, more) = (100 - TOLERANCE_PERCENT, 100 + TOLERANCE_PERCENT);
            if to * 100 > from * more {
                Some(Change::Grew { case, from, to })
            } else if to * 100 < from * less {
                Some(Change::Fell { case, from, to })
            } else {
                None
            }
        });
        gone.chain(counted).collect()
    }

    /// A sentence about the compiler, if it is another one than the record's: it may explain every change.
    pub(super) fn compiler_note(&self) -> Result<String> {
        let rustc = rustc()?;
        Ok(match rustc == self.rustc {
            true => format!("counted with {rustc}, as recorded"),
            false => format!("counted with {rustc}, recorded with {}", self.rustc),
        })
    }

    /// Takes the counts over and writes the file; `all` drops the cases of their machines that they do not hold.
    pub(super) fn accept(&mut self, counts: Counts, all: bool) -> Result<PathBuf> {
        if all {
            self.counts.retain(|case, _| !super::machines::counts(case));
        }
        self.counts.extend(counts);
        self.rustc = rustc()?;
        let path = Self::path();
        process::write_whole(&path, self.text().as_bytes())?;
        Ok(path)
    }
}

/// `rustc 1.95.0`: the compiler that cargo uses in this workspace.
fn rustc() -> Result<String> {
    let output = process::run_quietly(command("rustc").arg("--version"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(&str, u64)]) -> Counts {
        list.iter()
            .map(|(case, value)| ((*case).to_owned(), *value))
            .collect()
    }

    fn record() -> Record {
        let list = [
            ("x86/a", 1000),
            ("x86/b", 1000),
            ("x86/c", 1000),
            ("m4/d", 1000),
        ];
        Record {
            rustc: "rustc 1.95.0".into(),
            counts: counts(&list),
        }
    }

    #[test]
    fn growth_novelty_and_absence_fail_and_a_fall_is_told() {
        let now = counts(&[("x86/a", 1051), ("x86/b", 949), ("x86/e", 5)]);
        let changes = record().compare(&now, |case| case.starts_with("x86/"));
        let text: Vec<String> = changes.iter().map(Change::to_string).collect();
        assert_eq!(
            text,
            [
                "x86/c is recorded, but there is no such case",
                "x86/a grew from 1000 to 1051 instructions (+5.1 %)",
                "x86/b fell from 1000 to 949 instructions (-5.1 %)",
                "x86/e is not recorded: 5 instructions",
            ]
        );
        let fails: Vec<bool> = changes.iter().map(Change::is_failure).collect();
        assert_eq!(fails, [true, true, false, true]);
    }

    #[test]
    fn five_percent_are_tolerated() {
        let now = counts(&[
            ("x86/a", 1050),
            ("x86/b", 950),
            ("x86/c", 1000),
            ("m4/d", 1000),
        ]);
        assert_eq!(record().compare(&now, |_| true), []);
    }

    #[test]
    fn what_is_written_is_read() {
        let text = record().text();
        assert!(
            text.lines().any(|line| line.trim() == "\"x86/a\": 1000,"),
            "{text}"
        );
        assert_eq!(Record::parse(&text).unwrap().counts, record().counts);
        assert!(Record::parse("{}").is_err());
    }
}
