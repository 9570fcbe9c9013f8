//! The subcommands.

pub(crate) mod answer;
pub(crate) mod attention;
pub(crate) mod chat;
pub(crate) mod classify;
pub(crate) mod compare;
pub(crate) mod embed;
pub(crate) mod eval;
pub(crate) mod generate;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod prepare;
pub(crate) mod quantize;
mod reader;
pub(crate) mod speak;
mod speech;
pub(crate) mod train;
pub(crate) mod transcribe;
pub(crate) mod translate;

use anyhow::{Result, anyhow, bail, ensure};
use attentive::integer::Bits;
use attentive::kernels::Backend;
use attentive::kernels::layout::{KvDtype, WeightFormat};
use attentive::kernels::ops::attention::Precision;
use attentive::{Model, SessionOptions};
use attentive_trainer::package::Formats;
use attentive_trainer::produce::{INT4, INT8};
use attentive_trainer::task::Task;
use clap::ValueEnum;
use clap::builder::TypedValueParser;
use std::path::Path;

/// Tokens of a prompt that are run at once.
pub(crate) const PREFILL: usize = 128;

/// Element type of the key-value cache.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kv {
    F32,
    F16,
    Bf16,
    /// Bytes, multiplied as bytes
    I8,
    /// Bytes, multiplied by 16-bit queries and probabilities
    I8Accurate,
    /// Four bits, of the integer profile alone, which else has bytes
    I4,
}

impl Kv {
    /// The options with this cache.
    fn with(self, options: SessionOptions) -> Result<SessionOptions> {
        Ok(match self {
            Kv::F32 => options.with_kv(KvDtype::F32),
            Kv::F16 => options.with_kv(KvDtype::F16),
            Kv::Bf16 => options.with_kv(KvDtype::BF16),
            Kv::I8 => options.with_kv(KvDtype::I8).with_precision(Precision::Fast),
            Kv::I8Accurate => options
                .with_kv(KvDtype::I8)
                .with_precision(Precision::Accurate),
            Kv::I4 => bail!("--kv i4 is of the integer profile: this model has floats"),
        })
    }

    /// Bits of a number of this cache in the integer profile, which has bytes where nothing is said.
    fn bits(self) -> Result<Bits> {
        match self {
            Kv::F32 | Kv::I8 => Ok(Bits::Eight),
            Kv::I4 => Ok(Bits::Four),
            Kv::F16 | Kv::Bf16 | Kv::I8Accurate => {
                bail!("the integer profile has --kv i8 and i4")
            }
        }
    }
}

/// A format of matrices.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq)]
pub(crate) enum Format {
    F32,
    F16,
    /// A scale for each row
    Int8,
    /// A scale for each 32 columns of a row
    Int8Group,
    /// A scale for each 32 columns of a row
    Int4,
    /// A scale and a minimum for each 32 columns of a row
    Int4Min,
}

impl Format {
    fn weights(self) -> WeightFormat {
        match self {
            Self::F32 => WeightFormat::F32,
            Self::F16 => WeightFormat::F16,
            Self::Int8 => WeightFormat::I8Row,
            Self::Int8Group => WeightFormat::I8Group32,
            Self::Int4 => WeightFormat::I4Group32,
            Self::Int4Min => WeightFormat::U4Group32,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Int8Group => "int8-group",
            Self::Int4 => "int4",
            Self::Int4Min => "int4-min",
        }
    }

    /// Of all tensors; the embeddings may have another.
    pub(crate) fn formats(self, embedding: Option<Self>) -> Formats {
        let mut formats = match self {
            Self::Int8 => INT8,
            Self::Int4 => INT4,
            Self::F32 => Formats::F32,
            _ => Formats {
                matrices: self.weights(),
                embedding: self.weights(),
                vectors: WeightFormat::F16,
            },
        };
        if let Some(embedding) = embedding {
            formats.embedding = embedding.weights();
        }
        formats
    }
}

/// How many beams a search may have.
pub(crate) fn beams() -> impl TypedValueParser<Value = usize> {
    let most = SessionOptions::BEAMS_MAX as u64;
    clap::value_parser!(u64)
        .range(1..=most)
        .map(|beams| beams as usize)
}

/// `native` or the name of a backend.
pub(crate) fn backend(name: &str) -> Result<Backend> {
    if name == "native" {
        return Ok(Backend::detect());
    }
    if let Some(backend) = Backend::by_name(name) {
        return Ok(backend);
    }
    let names: Vec<_> = Backend::available().map(Backend::name).collect();
    bail!(
        "this processor has no backend {name:?}; there are native, {}",
        names.join(", ")
    )
}

/// The task that is named, or the one of the provenance record.
pub(crate) fn task(named: Option<&Path>, recorded: &str) -> Result<Task> {
    match named {
        Some(path) => Task::read(path),
        None if Path::new(recorded).exists() => Task::read(Path::new(recorded)),
        None => bail!(
            "the text to measure on is that of the task {recorded:?}, which is not here: start from the directory that \
             it counts from, or name a task file with --task"
        ),
    }
}

/// The model of a file, if it writes text.
fn decoder(bytes: &[u8]) -> Result<Model<'_>> {
    let model = Model::parse(bytes).map_err(|error| anyhow!("{error}"))?;
    ensure!(
        model.config().reading().is_none(),
        "this model is an encoder, which writes no text; `attentive embed` takes it if it gives embeddings"
    );
    ensure!(
        model.config().source().is_none(),
        "this model is an encoder–decoder, which writes what follows from a source, and this command gives it none"
    );
    Ok(model)
}
