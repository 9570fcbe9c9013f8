//! Loss and gradients of a batch on all cores.
//!
//! A thread takes one micro-batch after the other; the sums are taken in the order of the micro-batches, so the result
//! does not depend on the number of threads or on which was faster.

use crate::batches::Batch;
use crate::network::{Loss, Network};
use crate::params::Params;
use anyhow::{Context, Result};
use attentive::kernels::Backend;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads of this machine.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Calls `work` on every micro-batch, `threads` at a time, each thread with its own copy of the weights.
fn each<T: Send>(
    params: &Params,
    batches: &[Batch],
    threads: usize,
    train: bool,
    work: impl Fn(&Network, &Batch) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Result<T>>>> = batches.iter().map(|_| Mutex::new(None)).collect();
    let backend = Backend::detect();
    let run = || {
        // burn's graphs know each other through the weights they share: a copy a thread keeps them apart.
        let network = Network::new(params, backend, train);
        while let Some((batch, slot)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            batches.get(index).zip(slots.get(index))
        } {
            let result = work(&network, batch);
            if let Ok(mut slot) = slot.lock() {
                *slot = Some(result);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(batches.len()) {
            scope.spawn(run);
        }
        run();
    });
    let result = |slot: Mutex<Option<Result<T>>>| {
        let result = slot.into_inner().ok().flatten();
        result.context("a thread of the training stopped")?
    };
    slots.into_iter().map(result).collect()
}

/// Summed loss in nats and summed gradients.
///
/// # Errors
/// Those of [`Network::gradients`].
pub fn gradients(
    params: &Params,
    batches: &[Batch],
    threads: usize,
) -> Result<(f64, Vec<Vec<f32>>)> {
    let parts = each(params, batches, threads, true, Network::gradients)?;
    let mut parts = parts.into_iter();
    let (mut loss, mut sum) = parts.next().context("a step without sequences")?;
    for (part_loss, part) in parts {
        loss += part_loss;
        for (sum, part) in sum.iter_mut().zip(part) {
            for (sum, x) in sum.iter_mut().zip(part) {
                *sum += x;
            }
        }
    }
    Ok((loss, sum))
}

/// Summed loss.
///
/// # Errors
/// Those of [`Network::loss`].
pub fn loss(params: &Params, batches: &[Batch], threads: usize) -> Result<Loss> {
    let parts = each(params, batches, threads, false, Network::loss)?;
    Ok(parts.into_iter().fold(Loss::default(), |sum, part| Loss {
        nats: sum.nats + part.nats,
        right: sum.right + part.right,
    }))
}
