//! The bytes of an `.attn` file: the fixed-size records that the parser reads and the packer writes.
//!
//! `docs/format.md` describes the same, for people. Records are plain structs in file order; a record and its bytes
//! are turned into each other at compile-time-checked sizes, so no offset is written down twice.

use zerocopy::{FromBytes, Immutable, IntoBytes, transmute};

use crate::config::{
    Architecture, Attention, Biases, Config, Ffn, Input, Norm, NormPlace, Output, Pooling,
    Position, Reading, RotaryStyle, Source, Window,
};
use crate::error::{ConfigError, WeightsError};
use crate::kernels::layout::{WeightFormat, weight_lens};
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

/// Bytes 64..128 of a file.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct ConfigRecord {
    vocab_len: u32,
    dim: u32,
    layers: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    hidden_dim: u32,
    context_len: u32,
    flags: u32,
    norm: u8,
    ffn: u8,
    position: u8,
    reserved: u8,
    norm_eps: f32,
    rotary_base: f32,
    embedding_scale: f32,
    begin_of_text: u32,
    end_of_text: u32,
    reserved_end: u32,
}

const FLAG_TIED: u32 = 1 << 0;
const FLAG_POST_NORM: u32 = 1 << 1;
const FLAG_FINAL_NORM: u32 = 1 << 2;
const FLAG_NORM_BIAS: u32 = 1 << 3;
const FLAG_QKV_BIAS: u32 = 1 << 4;
const FLAG_OUT_BIAS: u32 = 1 << 5;
const FLAG_UP_BIAS: u32 = 1 << 6;
const FLAG_DOWN_BIAS: u32 = 1 << 7;
const FLAG_OUTPUT_BIAS: u32 = 1 << 8;
/// An [`AttentionRecord`] follows.
const FLAG_ATTENTION: u32 = 1 << 9;
/// An [`EncoderRecord`] follows, after the attention record if there is one.
const FLAG_ENCODER: u32 = 1 << 10;
/// A [`SourceRecord`] follows, after the attention record if there is one.
const FLAG_SOURCE: u32 = 1 << 11;
const FLAGS_KNOWN: u32 = (1 << 12) - 1;

impl ConfigRecord {
    pub(crate) const LEN: usize = 64;

    /// Bytes of this record and of those that may follow it.
    pub(crate) const fn len_of_all(bytes: &[u8; Self::LEN]) -> usize {
        let r: Self = transmute!(*bytes);
        let mut len = Self::LEN;
        if r.flags & FLAG_ATTENTION != 0 {
            len += AttentionRecord::LEN;
        }
        if r.flags & FLAG_ENCODER != 0 {
            len += EncoderRecord::LEN;
        }
        if r.flags & FLAG_SOURCE != 0 {
            len += SourceRecord::LEN;
        }
        len
    }

