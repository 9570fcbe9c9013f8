//! How an encoder reads, and what it gives.

use zerocopy::{FromBytes, Immutable, IntoBytes, transmute};

use super::flag;
use crate::config::{Output, Pooling, Reading};
use crate::error::ConfigError;

/// The 64 bytes after those records of a file that holds an encoder.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct EncoderRecord {
    types: u32,
    /// Classes or tags; 0 for other outputs.
    classes: u32,
    pooling: u8,
    output: u8,
    flags: u16,
    /// Elements; 0 for tokens.
    patch: u32,
    reserved: [u32; 12],
}

const FLAG_EMBEDDING_NORM: u32 = 1 << 0;
const FLAG_POOLER: u32 = 1 << 1;
const FLAG_UNIT: u32 = 1 << 2;

impl EncoderRecord {
    pub(crate) const LEN: usize = 64;

    pub(super) const fn decode(bytes: [u8; Self::LEN]) -> Result<Reading, ConfigError> {
        let r: Self = transmute!(bytes);
        let flags = r.flags as u32;
        let mut unknown = flags & !(FLAG_EMBEDDING_NORM | FLAG_POOLER | FLAG_UNIT);
        let mut reserved: &[u32] = &r.reserved;
        while let Some((word, rest)) = reserved.split_first() {
            unknown |= *word;
            reserved = rest;
        }
        let unit = flags & FLAG_UNIT != 0;
        let output = match (r.output, r.classes, unit) {
            (0, 0, false) => Output::Hidden,
            (1, 0, unit) => Output::Embedding { unit },
            (2, classes, false) => Output::Classes(classes as usize),
            (3, tags, false) => Output::Tags(tags as usize),
            (4, 0, false) => Output::Span,
            _ => return Err(ConfigError::Unknown { field: "output" }),
        };
        let pooling = match r.pooling {
            0 => Pooling::None,
            1 => Pooling::First,
            2 => Pooling::Mean,
            _ => return Err(ConfigError::Unknown { field: "pooling" }),
        };
        if unknown != 0 {
            return Err(ConfigError::Unknown { field: "encoder" });
        }
        Ok(Reading {
            types: r.types as usize,
            embedding_norm: flags & FLAG_EMBEDDING_NORM != 0,
            pooling,
            pooler: flags & FLAG_POOLER != 0,
            output,
            patch: r.patch as usize,
        })
    }

    /// The record of what passed [`Config::check`].
    pub(crate) const fn encode(reading: &Reading) -> [u8; Self::LEN] {
        let (output, classes, unit) = match reading.output {
            Output::Hidden => (0, 0, false),
            Output::Embedding { unit } => (1, 0, unit),
            Output::Classes(n) => (2, n, false),
            Output::Tags(n) => (3, n, false),
            Output::Span => (4, 0, false),
        };
        let flags = flag(reading.embedding_norm, FLAG_EMBEDDING_NORM)
            | flag(reading.pooler, FLAG_POOLER)
            | flag(unit, FLAG_UNIT);
        let record = Self {
            types: reading.types as u32,
            classes: classes as u32,
            pooling: match reading.pooling {
                Pooling::None => 0,
                Pooling::First => 1,
                Pooling::Mean => 2,
            },
            output,
            flags: flags as u16,
            patch: reading.patch as u32,
            reserved: [0; 12],
        };
        transmute!(record)
    }
}
