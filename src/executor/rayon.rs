//! An executor on rayon's pools.
//!
//! Rayon's idle threads sleep after some microseconds, and waking one takes longer than most parts of a pass (measured
//! under a hypervisor: 50 µs and more, while the matrices of a small model take 5). So during a pass, threads do not
//! sleep: those that have nothing to do look for work again and again ([`watch`]), and one that waits for its other
//! half does so too. Both are calls of [`rayon::yield_now`], which runs a piece of whatever work there is in the pool.

extern crate std;

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use rayon::{ThreadPool, Yield};

use super::Executor;

/// How long a thread stays awake after its last piece of work: long enough to draw a token between two passes.
const LINGER: Duration = Duration::from_micros(200);

std::thread_local! {
    /// Whether this thread runs a pass or watches one. Work that it takes on meanwhile must not make it watch another,
    /// whose end might depend on what it has left lying.
    static IS_AWAKE: Cell<bool> = const { Cell::new(false) };
}

/// Runs pieces on a rayon pool (feature `rayon`).
///
/// During a pass, and for a fifth of a millisecond after it, the pool's threads are kept awake, so give a session a
/// pool of its own, with as many threads as there are idle cores.
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

    /// Runs `work` on a thread of the pool: this one, if it is one.
    fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match self.pool {
            Some(pool) => pool.install(work),
            // The global pool has no `install`; a scope runs on one of its threads just so.
            None => rayon::scope(|_| work()),
        }
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
        let is_b_done = AtomicBool::new(false);
        let a = || {
            let a = a();
            // If nobody has taken `b`, it is the first work that is found here.
            while !is_b_done.load(Ordering::Acquire) {
                let _ = is_work_done();
            }
            a
        };
        let b = || {
            let _done = SetOnDrop(&is_b_done);
            b()
        };
        match self.pool {
            Some(pool) => pool.join(a, b),
            None => rayon::join(a, b),
        }
    }

    fn enter<R: Send>(&self, pass: impl FnOnce() -> R + Send) -> R {
        self.install(|| {
            if IS_AWAKE.get() {
                return pass();
            }
            let is_over = Arc::new(AtomicBool::new(false));
            let seen = is_over.clone();
            rayon::spawn_broadcast(move |_| watch(&seen));
            let _over = SetOnDrop(&is_over);
            let _awake = Awake::new();
            pass()
        })
    }

    fn grain(&self) -> usize {
        1 << 15
    }
}

/// Looks for work until the pass is over and there has been none for [`LINGER`].
fn watch(is_over: &AtomicBool) {
    if IS_AWAKE.get() {
        return;
    }
    let _awake = Awake::new();
    let mut last = Instant::now();
    while !is_over.load(Ordering::Acquire) || last.elapsed() < LINGER {
        if is_work_done() {
            last = Instant::now();
        }
    }
}

/// Does a piece of work; if there is none, lets other threads have the core, in case it is not idle after all.
fn is_work_done() -> bool {
    let executed = matches!(rayon::yield_now(), Some(Yield::Executed));
    if !executed {
        std::thread::yield_now();
    }
    executed
}

/// While it lives, this thread is awake.
struct Awake;

impl Awake {
    fn new() -> Self {
        IS_AWAKE.set(true);
        Self
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        IS_AWAKE.set(false);
    }
}

/// Set when it is dropped, so that nobody waits for what has panicked.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
