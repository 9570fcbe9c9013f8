//! Weights files: mapping them into memory, packing them, writing them atomically.

use crate::files::write_atomically;
use crate::mapped;
use crate::params::Params;
use crate::provenance::Provenance;
use crate::vocabulary::Vocabulary;
use anyhow::{Context, Result, anyhow};
use attentive::kernels::layout::WeightFormat;
use attentive::kernels::pack::{choose_scales, choose_scales_and_minima};
use attentive::pack::{PackError, Recipe, ScaleMethod, TokenizerParts};
use attentive::{
    Block, Model, Role, SessionOptions, TensorKind, TensorShape, WeightsError, integer,
};
use half::f16;
use memmap2::Mmap;
use std::path::Path;

/// The formats of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// Of every matrix but the embeddings.
    pub matrices: WeightFormat,
    /// Of the token embedding and, where there is one, the output matrix.
    pub embedding: WeightFormat,
    /// Of the vectors: `F32` or `F16`.
    pub vectors: WeightFormat,
}

impl Formats {
    /// Floats throughout.
    pub const F32: Self = Self {
        matrices: WeightFormat::F32,
        embedding: WeightFormat::F32,
        vectors: WeightFormat::F32,
    };

    /// The format of a tensor. A table of positions is added, not multiplied, so it is never an integer one; a file
    /// holds sinks as `F32` only.
    pub fn of(&self, shape: &TensorShape) -> WeightFormat {
        match (shape.kind, shape.role) {
            (_, Role::AttnSinks) => WeightFormat::F32,
            (TensorKind::Vector, _) | (_, Role::PositionEmbedding | Role::TypeEmbedding) => {
                self.vectors
            }
            (_, Role::TokenEmbedding | Role::OutputWeight) => self.embedding,
            _ => self.matrices,
        }
    }
}

/// Scales of each tensor in file order, the minima of a format that has them behind; empty for a format without.
pub type Scales = Vec<Vec<f16>>;

/// Scales by least squares, weighed by the importance of each column where that is known.
///
/// # Errors
/// When a weight is not finite or too large.
pub fn scales(
    params: &Params,
    formats: Formats,
    importance: &[Option<Vec<f32>>],
) -> Result<Scales> {
    let mut out = Vec::new();
    let shapes = crate::params::shapes(&params.config);
    for ((shape, values), importance) in shapes.zip(&params.tensors).zip(importance) {
        let format = formats.of(&shape);
        let lens = attentive::kernels::layout::weight_lens(format, shape.rows, shape.cols);
        let lens = lens.context("a matrix beyond memory")?;
        let mut parameters = vec![f16::ZERO; lens.scales + lens.minima];
        let (scales, minima) = parameters.split_at_mut(lens.scales);
        let importance = importance.as_deref();
        let method = ScaleMethod::LeastSquares { importance };
        let (rows, cols) = (shape.rows, shape.cols);
        let chosen = if lens.minima > 0 {
            choose_scales_and_minima(rows, cols, values, method, scales, minima)
        } else if lens.scales > 0 {
            choose_scales(format, rows, cols, values, method, scales)
        } else {
            Ok(())
        };
        chosen.map_err(|error| anyhow!("{}: {error}", crate::params::name(&shape)))?;
        out.push(parameters);
    }
    Ok(out)
}

/// The scale at that place of a tensor's [`Scales`], and its minimum: 0 for a format without.
pub fn parameters(format: WeightFormat, scales: &[f16], at: usize) -> (f16, f16) {
    match format {
        WeightFormat::U4Group32 => (scales[at], scales[scales.len() / 2 + at]),
        _ => (scales[at], f16::ZERO),
    }
}

/// Packs a model with the given scales.
///
/// # Errors
/// When a weight does not fit its format, or the provenance is too long.
pub fn pack(
    params: &Params,
    vocabulary: Option<&Vocabulary>,
    provenance: &Provenance,
    formats: Formats,
    scales: &Scales,
) -> Result<Vec<Block>> {
    let provenance = provenance.to_toml()?;
    let pack = |tokenizer: TokenizerParts<'_>| {
        let format = |shape: &TensorShape| formats.of(shape);
        let recipe = Recipe {
            config: &params.config,
            tokenizer,
            provenance: &provenance,
            format: &format,
        };
        let bytes = recipe.file_bytes().map_err(|error| anyhow!("{error}"))?;
        let mut file = vec![Block::ZERO; Block::len_for(bytes)];
        let mut tensors = params.tensors.iter().zip(scales);
        let written = recipe.write(Block::bytes_mut(&mut file), |mut tensor| {
            match tensors.next() {
                Some((values, scales)) => tensor.write_with_scales(values, scales),
                None => Err(PackError::Values { need: 0, have: 0 }),
            }
        });
        written.map_err(|error| anyhow!("packing: {error}"))?;
        Ok(file)
    };
    match vocabulary {
        Some(vocabulary) => vocabulary.with_parts(pack),
        None => pack(TokenizerParts::None),
    }
}

/// Writes a packed model after checking that it reads back.
///
/// # Errors
/// When it cannot be written; nothing half-written remains.
pub fn write(file: &[Block], path: &Path) -> Result<()> {
    let bytes = Block::bytes(file);
    verify(bytes).map_err(|error| anyhow!("reading back: {error}"))?;
    write_atomically(path, bytes)
}

/// Maps a file into memory, as a session accepts it, and verifies it.
///
/// # Errors
/// When it cannot be read or is not a sound weights file.
pub fn open(path: &Path) -> Result<Mmap> {
    let file = mapped::map(path)?;
    verify(&file).map_err(|error| {
        anyhow!(
            "{} is not a sound .attn file: {error}; make it again with train, quantize or import",
            path.display()
        )
    })?;
    Ok(file)
}

/// Checks a file of either profile.
fn verify(bytes: &[u8]) -> Result<(), WeightsError> {
    match Model::parse(bytes) {
        Err(WeightsError::Profile { integer: true }) => integer::Model::parse(bytes)?.verify(),
        model => model?.verify(),
    }
}

/// Memory for a session with these options.
///
/// # Errors
/// When the model cannot have them.
pub fn session_memory(model: &Model<'_>, options: &SessionOptions) -> Result<Vec<Block>> {
    options
        .check(model.config())
        .map_err(|error| anyhow!("{error}"))?;
    Ok(vec![
        Block::ZERO;
        Block::len_for(model.session_bytes(options))
    ])
}
