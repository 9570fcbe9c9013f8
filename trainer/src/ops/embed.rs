//! Rows of a table.

use super::{Flat, Unary, flat, unary, with_values};
use burn::backend::TensorMetadata;
use burn::tensor::Tensor;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Embed {
    ids: Arc<[u32]>,
    scale: f32,
}

/// Row `ids[i]` of the table `(rows, dim)`, times `scale`, as row i of the output `(n, dim)`.
///
/// # Panics
/// When an id is not a row of the table.
pub fn embed(table: Tensor<2>, ids: Arc<[u32]>, scale: f32) -> Tensor<2> {
    unary(Embed { ids, scale }, table)
}

impl Unary for Embed {
    /// Shape of the table.
    type Saved = [usize; 2];

    fn forward(&self, table: &Flat, keep: bool) -> (Flat, Option<[usize; 2]>) {
        let shape = table.shape().dims::<2>();
        let [_, dim] = shape;
        let mut out = Vec::with_capacity(self.ids.len() * dim);
        with_values(table, |table| {
            for &id in &*self.ids {
                let row = &table[id as usize * dim..][..dim];
                out.extend(row.iter().map(|x| x * self.scale));
            }
        });
        (flat(out, [self.ids.len(), dim]), keep.then_some(shape))
    }

    fn backward(&self, shape: [usize; 2], gradient: &Flat) -> Flat {
        let [rows, dim] = shape;
        let mut table = vec![0.0; rows * dim];
        with_values(gradient, |gradient| {
            for (&id, gradient) in self.ids.iter().zip(gradient.chunks_exact(dim)) {
                let row = &mut table[id as usize * dim..][..dim];
                for (sum, x) in row.iter_mut().zip(gradient) {
                    *sum += x * self.scale;
                }
            }
        });
        flat(table, shape)
    }
}
