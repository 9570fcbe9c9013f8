//! `attentive generate`.

use super::speech::Speech;
use anyhow::{Result, anyhow, ensure};
use attentive::kernels::Backend;
use attentive::{Block, Session, SessionError, WhenFull, integer};
use attentive_trainer::eval::encode;
use attentive_trainer::package;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// What to continue, and how.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file
    file: PathBuf,
    /// What the text starts with
    #[arg(long)]
    prompt: String,
    /// Most tokens to generate
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    #[command(flatten)]
    speech: Speech,
    /// Positions of the context; a longer text slides [default: as many as the text needs, at most the model's]
    #[arg(long)]
    context: Option<usize>,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let mut sampler = request.speech.sampler(0.7, 1.0)?;
    ensure!(!request.prompt.is_empty(), "--prompt should not be empty");
    let backend = request.speech.backend()?;
    let file = package::open(&request.file)?;
    if let Ok(model) = integer::Model::parse(&file) {
        return integers(&request, &model, backend);
    }
    let model = super::decoder(&file)?;
    // With what may begin the text.
    let needed = encode(model.tokenizer(), &request.prompt)?.len() + 1 + request.tokens;
    let context = request
        .context
        .unwrap_or(needed.min(model.config().context_len));
    let options = request
        .speech
        .session(context)?
        .with_when_full(WhenFull::Ring);
    let mut memory = package::session_memory(&model, &options)?;
    let mut session = Session::new(&model, &options, Block::bytes_mut(&mut memory), backend)
        .map_err(|error| anyhow!("the session: {error}"))?;
    let start = Instant::now();
    session
        .prompt(&request.prompt)
        .map_err(|error| anyhow!("the prompt: {error}"))?;
    let (read, read_seconds) = (session.position(), start.elapsed().as_secs_f64());
    let mut out = std::io::stdout().lock();
    out.write_all(request.prompt.as_bytes())?;
    let start = Instant::now();
    let mut count = 0;
    while count < request.tokens {
        let piece = session.step(&mut sampler);
        let Some(piece) = piece.map_err(|error| anyhow!("generating: {error}"))? else {
            break;
        };
        count += 1;
        out.write_all(piece)?;
        out.flush()?;
    }
    writeln!(out)?;
    eprintln!(
        "{read} tokens read, {:.0} tokens/s; {count} written, {:.0} tokens/s; backend {}",
        read as f64 / read_seconds,
        count as f64 / start.elapsed().as_secs_f64(),
        backend.name()
    );
    Ok(ExitCode::SUCCESS)
}

/// The same by integers.
fn integers(request: &Request, model: &integer::Model<'_>, backend: Backend) -> Result<ExitCode> {
    let config = model.config();
    ensure!(
        config.reading().is_none() && config.source().is_none(),
        "this model is no decoder: `attentive classify` or `attentive translate` takes it"
    );
    let mut sampler = request.speech.integer_sampler(0.7, 1.0)?;
    let context = request.context.unwrap_or(config.context_len);
    let options = integer::Options::new(context).with_kv(request.speech.integer_kv()?);
    // Positions of a table end with it.
    let options = match config.position.is_added() {
        true => options,
        false => options.with_when_full(WhenFull::Ring),
    };
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let session = integer::Session::new(model, &options, Block::bytes_mut(&mut memory), backend);
    let mut session = session.map_err(|error| anyhow!("the session: {error}"))?;
    let prompted = session.prompt(&request.prompt);
    prompted.map_err(|error| anyhow!("the prompt: {error}"))?;
    let mut out = std::io::stdout().lock();
    out.write_all(request.prompt.as_bytes())?;
    let start = Instant::now();
    let read = session.tokens().len();
    let mut count = 0;
    let mut is_full = false;
    while count < request.tokens {
        let piece = match session.step(&mut sampler) {
            Err(SessionError::ContextFull { .. }) => {
                is_full = true;
                break;
            }
            piece => piece.map_err(|error| anyhow!("generating: {error}"))?,
        };
        let Some(piece) = piece else {
            break;
        };
        count += 1;
        out.write_all(piece)?;
        out.flush()?;
    }
    writeln!(out)?;
    eprintln!(
        "{read} tokens read and {count} written, {:.0} tokens/s; integer profile, backend {}",
        (read + count) as f64 / start.elapsed().as_secs_f64(),
        backend.name()
    );
    if is_full {
        eprintln!(
            "the context of {context} positions is full, and this model's positions end there"
        );
    }
    Ok(ExitCode::SUCCESS)
}
