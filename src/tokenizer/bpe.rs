//! Byte-level byte-pair encoding over tables in the weights file.
//!
//! Tables, in file order: the token of each byte (256), the special tokens, the merges sorted by their pair, the tokens
//! that they make by rank, the places of the pieces (one more than there are), the pieces' bytes. Where tokens are
//! numbered in the order in which the training found them, as they mostly are, the token that a merge makes serves as
//! its rank (as in tiktoken), and the table by rank is left out.

use core::cell::Cell;

use crate::error::{TokenizeError, WeightsError};
use crate::file::TokenizerHeader;
use crate::tokenizer::split::Split;

/// "These two tokens do not merge".
const NO_MERGE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bpe<'a> {
    pub(crate) split: Split,
    byte_ids: &'a [[u8; 4]],
    specials: &'a [[u8; 4]],
    /// (left, right, rank).
    merges: &'a [[u8; 12]],
    ranks: Ranks<'a>,
    offsets: &'a [[u8; 4]],
    text: &'a [u8],
}

/// What a merge's rank says about the token that it makes.
#[derive(Clone, Copy, Debug)]
enum Ranks<'a> {
    /// It is that token.
    AreTokens,
    /// It is the token's place in this table.
    Index(&'a [[u8; 4]]),
}

/// `table` as records of N bytes, `len` of them, and what follows.
const fn take<const N: usize>(table: &[u8], len: u64) -> Option<(&[[u8; N]], &[u8])> {
    if len > table.len() as u64 {
        return None;
    }
    match table.split_at_checked(N * len as usize) {
        Some((head, rest)) => Some((head.as_chunks::<N>().0, rest)),
        None => None,
    }
}

impl<'a> Bpe<'a> {
    pub(crate) const fn parse(
        header: &TokenizerHeader,
        tables: &'a [u8],
        vocab_len: usize,
    ) -> Result<Self, WeightsError> {
        let Some(split) = Split::of(header.split) else {
            return Err(WeightsError::Tokenizer);
        };
        if header.pieces_len as usize > vocab_len {
            return Err(WeightsError::Tokenizer);
        }
        let Some((byte_ids, rest)) = take::<4>(tables, 256) else {
            return Err(WeightsError::Tokenizer);
        };
        let Some((specials, rest)) = take::<4>(rest, header.specials_len as u64) else {
            return Err(WeightsError::Tokenizer);
        };
        let Some((merges, rest)) = take::<12>(rest, header.merges_len as u64) else {
            return Err(WeightsError::Tokenizer);
        };
        let (ranks, rest) = match header.kind {
            TokenizerHeader::BPE_RANKED => match take::<4>(rest, header.merges_len as u64) {
                Some((made, rest)) => (Ranks::Index(made), rest),
                None => return Err(WeightsError::Tokenizer),
            },
            _ => (Ranks::AreTokens, rest),
        };
        let Some((offsets, text)) = take::<4>(rest, header.pieces_len as u64 + 1) else {
            return Err(WeightsError::Tokenizer);
        };
        if text.len() as u64 != header.text_len as u64 {
            return Err(WeightsError::Tokenizer);
        }
        Ok(Self {
            split,
            byte_ids,
            specials,
            merges,
            ranks,
            offsets,
            text,
        })
    }

