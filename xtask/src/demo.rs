//! The main job, shown: one prompt and one seed, generated on the PC and on a Cortex-M4.

use crate::{
    firmware,
    process::{self, cargo, command, root, target_dir},
    report::{self, Report},
    size,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

/// The request and the weights.
#[derive(Args)]
pub(crate) struct Options {
    /// What the text starts with
    #[arg(long, default_value = "It is a truth universally acknowledged, that")]
    prompt: String,
    /// How many tokens to generate
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// 0 is greedy; thousandths count
    #[arg(long, default_value = "0.7", value_parser = temperature)]
    temperature: Thousandths,
    /// Of the sampler
    #[arg(long, default_value_t = 1813)]
    seed: u64,
    /// The weights: int8 or int4 as shipped, or the path of an .attn file
    #[arg(long, default_value = "int8", conflicts_with = "train")]
    model: String,
    /// First train a small model on data/austen for about two minutes (plus the trainer's build), then use it
    #[arg(long)]
    train: bool,
}

/// A temperature as the firmware takes it: parsing decimals there would cost 15 kB of flash.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Thousandths(u32);

fn temperature(text: &str) -> Result<Thousandths, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=65.0).contains(&value) => {
            Ok(Thousandths((value * 1000.0).round() as u32))
        }
        _ => Err("a temperature is a number from 0 to 65".into()),
    }
}

/// One run and where it ran.
struct Shown {
    place: String,
    report: Report,
    speed: String,
}

/// Generates on the PC (native and scalar) and in the firmware, and compares.
pub(crate) fn run(options: &Options) -> Result<()> {
    let model = match options.train {
        true => train()?,
        false => shipped(&options.model)?,
    };
    eprintln!("building for the PC and for the Cortex-M4 …");
    process::run_quietly(&mut cargo(
        "build --release --package attentive --features std --example generate",
    ))?;
    let elf = firmware::build("generate", &model)?;

    println!(
        "weights: {} ({} bytes)",
        display(&model),
        std::fs::metadata(&model)?.len()
    );
    let mut runs = Vec::new();
    for backend in ["native", "scalar"] {
        runs.push(on_pc(backend, &model, options)?);
    }
    runs.push(on_device(&elf, options)?);
    let [native, scalar, device] = runs.as_slice() else {
        bail!("three runs expected")
    };

    println!();
    ensure!(
        scalar.report.tokens == device.report.tokens,
        "the firmware's tokens differ from those of the PC's scalar backend"
    );
    ensure!(
        scalar.report.logits == device.report.logits && device.report.logits.is_some(),
        "the firmware's logits differ from those of the PC's scalar backend"
    );
    let count = device.report.tokens.len();
    println!(
        "The firmware's {count} tokens are those of the PC's scalar backend, and so are the logits' bits."
    );
    match first_difference(&native.report.tokens, &scalar.report.tokens) {
        None => println!("The native backend draws the same tokens."),
        Some(at) => println!(
            "The native backend rounds differently; its tokens part from them at number {at}."
        ),
    }
    table(&runs)?;
    size::check(&size::footprint(&elf)?, &device.report)
}

fn table(runs: &[Shown]) -> Result<()> {
    println!(
        "\n{:<30} {:>14} {:>14} {:>10}   speed",
        "where", "code+weights", "RAM (session)", "stack"
    );
    for Shown {
        place,
        report,
        speed,
    } in runs
    {
        let show = |name| {
            report
                .figures
                .get(name)
                .map_or("-".into(), |value| format!("{value:.0}"))
        };
        println!(
            "{place:<30} {:>14} {:>14} {:>10}   {speed}",
            show("flash_bytes"),
            show("session_bytes"),
            show("stack_bytes")
        );
    }
    println!("bytes; the session is the KV cache and all scratch");
    Ok(())
}

fn on_pc(backend: &str, model: &Path, options: &Options) -> Result<Shown> {
    println!("\n── PC, {backend} ──");
    let mut generate = command(
        target_dir()
            .join("release")
            .join("examples")
            .join("generate"),
    );
    generate.args(["--backend", backend, "--model"]).arg(model);
    generate.args([
        "--prompt",
        &options.prompt,
        "--tokens",
        &options.tokens.to_string(),
    ]);
    generate.args([
        "--temperature-thousandths",
        &options.temperature.0.to_string(),
        "--seed",
        &options.seed.to_string(),
    ]);
    let mut child = process::spawn(generate.stdout(Stdio::piped()))?;
    let mut lines = Vec::new();
    let mut screen = Screen::start(&options.prompt);
    for line in BufReader::new(child.stdout.take().context("no stdout")?).lines() {
        let line = line?;
        screen.show(&line);
        lines.push(line);
    }
    screen.end();
    ensure!(child.wait()?.success(), "generation on the PC failed");
    let report = Report::parse(lines.iter().map(String::as_str))?;
    let name = lines
        .iter()
        .find_map(|line| line.strip_prefix("backend: "))
        .unwrap_or(backend);
    let speed = format!("{:.0} tokens/s", report.figure("tokens_per_s")?);
    Ok(Shown {
        place: format!("PC, {backend} ({name})"),
        report,
        speed,
    })
}

