//! Text to tokens and back, from tables that stay in the weights file.
//!
//! Four kinds: one token a byte, byte-level byte-pair encoding (Sennrich et al. 2016, on bytes as GPT-2 does), BERT's
//! WordPiece, and the unigram model of SentencePiece.
//! Reading is total: whatever the tables hold, no look-up can fail worse than by an `Err` or an empty piece.
//! [`Tokenizer::check`] says whether they are sound; [`crate::Model::verify`] calls it.

mod bert_chars;
mod bert_tables;
mod bpe;
mod decode;
mod encode;
mod letters;
mod lexicon;
mod lookup;
mod normalize;
pub(crate) mod pack;
mod pieces;
mod split;
mod template;
mod unigram;
mod wordpiece;

use crate::error::{TokenizeError, WeightsError};
use crate::file::{LexiconHeader, TokenizerHeader};
use bpe::Bpe;
use lookup::{Data, Lookup};
use pieces::Pieces;
use unigram::Unigram;
use wordpiece::WordPiece;

pub use decode::Decode;
pub use encode::Encode;
pub use split::Split;
pub use template::{Template, Wrapped};
pub use unigram::Spaces;
pub use wordpiece::BertText;

/// Longest word, in bytes, that is encoded as one; a longer one is cut there.
///
/// Words are what the pre-tokenizer of byte-level BPE yields: runs of letters, digits, symbols or spaces. So the work
/// on a text is linear in its length, with a bounded square on each word. Only words beyond this length can get other
/// tokens than an unbounded encoder would give them. WordPiece has its own bound (100 characters, then the word is
/// unknown), and a unigram model needs none.
pub const WORD_BYTES_MAX: usize = 128;

/// Elements of scratch that [`Tokenizer::encode`] needs.
pub const ENCODE_SCRATCH_LEN: usize = 2 * WORD_BYTES_MAX;

/// The tokenizer of a model.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'a> {
    kind: Kind<'a>,
    template: Template,
}

