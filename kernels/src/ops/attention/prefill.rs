//! The loops around the tiles: query blocks, key blocks, passes of row groups, panels.

use super::AttentionShape;
use super::plan::{GROUPS_PER_PASS, Plan, ROWS, Scratch, State, Wide};
use super::source::{Blocks, Element, Source};
use super::tile::{self, Group, Start};
use crate::isa::{Isa, Kernel};
use crate::layout::{KEYS_PER_BLOCK, KvShape};
use crate::math::LOG2_E;

/// Keys whose values are multiplied while an output tile stays in registers: more would evict each other from a
/// set-associative L1, because the same sixteen dimensions of successive blocks lie a power of two apart.
const VALUE_PANELS: usize = 4;

/// One call of [`attention`](super::attention) with keys and values from `S`.
pub(super) struct Prefill<'a, S> {
    kv_shape: &'a KvShape,
    shape: &'a AttentionShape,
    /// Query heads of a key-value head.
    group: usize,
    plan: Plan,
    q: &'a [f32],
    q_stride: usize,
    out: &'a mut [f32],
    out_stride: usize,
    source: S,
    scratch: &'a mut [f32],
}

/// Queries with their stride, outputs with theirs.
pub(super) type Io<'a> = (&'a [f32], usize, &'a mut [f32], usize);

/// Shapes, query heads of a key-value head, blocking.
pub(super) type Job<'a> = (&'a KvShape, &'a AttentionShape, usize, Plan);

impl<'a, S> Prefill<'a, S> {
    pub(super) fn new(job: Job<'a>, io: Io<'a>, source: S, scratch: &'a mut [f32]) -> Self {
        let (kv_shape, shape, group, plan) = job;
        let (q, q_stride, out, out_stride) = io;
        Self {
            kv_shape,
            shape,
            group,
            plan,
            q,
            q_stride,
            out,
            out_stride,
            source,
            scratch,
        }
    }
}

/// The rows of a query block: rows `first..first + len` of head `head`'s list (token = row / group).
#[derive(Clone, Copy)]
struct Rows {
    head: usize,
    first: usize,
    len: usize,
}

/// Row groups that pass over a key block together.
struct Pass {
    /// Their first.
    from: usize,
    /// How many they are.
    len: usize,
    /// Keys of the block (and beyond) that their rows see.
    visible: [[usize; ROWS]; GROUPS_PER_PASS],
    /// Whether the key block is the first.
    first: bool,
}

impl<S: Source> Kernel for Prefill<'_, S> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Option<()> {
        let rows_all = self.shape.q_len * self.group;
        let rows_max = self.plan.groups * ROWS;
        let mut scratch = self.plan.cut(core::mem::take(&mut self.scratch))?;
        for head in 0..self.kv_shape.kv_heads() {
            let mut first = 0;
            while first < rows_all {
                let rows = Rows {
                    head,
                    first,
                    len: rows_max.min(rows_all - first),
                };
                self.query_block(isa, &mut scratch, rows)?;
                first += rows.len;
            }
        }
        Some(())
    }
}

