//! Text to tokens and back, from tables that stay in the weights file.
//!
//! Two kinds: one token a byte, and byte-level byte-pair encoding (Sennrich et al. 2016, on bytes as GPT-2 does).
//! Reading is total: whatever the tables hold, no look-up can fail worse than by an `Err` or an empty piece.
//! [`Tokenizer::check`] says whether they are sound; [`crate::Model::verify`] calls it.

mod bpe;
mod letters;
pub(crate) mod pack;
mod split;

use crate::error::{TokenizeError, WeightsError};
use crate::file::TokenizerHeader;
pub(crate) use bpe::Bpe;

pub use split::Split;

/// Longest word, in bytes, that is encoded as one; a longer one is cut there.
///
/// Words are what the pre-tokenizer yields: runs of letters, digits, symbols or spaces. So the work on a text is
/// linear in its length, with a bounded square on each word. Only words beyond this length can get other tokens than
/// an unbounded encoder would give them.
pub const WORD_BYTES_MAX: usize = 128;

/// Elements of scratch that [`Tokenizer::encode`] needs.
pub const ENCODE_SCRATCH_LEN: usize = 2 * WORD_BYTES_MAX;

/// The tokenizer of a model.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'a>(Kind<'a>);

#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    None,
    /// Token = byte + offset.
    Bytes {
        offset: u32,
    },
    Bpe(Bpe<'a>),
}

/// Every byte, so that a byte's piece can be borrowed.
static BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < bytes.len() {
        bytes[byte] = byte as u8;
        byte += 1;
    }
    bytes
};

impl<'a> Tokenizer<'a> {
    /// Reads the section; checks every length, not the tables' content.
    pub(crate) const fn parse(section: &'a [u8], vocab_len: usize) -> Result<Self, WeightsError> {
        let Some((header, tables)) = section.split_first_chunk::<{ TokenizerHeader::LEN }>() else {
            return Err(WeightsError::Tokenizer);
        };
        let h = TokenizerHeader::decode(*header);
        let reserved = u16::from_le_bytes(h.reserved) as u64 + u64::from_le_bytes(h.reserved_end);
        if reserved != 0 {
            return Err(WeightsError::Reserved);
        }
        let no_tables = h.pieces_len == 0
            && h.merges_len == 0
            && h.specials_len == 0
            && h.text_len == 0
            && h.split == 0
            && tables.is_empty();
        match h.kind {
            TokenizerHeader::NONE if no_tables && h.byte_offset == 0 => Ok(Self(Kind::None)),
            TokenizerHeader::BYTES
                if no_tables && h.byte_offset as u64 + 256 <= vocab_len as u64 =>
            {
                Ok(Self(Kind::Bytes {
                    offset: h.byte_offset,
                }))
            }
            TokenizerHeader::BPE | TokenizerHeader::BPE_RANKED if h.byte_offset == 0 => {
                match Bpe::parse(&h, tables, vocab_len) {
                    Ok(bpe) => Ok(Self(Kind::Bpe(bpe))),
                    Err(error) => Err(error),
                }
            }
            _ => Err(WeightsError::Tokenizer),
        }
    }

