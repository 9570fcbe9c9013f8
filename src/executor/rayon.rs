//! An executor on rayon's pools.

use rayon::ThreadPool;

use super::Executor;

/// Runs pieces on a rayon pool (feature `rayon`).
///
/// A session that is used on a thread outside the pool moves to it for each pass, which takes some ten microseconds. Where that
/// matters, call the session inside [`ThreadPool::install`].
///
/// ```
/// use attentive::{Executor, Rayon};
///
/// let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
/// let executor = Rayon::new(&pool);
/// assert_eq!(executor.width(), 2);
/// assert_eq!(executor.join(|| 1, || 2), (1, 2));
/// # Ok::<(), rayon::ThreadPoolBuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Rayon<'p> {
    pool: Option<&'p ThreadPool>,
}

impl Rayon<'static> {
    /// On the pool that the calling thread belongs to, or else the global one.
    pub const fn current() -> Self {
        Self { pool: None }
    }
}

impl<'p> Rayon<'p> {
    /// On that pool.
    pub const fn new(pool: &'p ThreadPool) -> Self {
        Self { pool: Some(pool) }
    }
}

impl Executor for Rayon<'_> {
    fn width(&self) -> usize {
        match self.pool {
            Some(pool) => pool.current_num_threads(),
            None => rayon::current_num_threads(),
        }
    }

    fn join<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        match self.pool {
            Some(pool) => pool.join(a, b),
            None => rayon::join(a, b),
        }
    }

    fn enter<R: Send>(&self, pass: impl FnOnce() -> R + Send) -> R {
        match self.pool {
            Some(pool) => pool.install(pass),
            // The global pool has no `install`; a scope runs on one of its threads just so.
            None => rayon::scope(|_| pass()),
        }
    }
}