impl<S: Source> Prefill<'_, S> {
    /// Keys that a row sees; rows beyond the last see what the last one does.
    #[inline(always)]
    fn visible(&self, rows: Rows, row: usize) -> usize {
        let row = rows.first + row.min(rows.len - 1);
        self.shape.visible(row.checked_div(self.group).unwrap_or(0))
    }

    #[inline(always)]
    fn visible_to_group(&self, rows: Rows, group: usize) -> [usize; ROWS] {
        let mut visible = [0; ROWS];
        for (r, visible) in visible.iter_mut().enumerate() {
            *visible = self.visible(rows, group * ROWS + r);
        }
        visible
    }

    /// Where a row's queries, and its outputs, start.
    #[inline(always)]
    fn row_start(&self, rows: Rows, row: usize, stride: usize) -> usize {
        let row = rows.first + row;
        let token = row.checked_div(self.group).unwrap_or(0);
        let head = rows.head * self.group + (row - token * self.group);
        token * stride + head * self.kv_shape.head_dim()
    }

    #[inline(always)]
    fn query_block<I: Isa>(&mut self, isa: I, scratch: &mut Scratch<'_>, rows: Rows) -> Option<()> {
        let state = &mut scratch.state;
        self.load_queries(state, rows)?;
        state.neg_m.iter_mut().for_each(|m| *m = [0.0; ROWS]);
        state
            .sums
            .iter_mut()
            .for_each(|sums| *sums = [[0.0; 8]; ROWS]);
        let groups = rows.len.div_ceil(ROWS);
        let keys = self.visible(rows, rows.len);
        let mut first_key = 0;
        while first_key < keys {
            let count = self
                .plan
                .panels
                .min((keys - first_key).div_ceil(KEYS_PER_BLOCK));
            let at = Blocks {
                head: rows.head,
                first: first_key / KEYS_PER_BLOCK,
                count,
            };
            let (k, v) = self.source.blocks(
                isa,
                self.kv_shape,
                at,
                scratch.expanded_k,
                scratch.expanded_v,
            )?;
            let mut from = 0;
            while from < groups {
                let to = groups.min(from + GROUPS_PER_PASS);
                let mut visible = [[0; ROWS]; GROUPS_PER_PASS];
                for (visible, group) in visible.iter_mut().zip(from..to) {
                    *visible = self
                        .visible_to_group(rows, group)
                        .map(|all| all.saturating_sub(first_key));
                }
                let pass = Pass {
                    from,
                    len: to - from,
                    visible,
                    first: first_key == 0,
                };
                // Causal rows that see none of these keys have seen all of theirs.
                if visible.iter().any(|rows| rows[ROWS - 1] > 0) {
                    self.pass_keys(isa, state, &pass, k)?;
                    self.pass_values(isa, state, &pass, v, count)?;
                }
                from = to;
            }
            first_key += self.plan.panels * KEYS_PER_BLOCK;
        }
        self.store_outputs(isa, state, rows)
    }

    /// Probabilities of a pass' rows and a block's keys.
    #[inline(always)]
    fn pass_keys<I: Isa, E: Element>(
        &self,
        isa: I,
        state: &mut State<'_>,
        pass: &Pass,
        k: &[E],
    ) -> Option<()> {
        let head_dim = self.kv_shape.head_dim();
        let tiles = self.plan.out_tiles();
        let mut rest: &[Wide<E>] = k.as_chunks().0.as_chunks().0;
        let mut panel = 0;
        while let Some((k, tail)) = rest.split_at_checked(head_dim) {
            if k.is_empty() {
                break;
            }
            rest = tail;
            for (index, visible) in pass.visible.iter().enumerate().take(pass.len) {
                let visible = visible.map(|all| all.saturating_sub(panel * KEYS_PER_BLOCK));
                if visible[ROWS - 1] == 0 {
                    continue;
                }
                let group = pass.from + index;
                let p = state.p.get_mut(index * self.plan.panels..)?;
                let (p_before, p) = p.split_at_mut_checked(panel)?;
                let group = Group {
                    q: state.q.get(group * head_dim..)?.get(..head_dim)?,
                    visible,
                    neg_m: state.neg_m.get_mut(group)?,
                    sums: state.sums.get_mut(group)?,
                    out: state.out.get_mut(group * tiles..)?.get_mut(..tiles)?,
                    p_before,
                    first: pass.first && panel == 0,
                };
                tile::probabilities(isa, group, k, p.first_mut()?);
            }
            panel += 1;
        }
        Some(())
    }

    /// Adds the block's values, weighted, to the outputs.
    #[inline(always)]
    fn pass_values<I: Isa, E: Element>(
        &self,
        isa: I,
        state: &mut State<'_>,
        pass: &Pass,
        v: &[E],
        panels: usize,
    ) -> Option<()> {
        let head_dim = self.kv_shape.head_dim();
        let block_len = self.kv_shape.block_len();
        let tiles = self.plan.out_tiles();
        let mut first = 0;
        while first < panels {
            let start = if pass.first && first == 0 {
                Start::Zero
            } else {
                Start::Stored
            };
            let v = v.get(first * block_len..)?;
            for dims in 0..tiles {
                let v = v.get(dims * 256..)?;
                for (index, visible) in pass.visible.iter().enumerate().take(pass.len) {
                    let keys = visible[ROWS - 1].saturating_sub(first * KEYS_PER_BLOCK);
                    if keys == 0 {
                        continue;
                    }
                    let out = state.out.get_mut((pass.from + index) * tiles + dims)?;
                    let p = state.p.get(index * self.plan.panels + first..)?;
                    let p = p.get(..VALUE_PANELS.min(panels - first))?;
                    if dims * 16 + 8 == head_dim {
                        tile::weigh_half_values(isa, out, p, v, block_len, keys, start);
                    } else {
                        tile::weigh_values(isa, out, p, v, block_len, keys, start);
                    }
                }
            }
            first += VALUE_PANELS;
        }
        Some(())
    }

    /// Scales the rows' queries into `[groups][head_dim][4]`, zeros beyond the last row.
    #[inline(always)]
    fn load_queries(&self, state: &mut State<'_>, rows: Rows) -> Option<()> {
        let head_dim = self.kv_shape.head_dim();
        let factor = self.shape.scale * LOG2_E;
        for group in 0..rows.len.div_ceil(ROWS) {
            let to = state.q.get_mut(group * head_dim..)?.get_mut(..head_dim)?;
            for r in 0..ROWS {
                let row = group * ROWS + r;
                if row < rows.len {
                    let from = self.q.get(self.row_start(rows, row, self.q_stride)..)?;
                    for (to, x) in to.iter_mut().zip(from) {
                        to[r] = *x * factor;
                    }
                } else {
                    to.iter_mut().for_each(|to| to[r] = 0.0);
                }
            }
        }
        Some(())
    }

    /// Divides by the sums of the probabilities.
    #[inline(always)]
    fn store_outputs<I: Isa>(&mut self, isa: I, state: &mut State<'_>, rows: Rows) -> Option<()> {
        let head_dim = self.kv_shape.head_dim();
        let tiles = self.plan.out_tiles();
        for row in 0..rows.len {
            let (group, r) = (row / ROWS, row % ROWS);
            let start = self.row_start(rows, row, self.out_stride);
            let to = self.out.get_mut(start..)?.get_mut(..head_dim)?;
            let factor = isa.splat(1.0 / isa.sum(isa.load(&state.sums.get(group)?[r])));
            let from = state.out.get(group * tiles..)?.get(..tiles)?;
            // Where this is not inlined, nothing else says that r is small.
            let from = from.iter().flat_map(|tile| &tile[r % ROWS]);
            for (to, from) in to.as_chunks_mut().0.iter_mut().zip(from) {
                isa.store(isa.mul(isa.load(from), factor), to);
            }
        }
        Some(())
    }
}
