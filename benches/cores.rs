//! A second core: a pool of the measuring thread and another, which keeps off the first one's core.

use crate::case::Outcome;
use crate::machine;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::OnceLock;

/// Cores of the pool.
pub const CORES: usize = 2;

/// The pool, its second thread on another core than the one that this thread is on now.
///
/// # Errors
/// When the system gives no thread.
pub fn pool() -> Outcome<&'static ThreadPool> {
    static POOL: OnceLock<Result<ThreadPool, String>> = OnceLock::new();
    let pool = POOL
        .get_or_init(|| {
            // The measuring thread is one of the pool's: it works instead of waiting, and its clock sees all of its
            // work.
            let builder = ThreadPoolBuilder::new()
                .num_threads(CORES)
                .use_current_thread();
            builder.build().map_err(|error| error.to_string())
        })
        .as_ref()
        .map_err(String::as_str)?;
    let (thread, core) = (std::thread::current().id(), machine::core());
    pool.broadcast(|_| {
        if std::thread::current().id() != thread {
            machine::keep_off(core);
        }
    });
    Ok(pool)
}
