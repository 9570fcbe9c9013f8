//! Attention that is not plain.

use zerocopy::{FromBytes, Immutable, IntoBytes, transmute};

use super::flag;
use crate::config::{Attention, Window};
use crate::error::ConfigError;

/// Bytes 128..192 of a file whose attention is not [`Attention::PLAIN`].
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct AttentionRecord {
    /// All three are 0 without a window.
    window_len: u32,
    window_keep: u32,
    window_full_every: u32,
    /// All bits 0 without a cap.
    soft_cap: f32,
    flags: u32,
    reserved: [u32; 11],
}

const FLAG_SINKS: u32 = 1 << 0;

impl AttentionRecord {
    pub(crate) const LEN: usize = 64;

    /// Whether a file holds the record.
    pub(crate) const fn is_needed(attention: &Attention) -> bool {
        attention.window.is_some() || attention.soft_cap.is_some() || attention.sinks
    }

    pub(super) const fn decode(bytes: [u8; Self::LEN]) -> Result<Attention, ConfigError> {
        let r: Self = transmute!(bytes);
        let mut unknown = r.flags & !FLAG_SINKS;
        let mut reserved: &[u32] = &r.reserved;
        while let Some((word, rest)) = reserved.split_first() {
            unknown |= *word;
            reserved = rest;
        }
        let attention = Attention {
            window: match (r.window_len, r.window_keep, r.window_full_every) {
                (0, 0, 0) => None,
                (len, keep, full_every) => Some(Window {
                    len: len as usize,
                    keep: keep as usize,
                    full_every: full_every as usize,
                }),
            },
            soft_cap: match r.soft_cap.to_bits() {
                0 => None,
                _ => Some(r.soft_cap),
            },
            sinks: r.flags & FLAG_SINKS != 0,
        };
        // A record that says nothing would be a second way to write the same model.
        if unknown != 0 || !Self::is_needed(&attention) {
            return Err(ConfigError::Unknown { field: "attention" });
        }
        Ok(attention)
    }

    /// The record of what passed [`Config::check`]; `None` for [`Attention::PLAIN`].
    pub(crate) const fn encode(attention: &Attention) -> Option<[u8; Self::LEN]> {
        if !Self::is_needed(attention) {
            return None;
        }
        let (len, keep, full_every) = match attention.window {
            Some(window) => (window.len, window.keep, window.full_every),
            None => (0, 0, 0),
        };
        let record = Self {
            window_len: len as u32,
            window_keep: keep as u32,
            window_full_every: full_every as u32,
            soft_cap: match attention.soft_cap {
                Some(cap) => cap,
                None => 0.0,
            },
            flags: flag(attention.sinks, FLAG_SINKS),
            reserved: [0; 11],
        };
        Some(transmute!(record))
    }
}
