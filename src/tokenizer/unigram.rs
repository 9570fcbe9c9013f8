//! The unigram language model of SentencePiece (Kudo 2018): of all ways to cut a text into pieces the likeliest.
//!
//! The search (Viterbi) goes through the normalized text in a window and gives out what all continuations agree on:
//! the last common ancestor of the best ways to each place that is still open. So no end of a word is needed, which
//! Chinese or Thai would not have, and memory is fixed. Scores are integers, 2⁻²⁴ of a natural logarithm each: sums
//! are exact, and so independent of where a window begins, and a microcontroller has no floats of 64 bits.

use core::cell::Cell;
use core::mem;

use zerocopy::IntoBytes;

use crate::error::{TokenizeError, WeightsError};
use crate::file::{LexiconHeader, NO_TOKEN, TokenizerHeader, flag};
use crate::tokenizer::encode::Encode;
use crate::tokenizer::lexicon::Lexicon;
use crate::tokenizer::lookup::{Calls, Data, Part};
use crate::tokenizer::normalize::{Charsmap, Normal, Normalization};
use crate::tokenizer::pieces::{take, value};

/// Longest piece that a text can give, in bytes; SentencePiece's are of 16 characters at most unless asked otherwise.
pub(crate) const PIECE_BYTES_MAX: usize = 64;
/// Places of a window, its beginning included. Only where this many bytes leave it open how they begin is the choice
/// made by what was seen; another tokenizer may then find a likelier one.
const WINDOW_LEN: usize = 256;
/// Set in a window's steps while the last common ancestor is looked for.
const OPEN: u8 = 0x80;

const FLAG_DUMMY_PREFIX: u32 = 1;
const FLAG_COLLAPSE: u32 = 2;
const FLAG_BYTES: u32 = 4;

/// How SentencePiece treats spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Spaces {
    /// A space goes before the text, so that a word is the same at the beginning and after another.
    pub dummy_prefix: bool,
    /// Spaces at both ends and all but one of several are removed.
    pub collapse: bool,
}

impl Spaces {
    pub(crate) const fn code(self, has_bytes: bool) -> u32 {
        flag(self.dummy_prefix, FLAG_DUMMY_PREFIX)
            | flag(self.collapse, FLAG_COLLAPSE)
            | flag(has_bytes, FLAG_BYTES)
    }
}

/// Bits of [`Spaces::code`].
pub(crate) const FLAGS_MASK: u32 = FLAG_DUMMY_PREFIX | FLAG_COLLAPSE | FLAG_BYTES;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Unigram<'a> {
    pub(crate) lexicon: Lexicon<'a>,
    scores: &'a [[u8; 4]],
    /// Tokens of the bytes of what has no piece; empty where that is unknown.
    byte_ids: &'a [[u8; 4]],
    normalization: Normalization<'a>,
    unknown: u32,
    unknown_score: i32,
}

/// A text that is being cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cutting<'a, 't> {
    normal: Normal<'a, 't>,
    /// Bytes in the window that are not given out yet.
    filled: usize,
    /// The last token was for something unknown, and so is whatever unknown follows.
    after_unknown: bool,
}

impl<'a> Unigram<'a> {
    /// Tables: those of [`Lexicon::parse`], the scores, the tokens of bytes (where the flag says so), the offsets,
    /// the text, the replacements.
    pub(crate) const fn parse(
        header: &TokenizerHeader,
        more: &LexiconHeader,
        tables: &'a [u8],
    ) -> Result<Self, WeightsError> {
        let error = Err(WeightsError::Tokenizer);
        let Some(tables) = Lexicon::parse(header, tables) else {
            return error;
        };
        let rest = tables.rest;
        let Some((scores, rest)) = take::<4>(rest, header.pieces_len as u64) else {
            return error;
        };
        let bytes_len = if more.flags & FLAG_BYTES != 0 { 256 } else { 0 };
        let Some((byte_ids, rest)) = take::<4>(rest, bytes_len) else {
            return error;
        };
        let Some((lexicon, charsmap)) = tables.with_pieces(header, rest) else {
            return error;
        };
        let has_unknown = more.unknown < header.pieces_len || more.unknown == NO_TOKEN;
        if charsmap.len() as u64 != more.charsmap_len as u64 || !has_unknown {
            return error;
        }
        let Some(charsmap) = Charsmap::parse(charsmap) else {
            return error;
        };
        Ok(Self {
            lexicon,
            scores,
            byte_ids,
            normalization: Normalization {
                charsmap,
                spaces: Spaces {
                    dummy_prefix: more.flags & FLAG_DUMMY_PREFIX != 0,
                    collapse: more.flags & FLAG_COLLAPSE != 0,
                },
            },
            unknown: more.unknown,
            unknown_score: more.unknown_score,
        })
    }

    fn check(&self) -> Result<(), WeightsError> {
        self.lexicon.check(PIECE_BYTES_MAX)?;
        self.normalization.charsmap.check()?;
        let mut bytes = self.byte_ids.iter().map(value);
        if bytes.all(|id| self.lexicon.pieces.knows(id)) {
            Ok(())
        } else {
            Err(WeightsError::Tokenizer)
        }
    }

