//! More than one core: who runs the halves that a pass is cut into.

#[cfg(feature = "rayon")]
mod rayon;

#[cfg(feature = "rayon")]
pub use rayon::Rayon;

/// Runs two pieces of work at the same time, if it can: a thread pool, a second core.
///
/// The core has no threads. It cuts a pass into parts that share nothing they write and hands them to its caller's
/// executor, two at a time: a prompt by its tokens, a single token by the rows of the matrices and the heads of the
/// cache. How many parts there are is the least of [`SessionOptions::parts`](crate::SessionOptions::parts), for which
/// memory was set aside, [`Executor::width`], and what is worth cutting ([`Executor::grain`]). The results are the same
/// bits for any number.
///
/// ```
/// use attentive::Executor;
///
/// /// A new thread for each second half. A pool is faster; this shows all there is to it.
/// struct Threads(usize);
///
/// impl Executor for Threads {
///     fn width(&self) -> usize {
///         self.0
///     }
///
///     fn join<A: Send, B: Send>(&self, a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
///         std::thread::scope(|scope| {
///             let b = scope.spawn(b);
///             (a(), b.join().expect("nothing in the core panics"))
///         })
///     }
/// }
///
/// assert_eq!(Threads(2).join(|| 1 + 1, || "two"), (2, "two"));
/// ```
pub trait Executor: Sync {
    /// How many pieces it can run at the same time; 1 keeps a pass whole.
    fn width(&self) -> usize;

    /// Runs `a` and `b`, in any order or at once, and returns when both are done. Pieces join again inside.
    fn join<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B);

    /// Runs a pass, which will [`join`](Executor::join) many times: the place to move to a pool's thread once, not each
    /// time.
    fn enter<R: Send>(&self, pass: impl FnOnce() -> R + Send) -> R {
        pass()
    }

    /// The least multiply-adds of a piece that make a [`join`](Executor::join) pay; a core does some 50 a nanosecond in
    /// integers with AVX2.
    fn grain(&self) -> usize {
        1 << 17
    }
}

/// Keeps a pass whole and costs nothing: what a [`Session`](crate::Session) has unless it is given another executor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sequential;

impl Executor for Sequential {
    #[inline(always)]
    fn width(&self) -> usize {
        1
    }

    #[inline(always)]
    fn join<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        (a(), b())
    }
}

impl<E: Executor> Executor for &E {
    fn width(&self) -> usize {
        (**self).width()
    }

    fn join<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        (**self).join(a, b)
    }

    fn enter<R: Send>(&self, pass: impl FnOnce() -> R + Send) -> R {
        (**self).enter(pass)
    }

    fn grain(&self) -> usize {
        (**self).grain()
    }
}