#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    None,
    /// Token = byte + offset.
    Bytes {
        offset: u32,
    },
    Bpe(Bpe<'a>),
    Lookup(Lookup<'a>),
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
    /// Reads the section of a weights file; checks every length, not the tables' content.
    ///
    /// # Errors
    /// When it holds something else, or a token that a vocabulary of `vocab_len` has not.
    pub const fn parse(section: &'a [u8], vocab_len: usize) -> Result<Self, WeightsError> {
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
            TokenizerHeader::NONE if no_tables && h.byte_offset == 0 => Ok(Self::new(Kind::None)),
            TokenizerHeader::BYTES
                if no_tables && h.byte_offset as u64 + 256 <= vocab_len as u64 =>
            {
                Ok(Self::new(Kind::Bytes {
                    offset: h.byte_offset,
                }))
            }
            TokenizerHeader::BPE | TokenizerHeader::BPE_RANKED if h.byte_offset == 0 => {
                match Bpe::parse(&h, tables, vocab_len) {
                    Ok(bpe) => Ok(Self::new(Kind::Bpe(bpe))),
                    Err(error) => Err(error),
                }
            }
            TokenizerHeader::WORD_PIECE | TokenizerHeader::UNIGRAM
                if h.byte_offset == 0 && h.split == 0 && h.merges_len == 0 =>
            {
                Self::parse_lexicon(&h, tables, vocab_len)
            }
            _ => Err(WeightsError::Tokenizer),
        }
    }

    const fn new(kind: Kind<'a>) -> Self {
        Self {
            kind,
            template: Template::NONE,
        }
    }

    const fn parse_lexicon(
        header: &TokenizerHeader,
        tables: &'a [u8],
        vocab_len: usize,
    ) -> Result<Self, WeightsError> {
        let Some((more, tables)) = tables.split_first_chunk::<{ LexiconHeader::LEN }>() else {
            return Err(WeightsError::Tokenizer);
        };
        let more = LexiconHeader::decode(*more);
        let is_word_piece = header.kind == TokenizerHeader::WORD_PIECE;
        let mask = if is_word_piece {
            BertText::MASK
        } else {
            unigram::FLAGS_MASK
        };
        if more.flags & !(mask | Template::FLAGS_MASK) != 0 || more.reserved != 0 {
            return Err(WeightsError::Reserved);
        }
        let Some(template) = Template::of(&more, vocab_len) else {
            return Err(WeightsError::Tokenizer);
        };
        if header.pieces_len as usize > vocab_len {
            return Err(WeightsError::Tokenizer);
        }
        let lookup = if is_word_piece {
            match WordPiece::parse(header, &more, tables) {
                Ok(word_piece) => Lookup {
                    data: Data::WordPiece(word_piece),
                    calls: &wordpiece::CALLS,
                },
                Err(error) => return Err(error),
            }
        } else {
            match Unigram::parse(header, &more, tables) {
                Ok(unigram) => Lookup {
                    data: Data::Unigram(unigram),
                    calls: &unigram::CALLS,
                },
                Err(error) => return Err(error),
            }
        };
        let kind = Kind::Lookup(lookup);
        Ok(Self { kind, template })
    }

    /// The pieces, where tokens have any.
    fn pieces(&self) -> Option<&Pieces<'a>> {
        match &self.kind {
            Kind::None | Kind::Bytes { .. } => None,
            Kind::Bpe(bpe) => Some(&bpe.pieces),
            Kind::Lookup(lookup) => Some(lookup.data.pieces()),
        }
    }

    fn data(&self) -> Option<&Data<'a>> {
        match &self.kind {
            Kind::Lookup(lookup) => Some(&lookup.data),
            _ => None,
        }
    }

    /// Number of tokens that have a text; 0 without a tokenizer.
    pub fn vocab_len(&self) -> usize {
        match &self.kind {
            Kind::Bytes { offset } => *offset as usize + BYTES.len(),
            _ => self.pieces().map_or(0, |pieces| pieces.len() as usize),
        }
    }

    /// "none", "bytes", "bpe", "wordpiece" or "unigram".
    pub const fn name(&self) -> &'static str {
        match self.kind {
            Kind::None => "none",
            Kind::Bytes { .. } => "bytes",
            Kind::Bpe(_) => "bpe",
            Kind::Lookup(lookup) => lookup.calls.name,
        }
    }

    /// What the model expects around a text; nothing where the vocabulary does not say.
    pub const fn template(&self) -> &Template {
        &self.template
    }

    /// The bytes of a token, which need not be whole UTF-8 characters; empty for a token without text. Those of
    /// byte-level BPE and of a unigram model make the text when they are put together, those of WordPiece do not:
    /// [`Tokenizer::decode`] does it for all.
    pub fn piece(&self, id: u32) -> &'a [u8] {
        match &self.kind {
            Kind::None => &[],
            Kind::Bytes { offset } => {
                let byte = id
                    .checked_sub(*offset)
                    .map_or(usize::MAX, |byte| byte as usize);
                BYTES.get(byte..byte.saturating_add(1)).unwrap_or(&[])
            }
            _ => self.pieces().map_or(&[], |pieces| pieces.piece(id)),
        }
    }

    /// Whether a token stands for more than its text: the end of a text, the beginning of a turn.
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces().is_some_and(|pieces| pieces.is_special(id))
    }

    /// The tokens of a text, one at a time.
    ///
    /// The literal text of a special token becomes that token, as in Hugging Face's `tokenizers`; what is between is
    /// encoded on its own. `scratch` holds the tokens of one word, or a window of the text: [`ENCODE_SCRATCH_LEN`].
    ///
    /// # Errors
    /// At once, when there is no tokenizer or `scratch` is too short; from the iterator, when a byte has no token.
    pub fn encode<'t>(
        &'t self,
        text: &'t str,
        scratch: &'t mut [u32],
    ) -> Result<Encode<'a, 't>, TokenizeError> {
        Encode::new(self, text, scratch, true)
    }

    /// As [`Tokenizer::encode`], but the literal text of a special token is text like any other: for what comes from
    /// outside and must not end a turn or begin one.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_plain<'t>(
        &'t self,
        text: &'t str,
        scratch: &'t mut [u32],
    ) -> Result<Encode<'a, 't>, TokenizeError> {
        Encode::new(self, text, scratch, false)
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

    /// Writes the tokens of one text or two into `out`, with those that the model expects around them
    /// ([`Tokenizer::template`]).
    ///
    /// # Errors
    /// As [`Tokenizer::encode_into`]; a text is never cut to fit.
    pub fn encode_wrapped(
        &self,
        text: &str,
        second: Option<&str>,
        scratch: &mut [u32],
        out: &mut [u32],
    ) -> Result<Wrapped, TokenizeError> {
        let have = out.len();
        let mut len = 0;
        let mut add = |id: u32, len: &mut usize| match out.get_mut(*len) {
            Some(slot) => {
                *slot = id;
                *len += 1;
                Ok(())
            }
            None => Err(TokenizeError::Tokens { have }),
        };
        if let Some(id) = self.template.first {
            add(id, &mut len)?;
        }
        for id in self.encode(text, scratch)? {
            add(id?, &mut len)?;
        }
        let mut second_at = None;
        if let Some(text) = second {
            if let Some(id) = self.template.between {
                for _ in 0..1 + u8::from(self.template.between_twice) {
                    add(id, &mut len)?;
                }
            }
            second_at = Some(len);
            for id in self.encode(text, scratch)? {
                add(id?, &mut len)?;
            }
        }
        if let Some(id) = self.template.last {
            add(id, &mut len)?;
        }
        let second_at = second_at.unwrap_or(len);
        Ok(Wrapped { len, second_at })
    }

    /// The text of tokens, in parts that follow one another; special tokens have none.
    ///
    /// WordPiece: words with a space between them, none before `.`, `,`, `?` and `!`, as in `tokenizers`. Unigram:
    /// without the space that was put before the text.
    pub fn decode<'i>(&'i self, ids: &'i [u32]) -> Decode<'a, 'i> {
        Decode::new(self, ids)
    }

    /// Whether the tables are sound: offsets in order, tokens in range, merges sorted.
    ///
    /// # Errors
    /// [`WeightsError::Tokenizer`] when they are not.
    pub fn check(&self) -> Result<(), WeightsError> {
        match &self.kind {
            Kind::None | Kind::Bytes { .. } => Ok(()),
            Kind::Bpe(bpe) => bpe.check(),
            Kind::Lookup(lookup) => (lookup.calls.check)(&lookup.data),
        }
    }
}
