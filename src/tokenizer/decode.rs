//! From tokens to their text.

use crate::tokenizer::{Kind, Tokenizer};

/// The parts of a text, in order; made by [`Tokenizer::decode`]. A part need not be whole UTF-8 characters.
#[derive(Clone, Debug)]
pub struct Decode<'a, 'i> {
    tokenizer: &'i Tokenizer<'a>,
    ids: core::slice::Iter<'i, u32>,
    has_begun: bool,
    /// The part after the space that was given.
    after_space: Option<&'a [u8]>,
}

impl<'a, 'i> Decode<'a, 'i> {
    pub(crate) fn new(tokenizer: &'i Tokenizer<'a>, ids: &'i [u32]) -> Self {
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
        let Kind::Lookup(lookup) = &self.tokenizer.kind else {
            return Some(self.tokenizer.piece(id));
        };
        let part = (lookup.calls.part)(&lookup.data, id, !self.has_begun);
        self.has_begun |= part.has_begun;
        if part.space_before {
            self.after_space = Some(part.piece);
            return Some(b" ");
        }
        Some(part.piece)
    }
}
