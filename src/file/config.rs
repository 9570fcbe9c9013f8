//! What a model is: the record of its dimensions and varieties.

use zerocopy::{FromBytes, Immutable, IntoBytes, transmute};

use super::attention::AttentionRecord;
use super::encoder::EncoderRecord;
use super::source::SourceRecord;
use super::{DECODER, ENCODER, ENCODER_DECODER, flag, position, position_code, token, token_code};
use crate::config::{Architecture, Attention, Biases, Config, Ffn, Norm, NormPlace, Position};
use crate::error::ConfigError;

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
