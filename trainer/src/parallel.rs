//! Loss and gradients of a batch on all cores.
//!
//! A thread takes one micro-batch after the other; the sums are taken in the order of the micro-batches, so the result
//! does not depend on the number of threads or on which was faster.

use crate::batches::Batch;
use crate::loss::Loss;
use crate::network::Network;
use crate::params::Params;
use anyhow::{Context, Result};
use attentive::kernels::Backend;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads of this machine.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Calls `work` on every micro-batch, `threads` at a time, each thread with a network of its own.
pub(crate) fn each<N, T: Send>(
    make: impl Fn() -> N + Sync,
    batches: &[Batch],
    threads: usize,
    work: impl Fn(&N, &Batch) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Result<T>>>> = batches.iter().map(|_| Mutex::new(None)).collect();
    let run = || {
        // burn's graphs know each other through the weights they share: a copy a thread keeps them apart.
        let network = make();
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
    let make = || Network::new(params, Backend::detect(), true);
    summed(each(make, batches, threads, Network::gradients)?)
}

/// Sums in the order of the parts.
pub(crate) fn summed(parts: Vec<(f64, Vec<Vec<f32>>)>) -> Result<(f64, Vec<Vec<f32>>)> {
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
    let make = || Network::new(params, Backend::detect(), false);
    Ok(each(make, batches, threads, Network::loss)?
        .into_iter()
        .sum())
}