fn on_device(elf: &Path, options: &Options) -> Result<Shown> {
    println!("\n── Cortex-M4F (QEMU mps2-an386) ──");
    let mut screen = Screen::start(&options.prompt);
    let request = [
        options.tokens.to_string(),
        options.temperature.0.to_string(),
        options.seed.to_string(),
        options.prompt.clone(),
    ];
    let run = firmware::run(elf, &request, |line| screen.show(line))?;
    screen.end();
    ensure!(
        run.status == 0,
        "the firmware ended with status {}: {}",
        run.status,
        run.lines.last().map_or("", String::as_str)
    );
    let report = Report::parse(run.lines.iter().map(String::as_str))?;
    let speed = format!(
        "{:.2} M instructions/token",
        report.figure("instructions_per_token")? / 1e6
    );
    Ok(Shown {
        place: "Cortex-M4F (mps2-an386)".into(),
        report,
        speed,
    })
}

/// Shows tokens as running text, as they come.
struct Screen {
    /// Bytes of a character whose end has not come yet.
    pending: Vec<u8>,
}

impl Screen {
    fn start(prompt: &str) -> Self {
        print!("{prompt}");
        Self {
            pending: Vec::new(),
        }
    }

    fn show(&mut self, line: &str) {
        // A torn line is reported by the parser of the whole run.
        if let Ok(Some((_, bytes))) = report::token(line) {
            self.pending.extend(bytes);
            let whole = match std::str::from_utf8(&self.pending) {
                Ok(_) => self.pending.len(),
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(_) => self.pending.len(),
            };
            let text: Vec<u8> = self.pending.drain(..whole).collect();
            print!("{}", String::from_utf8_lossy(&text));
            // Nobody watching is no reason to stop.
            let _ = std::io::stdout().flush();
        }
    }

    fn end(self) {
        println!("{}", String::from_utf8_lossy(&self.pending));
    }
}

/// Trains the small model and returns the int8 file that the trainer says it wrote.
fn train() -> Result<PathBuf> {
    eprintln!("building the trainer (about ten minutes on two cores the first time) …");
    process::run_quietly(&mut cargo(
        "build --profile trainer --package attentive-trainer",
    ))?;
    let start = Instant::now();
    let mut trainer = command(target_dir().join("trainer").join("attentive"));
    trainer.args(["train", "trainer/tasks/austen-small.toml"]);
    let mut child = process::spawn(trainer.stdout(Stdio::piped()))?;
    let mut written = None;
    for line in BufReader::new(child.stdout.take().context("no stdout")?).lines() {
        let line = line?;
        println!("{line}");
        let named = line
            .split_whitespace()
            .map(|word| word.trim_matches(|c: char| "`'\",;:()".contains(c)));
        written = named
            .rev()
            .find(|word| word.ends_with("int8.attn"))
            .map(PathBuf::from)
            .or(written);
    }
    ensure!(child.wait()?.success(), "training failed");
    let path = root().join(written.context("the trainer named no int8 .attn file")?);
    ensure!(
        path.is_file(),
        "the trainer named {}, which is not there",
        path.display()
    );
    println!("trained in {:.0} s", start.elapsed().as_secs_f64());
    Ok(path)
}

/// The file that `--model` names.
pub(crate) fn shipped(name: &str) -> Result<PathBuf> {
    let path = match name {
        "int8" | "int4" => root().join("models").join(format!("austen-1m-{name}.attn")),
        path => std::env::current_dir()?.join(path),
    };
    ensure!(
        path.is_file(),
        "there are no weights at {} (--model takes int8, int4 or a path)",
        path.display()
    );
    Ok(path)
}

fn display(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn first_difference(left: &[u32], right: &[u32]) -> Option<usize> {
    if left == right {
        return None;
    }
    Some(left.iter().zip(right).take_while(|(a, b)| a == b).count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_are_thousandths() {
        assert_eq!(temperature("0.7"), Ok(Thousandths(700)));
        assert_eq!(temperature("0"), Ok(Thousandths(0)));
        for bad in ["-1", "nan", "inf", "warm", "66"] {
            assert!(temperature(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn finds_where_tokens_part() {
        assert_eq!(first_difference(&[1, 2], &[1, 2]), None);
        assert_eq!(first_difference(&[1, 2], &[1, 3]), Some(2));
        assert_eq!(first_difference(&[1], &[1, 3]), Some(2));
    }
}
