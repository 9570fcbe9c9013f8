//! WordPiece as BERT has it (Devlin et al. 2018; the algorithm is that of Hugging Face's `tokenizers`).
//!
//! A text is cleaned, and cut at whitespace, around each punctuation mark and around each Chinese character; models
//! without case fold it and take the accents off. Of each word the longest token that it begins with is taken, then
//! the longest that continues it (their texts begin with `##`), and so on; a word that ends so nowhere is unknown as
//! a whole.

use zerocopy::IntoBytes;

use crate::error::{TokenizeError, WeightsError};
use crate::file::{LexiconHeader, TokenizerHeader, flag};
use crate::tokenizer::bert_chars::{base, is_cjk, is_punctuation, is_removed};
use crate::tokenizer::encode::Encode;
use crate::tokenizer::lexicon::{Lexicon, Walk};
use crate::tokenizer::lookup::{Calls, Data, Part};

/// Longest word in characters, after folding; a longer one is unknown.
const WORD_CHARS_MAX: usize = 100;
/// What the texts of tokens within a word begin with.
pub(crate) const CONTINUATION: &[u8] = b"##";

/// How a text is changed before it is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BertText {
    /// Controls, formats, private use, U+0000 and U+FFFD are removed.
    pub clean: bool,
    /// Each character of the blocks that hold Chinese is a word.
    pub cjk_alone: bool,
    /// Canonical decomposition, then nonspacing marks are removed.
    pub strip_accents: bool,
    /// Letters become small.
    pub lowercase: bool,
}

impl BertText {
    /// Models without case.
    pub const UNCASED: Self = Self {
        clean: true,
        cjk_alone: true,
        strip_accents: true,
        lowercase: true,
    };
    /// Models that tell capital and small letters apart.
    pub const CASED: Self = Self {
        strip_accents: false,
        lowercase: false,
        ..Self::UNCASED
    };

    pub(crate) const fn code(self) -> u32 {
        flag(self.clean, 1)
            | flag(self.cjk_alone, 2)
            | flag(self.strip_accents, 4)
            | flag(self.lowercase, 8)
    }

    const fn of(code: u32) -> Self {
        Self {
            clean: code & 1 != 0,
            cjk_alone: code & 2 != 0,
            strip_accents: code & 4 != 0,
            lowercase: code & 8 != 0,
        }
    }

    /// Bits of [`Self::code`].
    pub(crate) const MASK: u32 = 0xf;
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WordPiece<'a> {
    pub(crate) lexicon: Lexicon<'a>,
    text: BertText,
    unknown: u32,
}

impl<'a> WordPiece<'a> {
    /// Tables: those of [`Lexicon::parse`], the offsets, the text.
    pub(crate) const fn parse(
        header: &TokenizerHeader,
        more: &LexiconHeader,
        tables: &'a [u8],
    ) -> Result<Self, WeightsError> {
        let Some(tables) = Lexicon::parse(header, tables) else {
            return Err(WeightsError::Tokenizer);
        };
        let rest = tables.rest;
        let Some((lexicon, [])) = tables.with_pieces(header, rest) else {
            return Err(WeightsError::Tokenizer);
        };
        if more.unknown >= header.pieces_len || more.unknown_score != 0 || more.charsmap_len != 0 {
            return Err(WeightsError::Tokenizer);
        }
        Ok(Self {
            lexicon,
            text: BertText::of(more.flags),
            unknown: more.unknown,
        })
    }

    /// The tokens that continue a word.
    fn continuations(&self) -> Option<Walk> {
        let mut bytes = CONTINUATION.iter();
        bytes.try_fold(self.lexicon.root(), |walk, &byte| {
            self.lexicon.step(walk, byte)
        })
    }

    /// Writes the tokens of the next word into `ids`; returns the bytes of `text` that were read and the tokens
    /// written, none at the end of the text. `buffer` holds the word: 4 bytes for each of its characters.
    fn encode_word(
        &self,
        text: &str,
        continuations: Option<Walk>,
        ids: &mut [u32],
        buffer: &mut [u32],
    ) -> (usize, usize) {
        let mut word = Word {
            buffer: buffer.as_mut_bytes(),
            len: 0,
            chars: 0,
        };
        let read = self.read_word(text, &mut word);
        let chars = word.chars;
        let found = match word.text() {
            _ if chars == 0 => Some(0),
            Some(word) if chars <= WORD_CHARS_MAX => self.longest_first(word, continuations, ids),
            _ => None,
        };
        let len = found.unwrap_or_else(|| {
            ids.iter_mut().take(1).fold(0, |_, id| {
                *id = self.unknown;
                1
            })
        });
        (read, len)
    }

