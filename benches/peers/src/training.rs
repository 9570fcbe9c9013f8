//! A training step of the trainer beside PyTorch's, in alternating runs of a few steps.

use crate::options::Training;
use crate::row::Row;
use anyhow::{Context, Result, bail};
use attentive_benches::contest::Standing;
use std::process::{Command, Stdio};

/// Its name in the report.
pub(crate) const CASE: &str = "train/austen-1m/2-threads";
const THREADS: &str = "2";
/// Of one run; the first warms up.
const STEPS: usize = 10;
/// Runs of each side.
const ROUNDS: usize = 3;

/// Tokens a second of the best step of each side.
pub(crate) fn measure(Training { ours, torch, task }: &Training) -> Result<Row> {
    let (mut best, mut peer) = (0.0_f64, 0.0_f64);
    let mut version = String::new();
    let mut failure = None;
    for round in 1..=ROUNDS {
        let (figure, last) = run(ours, task)?;
        best = best.max(figure);
        eprintln!("  {round}/{ROUNDS} ours: {last}");
        // PyTorch may be missing; our own figure is worth having without it.
        match run(torch, task) {
            Ok((figure, last)) => {
                peer = peer.max(figure);
                eprintln!("  {round}/{ROUNDS} torch: {last}");
                version = last;
            }
            Err(error) => failure = Some(format!("{error:#}")),
        }
    }
    let figure = match failure {
        Some(reason) => Err(reason),
        None => Ok(peer),
    };
    let standing = Standing {
        name: "torch".to_owned(),
        figure,
    };
    let mut row = Row::of_training(CASE, best, standing);
    row.note = version;
    Ok(row)
}

/// Tokens a second of the best step, and the last line that the program printed.
fn run(command: &[String], task: &str) -> Result<(f64, String)> {
    let (program, words) = command.split_first().context("a command without a word")?;
    let output = Command::new(program)
        .args(words)
        .args([task, THREADS, &STEPS.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start `{program}`"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{program}` ended with {}: {}",
            output.status,
            text.lines().last().unwrap_or("")
        );
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let best = text
        .lines()
        .filter_map(tokens_per_second)
        .fold(0.0, f64::max);
    if best == 0.0 {
        bail!("`{program}` told of no step");
    }
    Ok((best, text.lines().last().unwrap_or("").to_owned()))
}

/// Of a line such as `step 3: 219 ms, 18720 tokens/s`.
fn tokens_per_second(line: &str) -> Option<f64> {
    let rest = line.strip_prefix("step ")?;
    let (_, rest) = rest.split_once("ms, ")?;
    rest.strip_suffix(" tokens/s")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::tokens_per_second;

    #[test]
    fn only_lines_of_steps_count() {
        assert_eq!(
            tokens_per_second("step 3: 219 ms, 18720 tokens/s"),
            Some(18720.0)
        );
        assert_eq!(
            tokens_per_second("984192 parameters, 219 ms a step, 18720 tokens/s"),
            None
        );
        assert_eq!(tokens_per_second("step 3"), None);
    }
}
