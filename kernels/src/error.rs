//! The one error of the kernels: a slice or a dimension that does not fit.

use core::fmt;

/// A slice or a dimension that does not fit the operation's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ShapeError {
    /// What does not fit, as the operation's documentation names it.
    pub what: &'static str,
    /// What the operation needs, in elements.
    pub need: usize,
    /// What it was given, in elements.
    pub have: usize,
}

impl ShapeError {
    #[allow(
        dead_code,
        reason = "the operations that check are not all written yet"
    )]
    /// `Ok` if `have == need`.
    #[inline]
    pub(crate) const fn check_eq(what: &'static str, need: usize, have: usize) -> Result<(), Self> {
        if have == need {
            Ok(())
        } else {
            Err(Self { what, need, have })
        }
    }

    #[allow(
        dead_code,
        reason = "the operations that check are not all written yet"
    )]
    /// `Ok` if `have >= need`.
    #[inline]
    pub(crate) const fn check_at_least(
        what: &'static str,
        need: usize,
        have: usize,
    ) -> Result<(), Self> {
        if have >= need {
            Ok(())
        } else {
            Err(Self { what, need, have })
        }
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: need {}, have {}", self.what, self.need, self.have)
    }
}

impl core::error::Error for ShapeError {}
