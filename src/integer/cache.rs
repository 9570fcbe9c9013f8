//! Where keys and values lie.

use core::ops::Range;

use crate::error::SessionError;
use crate::integer::memory::{part, part_mut, short};
use crate::integer::pass::{Setting, What};
use crate::kernels::integer::{TILE, Tile, to_i8};

/// The layout of keys and values: (layers, keys and values, kv_heads, places, head_dim), where a head's values are
/// transposed tile by tile: (head_dim, places of the tile).
pub(crate) struct Cache {
    kv_heads: usize,
    head_dim: usize,
    places: usize,
}

/// Positions that there is room for: a tile's values are read eight at a time.
pub(crate) const fn places(capacity: usize) -> usize {
    match capacity.checked_next_multiple_of(8) {
        Some(places) => places,
        None => usize::MAX,
    }
}

impl Cache {
    /// Of the text that is run, or of the source that is read.
    pub(crate) fn own(setting: Setting<'_>, what: What) -> Self {
        Self::of(
            setting,
            match what {
                What::Source => setting.room.source_len,
                What::Next { .. } | What::Whole => setting.room.context_len,
            },
        )
    }

    /// Of the source, for the decoder.
    pub(crate) fn cross(setting: Setting<'_>) -> Self {
        Self::of(setting, setting.room.source_len)
    }

    fn of(setting: Setting<'_>, capacity: usize) -> Self {
        let config = setting.model.config();
        Self {
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            places: places(capacity),
        }
    }

    /// Where a head's keys or values from a position on begin; the position is a tile's first for values.
    fn at(&self, layer: usize, value: bool, head: usize, position: usize) -> usize {
        layer
            .saturating_mul(2)
            .saturating_add(usize::from(value))
            .saturating_mul(self.kv_heads)
            .saturating_add(head)
            .saturating_mul(self.places)
            .saturating_add(position)
            .saturating_mul(self.head_dim)
    }

    /// Places of the tile that begins at that position.
    fn width(&self, first: usize) -> usize {
        self.places.saturating_sub(first).min(TILE)
    }

    /// A tile of a head's, up to the position `end`.
    pub(crate) fn tile<'a>(
        &self,
        all: &'a [i8],
        layer: usize,
        head: usize,
        tile: usize,
        end: usize,
    ) -> Result<Tile<'a>, SessionError> {
        let first = tile.saturating_mul(TILE);
        let width = self.width(first);
        let n = end.saturating_sub(first).min(width);
        let head_dim = self.head_dim;
        let keys = self.at(layer, false, head, first);
        let values = self.at(layer, true, head, first);
        Ok(Tile::new(
            head_dim,
            part(all, keys, n.saturating_mul(head_dim))?,
            part(all, values, width.saturating_mul(head_dim))?,
        )?)
    }

    /// What the first `positions` have written, in the order of layers, heads, keys and values.
    pub(crate) fn used(
        &self,
        layers: usize,
        positions: usize,
    ) -> impl Iterator<Item = Range<usize>> + '_ {
        let heads = move |layer| (0..self.kv_heads).map(move |head| (layer, head));
        (0..layers).flat_map(heads).flat_map(move |(layer, head)| {
            let key = self.at(layer, false, head, 0);
            let keys = key..key.saturating_add(positions.saturating_mul(self.head_dim));
            let tiles = (0..positions).step_by(TILE);
            let values = tiles.flat_map(move |first| {
                let n = positions.saturating_sub(first).min(TILE);
                (0..self.head_dim).map(move |element| {
                    let row = element.saturating_mul(self.width(first));
                    let at = self.at(layer, true, head, first).saturating_add(row);
                    at..at.saturating_add(n)
                })
            });
            core::iter::once(keys).chain(values)
        })
    }

    /// The key of a position, for writing.
    pub(crate) fn key<'a>(
        &self,
        all: &'a mut [i8],
        layer: usize,
        head: usize,
        position: usize,
    ) -> Result<&'a mut [i8], SessionError> {
        let at = self.at(layer, false, head, position);
        part_mut(all, at, self.head_dim)
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
        let inside = position % TILE;
        let first = position.saturating_sub(inside);
        let width = self.width(first);
        let at = self.at(layer, true, head, first).saturating_add(inside);
        let have = all.len();
        let places = all.get_mut(at..).ok_or(short(at, have))?;
        for (place, &element) in places.iter_mut().step_by(width.max(1)).zip(elements) {
            *place = to_i8(element);
        }
        Ok(())
    }
}
