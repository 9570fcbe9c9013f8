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
    /// `Ok` if `have == need`.
    #[inline]
    pub(crate) const fn check_eq(what: &'static str, need: usize, have: usize) -> Result<(), Self> {
        if have == need {
            Ok(())
        } else {
            Err(Self { what, need, have })
        }
    }

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

    /// `Ok` if `have <= most`.
    #[inline]
    pub(crate) const fn check_at_most(
        what: &'static str,
        most: usize,
        have: usize,
    ) -> Result<(), Self> {
        if have <= most {
            Ok(())
        } else {
            Err(Self {
                what,
                need: most,
                have,
            })
        }
    }

    /// `Ok` if `have` elements hold `rows` rows of `width` elements that lie `stride` apart.
    #[inline]
    pub(crate) const fn check_strided(
        what: &'static str,
        rows: usize,
        width: usize,
        stride: usize,
        have: usize,
    ) -> Result<(), Self> {
        if rows == 0 {
            return Ok(());
        }
        if stride < width {
            return Err(Self {
                what,
                need: width,
                have: stride,
            });
        }
        let need = match (rows - 1).checked_mul(stride) {
            Some(before) => before.saturating_add(width),
            None => usize::MAX,
        };
        Self::check_at_least(what, need, have)
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: need {}, have {}", self.what, self.need, self.have)
    }
}

impl core::error::Error for ShapeError {}
