//! The numbers of an integer weights file, from floats and their calibration.

use super::calibrate::{Calibration, Site, angle};
use super::grid::{RowScales, level};
use crate::params::Params;
use crate::vocabulary::Vocabulary;
use anyhow::{Context, Result, anyhow, ensure};
use attentive::integer::pack::{Recipe, Record, TensorMut};
use attentive::integer::{Bits, Kind, Shape, check, shapes};
use attentive::kernels::integer::{pack_quads, pair_sums, quad_sums, stride};
use attentive::kernels::ops::position::sinusoidal;
use attentive::pack::{PackError, TokenizerParts};
use attentive::{Block, Config, Ffn, Pooling, Position, Role};
use std::f64::consts::LOG2_E;

/// Everything that a file holds besides tokenizer and provenance.
#[derive(Clone, Debug)]
pub struct Rounded {
    config: Config,
    record: Record,
    bits: Bits,
    tensors: Vec<Tensor>,
}

/// A tensor's numbers; what its kind has not is empty.
#[derive(Clone, Debug, Default)]
struct Tensor {
    /// (rows, cols), without filling.
    levels: Vec<i8>,
    multipliers: Vec<i32>,
    biases: Vec<i32>,
    steps: Vec<i32>,
    rotary_steps: Vec<u32>,
    halves: Vec<i16>,
    half_biases: Vec<i16>,
    scalars: Vec<i32>,
}

/// Rounds a model. `row_scales` are a [`RowGrid`](super::RowGrid)'s of as many bits.
///
/// # Errors
/// A model that the integer profile does not have, activations that were not seen, numbers that do not fit.
pub fn round(
    params: &Params,
    calibration: &Calibration,
    row_scales: RowScales,
    bits: Bits,
) -> Result<Rounded> {
    let config = params.config;
    check(&config).map_err(|error| anyhow!("{error}"))?;
    let mut rounding = Rounding {
        params,
        calibration,
        config,
        row_scales,
        stream: 0.0,
        logit_bits: 0,
    };
    rounding.stream = rounding.choose_stream()?;
    rounding.logit_bits = rounding.choose_logit_bits()?;
    let mut tensors = Vec::new();
    for shape in shapes(&config).map(|shape| shape.with_bits(bits)) {
        let tensor = rounding.tensor(&shape);
        tensors
            .push(tensor.with_context(|| format!("{:?} of layer {:?}", shape.role, shape.layer))?);
    }
    let record = rounding.record()?;
    Ok(Rounded {
        config,
        record,
        bits,
        tensors,
    })
}

impl Rounded {
    /// The weights file.
    ///
    /// # Errors
    /// When the provenance is too long.
    pub fn pack(&self, vocabulary: Option<&Vocabulary>, provenance: &str) -> Result<Vec<Block>> {
        let pack = |tokenizer: TokenizerParts<'_>| {
            let recipe = Recipe {
                config: &self.config,
                tokenizer,
                provenance,
                record: self.record,
                bits: self.bits,
            };
            let bytes = recipe.file_bytes().map_err(|error| anyhow!("{error}"))?;
            let mut file = vec![Block::ZERO; Block::len_for(bytes)];
            let mut tensors = self.tensors.iter();
            let written = recipe.write(Block::bytes_mut(&mut file), |to| match tensors.next() {
                Some(tensor) => tensor.write(to),
                None => Err(PackError::Values { need: 0, have: 0 }),
            });
            written.map_err(|error| anyhow!("packing: {error}"))?;
            Ok(file)
        };
        match vocabulary {
            Some(vocabulary) => vocabulary.with_parts(pack),
            None => pack(TokenizerParts::None),
        }
    }
}

impl Tensor {
    fn write(&self, to: TensorMut<'_>) -> Result<(), PackError> {
        let cols = to.shape.cols.max(1);
        let rows = to.bytes.chunks_exact_mut(stride(cols));
        for (row, levels) in rows.zip(self.levels.chunks_exact(cols)) {
            copy(&mut row[..cols], levels)?;
        }
        if to.shape.kind == Kind::Quads {
            let (need, have) = (to.quads.len(), self.levels.len());
            let packed = pack_quads(cols, &self.levels, to.quads);
            let summed = packed.and_then(|()| quad_sums(cols, to.quads, to.pairs));
            summed.map_err(|_| PackError::Values { need, have })?;
        } else if !to.pairs.is_empty() {
            // A table that is not multiplied has none.
            let (need, have) = (to.pairs.len() * stride(cols), to.bytes.len());
            let sums = pair_sums(cols, to.bytes, to.pairs);
            sums.map_err(|_| PackError::Values { need, have })?;
        }
        copy(to.multipliers, &self.multipliers)?;
        copy(to.biases, &self.biases)?;
        copy(to.steps, &self.steps)?;
        copy(to.rotary_steps, &self.rotary_steps)?;
        copy(to.halves, &self.halves)?;
        copy(to.half_biases, &self.half_biases)?;
        copy(to.scalars, &self.scalars)
    }
}

