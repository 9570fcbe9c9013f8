//! What a network's logits are to tell, and the loss where they do not.

use crate::batches::Batch;
use crate::network::inside;
use crate::ops::{cross_entropy, embed};
use anyhow::{Context, Result, ensure};
use attentive::kernels::Backend;
use attentive::{Config, Output};
use burn::tensor::Tensor;
use std::sync::Arc;

/// How logits meet targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Each row has one.
    Rows,
    /// Each sequence has two: the tokens that an answer begins and ends with.
    Spans,
    /// Vectors of pairs find each other.
    Pairs,
}

impl Aim {
    pub(crate) fn of(config: &Config) -> Self {
        match config.reading().map(|reading| reading.output) {
            Some(Output::Span) => Self::Spans,
            Some(Output::Embedding { .. }) => Self::Pairs,
            _ => Self::Rows,
        }
    }

    /// Summed over the targets in nats, with its graph.
    ///
    /// # Errors
    /// When there are not as many targets as there should be, or one is not among the logits.
    pub(crate) fn summed(
        self,
        backend: Backend,
        logits: Tensor<2>,
        batch: &Batch,
    ) -> Result<Tensor<1>> {
        let mut sum: Option<Tensor<1>> = None;
        for (rows, targets) in self.rows(logits, batch)? {
            let loss = checked_loss(backend, rows, &targets)?;
            sum = Some(match sum {
                Some(sum) => sum + loss,
                None => loss,
            });
        }
        sum.context("a batch without a sequence")
    }

    /// The same as a number, and how many targets have the highest logit.
    ///
    /// # Errors
    /// As [`Aim::summed`].
    pub(crate) fn loss(self, backend: Backend, logits: Tensor<2>, batch: &Batch) -> Result<Loss> {
        let mut sum = Loss::default();
        for (rows, targets) in self.rows(logits, batch)? {
            sum += loss_of(backend, rows, &targets)?;
        }
        Ok(sum)
    }

    /// Rows of logits, each with its target.
    fn rows(self, logits: Tensor<2>, batch: &Batch) -> Result<Vec<(Tensor<2>, Vec<u32>)>> {
        match self {
            Self::Rows => Ok(vec![(logits, batch.targets.clone())]),
            Self::Spans => spans(logits, batch),
            Self::Pairs => alike(logits),
        }
    }
}

/// Of some targets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    /// Summed, in nats.
    pub nats: f64,
    /// How many have the highest logit.
    pub right: usize,
}

impl std::ops::AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.nats += other.nats;
        self.right += other.right;
    }
}

impl std::iter::Sum for Loss {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        let mut sum = Self::default();
        parts.for_each(|part| sum += part);
        sum
    }
}

/// A loss, and the gradients of all weights in their order.
pub(crate) fn gradients_of(
    loss: Tensor<1>,
    gradients: impl Iterator<Item = Option<Tensor<2>>>,
) -> Result<(f64, Vec<Vec<f32>>)> {
    let values = |gradient: Option<Tensor<2>>| {
        let gradient = gradient.context("a weight took no part in the loss")?;
        let values = gradient.into_data().try_into_vec::<f32>();
        values.context("gradients are f32")
    };
    let gradients: Result<_> = gradients.map(values).collect();
    Ok((scalar(loss)?, gradients?))
}

/// The loss of logits, (targets, width).
fn loss_of(backend: Backend, logits: Tensor<2>, targets: &[u32]) -> Result<Loss> {
    let [_, width] = logits.dims();
    let values = logits.clone().into_data().try_into_vec::<f32>();
    let values = values.context("logits are f32")?;
    let right = |(row, target): &(&[f32], &u32)| highest(row) == **target as usize;
    let rows = values.chunks_exact(width).zip(targets);
    Ok(Loss {
        right: rows.filter(right).count(),
        nats: scalar(checked_loss(backend, logits, targets)?)?,
    })
}

/// Of each sequence the logits of its tokens for being an answer's first and its last, `(2, tokens)`, and these two.
fn spans(logits: Tensor<2>, batch: &Batch) -> Result<Vec<(Tensor<2>, Vec<u32>)>> {
    let (targets, rest) = batch.targets.as_chunks::<2>();
    ensure!(
        rest.is_empty() && targets.len() == batch.lens.len(),
        "{} sequences have {} targets, not two each",
        batch.lens.len(),
        batch.targets.len()
    );
    let mut from = 0;
    let mut out = Vec::new();
    for (&len, targets) in batch.lens.iter().zip(targets) {
        let rows = logits.clone().slice([from..from + len, 0..2]);
        out.push((rows.transpose(), targets.to_vec()));
        from += len;
    }
    Ok(out)
}

/// What cosines are multiplied by to become logits (Reimers and Gurevych's library has 20 as well).
const COSINE_SCALE: f32 = 20.0;

/// Of the vectors of pairs, side by side, the logits of each first text for each second one, and the other way round: a text
/// is told apart from the others of its batch (Henderson et al. 2017, section 4.4; both ways as Radford et al. 2021).
fn alike(vectors: Tensor<2>) -> Result<Vec<(Tensor<2>, Vec<u32>)>> {
    let [rows, _] = vectors.dims();
    ensure!(rows.is_multiple_of(2), "{rows} texts are not pairs");
    let pairs = rows as u32 / 2;
    let lengths = (vectors.clone() * vectors.clone()).sum_dim(1) + 1e-12;
    let vectors = vectors / lengths.sqrt();
    let side = |side: u32| {
        let rows: Arc<[u32]> = (0..pairs).map(|pair| 2 * pair + side).collect();
        embed(vectors.clone(), rows, 1.0)
    };
    let logits = side(0).matmul(side(1).transpose()) * COSINE_SCALE;
    let targets: Vec<u32> = (0..pairs).collect();
    Ok(vec![
        (logits.clone(), targets.clone()),
        (logits.transpose(), targets),
    ])
}

fn checked_loss(backend: Backend, logits: Tensor<2>, targets: &[u32]) -> Result<Tensor<1>> {
    let [rows, width] = logits.dims();
    ensure!(
        rows == targets.len(),
        "{rows} rows of logits have {} targets",
        targets.len()
    );
    inside(targets, width)?;
    Ok(cross_entropy(backend, logits, targets.into()))
}

/// The place of the highest logit, of equals the first.
pub fn highest(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    best
}

fn scalar(loss: Tensor<1>) -> Result<f64> {
    let values = loss.into_data().try_into_vec::<f32>();
    let values = values.context("a loss is f32")?;
    Ok(f64::from(*values.first().context("a loss is one number")?))
}
