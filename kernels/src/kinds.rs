//! Which kernels a program links.
//!
//! A kernel that chooses by the type of a matrix or of a cache brings code for every type there is. Where flash is
//! scarce, a program says once, as a type, which types it has: [`Linked`]. The kernels of the others are then not
//! compiled in, and asking for one of them is an error.

use crate::ShapeError;
use crate::layout::{KvDtype, WeightFormat};
use crate::ops::attention::Precision;

/// A set of types of matrices and caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Kinds(u16);

impl Kinds {
    /// None.
    pub const NONE: Self = Self(0);
    /// Every type.
    pub const ALL: Self = Self(u16::MAX);

    /// These and matrices of that format.
    pub const fn with_weights(self, format: WeightFormat) -> Self {
        Self(self.0 | Self::weights(format))
    }

    /// These and caches of that type; `precision` matters to [`KvDtype::I8`] only.
    pub const fn with_kv(self, kv: KvDtype, precision: Precision) -> Self {
        Self(self.0 | Self::kv(kv, precision))
    }

    /// These and `others`.
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether matrices of that format are among them.
    pub const fn has_weights(self, format: WeightFormat) -> bool {
        self.0 & Self::weights(format) != 0
    }

    /// Whether caches of that type are among them, multiplied like that.
    pub const fn has_kv(self, kv: KvDtype, precision: Precision) -> bool {
        self.0 & Self::kv(kv, precision) != 0
    }

    /// Whether all of `others` are among them.
    pub const fn contains(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    const fn weights(format: WeightFormat) -> u16 {
        1 << match format {
            WeightFormat::F32 => 0,
            WeightFormat::F16 => 1,
            WeightFormat::I8Row => 2,
            WeightFormat::I8Group32 => 3,
            WeightFormat::I4Group32 => 4,
            WeightFormat::U4Group32 => 5,
        }
    }

    const fn kv(kv: KvDtype, precision: Precision) -> u16 {
        1 << match (kv, precision) {
            (KvDtype::F32, _) => 8,
            (KvDtype::F16, _) => 9,
            (KvDtype::BF16, _) => 10,
            (KvDtype::I8, Precision::Fast) => 11,
            (KvDtype::I8, Precision::Accurate) => 12,
        }
    }
}

/// The types of matrices and caches that a program has; a type that stands for them.
pub trait Linked {
    /// The types.
    const KINDS: Kinds;
}

/// Every type of matrices and caches.
#[derive(Clone, Copy, Debug)]
pub struct Everything;

impl Linked for Everything {
    const KINDS: Kinds = Kinds::ALL;
}

/// Asked for a type that is not linked.
#[cold]
pub(crate) fn not_linked() -> ShapeError {
    ShapeError {
        what: "kernels of that type (not linked)",
        need: 1,
        have: 0,
    }
}