    fn cut<'t>(&self, text: &'t str) -> Cutting<'a, 't> {
        Cutting {
            normal: Normal::new(text, &self.normalization),
            filled: 0,
            after_unknown: false,
        }
    }

    /// Writes the next tokens into `ids` and returns how many; 0 at the end of the text. Both slices have
    /// [`WORD_BYTES_MAX`](super::WORD_BYTES_MAX) elements, and `memory` is to come back as it was left.
    fn next_tokens(
        &self,
        cutting: &mut Cutting<'a, '_>,
        ids: &mut [u32],
        memory: &mut [u32],
    ) -> Result<usize, TokenizeError> {
        let Some((text, steps)) = memory.as_mut_bytes().split_at_mut_checked(WINDOW_LEN) else {
            return Ok(0);
        };
        let mut len = 0;
        while len == 0 {
            let has_ended = self.fill(cutting, text);
            let Some(text_here) = text.get(..cutting.filled).filter(|text| !text.is_empty()) else {
                return Ok(0);
            };
            let mut window = Window {
                text: text_here,
                steps: &mut *steps,
                // The scores of the search and the tokens found are never there at the same time.
                scores: ids.as_chunks_mut::<2>().0,
            };
            let end = self.search(&mut window, has_ended);
            turn(steps, end);
            let written = self.write(cutting, text, steps, end, ids);
            // What cannot be written is left out, so that an error is told once.
            let (read, tokens) = written.unwrap_or((end, 0));
            let read = read.min(cutting.filled);
            cutting.filled -= read;
            move_down(text, read, cutting.filled);
            written?;
            len = tokens;
        }
        Ok(len)
    }

    /// Fills the window with normalized text and says whether that was the last of it.
    fn fill(&self, cutting: &mut Cutting<'a, '_>, text: &mut [u8]) -> bool {
        for slot in text.iter_mut().take(WINDOW_LEN - 1).skip(cutting.filled) {
            let Some(byte) = cutting.normal.next(&self.normalization) else {
                return true;
            };
            *slot = byte;
            cutting.filled += 1;
        }
        false
    }

    /// Finds the best way to every place of the window that a whole piece fits after (to all of them in the last one),
    /// and returns the last place that is on all of these ways.
    fn search(&self, window: &mut Window<'_>, is_last: bool) -> usize {
        let len = window.text.len();
        window.steps.fill(0);
        let (mut at, mut furthest) = (0, 0);
        while at < len && (is_last || at + PIECE_BYTES_MAX <= len) {
            let score = window.score(at);
            let tail = window.text.get(at..).unwrap_or(&[]);
            let char_bytes = char_bytes(tail);
            let mut is_known = false;
            let mut walk = self.lexicon.root();
            for (&byte, bytes) in tail.iter().zip(1..=PIECE_BYTES_MAX) {
                let Some(further) = self.lexicon.step(walk, byte) else {
                    break;
                };
                walk = further;
                if let Some(id) = self.lexicon.token(walk) {
                    let piece = self.scores.get(id as usize).map_or(0, value) as i32;
                    window.offer(at, bytes, score.saturating_add(i64::from(piece)));
                    is_known |= bytes == char_bytes;
                    furthest = furthest.max(at + bytes);
                }
            }
            if !is_known {
                let score = score.saturating_add(i64::from(self.unknown_score));
                window.offer(at, char_bytes, score);
                furthest = furthest.max(at + char_bytes);
            }
            at += char_bytes;
        }
        if is_last {
            return len;
        }
        match window.ancestor(at, furthest) {
            0 => at,
            common => common,
        }
    }

    /// Writes the tokens of the window up to `end`, or as many as `ids` holds; returns the bytes read and the tokens.
    fn write(
        &self,
        cutting: &mut Cutting<'a, '_>,
        text: &[u8],
        steps: &[u8],
        end: usize,
        ids: &mut [u32],
    ) -> Result<(usize, usize), TokenizeError> {
        let (mut at, mut len) = (0, 0);
        while at < end {
            let bytes = steps.get(at).map_or(1, |step| usize::from(*step).max(1));
            let piece = text.get(at..at + bytes).unwrap_or(&[]);
            let Some(free) = ids.get_mut(len..).filter(|free| free.len() >= 4) else {
                break;
            };
            let exact = self.lexicon.longest(self.lexicon.root(), piece);
            match exact.filter(|(_, taken)| *taken == bytes) {
                Some((id, _)) => {
                    cutting.after_unknown = false;
                    free.iter_mut().take(1).for_each(|slot| *slot = id);
                    len += 1;
                }
                None => len += self.unknown(cutting, piece, free)?,
            }
            at += bytes;
        }
        Ok((at, len))
    }

    /// The tokens of a character without a piece.
    fn unknown(
        &self,
        cutting: &mut Cutting<'a, '_>,
        character: &[u8],
        ids: &mut [u32],
    ) -> Result<usize, TokenizeError> {
        if !self.byte_ids.is_empty() {
            let mut len = 0;
            for (slot, &byte) in ids.iter_mut().zip(character) {
                *slot = self
                    .byte_ids
                    .get(usize::from(byte))
                    .map_or(self.unknown, value);
                len += 1;
            }
            return Ok(len);
        }
        if self.unknown == NO_TOKEN {
            let byte = character.first().copied().unwrap_or(0);
            return Err(TokenizeError::Byte { byte });
        }
        if mem::replace(&mut cutting.after_unknown, true) {
            return Ok(0);
        }
        ids.iter_mut().take(1).for_each(|slot| *slot = self.unknown);
        Ok(1)
    }
}

