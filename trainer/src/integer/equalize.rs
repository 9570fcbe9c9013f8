//! The same function with columns that are alike: what i8 with one step for all of them wants (Xiao et al. 2022,
//! "SmoothQuant"; Nagel et al. 2019).
//!
//! Where nothing but a factor lies between the numbers of a column and the weights that multiply them, the numbers can
//! be divided by what the weights are multiplied with. Of a norm's output that is its gain and bias; of values and of the
//! linear half of a gated block, the rows that make them.

use crate::batches::Batch;
use crate::network::{Network, Point};
use crate::params::{Params, shapes};
use anyhow::Result;
use attentive::kernels::Backend;
use attentive::{Config, Ffn, Role};
use std::collections::HashMap;

/// Divides and multiplies so that the largest number of each column and the largest weight there become equal, up to
/// a factor for all columns.
///
/// # Errors
/// Those of the forward pass.
pub fn equalized(params: &Params, batches: &[Batch]) -> Result<Params> {
    let most = columns(params, batches)?;
    let mut out = params.clone();
    let config = params.config;
    for layer in 0..config.layers + config.source_layers() {
        let at = Some(layer);
        let norms = [
            (Role::AttnNormGain, Role::AttnNormBias, Role::QkvWeight),
            (Role::CrossNormGain, Role::CrossNormBias, Role::CrossQWeight),
            (Role::FfnNormGain, Role::FfnNormBias, Role::UpWeight),
        ];
        for (gain, bias, weight) in norms {
            let consumers = [(weight, at)];
            out.share(&most, &consumers, |out, factors| {
                out.divide_rows(gain, at, 0, factors);
                out.divide_rows(bias, at, 0, factors);
            });
        }
        let values = [
            (
                Role::QkvWeight,
                Role::QkvBias,
                Role::OutWeight,
                config.q_dim() + config.kv_dim(),
            ),
            (
                Role::CrossKvWeight,
                Role::CrossKvBias,
                Role::CrossOutWeight,
                config.kv_dim(),
            ),
        ];
        // A value serves as many heads of queries as its group has, whose columns would all have to agree.
        if config.heads == config.kv_heads {
            for (from, bias, to, first) in values {
                out.share(&most, &[(to, at)], |out, factors| {
                    out.divide_rows(from, at, first, factors);
                    out.divide_rows(bias, at, first, factors);
                });
            }
        }
        if config.ffn.is_gated() || config.ffn == Ffn::Relu {
            let first = config.up_dim() - config.hidden_dim;
            out.share(&most, &[(Role::DownWeight, at)], |out, factors| {
                out.divide_rows(Role::UpWeight, at, first, factors);
                out.divide_rows(Role::UpBias, at, first, factors);
            });
        }
    }
    // What the source becomes goes to each of the decoder's layers.
    let layers = (0..config.layers).map(Some);
    let listeners: Vec<_> = layers.map(|layer| (Role::CrossKvWeight, layer)).collect();
    out.share(&most, &listeners, |out, factors| {
        out.divide_rows(Role::SourceNormGain, None, 0, factors);
        out.divide_rows(Role::SourceNormBias, None, 0, factors);
    });
    let last = match config.reading() {
        Some(_) => Some(Role::HeadWeight),
        // A tied matrix is looked up as well.
        None => (!config.tied).then_some(Role::OutputWeight),
    };
    if let Some(role) = last {
        out.share(&most, &[(role, None)], |out, factors| {
            out.divide_rows(Role::FinalNormGain, None, 0, factors);
            out.divide_rows(Role::FinalNormBias, None, 0, factors);
        });
    }
    Ok(out)
}

/// A matrix.
type Place = (Role, Option<usize>);

/// The greatest magnitude in each column of every product's input.
fn columns(params: &Params, batches: &[Batch]) -> Result<HashMap<Place, Vec<f32>>> {
    let network = Network::new(params, Backend::detect(), false);
    let mut most: HashMap<Place, Vec<f32>> = HashMap::new();
    for batch in batches {
        network.observed(batch, &mut |point, layer, x| {
            let Point::Input(role) = point else {
                return;
            };
            let Some(cols) = cols(&params.config, (role, layer)) else {
                return;
            };
            let most = most.entry((role, layer)).or_insert_with(|| vec![0.0; cols]);
            for row in x.chunks_exact(cols) {
                for (most, x) in most.iter_mut().zip(row) {
                    *most = most.max(x.abs());
                }
            }
        })?;
    }
    Ok(most)
}

fn cols(config: &Config, (role, layer): Place) -> Option<usize> {
    let index = config.tensor_index(role, layer)?;
    Some(config.tensor(index)?.cols)
}

impl Params {
    /// Multiplies the columns of matrices that read the same numbers, and calls `divide` with the factors; nothing
    /// where the model has no such matrices.
    fn share(
        &mut self,
        most: &HashMap<Place, Vec<f32>>,
        readers: &[Place],
        divide: impl FnOnce(&mut Self, &[f32]),
    ) {
        let seen: Vec<&Vec<f32>> = readers.iter().filter_map(|place| most.get(place)).collect();
        let Some(first) = seen.first() else {
            return;
        };
        let mut weights = vec![0.0f32; first.len()];
        for &(role, layer) in readers {
            for row in self.rows_mut(role, layer) {
                for (most, w) in weights.iter_mut().zip(row) {
                    *most = most.max(w.abs());
                }
            }
        }
        let numbers = |col: usize| seen.iter().fold(0.0f32, |most, x| most.max(x[col]));
        // A column that is hardly used must not become large.
        let floor = |x: f32, most: f32| x.max(most * 1e-3).max(1e-9);
        let most_number = (0..weights.len()).map(numbers).fold(0.0, f32::max);
        let most_weight = weights.iter().copied().fold(0.0, f32::max);
        let factor = |(col, weight): (usize, &f32)| {
            (floor(numbers(col), most_number) / floor(*weight, most_weight)).sqrt()
        };
        let mut factors: Vec<f32> = weights.iter().enumerate().map(factor).collect();
        let mean = factors.iter().map(|f| f.ln()).sum::<f32>() / factors.len() as f32;
        for factor in &mut factors {
            *factor /= mean.exp();
        }
        for &(role, layer) in readers {
            for row in self.rows_mut(role, layer) {
                for (w, factor) in row.iter_mut().zip(&factors) {
                    *w *= factor;
                }
            }
        }
        divide(self, &factors);
    }

    /// Divides rows of a matrix from `first` on, or elements of a vector; nothing where there is none.
    fn divide_rows(&mut self, role: Role, layer: Option<usize>, first: usize, factors: &[f32]) {
        let Some(index) = self.config.tensor_index(role, layer) else {
            return;
        };
        let Some(shape) = shapes(&self.config).nth(index) else {
            return;
        };
        let width = match shape.rows {
            1 => 1,
            _ => shape.cols,
        };
        let rows = self.tensors[index].chunks_exact_mut(width).skip(first);
        for (row, factor) in rows.zip(factors) {
            for x in row {
                *x /= factor;
            }
        }
    }

    /// Rows of a matrix; none where there is none.
    fn rows_mut(&mut self, role: Role, layer: Option<usize>) -> impl Iterator<Item = &mut [f32]> {
        let index = self.config.tensor_index(role, layer);
        let cols = cols(&self.config, (role, layer)).unwrap_or(1);
        let tensor = index.and_then(|index| self.tensors.get_mut(index));
        tensor
            .into_iter()
            .flat_map(move |tensor| tensor.chunks_exact_mut(cols))
    }
}