    /// Unchecked: the caller passes it through [`Config::check`]. `records` are those that follow, as many as
    /// [`Self::len_of_all`] says; `code` is the family's in the header.
    pub(crate) const fn decode(
        bytes: [u8; Self::LEN],
        mut records: &[u8],
        code: u8,
    ) -> Result<Config, ConfigError> {
        let r: Self = transmute!(bytes);
        let mut attention = None;
        if r.flags & FLAG_ATTENTION != 0
            && let Some((record, rest)) = records.split_first_chunk::<{ AttentionRecord::LEN }>()
        {
            attention = Some(*record);
            records = rest;
        }
        // Of the families' records there is one at most, else the file is refused.
        let family = match records.first_chunk::<64>() {
            Some(record) => Some(*record),
            None => None,
        };
        let base = r.rotary_base;
        let flags = r.flags & (FLAG_ENCODER | FLAG_SOURCE);
        let architecture = match (code, flags, family) {
            (DECODER, 0, None) => Architecture::Decoder,
            (ENCODER, FLAG_ENCODER, Some(record)) => match EncoderRecord::decode(record) {
                Ok(reading) => Architecture::Encoder(reading),
                Err(error) => return Err(error),
            },
            (ENCODER_DECODER, FLAG_SOURCE, Some(record)) => {
                match SourceRecord::decode(record, base) {
                    Ok(source) => Architecture::EncoderDecoder(source),
                    Err(error) => return Err(error),
                }
            }
            _ => return Err(ConfigError::Unknown { field: "encoder" }),
        };
        if r.flags & !FLAGS_KNOWN != 0 || r.reserved != 0 || r.reserved_end != 0 {
            return Err(ConfigError::Unknown { field: "flags" });
        }
        let norm = match r.norm {
            1 => Norm::Rms,
            2 => Norm::Layer,
            _ => return Err(ConfigError::Unknown { field: "norm" }),
        };
        let ffn = match r.ffn {
            1 => Ffn::SwiGlu,
            2 => Ffn::GeGlu,
            3 => Ffn::GeluTanh,
            4 => Ffn::GeluErf,
            5 => Ffn::Relu,
            6 => Ffn::Silu,
            _ => return Err(ConfigError::Unknown { field: "ffn" }),
        };
        let Some(position) = position(r.position, base) else {
            return Err(ConfigError::Unknown { field: "position" });
        };
        if !matches!(position, Position::Rotary { .. }) && base.to_bits() != 0 {
            return Err(ConfigError::Number {
                field: "rotary_base",
            });
        }
        let attention = match attention {
            None => Attention::PLAIN,
            Some(bytes) => match AttentionRecord::decode(bytes) {
                Ok(attention) => attention,
                Err(error) => return Err(error),
            },
        };
        Ok(Config {
            architecture,
            vocab_len: r.vocab_len as usize,
            dim: r.dim as usize,
            layers: r.layers as usize,
            heads: r.heads as usize,
            kv_heads: r.kv_heads as usize,
            head_dim: r.head_dim as usize,
            hidden_dim: r.hidden_dim as usize,
            context_len: r.context_len as usize,
            norm,
            norm_place: if r.flags & FLAG_POST_NORM != 0 {
                NormPlace::Post
            } else {
                NormPlace::Pre
            },
            norm_eps: r.norm_eps,
            final_norm: r.flags & FLAG_FINAL_NORM != 0,
            ffn,
            position,
            attention,
            tied: r.flags & FLAG_TIED != 0,
            biases: Biases {
                qkv: r.flags & FLAG_QKV_BIAS != 0,
                out: r.flags & FLAG_OUT_BIAS != 0,
                up: r.flags & FLAG_UP_BIAS != 0,
                down: r.flags & FLAG_DOWN_BIAS != 0,
                norm: r.flags & FLAG_NORM_BIAS != 0,
                output: r.flags & FLAG_OUTPUT_BIAS != 0,
            },
            embedding_scale: r.embedding_scale,
            begin_of_text: token(r.begin_of_text),
            end_of_text: token(r.end_of_text),
        })
    }

