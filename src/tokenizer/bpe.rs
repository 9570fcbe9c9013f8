//! Byte-level byte-pair encoding over tables in the weights file.
//!
//! Tables, in file order: the token of each byte (256), the special tokens, the merges sorted by their pair, the tokens
//! that they make by rank, the places of the pieces (one more than there are), the pieces' bytes. Where tokens are
//! numbered in the order in which the training found them, as they mostly are, the token that a merge makes serves as
//! its rank (as in tiktoken), and the table by rank is left out.

use core::cell::Cell;

use crate::error::{TokenizeError, WeightsError};
use crate::file::TokenizerHeader;
use crate::tokenizer::pieces::{Pieces, take, value};
use crate::tokenizer::split::Split;

/// "These two tokens do not merge".
const NO_MERGE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bpe<'a> {
    pub(crate) split: Split,
    pub(crate) pieces: Pieces<'a>,
    byte_ids: &'a [[u8; 4]],
    /// (left, right, rank).
    merges: &'a [[u8; 12]],
    ranks: Ranks<'a>,
}

/// What a merge's rank says about the token that it makes.
#[derive(Clone, Copy, Debug)]
enum Ranks<'a> {
    /// It is that token.
    AreTokens,
    /// It is the token's place in this table.
    Index(&'a [[u8; 4]]),
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
        let Some((pieces, [])) =
            Pieces::parse(specials, None, rest, header.pieces_len, header.text_len)
        else {
            return Err(WeightsError::Tokenizer);
        };
        Ok(Self {
            split,
            pieces,
            byte_ids,
            merges,
            ranks,
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
        self.pieces.check()?;
        let known = |id: u32| self.pieces.knows(id);
        let bytes = self
            .byte_ids
            .iter()
            .map(value)
            .all(|id| id == u32::MAX || known(id));
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
        if bytes && merges && ranks {
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
