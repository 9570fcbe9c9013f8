//! The gemm crate: products of f32 matrices, nothing packed beforehand (it cannot).

use crate::{Job, Place, unsupported};
use anyhow::Result;
use attentive_peers_protocol::Task;
use gemm::Parallelism;

struct Product {
    rows: usize,
    cols: usize,
    n: usize,
    weights: Vec<Vec<f32>>,
    x: Vec<f32>,
    y: Vec<f32>,
    parallelism: Parallelism,
}

pub(crate) fn prepare(task: &Task, place: &Place) -> Result<Box<dyn Job>> {
    let &Task::Product {
        ref format,
        rows,
        cols,
        n,
        copies,
    } = task
    else {
        return unsupported("matrix products only");
    };
    if format != "f32" {
        return unsupported("f32 only");
    }
    Ok(Box::new(Product {
        rows,
        cols,
        n,
        weights: vec![place.floats("weights.f32", rows * cols)?; copies],
        x: place.floats("x.f32", n * cols)?,
        y: vec![0.0; n * rows],
        parallelism: match place.threads {
            1 => Parallelism::None,
            threads => Parallelism::Rayon(threads),
        },
    }))
}

impl Job for Product {
    fn run(&mut self, runs: usize) -> Result<()> {
        let (rows, cols, n) = (self.rows, self.cols, self.n);
        for weights in std::iter::repeat_n(&self.weights, runs).flatten() {
            assert!(
                weights.len() == rows * cols
                    && self.x.len() == n * cols
                    && self.y.len() == n * rows
            );
            // SAFETY: by the assertion, every element that these sizes and strides name lies in its buffer:
            // y (n, rows) = x (n, cols) · wᵀ (cols, rows), all stored row after row, w as (rows, cols).
            unsafe {
                gemm::gemm(
                    n,
                    rows,
                    cols,
                    self.y.as_mut_ptr(),
                    1,
                    rows as isize,
                    false,
                    self.x.as_ptr(),
                    1,
                    cols as isize,
                    weights.as_ptr(),
                    cols as isize,
                    1,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    self.parallelism,
                );
            }
        }
        Ok(())
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        Ok(self.y.clone())
    }
}
