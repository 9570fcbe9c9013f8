//! The bytes of an `.attn` file: the fixed-size records that the parser reads and the packer writes.
//!
//! `docs/format.md` describes the same, for people. Records are plain structs in file order; a record and its bytes
//! are turned into each other at compile-time-checked sizes, so no offset is written down twice.

mod attention;
mod config;
mod encoder;
mod integer;
mod layout;
mod source;
mod tokenizer;

pub(crate) use attention::AttentionRecord;
pub(crate) use config::ConfigRecord;
pub(crate) use encoder::EncoderRecord;
pub(crate) use integer::IntegerRecord;
pub(crate) use layout::{MatrixBytes, format_code, format_of, vector_bytes};
pub(crate) use source::SourceRecord;
pub(crate) use tokenizer::{LexiconHeader, TokenizerHeader};

use zerocopy::{FromBytes, Immutable, IntoBytes, transmute};

use crate::config::{Architecture, Position, RotaryStyle};
use crate::error::WeightsError;
use crate::tensors::Profile;

#[cfg(target_endian = "big")]
compile_error!(
    "`.attn` files are little-endian and read in place: big-endian targets are not supported"
);

/// First bytes of every file.
pub(crate) const MAGIC: [u8; 4] = *b"ATTN";
/// The only version that exists.
pub(crate) const VERSION: u16 = 1;
/// Every section and tensor begins at a multiple of it.
pub(crate) const ALIGN: usize = 64;
/// Longest provenance record; its text is checked at compile time, which costs time for each byte.
pub(crate) const PROVENANCE_BYTES_MAX: u32 = 1 << 14;
/// Layer of a tensor that belongs to none.
pub(crate) const NO_LAYER: u16 = u16::MAX;
/// "No such token" in a record.
pub(crate) const NO_TOKEN: u32 = u32::MAX;

/// CRC-32 as in zlib, PNG and Ethernet.
pub(crate) static CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// Rounds up to a multiple of [`ALIGN`]; saturates.
pub(crate) const fn align_up(bytes: u64) -> u64 {
    match bytes.checked_next_multiple_of(ALIGN as u64) {
        Some(aligned) => aligned,
        None => u64::MAX,
    }
}

/// Bytes 0..64 of a file.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u16,
    pub(crate) flags: u16,
    pub(crate) file_len: u64,
    pub(crate) provenance_offset: u64,
    pub(crate) tokenizer_offset: u64,
    pub(crate) provenance_len: u32,
    pub(crate) tokenizer_len: u32,
    pub(crate) tensors_len: u32,
    pub(crate) architecture: u8,
    pub(crate) reserved: [u8; 11],
    pub(crate) payload_crc: u32,
    /// Of bytes 0..60 and 64..(end of the tensor table).
    pub(crate) header_crc: u32,
}

impl Header {
    pub(crate) const LEN: usize = 64;

    pub(crate) const fn decode(bytes: [u8; Self::LEN]) -> Self {
        transmute!(bytes)
    }

    pub(crate) const fn encode(self) -> [u8; Self::LEN] {
        transmute!(self)
    }
}

/// One entry of the tensor table.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Entry {
    pub(crate) role: u16,
    pub(crate) layer: u16,
    pub(crate) format: u8,
    pub(crate) reserved: [u8; 3],
    pub(crate) rows: u32,
    pub(crate) cols: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Entry {
    pub(crate) const LEN: usize = 32;

    pub(crate) const fn decode(bytes: [u8; Self::LEN]) -> Self {
        transmute!(bytes)
    }

    pub(crate) const fn encode(self) -> [u8; Self::LEN] {
        transmute!(self)
    }
}

/// The profile that a header's flags name.
pub(crate) const fn profile_of(flags: u16) -> Option<Profile> {
    match flags {
        0 => Some(Profile::Float),
        FLAG_INTEGER => Some(Profile::Integer),
        _ => None,
    }
}

/// A header's flag: the integer profile.
pub(crate) const FLAG_INTEGER: u16 = 1 << 0;

const DECODER: u8 = 1;
const ENCODER: u8 = 2;
const ENCODER_DECODER: u8 = 3;

/// Code of a family in the header.
pub(crate) const fn architecture_code(architecture: Architecture) -> u8 {
    match architecture {
        Architecture::Decoder => DECODER,
        Architecture::Encoder(_) => ENCODER,
        Architecture::EncoderDecoder(_) => ENCODER_DECODER,
    }
}

/// Refuses the code of no family.
pub(crate) const fn check_architecture(code: u8) -> Result<(), WeightsError> {
    match code {
        DECODER | ENCODER | ENCODER_DECODER => Ok(()),
        _ => Err(WeightsError::Architecture { code }),
    }
}

/// Positions of a code; `None` for a code that does not exist.
const fn position(code: u8, base: f32) -> Option<Position> {
    Some(match code {
        0 => Position::None,
        1 => Position::Learned,
        2 => Position::Sinusoidal,
        3 => Position::Rotary {
            style: RotaryStyle::Half,
            base,
        },
        4 => Position::Rotary {
            style: RotaryStyle::Interleaved,
            base,
        },
        _ => return None,
    })
}

/// The code of positions, and the base of their frequencies.
const fn position_code(position: &Position) -> (u8, f32) {
    match *position {
        Position::None => (0, 0.0),
        Position::Learned => (1, 0.0),
        Position::Sinusoidal => (2, 0.0),
        Position::Rotary {
            style: RotaryStyle::Half,
            base,
        } => (3, base),
        Position::Rotary {
            style: RotaryStyle::Interleaved,
            base,
        } => (4, base),
    }
}

pub(crate) const fn flag(set: bool, flag: u32) -> u32 {
    if set { flag } else { 0 }
}

pub(crate) const fn token(code: u32) -> Option<u32> {
    if code == NO_TOKEN { None } else { Some(code) }
}

pub(crate) const fn token_code(token: Option<u32>) -> u32 {
    match token {
        Some(id) => id,
        None => NO_TOKEN,
    }
}
