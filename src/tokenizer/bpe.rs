//! Byte-level byte-pair encoding over tables in the weights file.
//!
//! Tables, in file order: the token of each byte (256), the special tokens, the merges sorted by their pair, the
//! places of the pieces (one more than there are), the pieces' bytes. A merge's rank is the token it makes: tokens are
//! numbered in the order in which the training found them, so one number serves as both (as in tiktoken).

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
    /// (left, right, token).
    merges: &'a [[u8; 12]],
    offsets: &'a [[u8; 4]],
    text: &'a [u8],
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

    /// The merge of two tokens: the token that it makes, which is its rank.
    fn merge(&self, left: u32, right: u32) -> u32 {
        self.merges
            .binary_search_by(|merge| pair(merge).cmp(&(left, right)))
            .ok()
            .and_then(|index| self.merges.get(index))
            .map_or(NO_MERGE, made)
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
        while let Some((index, made)) = lowest(ranks, len) {
            if let Some(id) = ids.get(index) {
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

    /// Caches the merge of tokens `index` and `index + 1`.
    fn look_up(&self, ids: &[Cell<u32>], ranks: &[Cell<u32>], index: usize, len: usize) {
        let made = match (ids.get(index), ids.get(index + 1)) {
            (Some(left), Some(right)) if index + 1 < len => self.merge(left.get(), right.get()),
            _ => NO_MERGE,
        };
        if let Some(rank) = ranks.get(index) {
            rank.set(made);
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
                known(left) && known(right) && known(made(merge))
            });
        if pieces && bytes && specials && merges {
            Ok(())
        } else {
            Err(WeightsError::Tokenizer)
        }
    }
}

/// Index and token of the merge of the lowest rank.
fn lowest(ranks: &[Cell<u32>], len: usize) -> Option<(usize, u32)> {
    ranks
        .iter()
        .map(Cell::get)
        .take(len)
        .enumerate()
        .filter(|&(_, made)| made != NO_MERGE)
        .min_by_key(|&(_, made)| made)
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

fn made(merge: &[u8; 12]) -> u32 {
    word_at(merge, 2)
}
