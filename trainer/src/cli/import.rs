//! `attentive import`.

use super::Format;
use anyhow::{Context, Result, ensure};
use attentive::Block;
use attentive_trainer::import::{Imported, directory, import, onnx};
use attentive_trainer::package::Formats;
use attentive_trainer::produce::finish;
use attentive_trainer::{mapped, package, pytorch};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to import, and as what.
#[derive(Args)]
pub(crate) struct Request {
    /// A GGUF file of the architecture llama; or a directory with config.json, model.safetensors and, of a model of texts,
    /// tokenizer.json or vocab.txt, of the architectures bert, llama, mistral, gpt2, vit or whisper, or its
    /// model.safetensors; the same of marian, with vocab.json, source.spm and target.spm; or a directory with CTranslate2's model.bin, config.json and tokenizer.json of whisper; or an
    /// ONNX file of a bert beside its tokenizer.json or vocab.txt; or a directory that prepare made and PyTorch trained
    input: PathBuf,
    /// Where to write [default: the input with the ending .attn]
    #[arg(short, long)]
    out: Option<PathBuf>,
    /// Round the weights to this format [default: keep every number exactly]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Tokens of the longest text, of a bert whose files say fewer than it has positions [default: what they say]
    #[arg(long)]
    context: Option<usize>,
    /// Format of the embedding, if another
    #[arg(long, value_enum, requires = "format")]
    embedding: Option<Format>,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let input = &request.input;
    let source = input.file_name().unwrap_or_default().to_string_lossy();
    let mut command = format!("attentive import {source}");
    if let Some(format) = request.format {
        command += &format!(" --format {}", format.name());
    }
    if let Some(embedding) = request.embedding {
        command += &format!(" --embedding {}", embedding.name());
    }
    if let Some(context) = request.context {
        command += &format!(" --context {context}");
    }
    let formats = request
        .format
        .map(|format| format.formats(request.embedding));
    let beside = || input.with_extension("attn");
    let out = request.out.clone().unwrap_or_else(beside);
    ensure!(
        out != *input,
        "{} would be replaced: name another file with --out",
        input.display()
    );
    let is_safetensors = input.extension().is_some_and(|end| end == "safetensors");
    if is_safetensors || input.is_dir() {
        let dir = match input.parent() {
            Some(parent) if is_safetensors => parent,
            _ => input,
        };
        let formats = formats.unwrap_or(Formats::F32);
        if pytorch::is_here(dir) {
            ensure!(
                request.out.is_none() && request.format.is_none(),
                "the directory is a run's: its files are written into it, in every format; leave out --out and --format"
            );
            finish(pytorch::adopt(dir)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let imported = directory(dir, &source, &command, formats, request.context);
        return written(imported, &request, &out);
    }
    if input.extension().is_some_and(|end| end == "onnx") {
        let formats = formats.unwrap_or(Formats::F32);
        let imported = onnx::import(input, &source, &command, formats, request.context);
        return written(imported, &request, &out);
    }
    ensure!(
        request.context.is_none(),
        "--context is for models of the architecture bert"
    );
    let bytes = mapped::map(input)?;
    let Imported { file, report } =
        import(&bytes, &source, &command, formats).with_context(|| input.display().to_string())?;
    for line in report {
        println!("{line}");
    }
    written(Ok(file), &request, &out)
}

/// Writes what was imported, and says so.
fn written(imported: Result<Vec<Block>>, request: &Request, out: &Path) -> Result<ExitCode> {
    let file = imported.with_context(|| request.input.display().to_string())?;
    package::write(&file, out)?;
    println!("{} bytes: {}", Block::bytes(&file).len(), out.display());
    Ok(ExitCode::SUCCESS)
}