pub(crate) static CALLS: Calls = Calls {
    name: "unigram",
    refill,
    part,
    check,
};

fn refill(encode: &mut Encode<'_, '_>) -> Result<usize, TokenizeError> {
    let segment = encode.segment();
    // The cutting holds the segment from here on.
    encode.skip(segment.len());
    let Some(Data::Unigram(unigram)) = encode.tokenizer.data() else {
        return Ok(0);
    };
    let cutting = encode.cutting.get_or_insert_with(|| unigram.cut(segment));
    let len = unigram.next_tokens(cutting, encode.ids, encode.memory)?;
    if len == 0 {
        encode.cutting = None;
    }
    Ok(len)
}

/// The space that was put before a text is taken off it, and where spaces collapse, whatever spaces it begins with.
fn part<'a>(data: &Data<'a>, id: u32, is_first: bool) -> Part<'a> {
    let plain = data.plain(id);
    let Data::Unigram(unigram) = data else {
        return plain;
    };
    let spaces = unigram.normalization.spaces;
    if !is_first || !spaces.dummy_prefix {
        return plain;
    }
    let piece = plain.piece.strip_prefix(b" ").unwrap_or(plain.piece);
    Part {
        piece,
        has_begun: !piece.is_empty() || !spaces.collapse,
        ..plain
    }
}

fn check(data: &Data<'_>) -> Result<(), WeightsError> {
    match data {
        Data::Unigram(unigram) => unigram.check(),
        Data::WordPiece(_) => Err(WeightsError::Tokenizer),
    }
}

/// Moves `len` bytes from `from` to the beginning.
fn move_down(bytes: &mut [u8], from: usize, len: usize) {
    let bytes = Cell::from_mut(bytes).as_slice_of_cells();
    for (to, from) in bytes.iter().zip(bytes.iter().skip(from)).take(len) {
        to.set(from.get());
    }
}

/// Bytes of the character that `text` begins with; its own length if it ends before.
fn char_bytes(text: &[u8]) -> usize {
    let len = match text.first() {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..) => 4,
        _ => 1,
    };
    len.min(text.len().max(1))
}

/// The places of a search: place i is before byte i of the text.
struct Window<'w> {
    text: &'w [u8],
    /// Bytes of the last piece of the best way to each place; 0: none leads there.
    steps: &'w mut [u8],
    /// Scores of the ways to the next [`PIECE_BYTES_MAX`] places, each at its place modulo that.
    scores: &'w mut [[u32; 2]],
}

impl Window<'_> {
    fn score(&self, at: usize) -> i64 {
        match self.scores.get(at % PIECE_BYTES_MAX) {
            Some(&[low, high]) if at > 0 => (u64::from(high) << 32 | u64::from(low)) as i64,
            _ => 0,
        }
    }

    /// A way to the place `bytes` after `at`; of equals the first stays.
    fn offer(&mut self, at: usize, bytes: usize, score: i64) {
        let place = at + bytes;
        let best = self.score(place);
        let Some(step) = self.steps.get_mut(place) else {
            return;
        };
        if *step == 0 || score > best {
            *step = bytes as u8;
            if let Some(slot) = self.scores.get_mut(place % PIECE_BYTES_MAX) {
                *slot = [score as u32, (score as u64 >> 32) as u32];
            }
        }
    }

    /// The last place that the best ways to all places from `from` to `to` have in common.
    fn ancestor(&mut self, from: usize, to: usize) -> usize {
        let mut open = 0;
        for step in self.steps.iter_mut().take(to + 1).skip(from) {
            if *step != 0 {
                *step |= OPEN;
                open += 1;
            }
        }
        for place in (1..=to).rev() {
            let Some(step) = self.steps.get_mut(place).filter(|step| **step & OPEN != 0) else {
                continue;
            };
            *step &= !OPEN;
            if open <= 1 {
                return place;
            }
            let before = place.saturating_sub(usize::from(*step));
            match self.steps.get_mut(before) {
                Some(step) if *step & OPEN == 0 => *step |= OPEN,
                _ => open -= 1,
            }
        }
        0
    }
}

/// Turns the steps back from `end` into steps forward from 0.
fn turn(steps: &mut [u8], end: usize) {
    let mut place = end;
    let mut step = steps.get(place).copied().unwrap_or(0);
    while place > 0 && step > 0 {
        let before = place.saturating_sub(usize::from(step));
        let Some(slot) = steps.get_mut(before) else {
            return;
        };
        step = mem::replace(slot, step);
        place = before;
    }
}
