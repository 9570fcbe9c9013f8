//! The numbers of a model, outside any graph: what is stepped, saved, quantized and packed.

use crate::random::Random;
use anyhow::{Context, Result, bail, ensure};
use attentive::kernels::ops::embed::dequantize_row;
use attentive::kernels::{Backend, Vector};
use attentive::{Config, Model, Role, TensorKind, TensorShape};

/// The tensors of a model, row-major, in the order of a weights file.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Dimensions.
    pub config: Config,
    /// One for each tensor that [`Config::tensor`] names.
    pub tensors: Vec<Vec<f32>>,
}

/// Shapes of a model's tensors in file order.
pub fn shapes(config: &Config) -> impl Iterator<Item = TensorShape> + '_ {
    (0..config.tensors_len()).filter_map(|index| config.tensor(index))
}

impl Params {
    /// Random weights: normal with deviation √(0.02² · 768 / dim), which is GPT-2's 0.02 at its width; projections back
    /// into the residual stream are divided by √(2 · layers) (Radford et al. 2019, section 2.3). Gains are 1, biases 0.
    pub fn random(config: Config, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let deviation = 0.02 * (768.0 / config.dim as f32).sqrt();
        let residual = deviation / (2.0 * config.layers as f32).sqrt();
        let tensors = shapes(&config).map(|shape| {
            let len = shape.rows * shape.cols;
            match shape.role {
                Role::AttnNormGain
                | Role::FfnNormGain
                | Role::CrossNormGain
                | Role::FinalNormGain
                | Role::SourceNormGain
                | Role::EmbeddingNormGain => vec![1.0; len],
                _ if shape.kind == TensorKind::Vector => vec![0.0; len],
                Role::OutWeight | Role::CrossOutWeight | Role::DownWeight => {
                    random.normal(len, residual)
                }
                _ => random.normal(len, deviation),
            }
        });
        Self {
            config,
            tensors: tensors.collect(),
        }
    }

    /// The weights of a parsed file, as the core multiplies them: integers times scales.
    ///
    /// # Errors
    /// When the file's bytes do not begin at a multiple of 64.
    pub fn from_model(model: &Model<'_>) -> Result<Self> {
        let config = *model.config();
        let mut tensors = Vec::new();
        for shape in shapes(&config) {
            tensors.push(match shape.kind {
                TensorKind::Matrix => {
                    let matrix = model.matrix(shape.role, shape.layer)?;
                    let mut values = vec![0.0; shape.rows * shape.cols];
                    for (row, out) in values.chunks_exact_mut(shape.cols).enumerate() {
                        dequantize_row(Backend::SCALAR, &matrix, row, out)?;
                    }
                    values
                }
                TensorKind::Vector => match model.vector(shape.role, shape.layer)? {
                    Some(Vector::F32(values)) => values.to_vec(),
                    Some(Vector::F16(values)) => values.iter().map(|x| x.to_f32()).collect(),
                    None => bail!("the file names {:?} but does not hold it", shape.role),
                },
            });
        }
        Ok(Self { config, tensors })
    }

    /// With other numbers, whose count must be that of the configuration.
    ///
    /// # Errors
    /// When there are more or fewer tensors or elements than the configuration asks for.
    pub fn new(config: Config, tensors: Vec<Vec<f32>>) -> Result<Self> {
        let need = config.tensors_len();
        ensure!(
            tensors.len() == need,
            "the configuration has {need} tensors, {} came",
            tensors.len()
        );
        for (shape, tensor) in shapes(&config).zip(&tensors) {
            let need = shape.rows * shape.cols;
            ensure!(
                tensor.len() == need,
                "{} has {need} elements, {} came",
                name(&shape),
                tensor.len()
            );
        }
        Ok(Self { config, tensors })
    }

    /// The tensor of that role.
    ///
    /// # Errors
    /// When the model has none.
    pub fn tensor(&self, role: Role, layer: Option<usize>) -> Result<&[f32]> {
        let index = self.config.tensor_index(role, layer);
        let tensor = index.and_then(|index| self.tensors.get(index));
        Ok(tensor.with_context(|| format!("the model has no {role:?}"))?)
    }

    /// Zeros in the same shapes.
    pub fn zeros(&self) -> Vec<Vec<f32>> {
        self.tensors.iter().map(|t| vec![0.0; t.len()]).collect()
    }
}

/// A name for people and for checkpoints: `layers.2.QkvWeight`.
pub fn name(shape: &TensorShape) -> String {
    match shape.layer {
        Some(layer) => format!("layers.{layer}.{:?}", shape.role),
        None => format!("{:?}", shape.role),
    }
}
