//! Where keys and values lie.

use crate::error::SessionError;
use crate::integer::memory::{part_mut, short};
use crate::integer::pass::{Setting, What};

/// The layout of keys and values: (layers, keys and values, kv_heads, capacity, head_dim).
pub(crate) struct Cache {
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
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
            capacity,
        }
    }

    fn at(&self, layer: usize, value: bool, head: usize, position: usize) -> usize {
        layer
            .saturating_mul(2)
            .saturating_add(usize::from(value))
            .saturating_mul(self.kv_heads)
            .saturating_add(head)
            .saturating_mul(self.capacity)
            .saturating_add(position)
            .saturating_mul(self.head_dim)
    }

    /// `n` positions of a head.
    pub(crate) fn rows<'a>(
        &self,
        all: &'a [i8],
        layer: usize,
        value: bool,
        head: usize,
        from: usize,
        n: usize,
    ) -> Result<&'a [i8], SessionError> {
        let at = self.at(layer, value, head, from);
        let len = n.saturating_mul(self.head_dim);
        let have = all.len();
        let rows = all.get(at..).and_then(|rest| rest.get(..len));
        Ok(rows.ok_or(short(at.saturating_add(len), have))?)
    }

    /// A position of a head, for writing.
    pub(crate) fn slot<'a>(
        &self,
        all: &'a mut [i8],
        layer: usize,
        value: bool,
        head: usize,
        position: usize,
    ) -> Result<&'a mut [i8], SessionError> {
        let at = self.at(layer, value, head, position);
        part_mut(all, at, self.head_dim)
    }
}
