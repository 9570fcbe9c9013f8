//! The tokens that a model expects around a text, or around two.

use crate::file::{LexiconHeader, flag, token, token_code};

const FLAG_BETWEEN_TWICE: u32 = 1 << 16;
const FLAG_TYPES: u32 = 1 << 17;

/// The tokens that a model expects around a text, or around two.
///
/// BERT: `[CLS] text [SEP]` and `[CLS] first [SEP] second [SEP]` with types; RoBERTa and XLM-R: `<s> text </s>` and
/// `<s> first </s></s> second </s>`; T5 and Marian: `text </s>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Template {
    /// Before the first text.
    pub first: Option<u32>,
    /// Between two texts.
    pub between: Option<u32>,
    /// It stands there twice.
    pub between_twice: bool,
    /// After the last text.
    pub last: Option<u32>,
    /// The model tells two texts apart by types: 0 up to the token between them, then 1.
    pub types: bool,
}

impl Template {
    /// Nothing around a text.
    pub const NONE: Self = Self {
        first: None,
        between: None,
        between_twice: false,
        last: None,
        types: false,
    };

    /// Its bits of [`LexiconHeader::flags`].
    pub(crate) const FLAGS_MASK: u32 = FLAG_BETWEEN_TWICE | FLAG_TYPES;

    pub(crate) const fn flags(&self) -> u32 {
        flag(self.between_twice, FLAG_BETWEEN_TWICE) | flag(self.types, FLAG_TYPES)
    }

    pub(crate) const fn tokens(&self) -> [u32; 3] {
        [
            token_code(self.first),
            token_code(self.between),
            token_code(self.last),
        ]
    }

    /// `None` when a token is not in the vocabulary.
    pub(crate) const fn of(header: &LexiconHeader, vocab_len: usize) -> Option<Self> {
        let template = Self {
            first: token(header.first),
            between: token(header.between),
            between_twice: header.flags & FLAG_BETWEEN_TWICE != 0,
            last: token(header.last),
            types: header.flags & FLAG_TYPES != 0,
        };
        let [first, between, last] = [template.first, template.between, template.last];
        if fits(first, vocab_len) && fits(between, vocab_len) && fits(last, vocab_len) {
            Some(template)
        } else {
            None
        }
    }
}

const fn fits(id: Option<u32>, vocab_len: usize) -> bool {
    match id {
        Some(id) => (id as usize) < vocab_len,
        None => true,
    }
}

/// What [`Tokenizer::encode_wrapped`](super::Tokenizer::encode_wrapped) wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Wrapped {
    /// Number of tokens.
    pub len: usize,
    /// Where the second text begins, after the token between them: types are 0 before and 1 from here on, where the
    /// template has types. Equal to `len` for one text.
    pub second_at: usize,
}