    pub(crate) fn piece(&self, id: u32) -> &'a [u8] {
        self.piece_checked(id).unwrap_or(&[])
    }

    fn piece_checked(&self, id: u32) -> Option<&'a [u8]> {
        let (_, from_here) = self.offsets.split_at_checked(id as usize)?;
        let [begin, end] = *from_here.first_chunk::<2>()?;
        self.text
            .get(u32::from_le_bytes(begin) as usize..u32::from_le_bytes(end) as usize)
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.specials.iter().any(|&s| u32::from_le_bytes(s) == id)
    }

    /// Place, token and length of the leftmost special token in `text`, the longest where several begin.
    pub(crate) fn find_special(&self, text: &str) -> Option<(usize, u32, usize)> {
        if self.specials.is_empty() {
            return None;
        }
        (0..text.len()).find_map(|at| {
            let here = text.as_bytes().get(at..)?;
            self.specials
                .iter()
                .map(|&id| u32::from_le_bytes(id))
                .filter_map(|id| {
                    let piece = self.piece(id);
                    (!piece.is_empty() && here.starts_with(piece)).then_some((at, id, piece.len()))
                })
                .max_by_key(|&(_, _, len)| len)
        })
    }

    /// The rank of the merge of two tokens.
    fn rank(&self, left: u32, right: u32) -> u32 {
        self.merges
            .binary_search_by(|merge| pair(merge).cmp(&(left, right)))
            .ok()
            .and_then(|index| self.merges.get(index))
            .map_or(NO_MERGE, rank)
    }

    /// The token that the merge of that rank makes.
    fn made(&self, rank: u32) -> Option<u32> {
        match self.ranks {
            Ranks::AreTokens => Some(rank),
            Ranks::Index(made) => made.get(rank as usize).map(|&id| u32::from_le_bytes(id)),
        }
    }

    /// Writes the tokens of a word of at most `ids.len()` bytes into `ids` and returns how many there are.
    ///
    /// Merges the pair of the lowest rank, the leftmost of equals, until none is left. `ranks[i]` caches the merge of
    /// tokens i and i + 1: only the two neighbours of a merge have to be looked up again.
    pub(crate) fn encode_word(
        &self,
        word: &[u8],
        ids: &mut [u32],
        ranks: &mut [u32],
    ) -> Result<usize, TokenizeError> {
        for (id, &byte) in ids.iter_mut().zip(word) {
            *id = self
                .byte_ids
                .get(usize::from(byte))
                .map(|&id| u32::from_le_bytes(id))
                .filter(|&id| id != u32::MAX)
                .ok_or(TokenizeError::Byte { byte })?;
        }
        let mut len = word.len();
        let ids = Cell::from_mut(ids).as_slice_of_cells();
        let ranks = Cell::from_mut(ranks).as_slice_of_cells();
        for index in 0..len {
            self.look_up(ids, ranks, index, len);
        }
        while let Some((index, rank)) = lowest(ranks, len) {
            if let Some((id, made)) = ids.get(index).zip(self.made(rank)) {
                id.set(made);
            }
            remove(ids, index + 1, len);
            remove(ranks, index, len);
            len -= 1;
            if let Some(before) = index.checked_sub(1) {
                self.look_up(ids, ranks, before, len);
            }
            self.look_up(ids, ranks, index, len);
        }
        Ok(len)
    }

    /// Caches the rank of the merge of tokens `index` and `index + 1`.
    fn look_up(&self, ids: &[Cell<u32>], ranks: &[Cell<u32>], index: usize, len: usize) {
        let rank = match (ids.get(index), ids.get(index + 1)) {
            (Some(left), Some(right)) if index + 1 < len => self.rank(left.get(), right.get()),
            _ => NO_MERGE,
        };
        if let Some(slot) = ranks.get(index) {
            slot.set(rank);
        }
    }

    pub(crate) fn check(&self) -> Result<(), WeightsError> {
        let pieces_len = self.offsets.len() as u32 - 1;
        let known = |id: u32| id < pieces_len;
        let value = |id: &[u8; 4]| u32::from_le_bytes(*id);
        let last = self.offsets.last().map(value);
        let pieces = self.offsets.first().map(value) == Some(0)
            && last == Some(self.text.len() as u32)
            && self.offsets.is_sorted_by_key(value);
        let bytes = self
            .byte_ids
            .iter()
            .map(value)
            .all(|id| id == u32::MAX || known(id));
        let specials = self
            .specials
            .iter()
            .map(value)
            .all(|id| known(id) && !self.piece(id).is_empty());
        let merges = self.merges.is_sorted_by(|a, b| pair(a) < pair(b))
            && self.merges.iter().all(|merge| {
                let (left, right) = pair(merge);
                known(left) && known(right) && self.made(rank(merge)).is_some_and(known)
            });
        // A table that says nothing new is left out.
        let ranks = match self.ranks {
            Ranks::AreTokens => true,
            Ranks::Index(made) => !made.is_sorted_by(|a, b| value(a) < value(b)),
        };
        if pieces && bytes && specials && merges && ranks {
            Ok(())
        } else {
            Err(WeightsError::Tokenizer)
        }
    }
}

/// Index and rank of the merge of the lowest rank.
fn lowest(ranks: &[Cell<u32>], len: usize) -> Option<(usize, u32)> {
    ranks
        .iter()
        .map(Cell::get)
        .take(len)
        .enumerate()
        .filter(|&(_, rank)| rank != NO_MERGE)
        .min_by_key(|&(_, rank)| rank)
}

/// Closes the gap at `index` among the first `len` elements.
fn remove(slots: &[Cell<u32>], index: usize, len: usize) {
    let Some(tail) = slots.get(index..len) else {
        return;
    };
    for (to, from) in tail.iter().zip(tail.iter().skip(1)) {
        to.set(from.get());
    }
}

fn word_at(merge: &[u8; 12], index: usize) -> u32 {
    merge
        .as_chunks::<4>()
        .0
        .get(index)
        .map_or(NO_MERGE, |&word| u32::from_le_bytes(word))
}

fn pair(merge: &[u8; 12]) -> (u32, u32) {
    (word_at(merge, 0), word_at(merge, 1))
}

fn rank(merge: &[u8; 12]) -> u32 {
    word_at(merge, 2)
}
