//! Vocabularies that are looked up by their texts, called through pointers that the parser sets.
//!
//! A weights file that is embedded is parsed by the compiler, so a firmware links the functions of its own kind and no
//! other: WordPiece with its tables of characters, or the search of a unigram model. A `match` would link both.

use crate::error::{TokenizeError, WeightsError};
use crate::tokenizer::encode::Encode;
use crate::tokenizer::pieces::Pieces;
use crate::tokenizer::unigram::Unigram;
use crate::tokenizer::wordpiece::WordPiece;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup<'a> {
    pub(crate) data: Data<'a>,
    pub(crate) calls: &'static Calls,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Data<'a> {
    WordPiece(WordPiece<'a>),
    Unigram(Unigram<'a>),
}

/// What a kind does; each function is given its own kind of data.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) name: &'static str,
    /// Encodes what comes next of the segment into `ids` and returns how many tokens that are; 0 says nothing.
    pub(crate) refill: fn(&mut Encode<'_, '_>) -> Result<usize, TokenizeError>,
    /// The text of a token after others.
    pub(crate) part: for<'a> fn(&Data<'a>, u32, is_first: bool) -> Part<'a>,
    pub(crate) check: fn(&Data<'_>) -> Result<(), WeightsError>,
}

/// What a token adds to a text.
pub(crate) struct Part<'a> {
    pub(crate) space_before: bool,
    pub(crate) piece: &'a [u8],
    /// What comes next is not the first any more.
    pub(crate) has_begun: bool,
}

impl<'a> Data<'a> {
    pub(crate) fn pieces(&self) -> &Pieces<'a> {
        match self {
            Self::WordPiece(word_piece) => &word_piece.lexicon.pieces,
            Self::Unigram(unigram) => &unigram.lexicon.pieces,
        }
    }

    /// For a kind that is called with another's data, which the parser never makes.
    pub(crate) fn plain(&self, id: u32) -> Part<'a> {
        Part {
            space_before: false,
            piece: self.pieces().piece(id),
            has_begun: true,
        }
    }
}
