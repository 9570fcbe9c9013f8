//! The source of an encoder–decoder.

use zerocopy::{FromBytes, Immutable, IntoBytes, transmute};

use super::{position, position_code};
use crate::config::{Input, Source};
use crate::error::ConfigError;

/// The 64 bytes after those records of a file that holds an encoder–decoder.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct SourceRecord {
    layers: u32,
    len: u32,
    position: u8,
    input: u8,
    reserved: [u8; 2],
    /// Of a frame; 0 for tokens.
    bins: u32,
    reserved_end: [u8; 48],
}

impl SourceRecord {
    pub(crate) const LEN: usize = 64;

    /// `base` is that of the decoder's positions.
    pub(super) const fn decode(bytes: [u8; Self::LEN], base: f32) -> Result<Source, ConfigError> {
        let r: Self = transmute!(bytes);
        let mut unknown = r.reserved[0] | r.reserved[1];
        let mut reserved: &[u8] = &r.reserved_end;
        while let Some((byte, rest)) = reserved.split_first() {
            unknown |= *byte;
            reserved = rest;
        }
        let Some(position) = position(r.position, base) else {
            return Err(ConfigError::Unknown {
                field: "source_position",
            });
        };
        let input = match (r.input, r.bins) {
            (0, 0) => Input::Tokens,
            (1, bins) => Input::Frames {
                bins: bins as usize,
            },
            _ => return Err(ConfigError::Unknown { field: "input" }),
        };
        if unknown != 0 {
            return Err(ConfigError::Unknown { field: "source" });
        }
        Ok(Source {
            layers: r.layers as usize,
            len: r.len as usize,
            position,
            input,
        })
    }

    /// The record of what passed [`Config::check`].
    pub(crate) const fn encode(source: &Source) -> [u8; Self::LEN] {
        let record = Self {
            layers: source.layers as u32,
            len: source.len as u32,
            position: position_code(&source.position).0,
            input: match source.input {
                Input::Tokens => 0,
                Input::Frames { .. } => 1,
            },
            reserved: [0; 2],
            bins: source.bins() as u32,
            reserved_end: [0; 48],
        };
        transmute!(record)
    }
}
