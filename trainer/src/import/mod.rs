//! Models that others published, from GGUF files and Hugging Face directories.
//!
//! Weights keep their numbers exactly where the core has a format for them; all else keeps them as floats, unless other
//! [`Formats`] are asked for, to which the floats are then rounded anew.

mod bart;
pub mod bert;
pub mod blocks;
pub mod ctranslate2;
pub mod decoders;
pub mod gguf;
pub mod llama;
pub mod marian;
pub mod onnx;
mod protobuf;
mod safetensors;
mod sentencepiece;
pub mod text_vocabulary;
pub mod tokenizer_json;
pub mod vit;
pub mod vocabulary;
pub mod whisper;
pub mod whisper_hf;

use crate::chat::Chat;
use crate::import::gguf::Gguf;
use crate::import::llama::{Glued, Plan};
use crate::import::vocabulary::Vocabulary;
use crate::package::Formats;
use crate::params::name;
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::kernels::layout::WeightFormat;
use attentive::kernels::ops::embed::dequantize_row;
use attentive::kernels::{Backend, Vector};
use attentive::pack::{PackError, Recipe, ScaleMethod, TensorMut, TokenizerParts};
use attentive::{Block, Config, Model, TensorKind, TensorShape};
use serde::Serialize;
use std::collections::BTreeMap;

/// A weights file of floats, tensor by tensor in the order of the configuration, rounded to the formats.
fn packed(
    config: &Config,
    tokenizer: TokenizerParts<'_>,
    provenance: &str,
    formats: Formats,
    tensors: &[Vec<f32>],
) -> Result<Vec<Block>> {
    let recipe = Recipe {
        config,
        tokenizer,
        provenance,
        format: &|shape| formats.of(shape),
    };
    let len = recipe.file_bytes().map_err(|error| anyhow!("{error}"))?;
    let mut file = vec![Block::ZERO; Block::len_for(len)];
    let mut tensors = tensors.iter();
    let written = recipe.write(Block::bytes_mut(&mut file), |mut tensor| {
        let method = ScaleMethod::LeastSquares { importance: None };
        match tensors.next() {
            Some(values) => tensor.write(values, method),
            None => Err(PackError::Values { need: 0, have: 0 }),
        }
    });
    written.map_err(|error| anyhow!("packing: {error}"))?;
    Ok(file)
}

/// Turns a directory into a weights file: CTranslate2's of whisper, or Hugging Face's of an architecture that its
/// `config.json` names. `source` is its name and `command` what was typed, for the record; `context` are the tokens of the
/// longest text, where a bert's files say fewer than it has positions.
///
/// # Errors
/// An architecture that is not supported, and what the importers of the others refuse.
pub fn directory(
    dir: &std::path::Path,
    source: &str,
    command: &str,
    formats: Formats,
    context: Option<usize>,
) -> Result<Vec<Block>> {
    let json = || -> Result<_> {
        let json = safetensors::read_json(&dir.join("config.json"))?;
        Ok(safetensors::ConfigJson(json))
    };
    let is_whisper = whisper::is_here(dir);
    ensure!(
        context.is_none() || !is_whisper && json()?.model_type() == bert::ARCHITECTURE,
        "--context is for models of the architecture bert"
    );
    if is_whisper {
        return whisper::import(dir, source, command, formats);
    }
    let json = json()?;
    match json.model_type() {
        bert::ARCHITECTURE => bert::import(dir, source, command, formats, context),
        vit::ARCHITECTURE => vit::import(dir, source, command, formats),
        whisper_hf::ARCHITECTURE => whisper_hf::import(dir, source, command, formats),
        marian::ARCHITECTURE => marian::import(dir, source, command, formats),
        kind if decoders::ARCHITECTURES.contains(&kind) => {
            decoders::import(dir, source, command, formats)
        }
        kind if kind.ends_with("t5") => bail!(
            "config.json has the model_type {kind:?}, which adds a learned bias by distance to the scores of attention: the \
             core's attention has none"
        ),
        kind => bail!(
            "config.json has the model_type {kind:?}; supported are {:?}, {:?}, {:?}, {:?} and {}",
            bert::ARCHITECTURE,
            vit::ARCHITECTURE,
            whisper_hf::ARCHITECTURE,
            marian::ARCHITECTURE,
            decoders::ARCHITECTURES
                .map(|name| format!("{name:?}"))
                .join(", ")
        ),
    }
}

/// What an import makes.
pub struct Imported {
    /// The weights file.
    pub file: Vec<Block>,
    /// What became of the tensors, and what the file has not, as lines for people.
    pub report: Vec<String>,
}

/// The record inside the file.
#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    command: &'a str,
    source: Source<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<Chat>,
}

/// Whence the weights are.
#[derive(Serialize)]
struct Source<'a> {
    file: &'a str,
    bytes: usize,
    architecture: &'a str,
    /// Of the matrices, in the file and here.
    formats: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    licence: Option<&'a str>,
}