fn copy<T: Copy>(to: &mut [T], from: &[T]) -> Result<(), PackError> {
    let (need, have) = (to.len(), from.len());
    if need != have {
        return Err(PackError::Values { need, have });
    }
    to.copy_from_slice(from);
    Ok(())
}

/// A unit of what a bent function takes, and of what it gives.
const BENT_IN: f64 = 1.0 / 64.0;
const BENT_OUT: f64 = 1.0 / 1024.0;
/// Most of a logit's fraction.
const LOGIT_BITS: u8 = 10;

struct Rounding<'a> {
    params: &'a Params,
    calibration: &'a Calibration,
    config: Config,
    /// Of each of the floats' tensors: what a level of a byte is worth.
    row_scales: RowScales,
    /// What a unit of the residual stream is worth.
    stream: f64,
    logit_bits: u8,
}

/// The roles of a matrix: its bias, and the norm or other place that its input comes from.
fn bias_of(role: Role) -> Option<Role> {
    Some(match role {
        Role::PatchWeight => Role::PatchBias,
        Role::QkvWeight => Role::QkvBias,
        Role::OutWeight => Role::OutBias,
        Role::CrossQWeight => Role::CrossQBias,
        Role::CrossKvWeight => Role::CrossKvBias,
        Role::CrossOutWeight => Role::CrossOutBias,
        Role::UpWeight => Role::UpBias,
        Role::DownWeight => Role::DownBias,
        Role::TokenEmbedding | Role::OutputWeight => Role::OutputBias,
        Role::HeadWeight => Role::HeadBias,
        _ => return None,
    })
}

