//! Writing the tables of WordPiece and of unigram models.

use crate::file::{LexiconHeader, NO_TOKEN, TokenizerHeader, token_code};
use crate::pack::PackError;
use crate::tokenizer::lexicon::STARTS_LEN;
use crate::tokenizer::pack::{check_tokens, write_pieces};
use crate::tokenizer::unigram::PIECE_BYTES_MAX;
use crate::tokenizer::{BertText, Spaces, Template};

/// BERT's WordPiece.
#[derive(Clone, Copy, Debug)]
pub struct WordPieceParts<'a> {
    /// How a text is changed before it is cut into words.
    pub text: BertText,
    /// The text of each token, in the order of the tokens: the lines of `vocab.txt`. Within a word it begins with `##`.
    pub pieces: &'a [&'a [u8]],
    /// Token of a word that has none: `[UNK]`.
    pub unknown: u32,
    /// Tokens whose literal text stands for them wherever it occurs.
    pub specials: &'a [u32],
    /// What the model expects around a text.
    pub template: Template,
}

/// SentencePiece's unigram model.
#[derive(Clone, Copy, Debug)]
pub struct UnigramParts<'a> {
    /// How spaces are treated.
    pub spaces: Spaces,
    /// SentencePiece's `precompiled_charsmap`, byte for byte; empty for none.
    pub charsmap: &'a [u8],
    /// The text of each token, in the order of the tokens: a space where SentencePiece writes `▁` (U+2581), the byte
    /// itself for a byte's token.
    pub pieces: &'a [&'a [u8]],
    /// Logarithm of the likelihood of each token; less than 128 either way, kept to 2⁻²⁴.
    pub scores: &'a [f32],
    /// Tokens that no text gives: control, unknown, unused, bytes, and those that stand for their literal text.
    pub unmatched: &'a [u32],
    /// Tokens of the bytes, to which a character without a piece falls back.
    pub byte_ids: Option<&'a [u32; 256]>,
    /// Token of what has no piece and no bytes; without it a text with such a character is refused.
    pub unknown: Option<u32>,
    /// Tokens whose literal text stands for them wherever it occurs.
    pub specials: &'a [u32],
    /// What the model expects around a text.
    pub template: Template,
}

/// SentencePiece's penalty for a character without a piece, below the unlikeliest piece.
const UNKNOWN_PENALTY: i32 = -10 << 24;

/// What both kinds have in common.
pub(super) struct Lexicon<'a> {
    header: LexiconHeader,
    kind: u8,
    pieces: &'a [&'a [u8]],
    specials: &'a [u32],
    unmatched: &'a [u32],
    scores: &'a [f32],
    byte_ids: &'a [u32],
    charsmap: &'a [u8],
}

impl<'a> WordPieceParts<'a> {
    pub(super) fn lexicon(&self) -> Lexicon<'a> {
        Lexicon {
            header: header(self.text.code(), Some(self.unknown), &self.template),
            kind: TokenizerHeader::WORD_PIECE,
            pieces: self.pieces,
            specials: self.specials,
            unmatched: &[],
            scores: &[],
            byte_ids: &[],
            charsmap: &[],
        }
    }
}

impl<'a> UnigramParts<'a> {
    pub(super) fn lexicon(&self) -> Lexicon<'a> {
        let flags = self.spaces.code(self.byte_ids.is_some());
        Lexicon {
            header: header(flags, self.unknown, &self.template),
            kind: TokenizerHeader::UNIGRAM,
            pieces: self.pieces,
            specials: self.specials,
            unmatched: self.unmatched,
            scores: self.scores,
            byte_ids: self.byte_ids.map_or(&[], |ids| ids),
            charsmap: self.charsmap,
        }
    }
}

fn header(flags: u32, unknown: Option<u32>, template: &Template) -> LexiconHeader {
    let [first, between, last] = template.tokens();
    LexiconHeader {
        flags: flags | template.flags(),
        unknown: token_code(unknown),
        unknown_score: 0,
        charsmap_len: 0,
        reserved: 0,
        first,
        between,
        last,
    }
}

impl<'a> Lexicon<'a> {
    fn is_unigram(&self) -> bool {
        self.kind == TokenizerHeader::UNIGRAM
    }

    fn tokens(&self) -> impl Iterator<Item = (u32, &'a [u8])> {
        (0..).zip(self.pieces.iter().copied())
    }

    /// Whether a text can give the token.
    fn is_matched(&self, (id, piece): &(u32, &[u8])) -> bool {
        !piece.is_empty() && !self.unmatched.contains(id)
    }

