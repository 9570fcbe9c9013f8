//! What weights are rounded to: a scale for each row, and levels of eight or four bits.

use super::narrow;
use crate::package;
use crate::params::{Params, shapes};
use crate::produce::INT8;
use crate::quantize::Grid;
use anyhow::Result;
use attentive::integer::Bits;
use attentive::kernels::pack::scale_index;
use attentive::{Config, TensorKind, TensorShape};
use half::f16;

/// Of each of the floats' tensors in file order, what a level of a byte is worth in each row. A level of four bits is worth
/// sixteen of them.
pub type RowScales = Vec<Vec<f64>>;

/// What a level of four bits is worth.
const UPPER: f64 = 16.0;

/// The numbers that a file of the integer profile can have.
#[derive(Clone, Copy, Debug)]
pub struct RowGrid<'a> {
    /// Of a number of the layers' matrices.
    pub bits: Bits,
    /// Of each column of each tensor, where it is known.
    pub importance: &'a [Option<Vec<f32>>],
}

impl RowGrid<'_> {
    /// Whether a tensor of the floats has numbers of four bits.
    fn is_narrow(&self, config: &Config, shape: &TensorShape) -> bool {
        let mut tensors = attentive::integer::shapes(config);
        let same = tensors.find(|other| (other.role, other.layer) == (shape.role, shape.layer));
        same.is_some_and(|other| self.bits == Bits::Four && other.with_bits(self.bits) != other)
    }
}

impl Grid for RowGrid<'_> {
    type Scales = RowScales;

    fn scales(&self, params: &Params) -> Result<RowScales> {
        let wide = package::scales(params, INT8, self.importance)?;
        let tensors = shapes(&params.config).zip(&params.tensors);
        let tensors = tensors.zip(wide.iter().zip(self.importance));
        Ok(tensors
            .map(|((shape, weights), (wide, importance))| {
                match self.is_narrow(&params.config, &shape) {
                    true => {
                        let steps = narrow::steps(shape.cols, weights, importance.as_deref());
                        steps.iter().map(|step| step / UPPER).collect()
                    }
                    false => of_bytes(&shape, wide),
                }
            })
            .collect())
    }

    fn rounded(&self, params: &Params, scales: &RowScales) -> Params {
        let mut out = params.clone();
        let tensors = shapes(&params.config).zip(&mut out.tensors).zip(scales);
        for ((shape, weights), scales) in tensors {
            if shape.kind == TensorKind::Vector {
                continue;
            }
            let (bits, unit) = match self.is_narrow(&params.config, &shape) {
                true => (Bits::Four, UPPER),
                false => (Bits::Eight, 1.0),
            };
            for (row, scale) in weights.chunks_exact_mut(shape.cols.max(1)).zip(scales) {
                for weight in row {
                    *weight = (f64::from(level(bits, *weight, *scale)) * scale * unit) as f32;
                }
            }
        }
        out
    }
}

/// Scales of rows as int8 files have them; none of a table that is only added.
fn of_bytes(shape: &TensorShape, scales: &[f16]) -> Vec<f64> {
    if scales.is_empty() {
        return Vec::new();
    }
    // The packer's may be negative, with the levels turned over.
    let of_row = |row| {
        let scale = scales.get(scale_index(INT8.matrices, row, 0, shape.cols));
        scale.map_or(0.0, |scale| scale.to_f64().abs())
    };
    (0..shape.rows).map(of_row).collect()
}

/// The level of a weight; of rows of zeros it is 0.
pub(super) fn level(bits: Bits, weight: f32, scale: f64) -> i8 {
    match bits {
        Bits::Eight => (f64::from(weight) / scale).round().clamp(-127.0, 127.0) as i8,
        Bits::Four => narrow::level(weight, scale * UPPER),
    }
}