impl Rounding<'_> {
    fn row_scales(&self, role: Role, layer: Option<usize>) -> Result<&[f64]> {
        let index = self.config.tensor_index(role, layer);
        let scales = index.and_then(|index| self.row_scales.get(index));
        let scales = scales.with_context(|| format!("no scales of {role:?}"))?;
        Ok(scales)
    }

    /// The largest scale of a row.
    fn coarsest(&self, role: Role, layer: Option<usize>) -> Result<f64> {
        let scales = self.row_scales(role, layer)?;
        Ok(scales.iter().copied().fold(0.0, f64::max))
    }

    /// A step of `unit`, or one so large that no row's product has a factor of 1/2 or more: an accumulator's unit is
    /// the row's scale times the input's step.
    fn fine_enough(&self, unit: f64, role: Role, layer: Option<usize>) -> Result<f64> {
        let accumulator = self.coarsest(role, layer)? * self.input(role, layer)?;
        Ok(unit.max(accumulator * 2.001))
    }

    /// All layers, the source's included.
    fn layers(&self) -> std::ops::Range<usize> {
        0..self.config.layers + self.config.source_layers()
    }

    fn has_cross(&self, layer: usize) -> bool {
        self.config.source().is_some() && layer < self.config.layers
    }

    /// Twice what was seen, in i16; coarser where a product would have a factor of 1/2 or more.
    fn choose_stream(&self) -> Result<f64> {
        let mut unit = 2.0 * self.calibration.most(Site::Stream)? / 32767.0;
        for layer in self.layers() {
            for role in [Role::OutWeight, Role::DownWeight] {
                unit = self.fine_enough(unit, role, Some(layer))?;
            }
            if self.has_cross(layer) {
                unit = self.fine_enough(unit, Role::CrossOutWeight, Some(layer))?;
            }
        }
        if self.config.has(Role::PatchWeight) {
            unit = self.fine_enough(unit, Role::PatchWeight, None)?;
        }
        Ok(unit)
    }

    fn choose_logit_bits(&self) -> Result<u8> {
        let role = self.output();
        let accumulator = self.coarsest(role, None)? * self.input(role, None)? * LOG2_E;
        let fits = |bits: &u8| accumulator * f64::from(1u32 << bits) < 0.4999;
        let bits = (0..=LOGIT_BITS).rev().find(fits);
        bits.context("the logits are too coarse for the integer profile")
    }

    fn output(&self) -> Role {
        match (self.config.reading(), self.config.tied) {
            (Some(_), _) => Role::HeadWeight,
            (None, true) => Role::TokenEmbedding,
            (None, false) => Role::OutputWeight,
        }
    }

    /// What a step of a product's input is worth.
    fn input(&self, role: Role, layer: Option<usize>) -> Result<f64> {
        match role {
            Role::QkvWeight => self.normed(Role::AttnNormGain, layer),
            Role::CrossQWeight => self.normed(Role::CrossNormGain, layer),
            Role::UpWeight => self.normed(Role::FfnNormGain, layer),
            Role::CrossKvWeight => self.normed(Role::SourceNormGain, None),
            Role::TokenEmbedding | Role::OutputWeight => self.normed(Role::FinalNormGain, None),
            Role::HeadWeight => match self.pooling() {
                Some(Pooling::Mean) => self.calibration.step(Site::Input(role, None)),
                _ => self.normed(Role::FinalNormGain, None),
            },
            _ => self.calibration.step(Site::Input(role, layer)),
        }
    }

    fn pooling(&self) -> Option<Pooling> {
        self.config.reading().map(|reading| reading.pooling)
    }

    /// What a step of a norm's output is worth: gains and biases must fit i16 in 1/64 of it.
    fn normed(&self, gain: Role, layer: Option<usize>) -> Result<f64> {
        let step = self.calibration.step(Site::Normed(gain, layer))?;
        let (gains, biases) = self.gains(gain, layer)?;
        let most = gains
            .iter()
            .chain(&biases)
            .fold(0.0, |most: f64, x| most.max(x.abs()));
        Ok(step.max(most * 64.0 / 32767.0))
    }

    fn gains(&self, gain: Role, layer: Option<usize>) -> Result<(Vec<f64>, Vec<f64>)> {
        let bias = match gain {
            Role::AttnNormGain => Role::AttnNormBias,
            Role::CrossNormGain => Role::CrossNormBias,
            Role::FfnNormGain => Role::FfnNormBias,
            Role::FinalNormGain => Role::FinalNormBias,
            _ => Role::SourceNormBias,
        };
        let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let gains = wide(self.params.tensor(gain, layer)?);
        let biases = match self.config.has(bias) {
            true => wide(self.params.tensor(bias, layer)?),
            false => vec![0.0; gains.len()],
        };
        Ok((gains, biases))
    }

    /// Units of queries, keys and values in i8.
    fn attention(&self, layer: usize, cross: bool) -> Result<[f64; 3]> {
        let of = |site, role, finer: f64| -> Result<f64> {
            let step = self.calibration.step(site)? / finer;
            Ok(self.fine_enough(step, role, Some(layer))? * finer)
        };
        // Rotations begin with 1/64 of a step.
        let finer = match (&self.config.position, cross) {
            (Position::Rotary { .. }, false) => 64.0,
            _ => 1.0,
        };
        let (query, other) = match cross {
            true => (Role::CrossQWeight, Role::CrossKvWeight),
            false => (Role::QkvWeight, Role::QkvWeight),
        };
        Ok([
            of(Site::Query { layer, cross }, query, finer)?,
            of(Site::Key { layer, cross }, other, finer)?,
            of(Site::Value { layer, cross }, other, 1.0)?,
        ])
    }

    fn linear(&self, layer: usize) -> Result<f64> {
        let unit = 2.0 * self.calibration.most(Site::Linear(layer))?.max(1e-6) / 32767.0;
        self.fine_enough(unit, Role::UpWeight, Some(layer))
    }

    /// The unit of each row of a product.
    fn output_units(&self, shape: &Shape) -> Result<Vec<f64>> {
        let config = &self.config;
        let layer = shape.layer.unwrap_or(0);
        let heads = |units: [(usize, f64); 3]| {
            let units = units.into_iter();
            let units = units.flat_map(|(heads, unit)| vec![unit; heads * config.head_dim]);
            units.collect::<Vec<_>>()
        };
        Ok(match shape.role {
            Role::QkvWeight => {
                let [query, key, value] = self.attention(layer, false)?;
                let finer = if let Position::Rotary { .. } = config.position {
                    64.0
                } else {
                    1.0
                };
                let (q, kv) = (config.heads, config.kv_heads);
                heads([(q, query / finer), (kv, key / finer), (kv, value)])
            }
            Role::CrossQWeight => {
                let [query, ..] = self.attention(layer, true)?;
                heads([(config.heads, query), (0, 0.0), (0, 0.0)])
            }
            Role::CrossKvWeight => {
                let [_, key, value] = self.attention(layer, true)?;
                heads([(config.kv_heads, key), (config.kv_heads, value), (0, 0.0)])
            }
            Role::UpWeight => {
                let bent = match config.ffn {
                    Ffn::Relu => self.linear(layer)?,
                    _ => BENT_IN,
                };
                let mut units = vec![bent; config.hidden_dim];
                if config.ffn.is_gated() {
                    units.extend(vec![self.linear(layer)?; config.hidden_dim]);
                }
                units
            }
            Role::TokenEmbedding | Role::OutputWeight | Role::HeadWeight => {
                let unit = 1.0 / LOG2_E / f64::from(1u32 << self.logit_bits);
                vec![unit; shape.rows]
            }
            _ => vec![self.stream; shape.rows],
        })
    }

    fn tensor(&self, shape: &Shape) -> Result<Tensor> {
        match shape.kind {
            Kind::Product | Kind::Quads => self.product(shape),
            Kind::Tied => {
                let product = self.product(shape)?;
                let scales = self.row_scales(shape.role, shape.layer)?;
                Ok(Tensor {
                    steps: self.steps(scales, f64::from(self.config.embedding_scale))?,
                    ..product
                })
            }
            Kind::Table => self.table(shape),
            Kind::Norm => self.norm(shape),
            Kind::Steps => Ok(self.rotary_steps(shape)),
            Kind::Scalars => self.scalars(shape),
        }
    }

    fn product(&self, shape: &Shape) -> Result<Tensor> {
        let (role, layer) = (shape.role, shape.layer);
        let weights = self.params.tensor(role, layer)?;
        let scales = self.row_scales(role, layer)?;
        let input = self.input(role, layer)?;
        let units = self.output_units(shape)?;
        let bias = match bias_of(role) {
            Some(bias) if self.config.has(bias) => Some(self.params.tensor(bias, layer)?),
            _ => None,
        };
        let bits = match shape.kind {
            Kind::Quads => Bits::Four,
            _ => Bits::Eight,
        };
        let mut tensor = Tensor::default();
        let rows = weights.chunks_exact(shape.cols).zip(scales).zip(units);
        for (index, ((row, scale), unit)) in rows.enumerate() {
            let bias = bias.map_or(0.0, |bias| f64::from(bias[index]));
            // A row that hardly is there must leave room for its bias in the sum.
            let least = (bias.abs() / 2f64.powi(29)).max(unit / 2f64.powi(24)) / input;
            let scale = scale.max(least);
            let level = |w: &f32| level(bits, *w, scale);
            tensor.levels.extend(row.iter().map(level));
            tensor.multipliers.push(factor(scale * input / unit)?);
            tensor.biases.push((bias / (scale * input)).round() as i32);
        }
        Ok(tensor)
    }

    /// Steps of rows of these scales, in 2⁻¹⁶ of the stream's unit.
    fn steps(&self, scales: &[f64], factor: f64) -> Result<Vec<i32>> {
        let step = |scale: &f64| {
            let step = (scale * factor / self.stream * 65536.0).round();
            ensure!(step < 2f64.powi(31), "a row of a table is too large");
            Ok(step as i32)
        };
        scales.iter().map(step).collect()
    }

    fn table(&self, shape: &Shape) -> Result<Tensor> {
        let position = match shape.role {
            Role::PositionEmbedding => Some(self.config.position),
            Role::SourcePositionEmbedding => self.config.source().map(|source| source.position),
            _ => None,
        };
        let values = match position {
            Some(Position::Sinusoidal) => {
                let mut values = vec![0.0; shape.rows * shape.cols];
                for (at, row) in values.chunks_exact_mut(shape.cols).enumerate() {
                    sinusoidal(at, row);
                }
                values
            }
            _ => self.params.tensor(shape.role, None)?.to_vec(),
        };
        let factor = match shape.role {
            Role::TokenEmbedding => f64::from(self.config.embedding_scale),
            _ => 1.0,
        };
        let mut tensor = Tensor::default();
        let mut scales = Vec::new();
        for row in values.chunks_exact(shape.cols) {
            let most = row.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
            let scale = f64::from(most.max(1e-9)) / 127.0;
            let level = |x: &f32| (f64::from(*x) / scale).round() as i8;
            tensor.levels.extend(row.iter().map(level));
            scales.push(scale);
        }
        tensor.steps = self.steps(&scales, factor)?;
        Ok(tensor)
    }

    fn norm(&self, shape: &Shape) -> Result<Tensor> {
        let step = self.normed(shape.role, shape.layer)?;
        let (gains, biases) = self.gains(shape.role, shape.layer)?;
        let fixed = |x: &f64| (x / step * 64.0).round() as i16;
        Ok(Tensor {
            halves: gains.iter().map(fixed).collect(),
            half_biases: biases.iter().map(fixed).collect(),
            ..Tensor::default()
        })
    }

    fn rotary_steps(&self, shape: &Shape) -> Tensor {
        let base = match self.config.position {
            Position::Rotary { base, .. } => base,
            _ => 1.0,
        };
        let turns = |pair| angle(base, 2 * shape.cols, pair, 1) / std::f64::consts::TAU;
        // Of a turn the whole ones do not matter.
        let fixed = |pair| (turns(pair).fract() * 4_294_967_296.0).round() as u64 as u32;
        Tensor {
            rotary_steps: (0..shape.cols).map(fixed).collect(),
            ..Tensor::default()
        }
    }

    fn scalars(&self, shape: &Shape) -> Result<Tensor> {
        let layer = shape.layer.context("scalars belong to a layer")?;
        let hidden = self.input(Role::DownWeight, Some(layer))?;
        let bent = match self.config.ffn {
            Ffn::Relu => self.linear(layer)?,
            ffn if ffn.is_gated() => BENT_OUT * self.linear(layer)?,
            _ => BENT_OUT,
        };
        let [score, mantissa, shift] = self.heads(layer, false)?;
        let mut scalars = vec![score, mantissa, shift, factor(bent / hidden)?];
        match self.has_cross(layer) {
            true => scalars.extend(self.heads(layer, true)?),
            false => scalars.extend([0; 3]),
        }
        scalars.push(0);
        Ok(Tensor {
            scalars,
            ..Tensor::default()
        })
    }

    /// The multiplier of scores, mantissa and shift of the output.
    fn heads(&self, layer: usize, cross: bool) -> Result<[i32; 3]> {
        let [query, key, value] = self.attention(layer, cross)?;
        let score = query * key / (self.config.head_dim as f64).sqrt() * LOG2_E * 16.0;
        let role = match cross {
            true => Role::CrossOutWeight,
            false => Role::OutWeight,
        };
        let gain = value / self.input(role, Some(layer))?;
        let exponent = gain.log2().floor().clamp(-8.0, 6.0);
        let mantissa = (gain * 2f64.powf(14.0 - exponent)).round().min(32767.0);
        Ok([factor(score)?, mantissa as i32, 14 - exponent as i32])
    }

    fn record(&self) -> Result<Record> {
        let dim = self.config.dim as f64;
        let eps = f64::from(self.config.norm_eps) * dim * dim / self.stream.powi(2);
        let pooling = match self.pooling() {
            Some(Pooling::Mean) => {
                let normed = self.normed(Role::FinalNormGain, None)?;
                normed / self.input(Role::HeadWeight, None)? * 65536.0
            }
            _ => 0.0,
        };
        let input_scale = match self.config.has(Role::PatchWeight) {
            true => self.input(Role::PatchWeight, None)?,
            false => 0.0,
        };
        Ok(Record {
            eps: eps.round() as u64,
            logit_bits: self.logit_bits,
            pooling: pooling.round() as u32,
            stream_scale: self.stream as f32,
            input_scale: input_scale as f32,
        })
    }
}

/// A factor below 1/2 in 2⁻³².
fn factor(x: f64) -> Result<i32> {
    let fixed = (x * 2f64.powi(32)).round();
    ensure!(fixed < 2f64.powi(31), "a factor of {x} is 1/2 or more");
    Ok(fixed as i32)
}