    /// "none", "bytes" or "bpe".
    pub const fn name(&self) -> &'static str {
        match self.0 {
            Kind::None => "none",
            Kind::Bytes { .. } => "bytes",
            Kind::Bpe(_) => "bpe",
        }
    }

    /// The bytes of a token, which need not be whole UTF-8 characters; empty for a token without text.
    pub fn piece(&self, id: u32) -> &'a [u8] {
        match &self.0 {
            Kind::None => &[],
            Kind::Bytes { offset } => {
                let byte = id
                    .checked_sub(*offset)
                    .map_or(usize::MAX, |byte| byte as usize);
                BYTES.get(byte..byte.saturating_add(1)).unwrap_or(&[])
            }
            Kind::Bpe(bpe) => bpe.piece(id),
        }
    }

    /// Whether a token stands for more than its text: the end of a text, the beginning of a turn.
    pub fn is_special(&self, id: u32) -> bool {
        match &self.0 {
            Kind::None | Kind::Bytes { .. } => false,
            Kind::Bpe(bpe) => bpe.is_special(id),
        }
    }

    /// The tokens of a text, one at a time.
    ///
    /// The literal text of a special token becomes that token, as in Hugging Face's `tokenizers`; the rest is split
    /// into words and each word is merged by rank. `scratch` holds the tokens of one word: [`ENCODE_SCRATCH_LEN`].
    ///
    /// # Errors
    /// At once, when there is no tokenizer or `scratch` is too short; from the iterator, when a byte has no token.
    pub fn encode<'t>(
        &self,
        text: &'t str,
        scratch: &'t mut [u32],
    ) -> Result<Encode<'a, 't>, TokenizeError> {
        self.encoding(text, scratch, true)
    }

    /// As [`Tokenizer::encode`], but the literal text of a special token is text like any other: for what comes from
    /// outside and must not end a turn or begin one.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_plain<'t>(
        &self,
        text: &'t str,
        scratch: &'t mut [u32],
    ) -> Result<Encode<'a, 't>, TokenizeError> {
        self.encoding(text, scratch, false)
    }

    fn encoding<'t>(
        &self,
        text: &'t str,
        scratch: &'t mut [u32],
        finds_specials: bool,
    ) -> Result<Encode<'a, 't>, TokenizeError> {
        let have = scratch.len();
        let need = ENCODE_SCRATCH_LEN;
        let Some((ids, ranks)) = scratch.split_at_mut_checked(WORD_BYTES_MAX) else {
            return Err(TokenizeError::Scratch { need, have });
        };
        if have < need {
            return Err(TokenizeError::Scratch { need, have });
        }
        if matches!(self.0, Kind::None) {
            return Err(TokenizeError::Absent);
        }
        let mut encode = Encode {
            tokenizer: *self,
            rest: text,
            finds_specials,
            segment_len: 0,
            special: None,
            ids,
            ranks,
            at: 0,
            len: 0,
        };
        encode.find_special();
        Ok(encode)
    }

    /// Writes the tokens of a text into `out` and returns how many there are.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], and when `out` is too short.
    pub fn encode_into(
        &self,
        text: &str,
        scratch: &mut [u32],
        out: &mut [u32],
    ) -> Result<usize, TokenizeError> {
        let have = out.len();
        let mut len = 0;
        let mut slots = out.iter_mut();
        for id in self.encode(text, scratch)? {
            let Some(slot) = slots.next() else {
                return Err(TokenizeError::Tokens { have });
            };
            *slot = id?;
            len += 1;
        }
        Ok(len)
    }

    /// Whether the tables are sound: offsets in order, tokens in range, merges sorted.
    ///
    /// # Errors
    /// [`WeightsError::Tokenizer`] when they are not.
    pub fn check(&self) -> Result<(), WeightsError> {
        match &self.0 {
            Kind::None | Kind::Bytes { .. } => Ok(()),
            Kind::Bpe(bpe) => bpe.check(),
        }
    }
}

/// The tokens of a text; made by [`Tokenizer::encode`] or [`Tokenizer::encode_plain`].
#[derive(Debug)]
pub struct Encode<'a, 't> {
    tokenizer: Tokenizer<'a>,
    rest: &'t str,
    finds_specials: bool,
    /// Bytes of `rest` before the next special token.
    segment_len: usize,
    /// The next special token and the length of its text.
    special: Option<(u32, usize)>,
    ids: &'t mut [u32],
    ranks: &'t mut [u32],
    /// Tokens of the current word: `ids[at..len]` are still to be given.
    at: usize,
    len: usize,
}

impl Encode<'_, '_> {
    fn find_special(&mut self) {
        let found = match &self.tokenizer.0 {
            Kind::Bpe(bpe) if self.finds_specials => bpe.find_special(self.rest),
            _ => None,
        };
        (self.segment_len, self.special) = match found {
            Some((at, id, len)) => (at, Some((id, len))),
            None => (self.rest.len(), None),
        };
    }

    fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or("");
    }

    /// Encodes the next word into `ids`; `None` at the end of the text.
    fn refill(&mut self) -> Option<Result<(), TokenizeError>> {
        (self.at, self.len) = (0, 0);
        if self.rest.is_empty() {
            return None;
        }
        if self.segment_len == 0 {
            let (id, len) = self.special?;
            *self.ids.first_mut()? = id;
            self.len = 1;
            self.skip(len);
            self.find_special();
            return Some(Ok(()));
        }
        let segment = self.rest.get(..self.segment_len).unwrap_or(self.rest);
        let len = match &self.tokenizer.0 {
            Kind::Bpe(bpe) => bpe.split.word_bytes(segment),
            Kind::None | Kind::Bytes { .. } => segment.len(),
        };
        let word = bounded(segment.get(..len).unwrap_or(segment));
        self.skip(word.len());
        self.segment_len = self.segment_len.saturating_sub(word.len());
        let encoded = match &self.tokenizer.0 {
            Kind::Bpe(bpe) => bpe.encode_word(word.as_bytes(), self.ids, self.ranks),
            Kind::Bytes { offset } => {
                for (id, &byte) in self.ids.iter_mut().zip(word.as_bytes()) {
                    *id = offset.saturating_add(u32::from(byte));
                }
                Ok(word.len())
            }
            Kind::None => return None,
        };
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
