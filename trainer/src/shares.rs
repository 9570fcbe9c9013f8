//! Independent pieces of work, side by side.

use anyhow::{Result, anyhow};

/// Calls `work` on as many shares of the items as there are threads, side by side; what it returns, in the order of the
/// items.
///
/// # Errors
/// Those of `work`.
pub fn shares<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&[T]) -> Result<Vec<R>> + Sync,
) -> Result<Vec<R>> {
    if threads <= 1 || items.len() <= 1 {
        return work(items);
    }
    let share = items.len().div_ceil(threads.max(1)).max(1);
    let work = &work;
    let parts: Result<Vec<Vec<R>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = items
            .chunks(share)
            .map(|items| scope.spawn(move || work(items)))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Vec<R>>>| {
            thread.join().map_err(|_| anyhow!("a thread stopped"))?
        };
        threads.into_iter().map(join).collect()
    });
    Ok(parts?.into_iter().flatten().collect())
}
