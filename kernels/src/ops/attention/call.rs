//! One call's geometry: which query a row is, which keys it sees, where its output goes.

use super::{AttentionShape, Mask};
use crate::layout::{KEYS_PER_BLOCK, KvShape};

/// Shapes and strided matrices of a call.
pub(super) struct Call<'a> {
    pub(super) kv: &'a KvShape,
    pub(super) shape: &'a AttentionShape<'a>,
    /// Query heads of a key-value head.
    pub(super) group: usize,
    pub(super) q: &'a [f32],
    pub(super) q_stride: usize,
    pub(super) out: &'a mut [f32],
    pub(super) out_stride: usize,
}

/// The rows of a query block: rows `first..first + len` of head `head`'s list (token = row / group).
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) head: usize,
    pub(super) first: usize,
    pub(super) len: usize,
}

/// The keys that the R rows of a group see: row r those below `keep` and those in `from[r]..to[r]`, nothing at or above
/// `to[r]`. Neither `from` nor `to` decreases from row to row.
#[derive(Clone, Copy)]
pub(super) struct Spans<const R: usize> {
    pub(super) keep: usize,
    pub(super) from: [usize; R],
    pub(super) to: [usize; R],
}

impl<const R: usize> Spans<R> {
    pub(super) const NONE: Self = Self {
        keep: 0,
        from: [0; R],
        to: [0; R],
    };

    /// Whether every row sees all of `len` keys from `key` on.
    #[inline(always)]
    pub(super) fn all_see(&self, key: usize, len: usize) -> bool {
        key + len <= self.to[0] && self.all_begin(key, len)
    }

    /// Whether every row sees of `len` keys from `key` on all that lie below its `to`.
    #[inline(always)]
    pub(super) fn all_begin(&self, key: usize, len: usize) -> bool {
        key >= self.from[R - 1] || key + len <= self.keep
    }

    /// Whether no row sees any of `len` keys from `key` on.
    #[inline(always)]
    pub(super) fn none_sees(&self, key: usize, len: usize) -> bool {
        key >= self.to[R - 1] || (key + len <= self.from[0] && key >= self.keep)
    }
}

impl Call<'_> {
    /// Token and query head of a row.
    #[inline(always)]
    fn token_and_head(&self, rows: Rows, row: usize) -> (usize, usize) {
        let row = rows.first + row;
        if self.group == 1 {
            // The usual case without a division, which costs as much as a short row's exponentials.
            return (row, rows.head);
        }
        let token = row.checked_div(self.group).unwrap_or(0);
        (token, rows.head * self.group + (row - token * self.group))
    }

    /// Keys that a group's rows see; rows beyond the last see what the last one does.
    #[inline(always)]
    pub(super) fn spans<const R: usize>(&self, rows: Rows, group: usize) -> Spans<R> {
        let mut spans = Spans::NONE;
        for r in 0..R {
            let row = (group * R + r).min(rows.len.saturating_sub(1));
            let (token, _) = self.token_and_head(rows, row);
            let to = self.shape.visible(token);
            spans.to[r] = to;
            if let Mask::Window { len, keep } = self.shape.mask {
                spans.from[r] = to.saturating_sub(len);
                spans.keep = keep;
            }
        }
        spans
    }

    /// The queries of a row.
    #[inline(always)]
    pub(super) fn query(&self, rows: Rows, row: usize) -> Option<&[f32]> {
        let (token, head) = self.token_and_head(rows, row);
        let head_dim = self.kv.head_dim();
        let at = token * self.q_stride + head * head_dim;
        self.q.get(at..)?.get(..head_dim)
    }

    /// The outputs of a row.
    #[inline(always)]
    pub(super) fn output(&mut self, rows: Rows, row: usize) -> Option<&mut [f32]> {
        let (token, head) = self.token_and_head(rows, row);
        let head_dim = self.kv.head_dim();
        let at = token * self.out_stride + head * head_dim;
        self.out.get_mut(at..)?.get_mut(..head_dim)
    }

    /// The sink of a row's head, if the call has sinks.
    #[inline(always)]
    pub(super) fn sink(&self, rows: Rows, row: usize) -> Option<f32> {
        if self.shape.sinks.is_empty() {
            return None;
        }
        self.shape
            .sinks
            .get(self.token_and_head(rows, row).1)
            .copied()
    }
}

/// Consecutive sixteen-key blocks of one head.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    pub(super) head: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Blocks {
    /// The blocks' part of a slice over all heads with `block_len` elements a block.
    #[inline(always)]
    pub(super) fn of<'a, T>(
        &self,
        kv: &KvShape,
        block_len: usize,
        all: &'a [T],
    ) -> Option<&'a [T]> {
        let block = self.head * (kv.capacity() / KEYS_PER_BLOCK) + self.first;
        all.get(block * block_len..)?.get(..self.count * block_len)
    }

    /// Their first key.
    #[inline(always)]
    pub(super) fn key(&self) -> usize {
        self.first * KEYS_PER_BLOCK
    }
}
