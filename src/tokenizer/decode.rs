//! From tokens to their text.

use crate::tokenizer::{Kind, Tokenizer};

/// The parts of a text, in order; made by [`Tokenizer::decode`]. A part need not be whole UTF-8 characters.
#[derive(Clone, Debug)]
pub struct Decode<'a, 'i> {
    tokenizer: Tokenizer<'a>,
    ids: core::slice::Iter<'i, u32>,
    has_begun: bool,
    /// The part after the space that was given.
    after_space: Option<&'a [u8]>,
}

impl<'a, 'i> Decode<'a, 'i> {
    pub(crate) fn new(tokenizer: Tokenizer<'a>, ids: &'i [u32]) -> Self {
        Self {
            tokenizer,
            ids: ids.iter(),
            has_begun: false,
            after_space: None,
        }
    }
}

impl<'a> Iterator for Decode<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(piece) = self.after_space.take() {
            return Some(piece);
        }
        let id = *self.ids.find(|id| !self.tokenizer.is_special(**id))?;
        let piece = self.tokenizer.piece(id);
        let is_first = !self.has_begun;
        self.has_begun = true;
        match &self.tokenizer.kind {
            Kind::WordPiece(word_piece) if !is_first => {
                let (is_apart, piece) = word_piece.decode(id);
                if !is_apart {
                    return Some(piece);
                }
                self.after_space = Some(piece);
                Some(b" ")
            }
            Kind::Unigram(unigram) if is_first && unigram.spaces().dummy_prefix => {
                let piece = piece.strip_prefix(b" ").unwrap_or(piece);
                // A text without spaces at its ends begins with what comes after them.
                self.has_begun = !piece.is_empty() || !unigram.spaces().collapse;
                Some(piece)
            }
            _ => Some(piece),
        }
    }
}
