//! `attentive translate`.

use super::reader::{Lines, shortened};
use super::{Kv, backend, beams};
use anyhow::{Result, anyhow, ensure};
use attentive::kernels::Backend;
use attentive::{Block, Model, Session, SessionOptions, integer};
use attentive_trainer::integer::measure::{session_options, written};
use attentive_trainer::package;
use attentive_trainer::translation::{Search, translate};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to translate, and how.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file of a model that translates
    file: PathBuf,
    #[command(flatten)]
    lines: Lines,
    /// Texts that are pursued at once; 1 takes the likeliest next token
    #[arg(long, default_value_t = 4, value_parser = beams())]
    beams: usize,
    /// How much beams prefer long texts: 0 not at all, 1 by the mean of the tokens
    #[arg(long, default_value_t = 1.0)]
    length_penalty: f32,
    /// Element type of the keys and values
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    kv: Kv,
    /// Backend: native, or one by its name
    #[arg(long, default_value = "native")]
    backend: String,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let backend = backend(&request.backend)?;
    let file = package::open(&request.file)?;
    if let Ok(model) = integer::Model::parse(&file) {
        return integers(request, &model, backend);
    }
    let model = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
    let search = Search {
        beams: request.beams,
        length_penalty: request.length_penalty,
        kv: request.kv.with(SessionOptions::new(1))?.kv,
    };
    let options = search.options(&model)?;
    let texts = request.lines.read()?;
    let mut memory = package::session_memory(&model, &options)?;
    let session = Session::new(&model, &options, Block::bytes_mut(&mut memory), backend);
    let mut session = session.map_err(|error| anyhow!("{error}"))?;
    let mut out = std::io::stdout().lock();
    for text in &texts {
        let made = translate(&mut session, text, search);
        let made = made.map_err(|error| error.context(shortened(text)))?;
        writeln!(out, "{}", made.text)?;
        if made.is_cut {
            eprintln!(
                "the translation of {:?} is cut: it fills the context",
                shortened(text)
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The same by integers, which have no search.
fn integers(request: Request, model: &integer::Model<'_>, backend: Backend) -> Result<ExitCode> {
    let context = model.config().context_len;
    let (options, mut memory) = session_options(model, context, request.kv.bits()?);
    ensure!(options.source_len > 0, "this model does not translate");
    eprintln!("integer profile: the likeliest next token, without beams");
    let texts = request.lines.read()?;
    let session = integer::Session::new(model, &options, Block::bytes_mut(&mut memory), backend);
    let mut session = session.map_err(|error| anyhow!("{error}"))?;
    let mut out = std::io::stdout().lock();
    for text in &texts {
        let read = session.read(text);
        read.map_err(|error| anyhow!("{:?}: {error}", shortened(text)))?;
        writeln!(out, "{}", written(&mut session, context)?)?;
        if session.tokens().len() >= context {
            eprintln!(
                "the translation of {:?} is cut: it fills the context",
                shortened(text)
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
