//! The integer profile.

use zerocopy::{FromBytes, Immutable, IntoBytes, transmute};

use crate::error::ConfigError;

/// The 64 bytes after the other records of a file of the integer profile.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct IntegerRecord {
    /// eps · dim² in the square of the stream's unit.
    pub(crate) eps: u64,
    /// [`Self::CONTRACT`].
    pub(crate) contract: u16,
    /// How weights lie: 0 rows.
    pub(crate) packing: u8,
    /// Bits of a logit's fraction, in powers of two.
    pub(crate) logit_bits: u8,
    /// Steps of the final norm in a step of the pooled vector, in 2⁻¹⁶.
    pub(crate) pooling: u32,
    /// What a unit of the residual stream is worth.
    pub(crate) stream_scale: f32,
    /// What a step of a patch is worth; 0 without patches.
    pub(crate) input_scale: f32,
    pub(crate) reserved: [u32; 10],
}

impl IntegerRecord {
    pub(crate) const LEN: usize = 64;
    /// The version of `docs/integer.md`.
    pub(crate) const CONTRACT: u16 = 2;
    /// Most [`Self::logit_bits`].
    pub(crate) const LOGIT_BITS_MAX: u8 = 16;

    /// Refuses what this version does not know.
    pub(crate) const fn decode(bytes: [u8; Self::LEN]) -> Result<Self, ConfigError> {
        let r: Self = transmute!(bytes);
        let mut unknown = r.packing as u32;
        let mut reserved: &[u32] = &r.reserved;
        while let Some((word, rest)) = reserved.split_first() {
            unknown |= *word;
            reserved = rest;
        }
        let known = r.contract == Self::CONTRACT && r.logit_bits <= Self::LOGIT_BITS_MAX;
        if unknown != 0 || !known {
            return Err(ConfigError::Unknown { field: "integer" });
        }
        Ok(r)
    }

    pub(crate) const fn encode(self) -> [u8; Self::LEN] {
        transmute!(self)
    }
}