    /// The record of a configuration that passed [`Config::check`].
    pub(crate) const fn encode(c: &Config) -> [u8; Self::LEN] {
        let (position, rotary_base) = position_code(&c.position);
        let flags = flag(c.tied, FLAG_TIED)
            | flag(matches!(c.norm_place, NormPlace::Post), FLAG_POST_NORM)
            | flag(c.final_norm, FLAG_FINAL_NORM)
            | flag(c.biases.norm, FLAG_NORM_BIAS)
            | flag(c.biases.qkv, FLAG_QKV_BIAS)
            | flag(c.biases.out, FLAG_OUT_BIAS)
            | flag(c.biases.up, FLAG_UP_BIAS)
            | flag(c.biases.down, FLAG_DOWN_BIAS)
            | flag(c.biases.output, FLAG_OUTPUT_BIAS)
            | flag(AttentionRecord::is_needed(&c.attention), FLAG_ATTENTION)
            | flag(c.reading().is_some(), FLAG_ENCODER)
            | flag(c.source().is_some(), FLAG_SOURCE);
        let record = Self {
            vocab_len: c.vocab_len as u32,
            dim: c.dim as u32,
            layers: c.layers as u32,
            heads: c.heads as u32,
            kv_heads: c.kv_heads as u32,
            head_dim: c.head_dim as u32,
            hidden_dim: c.hidden_dim as u32,
            context_len: c.context_len as u32,
            flags,
            norm: match c.norm {
                Norm::Rms => 1,
                Norm::Layer => 2,
            },
            ffn: match c.ffn {
                Ffn::SwiGlu => 1,
                Ffn::GeGlu => 2,
                Ffn::GeluTanh => 3,
                Ffn::GeluErf => 4,
                Ffn::Relu => 5,
                Ffn::Silu => 6,
            },
            position,
            reserved: 0,
            norm_eps: c.norm_eps,
            rotary_base,
            embedding_scale: c.embedding_scale,
            begin_of_text: token_code(c.begin_of_text),
            end_of_text: token_code(c.end_of_text),
            reserved_end: 0,
        };
        transmute!(record)
    }
}

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

    const fn decode(bytes: [u8; Self::LEN]) -> Result<Attention, ConfigError> {
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

    const fn decode(bytes: [u8; Self::LEN]) -> Result<Reading, ConfigError> {
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
    const fn decode(bytes: [u8; Self::LEN], base: f32) -> Result<Source, ConfigError> {
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

/// First 32 bytes of the tokenizer section.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct TokenizerHeader {
    /// One of the constants below.
    pub(crate) kind: u8,
    /// 0 none, else [`Split::code`](crate::tokenizer::Split::code).
    pub(crate) split: u8,
    pub(crate) reserved: [u8; 2],
    pub(crate) byte_offset: u32,
    pub(crate) pieces_len: u32,
    pub(crate) merges_len: u32,
    pub(crate) specials_len: u32,
    pub(crate) text_len: u32,
    pub(crate) reserved_end: [u8; 8],
}

impl TokenizerHeader {
    pub(crate) const LEN: usize = 32;
    pub(crate) const NONE: u8 = 0;
    pub(crate) const BYTES: u8 = 1;
    /// Byte-level BPE; a merge's rank is the token that it makes.
    pub(crate) const BPE: u8 = 2;
    /// The same with a table of the tokens that are made, by rank.
    pub(crate) const BPE_RANKED: u8 = 3;
    /// BERT's WordPiece; a [`LexiconHeader`] follows.
    pub(crate) const WORD_PIECE: u8 = 4;
    /// SentencePiece's unigram model; a [`LexiconHeader`] follows.
    pub(crate) const UNIGRAM: u8 = 5;

    pub(crate) const fn decode(bytes: [u8; Self::LEN]) -> Self {
        transmute!(bytes)
    }

    pub(crate) const fn encode(self) -> [u8; Self::LEN] {
        transmute!(self)
    }
}

/// What follows the [`TokenizerHeader`] of a vocabulary that is looked up by its texts.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct LexiconHeader {
    /// Low half: how a text is changed, by kind; high half: [`Template`](crate::tokenizer::Template).
    pub(crate) flags: u32,
    /// Token for what has no piece, or [`NO_TOKEN`].
    pub(crate) unknown: u32,
    pub(crate) unknown_score: i32,
    pub(crate) charsmap_len: u32,
    pub(crate) reserved: u32,
    /// Tokens around texts, each or [`NO_TOKEN`].
    pub(crate) first: u32,
    pub(crate) between: u32,
    pub(crate) last: u32,
}

impl LexiconHeader {
    pub(crate) const LEN: usize = 32;

    pub(crate) const fn decode(bytes: [u8; Self::LEN]) -> Self {
        transmute!(bytes)
    }

    pub(crate) const fn encode(self) -> [u8; Self::LEN] {
        transmute!(self)
    }
}

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
