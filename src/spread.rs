//! Cutting work in halves for the caller's executor, down to the parts that it has room for.

use core::ops::Range;

use crate::error::SessionError;
use crate::executor::Executor;

/// Work that can be cut in two pieces which write to nothing in common.
pub(crate) trait Work: Sized + Send {
    /// Cuts work that is `parts` of its whole: the right piece begins with part `middle`.
    fn cut(self, parts: &Range<usize>, middle: usize) -> Result<(Self, Self), SessionError>;
}

/// The executor of a pass, and the parts that there is scratch for.
pub(crate) struct Spread<'a, E> {
    executor: &'a E,
    parts_max: usize,
}

impl<E> Clone for Spread<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Spread<'_, E> {}

impl<'a, E: Executor> Spread<'a, E> {
    pub(crate) const fn new(executor: &'a E, parts_max: usize) -> Self {
        Self {
            executor,
            parts_max,
        }
    }

    /// For work inside a part, which is not cut again.
    pub(crate) const fn alone(self) -> Self {
        Self {
            parts_max: 1,
            ..self
        }
    }

    /// The most parts of anything. With [`Sequential`](crate::Sequential) the compiler knows that it is one, and drops
    /// what is for more.
    #[inline(always)]
    pub(crate) fn most(&self) -> usize {
        self.parts_max.min(self.executor.width())
    }

    /// How many parts are worthwhile for so many multiply-adds that fall into so many pieces; 1 at least.
    #[inline(always)]
    pub(crate) fn parts(&self, work: u64, pieces: usize) -> usize {
        let most = self.most();
        if most <= 1 {
            return 1;
        }
        let worthwhile = work / (self.executor.grain() as u64).max(1);
        let worthwhile = usize::try_from(worthwhile).unwrap_or(usize::MAX);
        most.min(worthwhile).min(pieces).max(1)
    }

    /// Does `job` to each of the parts of `work`.
    ///
    /// Halves are cut where they run, so that each core prepares its own.
    #[inline(always)]
    pub(crate) fn over<W: Work>(
        &self,
        parts: usize,
        work: W,
        job: impl Fn(W) -> Result<(), SessionError> + Sync,
    ) -> Result<(), SessionError> {
        if parts <= 1 || self.most() <= 1 {
            return job(work);
        }
        halve(self.executor, 0..parts, work, &job)
    }
}

fn halve<E: Executor, W: Work>(
    executor: &E,
    parts: Range<usize>,
    work: W,
    job: &(impl Fn(W) -> Result<(), SessionError> + Sync),
) -> Result<(), SessionError> {
    let Range { start, end } = parts;
    if end.saturating_sub(start) <= 1 {
        return job(work);
    }
    let middle = start.midpoint(end);
    let (left, right) = work.cut(&parts, middle)?;
    let (left, right) = executor.join(
        || halve(executor, start..middle, left, job),
        || halve(executor, middle..end, right, job),
    );
    left.and(right)
}

/// Where to cut `len` elements so that the parts `parts.start..middle` get their fair share of them, in whole steps.
///
/// Shares of what is left, not of the whole: whoever cuts a part again need not know where it began.
pub(crate) fn share(len: usize, parts: &Range<usize>, middle: usize, step: usize) -> usize {
    let count = parts.end.saturating_sub(parts.start).max(1);
    let left = middle.saturating_sub(parts.start);
    let steps = len / step.max(1);
    let even = (steps / count).saturating_mul(left);
    even.saturating_add((steps % count).min(left))
        .saturating_mul(step)
}
