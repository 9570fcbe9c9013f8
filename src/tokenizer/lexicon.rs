//! Which tokens begin a text: the tokens' texts, sorted, among which a walk narrows down byte by byte.
//!
//! Twelve bytes a token beside its text, where a double-array trie over the same texts has four for each of its
//! nodes, of which there are several a token. The first step is looked up; every other is two searches by halves
//! among the texts that share the bytes walked so far. They lie side by side, and after two or three steps there are
//! few of them.

use crate::error::WeightsError;
use crate::file::TokenizerHeader;
use crate::tokenizer::pieces::{Pieces, take, value};

/// One for each byte and one more.
pub(crate) const STARTS_LEN: usize = 257;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexicon<'a> {
    /// Their texts are in the order of `tokens`.
    pub(crate) pieces: Pieces<'a>,
    /// The token of each place: first those that a text can give, ascending by their texts.
    tokens: &'a [[u8; 4]],
    /// For each byte the first place whose text begins with it or a greater one, and at last how many are sorted.
    starts: &'a [[u8; 4]],
}

/// The tables before the pieces, and what follows them.
pub(crate) struct Tables<'a> {
    specials: &'a [[u8; 4]],
    tokens: &'a [[u8; 4]],
    places: &'a [[u8; 4]],
    starts: &'a [[u8; 4]],
    pub(crate) rest: &'a [u8],
}

impl<'a> Tables<'a> {
    /// Reads the pieces from the beginning of `tables`; what follows them is returned.
    pub(crate) const fn with_pieces(
        self,
        header: &TokenizerHeader,
        tables: &'a [u8],
    ) -> Option<(Lexicon<'a>, &'a [u8])> {
        let (len, text_len) = (header.pieces_len, header.text_len);
        let pieces = Pieces::parse(self.specials, Some(self.places), tables, len, text_len);
        let Some((pieces, rest)) = pieces else {
            return None;
        };
        let lexicon = Lexicon {
            pieces,
            tokens: self.tokens,
            starts: self.starts,
        };
        Some((lexicon, rest))
    }
}

/// The places whose texts begin with the bytes walked so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    begin: usize,
    end: usize,
    /// Bytes walked.
    depth: usize,
}

impl<'a> Lexicon<'a> {
    /// Reads the tables that come first: the special tokens, the tokens by place, the places by token, the starts.
    pub(crate) const fn parse(header: &TokenizerHeader, tables: &'a [u8]) -> Option<Tables<'a>> {
        let Some((specials, rest)) = take::<4>(tables, header.specials_len as u64) else {
            return None;
        };
        let Some((tokens, rest)) = take::<4>(rest, header.pieces_len as u64) else {
            return None;
        };
        let Some((places, rest)) = take::<4>(rest, header.pieces_len as u64) else {
            return None;
        };
        let Some((starts, rest)) = take::<4>(rest, STARTS_LEN as u64) else {
            return None;
        };
        Some(Tables {
            specials,
            tokens,
            places,
            starts,
            rest,
        })
    }

    pub(crate) fn root(&self) -> Walk {
        Walk {
            begin: 0,
            end: self.start(STARTS_LEN - 1),
            depth: 0,
        }
    }

    fn start(&self, byte: usize) -> usize {
        self.starts.get(byte).map_or(0, value) as usize
    }

    /// The places that have `byte` next; `None` when there are none.
    pub(crate) fn step(&self, walk: Walk, byte: u8) -> Option<Walk> {
        let depth = walk.depth + 1;
        if walk.depth == 0 {
            let begin = self.start(usize::from(byte));
            let end = self.start(usize::from(byte) + 1);
            return (begin < end).then_some(Walk { begin, end, depth });
        }
        // A text that ends here has no next byte, and `None` comes before all bytes.
        let next = |place: usize| self.pieces.at(place).get(walk.depth).copied();
        let begin = first(walk.begin, walk.end, |place| next(place) >= Some(byte));
        if begin >= walk.end || next(begin) != Some(byte) {
            return None;
        }
        let end = first(begin + 1, walk.end, |place| next(place) > Some(byte));
        Some(Walk { begin, end, depth })
    }

    /// The token whose text is just the bytes walked.
    pub(crate) fn token(&self, walk: Walk) -> Option<u32> {
        if self.pieces.at(walk.begin).len() != walk.depth {
            return None;
        }
        self.tokens.get(walk.begin).map(value)
    }

    /// The token with the longest text that `text` begins with after what was walked, and how many bytes of it.
    pub(crate) fn longest(&self, mut walk: Walk, text: &[u8]) -> Option<(u32, usize)> {
        let mut found = None;
        for (&byte, len) in text.iter().zip(1..) {
            let Some(further) = self.step(walk, byte) else {
                break;
            };
            walk = further;
            found = self.token(walk).map(|id| (id, len)).or(found);
        }
        found
    }

    /// Pieces sound, sorted without doubles; each that a text can give of 1 to `len_max` bytes.
    pub(crate) fn check(&self, len_max: usize) -> Result<(), WeightsError> {
        self.pieces.check()?;
        let mut tokens = self.tokens.iter().map(value).zip(0..);
        let are_places = tokens.all(|(id, place)| self.pieces.place(id) == Some(place));
        let text = |place: usize| self.pieces.at(place);
        let len = self.root().end;
        let fits = len <= self.tokens.len() && self.start(0) == 0;
        let sound = |place: usize| {
            let byte = text(place).first().copied().map_or(STARTS_LEN, usize::from);
            (1..=len_max).contains(&text(place).len())
                && (self.start(byte)..self.start(byte + 1)).contains(&place)
        };
        let ascend = |place: usize| text(place - 1) < text(place);
        if are_places && fits && (0..len).all(sound) && (1..len).all(ascend) {
            Ok(())
        } else {
            Err(WeightsError::Tokenizer)
        }
    }
}

/// The first of the places from `begin` on that `is`, or `end`; all after it are too.
fn first(mut begin: usize, mut end: usize, is: impl Fn(usize) -> bool) -> usize {
    while begin < end {
        let middle = begin + (end - begin) / 2;
        if is(middle) {
            end = middle;
        } else {
            begin = middle + 1;
        }
    }
    begin
}
