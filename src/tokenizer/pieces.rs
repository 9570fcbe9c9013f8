//! The texts of the tokens, as every kind of tokenizer has them.

use crate::error::WeightsError;

/// `table` as records of N bytes, `len` of them, and what follows.
pub(crate) const fn take<const N: usize>(table: &[u8], len: u64) -> Option<(&[[u8; N]], &[u8])> {
    if len > table.len() as u64 {
        return None;
    }
    match table.split_at_checked(N * len as usize) {
        Some((head, rest)) => Some((head.as_chunks::<N>().0, rest)),
        None => None,
    }
}

/// A number of a table.
pub(crate) fn value(bytes: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*bytes)
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Pieces<'a> {
    specials: &'a [[u8; 4]],
    /// The place of each token's text; without a table it is the token.
    places: Option<&'a [[u8; 4]]>,
    offsets: &'a [[u8; 4]],
    text: &'a [u8],
}

impl<'a> Pieces<'a> {
    /// Reads `pieces_len + 1` offsets and the text, which ends at `text_len`; what follows is returned.
    pub(crate) const fn parse(
        specials: &'a [[u8; 4]],
        places: Option<&'a [[u8; 4]]>,
        table: &'a [u8],
        pieces_len: u32,
        text_len: u32,
    ) -> Option<(Self, &'a [u8])> {
        let Some((offsets, rest)) = take::<4>(table, pieces_len as u64 + 1) else {
            return None;
        };
        let Some((text, rest)) = rest.split_at_checked(text_len as usize) else {
            return None;
        };
        let pieces = Self {
            specials,
            places,
            offsets,
            text,
        };
        Some((pieces, rest))
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> u32 {
        (self.offsets.len() as u32).saturating_sub(1)
    }

    pub(crate) fn knows(&self, id: u32) -> bool {
        id < self.len()
    }

    pub(crate) fn piece(&self, id: u32) -> &'a [u8] {
        self.place(id).map_or(&[], |place| self.at(place))
    }

    /// Where the token's text is in the order of the texts.
    pub(crate) fn place(&self, id: u32) -> Option<usize> {
        match self.places {
            Some(places) => places.get(id as usize).map(|place| value(place) as usize),
            None => Some(id as usize),
        }
    }

    /// The text at a place.
    #[inline]
    pub(crate) fn at(&self, place: usize) -> &'a [u8] {
        let offset = |place| {
            self.offsets
                .get(place)
                .map_or(usize::MAX, |at| value(at) as usize)
        };
        let (begin, end) = (offset(place), offset(place.saturating_add(1)));
        self.text.get(begin..end).unwrap_or(&[])
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.specials.iter().any(|special| value(special) == id)
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
                .map(value)
                .filter_map(|id| {
                    let piece = self.piece(id);
                    (!piece.is_empty() && here.starts_with(piece)).then_some((at, id, piece.len()))
                })
                .max_by_key(|&(_, _, len)| len)
        })
    }

    /// Offsets in order, specials known and not empty.
    pub(crate) fn check(&self) -> Result<(), WeightsError> {
        let pieces = self.offsets.first().map(value) == Some(0)
            && self.offsets.last().map(value) == Some(self.text.len() as u32)
            && self.offsets.is_sorted_by_key(value);
        let specials = self
            .specials
            .iter()
            .map(value)
            .all(|id| self.knows(id) && !self.piece(id).is_empty());
        if pieces && specials {
            Ok(())
        } else {
            Err(WeightsError::Tokenizer)
        }
    }
}
