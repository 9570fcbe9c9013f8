//! `attentive eval`.

use super::{Kv, backend, task};
use anyhow::{Context, Result, ensure};
use attentive::{Block, Model, SessionOptions};
use attentive_trainer::eval::{Windows, test};
use attentive_trainer::produce::Source;
use attentive_trainer::provenance::Provenance;
use attentive_trainer::train::Run;
use attentive_trainer::{package, parallel, prepared};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// What to measure, and how.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file, or a run's directory (its best weights, as f32)
    input: PathBuf,
    /// native, scalar, or another instruction set
    #[arg(long, default_value = "native")]
    backend: String,
    /// Element type of the key-value cache
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    kv: Kv,
    /// Tokens of a window [default: the model's context]
    #[arg(long)]
    context: Option<usize>,
    /// Tokens from one window to the next; the rest of a window is context only [default: half a window]
    #[arg(long)]
    stride: Option<usize>,
    /// The task whose held-out text is scored [default: the one that trained the model]
    #[arg(long)]
    task: Option<PathBuf>,
    /// A text file to score as it is, in the place of a task's text
    #[arg(long, conflicts_with = "task")]
    text: Option<PathBuf>,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let backend = backend(&request.backend)?;
    let (packed, mapped);
    let bytes: &[u8] = if request.input.is_dir() {
        packed = Source::of_run(Run::load(&request.input)?)?.f32()?.file;
        Block::bytes(&packed)
    } else {
        mapped = package::open(&request.input)?;
        &mapped
    };
    let model = super::decoder(bytes)?;
    let texts = texts(&request, &model)?;
    let context = request.context.unwrap_or(model.config().context_len);
    let stride = request.stride.unwrap_or((context / 2).max(1));
    ensure!(
        stride > 0 && stride <= context,
        "--stride should lie between 1 and the context {context}, not {stride}"
    );
    let windows = Windows { context, stride };
    let options = request.kv.with(SessionOptions::new(context));
    let start = Instant::now();
    let score = test(
        &model,
        &texts,
        windows,
        &options,
        backend,
        parallel::threads(),
    )?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}: {} documents, {} bytes, {} tokens; windows of {context}, stride {stride}; backend {}, kv {:?}",
        match &request.text {
            Some(path) => path.display().to_string(),
            None => "held-out text".to_owned(),
        },
        texts.len(),
        score.bytes,
        score.tokens,
        backend.name(),
        request.kv
    );
    println!(
        "bits per byte {:.4}  perplexity {:.3}  loss {:.4} nats a token  ({:.0} tokens/s scored)",
        score.bits_per_byte(),
        score.perplexity(),
        score.nats / score.tokens as f64,
        score.tokens as f64 / seconds
    );
    Ok(ExitCode::SUCCESS)
}

/// What is scored, by document.
fn texts(request: &Request, model: &Model<'_>) -> Result<Vec<String>> {
    if let Some(path) = &request.text {
        let text = std::fs::read_to_string(path);
        return Ok(vec![text.with_context(|| path.display().to_string())?]);
    }
    let recorded = Provenance::parse(model.provenance()).map(|record| record.task);
    let task = task(request.task.as_deref(), &recorded.unwrap_or_default())?;
    let parts = prepared::parts(&task)?;
    Ok(parts.into_iter().map(|part| part.test).collect())
}
