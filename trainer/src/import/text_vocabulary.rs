//! Vocabularies that are looked up by their texts, WordPiece and unigram models, whatever file they come from.

use anyhow::{Context, Result};
use attentive::pack::{TokenizerParts, UnigramParts, WordPieceParts};
use attentive::tokenizer::{BertText, Spaces, Template};

/// SentencePiece's sign for a space.
pub(super) const SPACE_SIGN: char = '\u{2581}';

/// Tables in the form of a weights file.
#[derive(Debug)]
pub struct TextVocabulary {
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) specials: Vec<u32>,
    pub(super) template: Template,
    pub(super) model: Model,
}

#[derive(Debug)]
pub(super) enum Model {
    WordPiece {
        text: BertText,
        unknown: u32,
    },
    Unigram {
        spaces: Spaces,
        charsmap: Vec<u8>,
        scores: Vec<f32>,
        unmatched: Vec<u32>,
        byte_ids: Option<Box<[u32; 256]>>,
        unknown: Option<u32>,
    },
}

impl TextVocabulary {
    /// BERT's `vocab.txt`: a token a line, among them `[UNK]`, `[CLS]` and `[SEP]`.
    ///
    /// # Errors
    /// When one of these is missing.
    pub fn from_vocab_txt(vocab: &str, text: BertText) -> Result<Self> {
        let pieces: Vec<Vec<u8>> = vocab.lines().map(|line| line.trim_end().into()).collect();
        let find = |name: &str| {
            let id = pieces.iter().position(|piece| piece == name.as_bytes());
            id.map(|id| id as u32)
        };
        let need = |name: &str| find(name).with_context(|| format!("vocab.txt has no {name}"));
        let (unknown, first, last) = (need("[UNK]")?, need("[CLS]")?, need("[SEP]")?);
        let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        Ok(Self {
            specials: specials.into_iter().filter_map(find).collect(),
            template: Template {
                first: Some(first),
                between: Some(last),
                last: Some(last),
                types: true,
                ..Template::NONE
            },
            model: Model::WordPiece { text, unknown },
            pieces,
        })
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Calls `with` with the tables in the form that a weights file holds.
    pub fn with_parts<R>(&self, with: impl FnOnce(TokenizerParts<'_>) -> R) -> R {
        let pieces: Vec<&[u8]> = self.pieces.iter().map(Vec::as_slice).collect();
        with(match &self.model {
            Model::WordPiece { text, unknown } => TokenizerParts::WordPiece(WordPieceParts {
                text: *text,
                pieces: &pieces,
                unknown: *unknown,
                specials: &self.specials,
                template: self.template,
            }),
            Model::Unigram {
                spaces,
                charsmap,
                scores,
                unmatched,
                byte_ids,
                unknown,
            } => TokenizerParts::Unigram(UnigramParts {
                spaces: *spaces,
                charsmap,
                pieces: &pieces,
                scores,
                unmatched,
                byte_ids: byte_ids.as_deref(),
                unknown: *unknown,
                specials: &self.specials,
                template: self.template,
            }),
        })
    }
}
