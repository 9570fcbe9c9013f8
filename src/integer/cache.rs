//! Where keys and values lie.

use core::marker::PhantomData;
use core::ops::Range;

use crate::error::SessionError;
use crate::integer::memory::{part, part_mut, short};
use crate::integer::needs::{Fit, Of};
use crate::integer::pass::{Setting, What};
use crate::integer::tensors::Bits;
use crate::kernels::ShapeError;
use crate::kernels::integer::{BATCH, TILE, Tile, nibbles_len, put_nibble, to_i8, unpack_nibbles};

/// The layout of keys and values: (layers, keys and values, kv_heads, places, head_dim), where a head's values are
/// transposed tile by tile: (head_dim, places of the tile).
///
/// Of four bits a number, those of eight that follow each other lie in four bytes, as [`unpack_nibbles`] takes them.
pub(crate) struct Cache<F> {
    kv_heads: usize,
    head_dim: usize,
    places: usize,
    bits: Bits,
    fit: PhantomData<F>,
}

/// Positions that there is room for: a tile's values are read eight at a time.
pub(crate) const fn places(capacity: usize) -> usize {
    match capacity.checked_next_multiple_of(8) {
        Some(places) => places,
        None => usize::MAX,
    }
}

/// The same of a ring in which a query sees `len` keys: whole tiles, so that a tile's keys lie side by side, and those of
/// a batch of queries, whose last key is there before its first query looks.
pub(crate) const fn ring_places(len: usize) -> usize {
    match len.saturating_add(BATCH - 1).checked_next_multiple_of(TILE) {
        Some(places) => places,
        None => usize::MAX,
    }
}

/// Bytes of so many numbers, a multiple of eight.
pub(crate) const fn bytes(bits: Bits, numbers: usize) -> usize {
    match bits {
        Bits::Eight => numbers,
        Bits::Four => nibbles_len(numbers),
    }
}

/// Keys of four bits are so many times those of eight. Calibration leaves room for the greatest, which is more than four
/// bits have to give: `austen-1m` takes 1.4 % more bits with them, 2.6 % with as much room as bytes have, and with values
/// that have less 1.5 %.
const KEY_GAIN: i8 = 2;

impl<F: Fit> Cache<F> {
    /// What makes a score of a product with a key as it lies there, from what makes it with one of eight bits.
    pub(crate) fn multiplier(&self, of_bytes: i32) -> i32 {
        match self.bits() {
            Bits::Eight => of_bytes,
            Bits::Four => of_bytes / i32::from(KEY_GAIN),
        }
    }

    /// Of the text that is run, or of the source that is read.
    pub(crate) fn own(setting: Setting<'_, F>, what: What) -> Self {
        Self::of(
            setting,
            match what {
                What::Source => setting.room.source_places(),
                What::Next { .. } | What::Whole => setting.room.own_places(),
            },
        )
    }

    /// Of the source, for the decoder.
    pub(crate) fn cross(setting: Setting<'_, F>) -> Self {
        Self::of(setting, setting.room.source_places())
    }

    fn of(setting: Setting<'_, F>, places: usize) -> Self {
        let config = setting.model.config();
        Self {
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            places,
            bits: setting.room.kv,
            fit: PhantomData,
        }
    }

    fn bits(&self) -> Bits {
        match Of::<F>::NIBBLES {
            true => self.bits,
            false => Bits::Eight,
        }
    }

    /// The place of a position. Only a ring has positions beyond its places.
    fn place(&self, position: usize) -> usize {
        match position < self.places || !Of::<F>::RING {
            true => position,
            false => position.checked_rem(self.places).unwrap_or(0),
        }
    }

    /// Where, among all numbers, a head's keys or values from a place on begin; it is a tile's first for values.
    fn at(&self, layer: usize, value: bool, head: usize, place: usize) -> usize {
        layer
            .saturating_mul(2)
            .saturating_add(usize::from(value))
            .saturating_mul(self.kv_heads)
            .saturating_add(head)
            .saturating_mul(self.places)
            .saturating_add(place)
            .saturating_mul(self.head_dim)
    }

    /// Places of the tile that begins at that place.
    fn width(&self, first: usize) -> usize {
        self.places.saturating_sub(first).min(TILE)
    }

