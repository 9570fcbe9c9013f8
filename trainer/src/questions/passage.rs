//! A text's tokens, and where each stands in it.

use crate::eval::encode;
use anyhow::Result;
use attentive::Tokenizer;
use std::ops::Range;

/// A text as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Bytes of the text that each stands for: its part of a word, or the whole word where the tokenizer changed it beyond
    /// what can be told.
    pub places: Vec<Range<usize>>,
}

impl Passage {
    /// Encodes a text word by word: no token reaches over a space.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn new(tokenizer: &Tokenizer<'_>, text: &str) -> Result<Self> {
        let mut passage = Self {
            ids: Vec::new(),
            places: Vec::new(),
        };
        let mut rest = 0;
        while rest < text.len() {
            let word_at = text[rest..]
                .find(|c: char| !c.is_whitespace())
                .map_or(text.len(), |at| rest + at);
            let end = text[word_at..]
                .find(char::is_whitespace)
                .map_or(text.len(), |at| word_at + at);
            let ids = encode(tokenizer, &text[rest..end])?;
            let lens = ids.iter().map(|id| letters(tokenizer.piece(*id)));
            passage
                .places
                .extend(places(word_at, &text[word_at..end], lens));
            passage.ids.extend(ids);
            rest = end;
        }
        Ok(passage)
    }

    /// The tokens that have a part of these bytes.
    pub fn tokens(&self, bytes: &Range<usize>) -> Option<Range<usize>> {
        let has = |place: &Range<usize>| place.start < bytes.end && bytes.start < place.end;
        let first = self.places.iter().position(has)?;
        let last = self.places.iter().rposition(has)?;
        Some(first..last + 1)
    }

    /// The bytes of the text from the first token to the last, both included.
    pub fn bytes(&self, first: usize, last: usize) -> Range<usize> {
        let start = self.places.get(first).map_or(0, |place| place.start);
        let end = self.places.get(last).map_or(start, |place| place.end);
        start..end.max(start)
    }
}

/// Characters of a word that a piece stands for.
fn letters(piece: &[u8]) -> Option<usize> {
    let piece = std::str::from_utf8(piece).ok()?;
    let piece = piece.strip_prefix("##").unwrap_or(piece);
    Some(piece.trim_start().chars().count())
}

/// The places of a word's tokens, which have so many characters each; all of it for each where they are not the word's.
fn places(
    at: usize,
    word: &str,
    lens: impl ExactSizeIterator<Item = Option<usize>> + Clone,
) -> Vec<Range<usize>> {
    let count = lens.len();
    let sum: Option<usize> = lens.clone().sum();
    if sum != Some(word.chars().count()) {
        return vec![at..at + word.len(); count];
    }
    let mut ends = word.char_indices().map(|(at, _)| at).skip(1);
    let mut start = 0;
    lens.map(|len| {
        let len = len.unwrap_or(0);
        let end = match len.checked_sub(1) {
            Some(before) => ends.nth(before).unwrap_or(word.len()),
            None => start,
        };
        let place = at + start..at + end;
        start = end;
        place
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_their_part_of_a_word() {
        let lens = |lens: &[usize]| lens.iter().copied().map(Some).collect::<Vec<_>>();
        let whole = 10..13;
        let of = |word, parts: &[usize]| places(10, word, lens(parts).into_iter());
        assert_eq!(of("Martin,", &[6, 1]), [10..16, 16..17]);
        assert_eq!(of("día,", &[3, 1]), [10..14, 14..15]);
        assert_eq!(
            of("ſt", &[3]),
            vec![whole],
            "other characters than the word's"
        );
        assert_eq!(letters(b"##ing"), Some(3));
        assert_eq!(letters(b" the"), Some(3));
        assert_eq!(letters(&[0xc3]), None);
    }
}
