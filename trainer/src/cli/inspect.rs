//! `attentive inspect`.

use anyhow::{Result, anyhow};
use attentive::integer::{Bits, Stack};
use attentive::kernels::layout::WeightFormat;
use attentive::{Config, Model, TensorInfo, Tokenizer, WhenFull, integer};
use attentive_trainer::package;
use attentive_trainer::params::name;
use attentive_trainer::produce::memory_lines;
use clap::Args;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// What to look into.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file
    file: PathBuf,
    /// Contexts whose RAM is printed [default: a quarter, half and all of the model's]
    #[arg(long, value_delimiter = ',')]
    context: Vec<usize>,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let mut text = String::new();
    report(&request, &mut text)?;
    match std::io::stdout().write_all(text.as_bytes()) {
        // `inspect … | head` has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn report(request: &Request, out: &mut String) -> Result<()> {
    // Opening compares both checksums.
    let file = package::open(&request.file)?;
    if let Ok(model) = integer::Model::parse(&file) {
        return integers(request, &model, out);
    }
    let model = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
    let config = model.config();
    head(request, "", model.bytes(), config, model.tokenizer(), out)?;
    writeln!(
        out,
        "\n{:<28} {:>6} × {:<6} {:<10} {:>9} {:>6}",
        "tensor", "rows", "cols", "format", "bytes", "bits"
    )?;
    let mut formats: Vec<(WeightFormat, usize)> = Vec::new();
    for tensor in model.tensors() {
        writeln!(out, "{}", line(&tensor))?;
        match formats
            .iter_mut()
            .find(|(format, _)| *format == tensor.format)
        {
            Some((_, bytes)) => *bytes += tensor.bytes,
            None => formats.push((tensor.format, tensor.bytes)),
        }
    }
    writeln!(out)?;
    for (format, bytes) in formats {
        writeln!(out, "{bytes:>9} bytes of {format:?}")?;
    }
    writeln!(out, "\nRAM while it runs:")?;
    for line in memory_lines(&model, &contexts(request, config))? {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\nprovenance:\n{}", model.provenance())?;
    Ok(())
}

/// What is told of either profile.
fn head(
    request: &Request,
    profile: &str,
    bytes: &[u8],
    config: &Config,
    tokenizer: &Tokenizer<'_>,
    out: &mut String,
) -> Result<()> {
    let (file, parameters) = (request.file.display(), config.parameters());
    let bytes = bytes.len();
    writeln!(
        out,
        "{file}: {bytes} bytes, checksums right, {profile}{parameters} parameters"
    )?;
    writeln!(out, "\n{config:#?}")?;
    writeln!(out, "\ntokenizer: {}", tokenizer.name())?;
    Ok(())
}

/// The contexts whose RAM is told.
fn contexts(request: &Request, config: &Config) -> Vec<usize> {
    match request.context.is_empty() {
        true => [4, 2, 1].map(|part| config.context_len / part).to_vec(),
        false => request.context.clone(),
    }
}

/// A file of the integer profile.
fn integers(request: &Request, model: &integer::Model<'_>, out: &mut String) -> Result<()> {
    let config = model.config();
    let profile = "integer profile, ";
    head(
        request,
        profile,
        model.bytes(),
        config,
        model.tokenizer(),
        out,
    )?;
    writeln!(
        out,
        "stream unit {:e}, input step {:e}, {} bits of a logit's fraction; largest piece of work {} multiply-adds",
        model.stream_scale(),
        model.input_scale(),
        model.logit_bits(),
        model.largest_piece()
    )?;
    writeln!(
        out,
        "\n{:<28} {:>6} × {:<6} {:<10} {:>9}",
        "tensor", "rows", "cols", "kind", "bytes"
    )?;
    for (shape, bytes) in model.tensors() {
        let name = match shape.layer {
            Some(layer) => format!("layers.{layer}.{:?}", shape.role),
            None => format!("{:?}", shape.role),
        };
        let kind = format!("{:?}", shape.kind);
        let (rows, cols) = (shape.rows, shape.cols);
        writeln!(
            out,
            "{name:<28} {rows:>6} × {cols:<6} {kind:<10} {bytes:>9}"
        )?;
    }
    integer_memory(request, model, out)?;
    writeln!(out, "\nprovenance:\n{}", model.provenance())?;
    Ok(())
}

/// RAM of an integer model's sessions, in kinds of them side by side, and the stack beside it.
fn integer_memory(request: &Request, model: &integer::Model<'_>, out: &mut String) -> Result<()> {
    let config = model.config();
    writeln!(out, "\nRAM while it runs, in bytes:")?;
    match config.reading() {
        Some(_) => {
            writeln!(out, "{:>9} {:>12}", "context", "an encoder")?;
            for context in contexts(request, config) {
                writeln!(out, "{context:>9} {:>12}", model.encoder_bytes(context))?;
            }
        }
        None => {
            let source = config.source().map_or(0, |source| source.len);
            let kinds: &[(&str, WhenFull, Bits)] = &[
                ("a session", WhenFull::Error, Bits::Eight),
                ("kv i4", WhenFull::Error, Bits::Four),
                ("a ring", WhenFull::Ring, Bits::Eight),
                ("its kv i4", WhenFull::Ring, Bits::Four),
            ];
            // Positions of a table end with it.
            let kinds = if config.position.is_added() {
                &kinds[..2]
            } else {
                kinds
            };
            write!(out, "{:>9}", "context")?;
            for (name, ..) in kinds {
                write!(out, " {name:>12}")?;
            }
            for context in contexts(request, config) {
                write!(out, "\n{context:>9}")?;
                for (_, when_full, kv) in kinds {
                    let options = integer::Options::new(context)
                        .with_source_len(source)
                        .with_when_full(*when_full)
                        .with_kv(*kv);
                    write!(out, " {:>12}", model.session_bytes(&options))?;
                }
            }
            writeln!(out)?;
        }
    }
    writeln!(out, "\nand of stack on 32-bit Arm, at most:")?;
    for (name, bytes) in Stack::ALL {
        writeln!(out, "{bytes:>9} {name}")?;
    }
    Ok(())
}

fn line(tensor: &TensorInfo) -> String {
    let shape = &tensor.shape;
    let elements = shape.rows * shape.cols;
    format!(
        "{:<28} {:>6} × {:<6} {:<10} {:>9} {:>6.2}",
        name(shape),
        shape.rows,
        shape.cols,
        format!("{:?}", tensor.format),
        tensor.bytes,
        8.0 * tensor.bytes as f64 / elements as f64
    )
}
