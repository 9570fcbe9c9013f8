//! What the tokenizer section begins with.

use zerocopy::{FromBytes, Immutable, IntoBytes, transmute};

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