    /// Length of the section in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let text: usize = self.pieces.iter().map(|piece| piece.len()).sum();
        let words = self.specials.len()
            + 2 * self.pieces.len()
            + STARTS_LEN
            + self.scores.len()
            + self.byte_ids.len()
            + self.pieces.len()
            + 1;
        let headers = TokenizerHeader::LEN + LexiconHeader::LEN;
        (headers + 4 * words + text + self.charsmap.len()) as u64
    }

    pub(super) fn check(&self, vocab_len: usize) -> Result<(), PackError> {
        let len = self.pieces.len();
        check_tokens(self.pieces, self.specials, vocab_len)?;
        let header = &self.header;
        let around = [header.first, header.between, header.last, header.unknown];
        let ids = self.byte_ids.iter().chain(self.unmatched).chain(&around);
        for &id in ids.filter(|id| **id != NO_TOKEN) {
            if id as usize >= len {
                return Err(PackError::Token {
                    vocab_len: len,
                    have: id as usize,
                });
            }
        }
        if !self.is_unigram() {
            return Ok(());
        }
        if self.scores.len() != len {
            return Err(PackError::ScoresLen {
                need: len,
                have: self.scores.len(),
            });
        }
        for (id, piece) in self.tokens().filter(|token| self.is_matched(token)) {
            if piece.len() > PIECE_BYTES_MAX {
                return Err(PackError::PieceLen {
                    id,
                    most: PIECE_BYTES_MAX,
                    have: piece.len(),
                });
            }
        }
        let mut ids = (0u32..).zip(self.scores);
        match ids.find(|(_, score)| score.is_nan() || score.abs() >= 128.0) {
            Some((id, _)) => Err(PackError::Score { id }),
            None => Ok(()),
        }
    }

    /// Writes everything after the first header, which it completes.
    pub(super) fn write(
        &self,
        header: &mut TokenizerHeader,
        out: &mut [u8],
    ) -> Result<(), PackError> {
        let (more_bytes, rest) = out.split_at_mut(LexiconHeader::LEN);
        let mut rest = words(rest, self.specials.iter().copied());
        let (tokens, places);
        (tokens, rest) = rest.split_at_mut(4 * self.pieces.len());
        (places, rest) = rest.split_at_mut(4 * self.pieces.len());
        let tokens = tokens.as_chunks_mut::<4>().0;
        let sorted_len = self.order(tokens)?;
        for (id, place) in tokens.iter().zip(0u32..) {
            places.as_chunks_mut::<4>().0[token(id)] = place.to_le_bytes();
        }
        let sorted = &tokens[..sorted_len];
        let starts = (0..STARTS_LEN).map(|byte| {
            let before = |id: &[u8; 4]| usize::from(self.pieces[token(id)][0]) < byte;
            sorted.partition_point(before) as u32
        });
        rest = words(rest, starts);
        rest = words(rest, self.scores.iter().map(|score| fixed(*score) as u32));
        rest = words(rest, self.byte_ids.iter().copied());
        let texts = tokens.iter().map(|id| self.pieces[token(id)]);
        rest = write_pieces(rest, texts);
        rest.copy_from_slice(self.charsmap);
        let least = self
            .tokens()
            .filter(|token| self.is_matched(token))
            .map(|(id, _)| self.scores.get(id as usize).map_or(0, |s| fixed(*s)));
        let more = LexiconHeader {
            unknown_score: match self.is_unigram() {
                true => least.min().unwrap_or(0).saturating_add(UNKNOWN_PENALTY),
                false => 0,
            },
            charsmap_len: self.charsmap.len() as u32,
            ..self.header
        };
        more_bytes.copy_from_slice(&more.encode());
        header.kind = self.kind;
        header.pieces_len = self.pieces.len() as u32;
        header.specials_len = self.specials.len() as u32;
        header.text_len = self.pieces.iter().map(|piece| piece.len() as u32).sum();
        Ok(())
    }

    /// Writes the tokens in the order of their texts, after them those that no text gives; returns how many are sorted.
    fn order(&self, tokens: &mut [[u8; 4]]) -> Result<usize, PackError> {
        let text = |id: &[u8; 4]| self.pieces[token(id)];
        let mut slots = tokens.iter_mut();
        let mut sorted_len = 0;
        for ((id, _), slot) in self
            .tokens()
            .filter(|token| self.is_matched(token))
            .zip(&mut slots)
        {
            *slot = id.to_le_bytes();
            sorted_len += 1;
        }
        let others = self.tokens().filter(|token| !self.is_matched(token));
        for ((id, _), slot) in others.zip(slots) {
            *slot = id.to_le_bytes();
        }
        let sorted = &mut tokens[..sorted_len];
        sorted.sort_unstable_by_key(text);
        match sorted.windows(2).find(|two| text(&two[0]) == text(&two[1])) {
            Some(two) => Err(PackError::PieceTwice {
                id: u32::from_le_bytes(two[0]),
            }),
            None => Ok(sorted_len),
        }
    }
}

fn token(id: &[u8; 4]) -> usize {
    u32::from_le_bytes(*id) as usize
}

/// Writes numbers and returns what is left.
fn words(out: &mut [u8], values: impl Iterator<Item = u32>) -> &mut [u8] {
    let mut rest = out;
    for value in values {
        let (slot, tail) = rest.split_at_mut(4);
        slot.copy_from_slice(&value.to_le_bytes());
        rest = tail;
    }
    rest
}

/// A score in units of 2⁻²⁴. The product is exact; the cast takes less than half a unit off after rounding.
fn fixed(score: f32) -> i32 {
    libm::round(f64::from(score) * f64::from(1 << 24)) as i32
}
