//! `attentive embed`.

use anyhow::{Context, Result, anyhow, ensure};
use attentive::{Block, Encoder, EncoderOptions, Model};
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
    /// A text; may be given several times
    #[arg(long)]
    text: Vec<String>,
    /// A file with a text in each line; empty lines are skipped
    #[arg(long = "file", value_name = "FILE")]
    lines: Option<PathBuf>,
    /// Print the cosine of each pair of texts instead of their vectors
    #[arg(long)]
    similar: bool,
    /// Backend: native, or one by its name
    #[arg(long, default_value = "native")]
    backend: String,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let backend = super::backend(&request.backend)?;
    let mut texts = request.text;
    if let Some(path) = &request.lines {
        let context = || format!("reading {}", path.display());
        let all = std::fs::read_to_string(path).with_context(context)?;
        texts.extend(
            all.lines()
                .map(str::to_owned)
                .filter(|line| !line.trim().is_empty()),
        );
    }
    ensure!(!texts.is_empty(), "nothing to embed: give --text or --file");
    ensure!(
        !request.similar || texts.len() > 1,
        "--similar compares texts: give two at least"
    );
    let file = package::open(&request.file)?;
    let model = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
    let options = EncoderOptions::new(model.config().context_len);
    let mut memory = vec![Block::ZERO; Block::len_for(encoder_bytes(&model, &options)?)];
    let memory = Block::bytes_mut(&mut memory);
    let mut encoder =
        Encoder::new(&model, &options, memory, backend).map_err(|error| anyhow!("{error}"))?;
    let mut vectors = Vec::new();
    for text in &texts {
        ensure!(!text.trim().is_empty(), "a text is empty");
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

/// What an encoder takes, or why the model is none.
fn encoder_bytes(model: &Model<'_>, options: &EncoderOptions) -> Result<usize> {
    ensure!(
        model.config().reading().is_some(),
        "this model is a decoder; embed takes an encoder, as `attentive import` makes of a bert directory"
    );
    Ok(model.encoder_bytes(options))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
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
