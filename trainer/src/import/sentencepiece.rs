//! SentencePiece's model files, as its `sentencepiece_model.proto` describes them.

use crate::import::protobuf::{Field, fields, text};
use crate::import::text_vocabulary::SPACE_SIGN;
use anyhow::{Context, Result, ensure};
use attentive::tokenizer::Spaces;
use std::fs;
use std::path::Path;

/// A unigram model.
pub(super) struct SentencePiece {
    /// What a text can be cut into, a space where SentencePiece writes `▁`, and the logarithms of their likelihoods.
    pub(super) pieces: Vec<(String, f32)>,
    /// SentencePiece's `precompiled_charsmap`.
    pub(super) charsmap: Vec<u8>,
    pub(super) spaces: Spaces,
}

/// The proto's `ModelProto.SentencePiece.Type`.
const NORMAL: u64 = 1;
const USER_DEFINED: u64 = 4;
/// The proto's `TrainerSpec.ModelType`.
const UNIGRAM: u64 = 1;

impl SentencePiece {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is truncated, or asks for what the core does not do.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&bytes).with_context(|| format!("{}", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut this = Self {
            pieces: Vec::new(),
            charsmap: Vec::new(),
            spaces: Spaces {
                dummy_prefix: true,
                collapse: true,
            },
        };
        for field in fields(bytes) {
            match field.context("it is truncated or no SentencePiece model")? {
                (1, Field::Bytes(piece)) => this.pieces.extend(normal_piece(piece)?),
                (2, Field::Bytes(trainer)) => check_trainer(trainer)?,
                (3, Field::Bytes(normalizer)) => this.normalize_by(normalizer)?,
                _ => {}
            }
        }
        ensure!(
            !this.pieces.is_empty(),
            "it has no pieces: it is no SentencePiece model"
        );
        Ok(this)
    }

    fn normalize_by(&mut self, message: &[u8]) -> Result<()> {
        for field in fields(message) {
            match field? {
                (2, Field::Bytes(charsmap)) => self.charsmap = charsmap.to_vec(),
                (3, Field::Number(is_on)) => self.spaces.dummy_prefix = is_on != 0,
                (4, Field::Number(is_on)) => self.spaces.collapse = is_on != 0,
                (5, Field::Number(is_on)) => ensure!(
                    is_on != 0,
                    "escape_whitespaces is off, which is not supported"
                ),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A piece and its score, if a text can give it.
fn normal_piece(message: &[u8]) -> Result<Option<(String, f32)>> {
    let (mut piece, mut score, mut kind) = ("", 0.0, NORMAL);
    for field in fields(message) {
        match field? {
            (1, Field::Bytes(bytes)) => piece = text(bytes)?,
            (2, Field::Fixed(bytes)) => {
                score = f32::from_le_bytes(bytes.try_into().context("a score of eight bytes")?);
            }
            (3, Field::Number(number)) => kind = number,
            _ => {}
        }
    }
    ensure!(
        kind != USER_DEFINED,
        "the piece {piece:?} is defined by the user, which is not supported"
    );
    Ok((kind == NORMAL).then(|| (piece.replace(SPACE_SIGN, " "), score)))
}

fn check_trainer(message: &[u8]) -> Result<()> {
    for field in fields(message) {
        match field? {
            (3, Field::Number(kind)) => ensure!(
                kind == UNIGRAM,
                "its model_type is {kind}; supported is {UNIGRAM}, unigram"
            ),
            (24, Field::Number(is_on)) => ensure!(
                is_on == 0,
                "treat_whitespace_as_suffix is on, which is not supported"
            ),
            (35, Field::Number(is_on)) => {
                ensure!(is_on == 0, "byte_fallback is on, which is not supported");
            }
            _ => {}
        }
    }
    Ok(())
}