    fn longest_first(
        &self,
        word: &[u8],
        continuations: Option<Walk>,
        ids: &mut [u32],
    ) -> Option<usize> {
        let (mut rest, mut from, mut len) = (word, Some(self.lexicon.root()), 0);
        while !rest.is_empty() {
            let (id, taken) = self.lexicon.longest(from?, rest)?;
            *ids.get_mut(len)? = id;
            len += 1;
            rest = rest.get(taken..)?;
            from = continuations;
        }
        Some(len)
    }

    /// Fills `word` and returns how much of `text` that took.
    fn read_word(&self, text: &str, word: &mut Word<'_>) -> usize {
        for (at, c) in text.char_indices() {
            let end = at + c.len_utf8();
            if self.text.clean && is_removed(c) {
                continue;
            }
            if c.is_whitespace() {
                if word.chars > 0 {
                    return end;
                }
                continue;
            }
            let alone = self.text.cjk_alone && is_cjk(c) || self.is_mark(c);
            if alone && word.chars > 0 {
                return at;
            }
            self.fold(c, word);
            if alone && word.chars > 0 {
                return end;
            }
        }
        text.len()
    }

    /// Whether a character is punctuation once it is folded, which leaves one character of it then.
    fn is_mark(&self, c: char) -> bool {
        if c.is_ascii() || !self.text.strip_accents {
            return is_punctuation(c);
        }
        matches!(base(c), [Some(c), None, None] if is_punctuation(c))
    }

    fn fold(&self, c: char, word: &mut Word<'_>) {
        if c.is_ascii() {
            word.push(if self.text.lowercase {
                c.to_ascii_lowercase()
            } else {
                c
            });
            return;
        }
        let kept = if self.text.strip_accents {
            base(c)
        } else {
            [Some(c), None, None]
        };
        for c in kept.into_iter().flatten() {
            if self.text.lowercase {
                c.to_lowercase().for_each(|c| word.push(c));
            } else {
                word.push(c);
            }
        }
    }
}

pub(crate) static CALLS: Calls = Calls {
    name: "wordpiece",
    refill,
    part,
    check,
};

fn refill(encode: &mut Encode<'_, '_>) -> Result<usize, TokenizeError> {
    let segment = encode.segment();
    let Some(Data::WordPiece(word_piece)) = encode.tokenizer.data() else {
        encode.skip(segment.len());
        return Ok(0);
    };
    encode.continuations = encode.continuations.or_else(|| word_piece.continuations());
    let continuations = encode.continuations;
    let (read, len) = word_piece.encode_word(segment, continuations, encode.ids, encode.memory);
    encode.skip(read);
    Ok(len)
}

/// A space goes before a word, but not before `.`, `,`, `?` and `!`, as in `tokenizers`.
fn part<'a>(data: &Data<'a>, id: u32, is_first: bool) -> Part<'a> {
    let plain = data.plain(id);
    match plain.piece.strip_prefix(CONTINUATION) {
        _ if is_first => plain,
        Some(piece) => Part { piece, ..plain },
        None => Part {
            space_before: !matches!(plain.piece, b"." | b"," | b"?" | b"!"),
            ..plain
        },
    }
}

fn check(data: &Data<'_>) -> Result<(), WeightsError> {
    match data {
        Data::WordPiece(word_piece) => word_piece.lexicon.check(usize::MAX),
        Data::Unigram(_) => Err(WeightsError::Tokenizer),
    }
}

/// A word, as far as it is worth keeping.
struct Word<'b> {
    buffer: &'b mut [u8],
    len: usize,
    chars: usize,
}

impl Word<'_> {
    fn push(&mut self, c: char) {
        self.chars = self.chars.saturating_add(1);
        if self.chars > WORD_CHARS_MAX {
            return;
        }
        let mut bytes = [0; 4];
        let text = c.encode_utf8(&mut bytes).as_bytes();
        if let Some(slot) = self.buffer.get_mut(self.len..self.len + text.len()) {
            slot.copy_from_slice(text);
            self.len += text.len();
        }
    }

    fn text(&self) -> Option<&[u8]> {
        self.buffer.get(..self.len)
    }
}
