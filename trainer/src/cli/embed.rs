//! `attentive embed`.

use super::reader::{self, Lines, shortened};
use anyhow::{Result, anyhow, ensure};
use attentive::Model;
use attentive_trainer::package;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to embed.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file of an encoder that gives embeddings
    file: PathBuf,
    #[command(flatten)]
    lines: Lines,
    /// Print the cosine of each pair of texts instead of their vectors
    #[arg(long)]
    similar: bool,
    /// Backend: native, or one by its name
    #[arg(long, default_value = "native")]
    backend: String,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let backend = super::backend(&request.backend)?;
    let texts = request.lines.read()?;
    ensure!(
        !request.similar || texts.len() > 1,
        "--similar compares texts: give two at least"
    );
    let file = package::open(&request.file)?;
    let model = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
    let (options, mut memory) = reader::memory(&model, "embed")?;
    let mut encoder = reader::encoder(&model, &options, &mut memory, backend)?;
    let mut vectors = Vec::new();
    for text in &texts {
        let read = encoder.run_text(text, None);
        read.map_err(|error| anyhow!("the text {:?}: {error}", shortened(text)))?;
        let vector = encoder.embedding().map_err(|error| anyhow!("{error}"))?;
        vectors.push((encoder.len(), vector.to_vec()));
    }
    let mut out = std::io::stdout().lock();
    for (index, (text, (tokens, vector))) in texts.iter().zip(&vectors).enumerate() {
        if !request.similar {
            let line = json!({ "text": text, "tokens": tokens, "embedding": vector });
            writeln!(out, "{line}")?;
            continue;
        }
        for (other, (_, with)) in texts.iter().zip(&vectors).skip(index + 1) {
            let line = json!({ "cosine": cosine(vector, with), "first": text, "second": other });
            writeln!(out, "{line}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}
