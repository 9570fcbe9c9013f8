//! The numbers of a model, outside any graph: what is stepped, saved, quantized and packed.

use crate::random::Random;
use anyhow::{Context, Result, bail, ensure};
use attentive::kernels::{MatrixData, Vector, layout};
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
                Role::AttnNormGain | Role::FfnNormGain | Role::FinalNormGain => vec![1.0; len],
                _ if shape.kind == TensorKind::Vector => vec![0.0; len],
                Role::OutWeight | Role::DownWeight => random.normal(len, residual),
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
                    unpacked(&matrix.data(), shape.rows, shape.cols)
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

/// A packed matrix as row-major floats.
fn unpacked(data: &MatrixData<'_>, rows: usize, cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows * cols);
    for row in 0..rows {
        for col in 0..cols {
            out.push(element(data, row, col, cols));
        }
    }
    out
}

fn element(data: &MatrixData<'_>, row: usize, col: usize, cols: usize) -> f32 {
    use attentive::kernels::pack::scale_index;
    use layout::{GROUP, PANEL, WeightFormat};
    let (panel, lane) = (row / PANEL, row % PANEL);
    let float = (panel * cols + col) * PANEL + lane;
    let columns = cols.next_multiple_of(GROUP);
    let byte = panel * columns * PANEL + col / 4 * 4 * PANEL + lane * 4 + col % 4;
    match data {
        MatrixData::F32(weights) => weights[float],
        MatrixData::F16(weights) => weights[float].to_f32(),
        MatrixData::I8Row {
            weights, scales, ..
        } => scales[row].to_f32() * f32::from(weights[byte]),
        MatrixData::I8Group32 {
            weights, scales, ..
        } => {
            let scale = scales[scale_index(WeightFormat::I8Group32, row, col, cols)];
            scale.to_f32() * f32::from(weights[byte])
        }
        MatrixData::I4Group32 { weights, scales } => {
            let scale = scales[scale_index(WeightFormat::I4Group32, row, col, cols)];
            let at = panel * columns / 2 * PANEL + col / 8 * 4 * PANEL + lane * 4 + col % 4;
            let nibble = if col % 8 < 4 {
                weights[at] & 15
            } else {
                weights[at] >> 4
            };
            scale.to_f32() * (f32::from(nibble) - 8.0)
        }
    }
}