/// Turns a GGUF file into a weights file. Without `formats` every number keeps its value, which is checked at the end.
/// `source` is the file's name and `command` what was typed, for the record.
///
/// # Errors
/// What the file holds that the core cannot run, or that is missing, by its name.
pub fn import(
    bytes: &[u8],
    source: &str,
    command: &str,
    formats: Option<Formats>,
) -> Result<Imported> {
    let gguf = Gguf::parse(bytes)?;
    let architecture = gguf
        .text("general.architecture")?
        .context("the metadata have no general.architecture")?;
    ensure!(
        architecture == llama::ARCHITECTURE,
        "general.architecture is {architecture:?}; supported is {:?}",
        llama::ARCHITECTURE
    );
    let vocabulary = Vocabulary::read(&gguf)?;
    let vocab_len = gguf.tensor("token_embd.weight").map(|tensor| tensor.rows);
    let Plan { config, tensors } = llama::plan(&gguf, vocab_len.unwrap_or(vocabulary.len()))?;
    let format_of = |shape: &TensorShape| match formats {
        Some(formats) => formats.of(shape),
        None => config
            .tensor_index(shape.role, shape.layer)
            .and_then(|index| tensors.get(index))
            .map_or(WeightFormat::F32, Glued::exact_format),
    };
    let mut report = Vec::new();
    let changes = changes(&tensors, format_of);
    report.extend(
        changes
            .iter()
            .map(|(change, count)| format!("{count:>4} × {change}")),
    );
    let text = |id| vocabulary.text(id).unwrap_or_default();
    let chat = match gguf.text("tokenizer.chat_template")? {
        None => Err(anyhow!("it has no chat template")),
        Some(template) => Chat::from_template(
            template,
            text(config.begin_of_text),
            text(config.end_of_text),
        ),
    };
    if let Err(error) = &chat {
        report.push(format!("no conversations: {error:#}"));
    }
    let record = Record {
        name: gguf.text("general.name")?.unwrap_or(source),
        command,
        source: Source {
            file: source,
            bytes: bytes.len(),
            architecture,
            formats: changes.into_keys().collect(),
            organization: gguf.text("general.organization")?,
            licence: gguf.text("general.license")?,
        },
        chat: chat.ok(),
    };
    let provenance = toml::to_string(&record).context("writing the record")?;
    let file = vocabulary.with_parts(|tokenizer| {
        let recipe = Recipe {
            config: &config,
            tokenizer,
            provenance: &provenance,
            format: &format_of,
        };
        let len = recipe.file_bytes().map_err(|error| anyhow!("{error}"))?;
        let mut file = vec![Block::ZERO; Block::len_for(len)];
        let mut tensors = tensors.iter();
        recipe.write(Block::bytes_mut(&mut file), |tensor| {
            let shape = tensor.shape;
            let filled = match tensors.next() {
                Some(glued) => fill(tensor, glued, format_of(&shape), formats.is_some()),
                None => Err(PackError::Values { need: 0, have: 0 }),
            };
            filled.map_err(|error| Refused(anyhow!("{}: {error}", name(&shape))))
        })?;
        Ok::<_, anyhow::Error>(file)
    })?;
    if formats.is_none() {
        let model = Model::parse(Block::bytes(&file)).map_err(|error| anyhow!("{error}"))?;
        check_exact(&model, &tensors)?;
        report.push("every number has the value that it has there".to_owned());
    }
    Ok(Imported { file, report })
}

/// An error of `fill`: packing wants one that its own converts to.
struct Refused(anyhow::Error);

impl From<PackError> for Refused {
    fn from(error: PackError) -> Self {
        Self(anyhow!("packing: {error}"))
    }
}

impl From<Refused> for anyhow::Error {
    fn from(refused: Refused) -> Self {
        refused.0
    }
}

/// "Q4_1 → U4Group32", and how many matrices that are.
fn changes(
    tensors: &[Glued<'_>],
    format_of: impl Fn(&TensorShape) -> WeightFormat,
) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for glued in tensors {
        let types: Vec<_> = glued.dtypes().iter().map(|dtype| dtype.name()).collect();
        let change = format!("{} → {:?}", types.join("+"), format_of(&glued.shape));
        *out.entry(change).or_default() += 1;
    }
    out
}

fn fill(
    mut tensor: TensorMut<'_>,
    glued: &Glued<'_>,
    format: WeightFormat,
    rounds: bool,
) -> Result<(), PackError> {
    let is_float = matches!(format, WeightFormat::F32 | WeightFormat::F16);
    if rounds || is_float {
        return tensor.write(
            &glued.values(),
            ScaleMethod::LeastSquares { importance: None },
        );
    }
    let (levels, scales) = glued.levels(format);
    tensor.write_levels(&levels, &scales)
}

/// Compares every number with the one in the GGUF file, bit for bit (but 0 with −0).
fn check_exact(model: &Model<'_>, tensors: &[Glued<'_>]) -> Result<()> {
    let mut row = Vec::new();
    for glued in tensors {
        let TensorShape {
            role, layer, cols, ..
        } = glued.shape;
        let want = glued.values();
        let same = match glued.shape.kind {
            TensorKind::Vector => match model.vector(role, layer)? {
                Some(Vector::F32(have)) => have == want,
                Some(Vector::F16(have)) => have.iter().map(|x| x.to_f32()).eq(want),
                None => false,
            },
            TensorKind::Matrix => {
                let matrix = model.matrix(role, layer)?;
                row.resize(cols, 0.0);
                let mut same = true;
                for (index, want) in want.chunks_exact(cols).enumerate() {
                    dequantize_row(Backend::SCALAR, &matrix, index, &mut row)?;
                    same &= row == want;
                }
                same
            }
        };
        ensure!(
            same,
            "{} holds numbers that {:?} cannot hold exactly: choose a format with --format",
            name(&glued.shape),
            glued.exact_format()
        );
    }
    Ok(())
}
