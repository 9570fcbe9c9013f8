//! From a text to its tokens, a word or a window at a time.

use crate::error::TokenizeError;
use crate::tokenizer::lexicon::Walk;
use crate::tokenizer::unigram::Cutting;
use crate::tokenizer::{ENCODE_SCRATCH_LEN, Kind, Tokenizer, WORD_BYTES_MAX};

/// The tokens of a text; made by [`Tokenizer::encode`] or [`Tokenizer::encode_plain`].
#[derive(Debug)]
pub struct Encode<'a, 't> {
    pub(super) tokenizer: &'t Tokenizer<'a>,
    rest: &'t str,
    finds_specials: bool,
    /// Bytes of `rest` before the next special token.
    segment_len: usize,
    /// The next special token and the length of its text.
    special: Option<(u32, usize)>,
    /// WordPiece: the tokens that continue a word.
    pub(super) continuations: Option<Walk>,
    /// Unigram: the segment that is being cut, which `rest` holds no longer.
    pub(super) cutting: Option<Cutting<'a, 't>>,
    pub(super) ids: &'t mut [u32],
    pub(super) memory: &'t mut [u32],
    /// Tokens found: `ids[at..len]` are still to be given.
    at: usize,
    len: usize,
}

impl<'a, 't> Encode<'a, 't> {
    pub(crate) fn new(
        tokenizer: &'t Tokenizer<'a>,
        text: &'t str,
        scratch: &'t mut [u32],
        finds_specials: bool,
    ) -> Result<Self, TokenizeError> {
        let have = scratch.len();
        let need = ENCODE_SCRATCH_LEN;
        let Some(scratch) = scratch.get_mut(..need) else {
            return Err(TokenizeError::Scratch { need, have });
        };
        let Some((ids, memory)) = scratch.split_at_mut_checked(WORD_BYTES_MAX) else {
            return Err(TokenizeError::Scratch { need, have });
        };
        if matches!(tokenizer.kind, Kind::None) {
            return Err(TokenizeError::Absent);
        }
        let mut encode = Self {
            tokenizer,
            rest: text,
            finds_specials,
            segment_len: 0,
            special: None,
            continuations: None,
            cutting: None,
            ids,
            memory,
            at: 0,
            len: 0,
        };
        encode.find_special();
        Ok(encode)
    }

    fn find_special(&mut self) {
        let pieces = self.tokenizer.pieces().filter(|_| self.finds_specials);
        let found = pieces.and_then(|pieces| pieces.find_special(self.rest));
        (self.segment_len, self.special) = match found {
            Some((at, id, len)) => (at, Some((id, len))),
            None => (self.rest.len(), None),
        };
    }

    /// What is left before the next special token.
    pub(super) fn segment(&self) -> &'t str {
        self.rest.get(..self.segment_len).unwrap_or(self.rest)
    }

    pub(super) fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or("");
        self.segment_len = self.segment_len.saturating_sub(len);
    }

    /// Encodes what comes next into `ids`; `None` at the end of the text.
    fn refill(&mut self) -> Option<Result<(), TokenizeError>> {
        (self.at, self.len) = (0, 0);
        if self.segment_len == 0 && self.cutting.is_none() {
            let (id, len) = self.special?;
            *self.ids.first_mut()? = id;
            self.len = 1;
            self.skip(len);
            self.find_special();
            return Some(Ok(()));
        }
        let segment = self.segment();
        let (read, encoded) = match &self.tokenizer.kind {
            Kind::None => return None,
            Kind::Bytes { offset } => {
                let word = bounded(segment);
                for (id, &byte) in self.ids.iter_mut().zip(word.as_bytes()) {
                    *id = offset.saturating_add(u32::from(byte));
                }
                (word.len(), Ok(word.len()))
            }
            Kind::Bpe(bpe) => {
                let len = bpe.split.word_bytes(segment);
                let word = bounded(segment.get(..len).unwrap_or(segment));
                let encoded = bpe.encode_word(word.as_bytes(), self.ids, self.memory);
                (word.len(), encoded)
            }
            Kind::Lookup(lookup) => (0, (lookup.calls.refill)(self)),
        };
        self.skip(read);
        Some(encoded.map(|len| self.len = len))
    }
}

/// The word, cut at the last character boundary that [`WORD_BYTES_MAX`] allows.
fn bounded(word: &str) -> &str {
    let mut len = WORD_BYTES_MAX.min(word.len());
    while len > 0 {
        if let Some(head) = word.get(..len) {
            return head;
        }
        len -= 1;
    }
    word
}

impl Iterator for Encode<'_, '_> {
    type Item = Result<u32, TokenizeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at >= self.len {
            if let Err(error) = self.refill()? {
                return Some(Err(error));
            }
        }
        let id = self.ids.get(self.at).copied()?;
        self.at += 1;
        Some(Ok(id))
    }
}
