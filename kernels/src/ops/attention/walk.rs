//! The loops around the tiles: heads, query blocks, key blocks, passes of row groups.

use super::call::{Blocks, Call, Rows, Spans};
use super::plan::{GROUPS_PER_PASS, Plan, groups_per_pass};
use crate::isa::Isa;
use crate::layout::KEYS_PER_BLOCK;

/// Row groups that pass over a key block together.
pub(super) struct Pass<const R: usize> {
    /// Their first.
    pub(super) from: usize,
    spans: [Spans<R>; GROUPS_PER_PASS],
    len: usize,
}

impl<const R: usize> Pass<R> {
    /// The keys that each group sees.
    #[inline(always)]
    pub(super) fn groups(&self) -> impl Iterator<Item = (usize, &Spans<R>)> {
        self.spans.iter().take(self.len).enumerate()
    }
}

/// How the element type of a cache is computed with, for row groups of R.
pub(super) trait Method<const R: usize> {
    /// Takes the queries of a block of rows.
    fn begin<I: Isa>(&mut self, isa: I, call: &Call<'_>, rows: Rows) -> Option<()>;
    /// Attends to a block of keys, some of which some row of the pass sees.
    fn attend<I: Isa>(&mut self, isa: I, call: &Call<'_>, at: Blocks, pass: &Pass<R>)
    -> Option<()>;
    /// Writes the outputs of the block of rows.
    fn end<I: Isa>(&mut self, isa: I, call: &mut Call<'_>, rows: Rows) -> Option<()>;
}

/// Attention of the rows `first..end` of every head's list.
#[inline(always)]
pub(super) fn walk<I: Isa, M: Method<R>, const R: usize>(
    isa: I,
    call: &mut Call<'_>,
    plan: &Plan,
    method: &mut M,
    (first, end): (usize, usize),
) -> Option<()> {
    let rows_max = plan.rows_of_block(R);
    for head in 0..call.kv.kv_heads() {
        let mut first = first;
        while first < end {
            let len = rows_max.min(end - first);
            query_block(isa, call, plan, method, Rows { head, first, len })?;
            first += len;
        }
    }
    Some(())
}

#[inline(always)]
fn query_block<I: Isa, M: Method<R>, const R: usize>(
    isa: I,
    call: &mut Call<'_>,
    plan: &Plan,
    method: &mut M,
    rows: Rows,
) -> Option<()> {
    method.begin(isa, call, rows)?;
    let groups = rows.len.div_ceil(R);
    let last: Spans<R> = call.spans(rows, groups.saturating_sub(1));
    let keys = last.to[R - 1];
    let mut key = 0;
    while key < keys {
        let at = Blocks {
            head: rows.head,
            first: key / KEYS_PER_BLOCK,
            count: plan.panels.min((keys - key).div_ceil(KEYS_PER_BLOCK)),
        };
        let len = at.count * KEYS_PER_BLOCK;
        let mut from = 0;
        while from < groups {
            let mut pass = Pass {
                from,
                spans: [Spans::NONE; GROUPS_PER_PASS],
                len: groups_per_pass(R).min(groups - from),
            };
            let mut any = false;
            for (index, spans) in pass.spans.iter_mut().take(pass.len).enumerate() {
                *spans = call.spans(rows, from + index);
                any |= !spans.none_sees(key, len);
            }
            if any {
                method.attend(isa, call, at, &pass)?;
            }
            from += pass.len;
        }
        key += plan.panels * KEYS_PER_BLOCK;
    }
    method.end(isa, call, rows)
}
