//! Which tokens begin a text: the tokens sorted by their own texts, which a walk narrows byte by byte.
//!
//! One number a token, where a trie has several for each of its nodes (30,522 tokens of BERT: 122 kB; a double array
//! over the same texts about 400 kB). A step is two binary searches among the tokens that share the bytes walked so far,
//! of which there are few after two or three.

use crate::error::WeightsError;
use crate::tokenizer::pieces::{Pieces, value};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexicon<'a> {
    pub(crate) pieces: Pieces<'a>,
    /// Tokens that a text can give, ascending by their texts.
    sorted: &'a [[u8; 4]],
}

/// The tokens whose texts begin with the bytes walked so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'a> {
    tokens: &'a [[u8; 4]],
    /// Bytes walked.
    depth: usize,
}

impl<'a> Lexicon<'a> {
    pub(crate) const fn new(pieces: Pieces<'a>, sorted: &'a [[u8; 4]]) -> Self {
        Self { pieces, sorted }
    }

    pub(crate) fn root(&self) -> Walk<'a> {
        Walk {
            tokens: self.sorted,
            depth: 0,
        }
    }

    /// The tokens that have `byte` next; `None` when there are none.
    pub(crate) fn step(&self, walk: Walk<'a>, byte: u8) -> Option<Walk<'a>> {
        let next = |id: &[u8; 4]| self.pieces.piece(value(id)).get(walk.depth).copied();
        let tokens = match walk.tokens {
            [] => return None,
            [one] if next(one) != Some(byte) => return None,
            [_] => walk.tokens,
            several => {
                // A text that ends here has no next byte, and `None` comes before all bytes.
                let begin = several.partition_point(|id| next(id) < Some(byte));
                let tail = several.get(begin..)?;
                let len = tail.partition_point(|id| next(id) <= Some(byte));
                tail.get(..len).filter(|found| !found.is_empty())?
            }
        };
        let depth = walk.depth + 1;
        Some(Walk { tokens, depth })
    }

    /// The token whose text is just the bytes walked.
    pub(crate) fn token(&self, walk: Walk<'a>) -> Option<u32> {
        let id = value(walk.tokens.first()?);
        (self.pieces.piece(id).len() == walk.depth).then_some(id)
    }

    /// The token with the longest text that `text` begins with after what was walked, and how many bytes of it.
    pub(crate) fn longest(&self, mut walk: Walk<'a>, text: &[u8]) -> Option<(u32, usize)> {
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

    /// Pieces sound, sorted without doubles; each of 1 to `len_max` bytes.
    pub(crate) fn check(&self, len_max: usize) -> Result<(), WeightsError> {
        self.pieces.check()?;
        let text = |id: &[u8; 4]| self.pieces.piece(value(id));
        let sound = self.sorted.is_sorted_by(|a, b| text(a) < text(b))
            && self
                .sorted
                .iter()
                .all(|id| self.pieces.knows(value(id)) && (1..=len_max).contains(&text(id).len()));
        if sound {
            Ok(())
        } else {
            Err(WeightsError::Tokenizer)
        }
    }
}
