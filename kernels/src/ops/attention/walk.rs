//! The loops around the tiles: heads, query blocks, key blocks, passes of row groups.

use super::call::{Blocks, Call, Rows, Spans};
use super::plan::{GROUPS_PER_PASS, Plan, Tile};
use crate::isa::Isa;
use crate::layout::KEYS_PER_BLOCK;
use crate::math::LOG2_E;

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
    /// Prepares a block of keys for the passes over it.
    #[inline(always)]
    fn enter<I: Isa>(&mut self, _: I, _: &Call<'_>, _: Blocks) -> Option<()> {
        Some(())
    }
    /// Attends to a block of keys, some of which some row of the pass sees.
    fn attend<I: Isa>(&mut self, isa: I, call: &Call<'_>, at: Blocks, pass: &Pass<R>)
    -> Option<()>;
    /// What a row group's outputs are to be divided by.
    fn totals<I: Isa>(&self, isa: I, group: usize) -> Option<Totals<R>>;
    /// Unnormalised outputs `[groups][ceil(head_dim / 16)]` of the block of rows.
    fn outputs(&self) -> &[Tile<R>];
}

/// Sums of a row group's probabilities, and the references of their exponents.
pub(super) struct Totals<const R: usize> {
    pub(super) sums: [f32; R],
    pub(super) references: [f32; R],
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
    let rows_max = plan.rows_at_once(R, call.shape.kv_len);
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
        method.enter(isa, call, at)?;
        let mut from = 0;
        while from < groups {
            let mut pass = Pass {
                from,
                spans: [Spans::NONE; GROUPS_PER_PASS],
                len: plan.groups_of_pass(R).min(groups - from),
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
    write(isa, call, method, rows)
}

/// Divides the outputs of a block of rows by the sums of their probabilities.
#[inline(always)]
fn write<I: Isa, M: Method<R>, const R: usize>(
    isa: I,
    call: &mut Call<'_>,
    method: &M,
    rows: Rows,
) -> Option<()> {
    let tiles = call.kv.head_dim().div_ceil(16).max(1);
    for (group, from) in method.outputs().chunks_exact(tiles).enumerate() {
        let totals = method.totals(isa, group)?;
        for (r, (sum, reference)) in totals.sums.iter().zip(totals.references).enumerate() {
            let row = group * R + r;
            if row >= rows.len {
                return Some(());
            }
            let mut sum = *sum;
            if let Some(sink) = call.sink(rows, row) {
                sum += libm::exp2f(sink * LOG2_E - reference);
            }
            let factor = isa.splat(1.0 / sum);
            let (to, last) = call.output(rows, row)?.as_chunks_mut().0.as_chunks_mut();
            for ([to0, to1], tile) in to.iter_mut().zip(from) {
                let [from0, from1] = tile.get(r)?;
                isa.store(isa.mul(isa.load(from0), factor), to0);
                isa.store(isa.mul(isa.load(from1), factor), to1);
            }
            if let ([to], [.., tile]) = (last, from) {
                isa.store(isa.mul(isa.load(&tile.get(r)?[0]), factor), to);
            }
        }
    }
    Some(())
}