    /// `len` numbers from `at` on, in bytes of which `room` is for those that have to be unpacked.
    fn numbers<'a>(
        &self,
        all: &'a [i8],
        at: usize,
        len: usize,
        room: &'a mut [i8],
    ) -> Result<&'a [i8], SessionError> {
        let bytes = part(all, bytes(self.bits(), at), bytes(self.bits(), len))?;
        match self.bits() {
            Bits::Eight => Ok(bytes),
            Bits::Four => {
                let room = part_mut(room, 0, len)?;
                unpack_nibbles(bytes, room);
                Ok(room)
            }
        }
    }

    /// A tile of a head's, up to the position `end`; `room` is for one whose numbers have four bits.
    pub(crate) fn tile<'a>(
        &self,
        all: &'a [i8],
        layer: usize,
        head: usize,
        tile: usize,
        end: usize,
        room: &'a mut [i8],
    ) -> Result<Tile<'a>, SessionError> {
        let position = tile.saturating_mul(TILE);
        let first = self.place(position);
        let width = self.width(first);
        let n = end.saturating_sub(position).min(width);
        let head_dim = self.head_dim;
        let (of_keys, of_values) = room.split_at_mut(room.len() / 2);
        let keys = self.at(layer, false, head, first);
        let values = self.at(layer, true, head, first);
        Ok(Tile::new(
            head_dim,
            self.numbers(all, keys, n.saturating_mul(head_dim), of_keys)?,
            self.numbers(all, values, width.saturating_mul(head_dim), of_values)?,
        )?)
    }

    /// The bytes of what the first `places` have, in the order of layers, heads, keys and values.
    pub(crate) fn used(
        &self,
        layers: usize,
        places: usize,
    ) -> impl Iterator<Item = Range<usize>> + '_ {
        let heads = move |layer| (0..self.kv_heads).map(move |head| (layer, head));
        let range = |at: usize, n: usize| {
            let from = bytes(self.bits(), at);
            // Of four bits, eights are whole.
            let n = match self.bits() {
                Bits::Eight => n,
                Bits::Four => n.next_multiple_of(8),
            };
            from..from.saturating_add(bytes(self.bits(), n))
        };
        (0..layers).flat_map(heads).flat_map(move |(layer, head)| {
            let key = self.at(layer, false, head, 0);
            let keys = range(key, places.saturating_mul(self.head_dim));
            let tiles = (0..places).step_by(TILE);
            let values = tiles.flat_map(move |first| {
                let n = places.saturating_sub(first).min(TILE);
                (0..self.head_dim).map(move |element| {
                    let row = element.saturating_mul(self.width(first));
                    range(self.at(layer, true, head, first).saturating_add(row), n)
                })
            });
            core::iter::once(keys).chain(values)
        })
    }

    /// Writes the key of a position, which `fill` makes; `room` is for one of four bits a number, before it has them.
    pub(crate) fn put_key(
        &self,
        all: &mut [i8],
        layer: usize,
        head: usize,
        position: usize,
        room: &mut [i8],
        fill: impl FnOnce(&mut [i8]) -> Result<(), ShapeError>,
    ) -> Result<(), SessionError> {
        let at = self.at(layer, false, head, self.place(position));
        match self.bits() {
            Bits::Eight => fill(part_mut(all, at, self.head_dim)?)?,
            Bits::Four => {
                let key = part_mut(room, 0, self.head_dim)?;
                fill(key)?;
                for (index, &number) in (at..).zip(&*key) {
                    put_nibble(all, index, number.saturating_mul(KEY_GAIN));
                }
            }
        }
        Ok(())
    }

    /// Writes the value of a position: the nearest bytes.
    pub(crate) fn put_value(
        &self,
        all: &mut [i8],
        layer: usize,
        head: usize,
        position: usize,
        elements: &[i32],
    ) -> Result<(), SessionError> {
        let place = self.place(position);
        let inside = place % TILE;
        let first = place.saturating_sub(inside);
        let width = self.width(first);
        let at = self.at(layer, true, head, first).saturating_add(inside);
        match self.bits() {
            Bits::Eight => {
                let have = all.len();
                let places = all.get_mut(at..).ok_or(short(at, have))?;
                for (place, &element) in places.iter_mut().step_by(width.max(1)).zip(elements) {
                    *place = to_i8(element);
                }
            }
            Bits::Four => {
                for (index, &element) in (at..).step_by(width.max(1)).zip(elements) {
                    put_nibble(all, index, to_i8(element));
                }
            }
        }
        Ok(())
    }
}
