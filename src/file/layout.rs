//! Formats of tensors, and how long these are.

use super::align_up;
use crate::kernels::layout::{WeightFormat, weight_lens};

/// Code of a tensor's format in the table. Code 4 was an `I8Group32` with corrections that no product reads: refused.
pub(crate) const fn format_code(format: WeightFormat) -> u8 {
    match format {
        WeightFormat::F32 => 1,
        WeightFormat::F16 => 2,
        WeightFormat::I8Row => 3,
        WeightFormat::I4Group32 => 5,
        WeightFormat::U4Group32 => 6,
        WeightFormat::I8Group32 => 7,
    }
}

/// Inverse of [`format_code`].
pub(crate) const fn format_of(code: u8) -> Option<WeightFormat> {
    match code {
        1 => Some(WeightFormat::F32),
        2 => Some(WeightFormat::F16),
        3 => Some(WeightFormat::I8Row),
        5 => Some(WeightFormat::I4Group32),
        6 => Some(WeightFormat::U4Group32),
        7 => Some(WeightFormat::I8Group32),
        _ => None,
    }
}

/// Where the parts of a packed matrix lie inside its tensor, in bytes from its start.
#[derive(Clone, Copy)]
pub(crate) struct MatrixBytes {
    /// Length of the elements, which come first.
    pub(crate) weights: u64,
    /// Place of the f16 scales.
    pub(crate) scales_at: u64,
    /// Length of the scales.
    pub(crate) scales: u64,
    /// Place of the corrections (i32).
    pub(crate) corrections_at: u64,
    /// Length of the corrections.
    pub(crate) corrections: u64,
    /// Place of the f16 minima.
    pub(crate) minima_at: u64,
    /// Length of the minima.
    pub(crate) minima: u64,
}

impl MatrixBytes {
    pub(crate) const fn of(format: WeightFormat, rows: usize, cols: usize) -> Self {
        let element = match format {
            WeightFormat::F32 => 4,
            WeightFormat::F16 => 2,
            WeightFormat::I8Row
            | WeightFormat::I8Group32
            | WeightFormat::I4Group32
            | WeightFormat::U4Group32 => 1,
        };
        let Some(lens) = weight_lens(format, rows, cols) else {
            // Exceeds the address space, so it exceeds every file that this target can hold.
            return Self {
                weights: u64::MAX,
                scales_at: u64::MAX,
                scales: 0,
                corrections_at: u64::MAX,
                corrections: 0,
                minima_at: u64::MAX,
                minima: 0,
            };
        };
        let weights = (lens.data as u64).saturating_mul(element);
        let scales = lens.scales as u64 * 2;
        let corrections = lens.corrections as u64 * 4;
        let minima = lens.minima as u64 * 2;
        let scales_at = align_up(weights);
        let corrections_at = align_up(scales_at.saturating_add(scales));
        let minima_at = align_up(corrections_at.saturating_add(corrections));
        Self {
            weights,
            scales_at,
            scales,
            corrections_at,
            corrections,
            minima_at,
            minima,
        }
    }

    /// Length of the whole tensor; each part but the last is filled up to [`ALIGN`].
    pub(crate) const fn len(&self) -> u64 {
        if self.minima > 0 {
            self.minima_at.saturating_add(self.minima)
        } else if self.corrections > 0 {
            self.corrections_at.saturating_add(self.corrections)
        } else if self.scales > 0 {
            self.scales_at.saturating_add(self.scales)
        } else {
            self.weights
        }
    }
}

/// Length of a plain vector in bytes; `None` for a format that vectors do not have.
pub(crate) const fn vector_bytes(format: WeightFormat, len: usize) -> Option<u64> {
    match format {
        WeightFormat::F32 => Some(len as u64 * 4),
        WeightFormat::F16 => Some(len as u64 * 2),
        WeightFormat::I8Row
        | WeightFormat::I8Group32
        | WeightFormat::I4Group32
        | WeightFormat::U4Group32 => None,
    }
}
