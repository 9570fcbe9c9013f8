//! Caches of floats: probabilities from registers, values weighted by them.

use super::call::{Blocks, Call, Rows};
use super::plan::{FloatState, GROUPS_MAX, Plan, Wide};
use super::tile::{Group, Start, probabilities, skipped, weigh_half_values, weigh_values};
use super::walk::{Method, Pass};
use crate::isa::Isa;
use crate::layout::KEYS_PER_BLOCK;
use crate::math::LOG2_E;
use half::{bf16, f16};

/// Keys whose values are multiplied while the output tiles stay in registers: with several row groups, more would evict each
/// other from a set-associative L1, because the same sixteen dimensions of successive blocks lie a power of two apart.
const VALUE_PANELS: usize = 4;

/// Bytes of a decoded cache asked for ahead of their use.
const PREFETCH: usize = 2048;

/// A float that a cache stores.
pub(super) trait Element: Copy {
    /// Eight of them as f32.
    fn load<I: Isa>(isa: I, from: &[Self; 8]) -> I::F32;
}

impl Element for f32 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f32; 8]) -> I::F32 {
        isa.load(from)
    }
}

impl Element for f16 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f16; 8]) -> I::F32 {
        isa.load_f16(from)
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[bf16; 8]) -> I::F32 {
        isa.load_bf16(from)
    }
}

/// Asks for what a panel's reader will need soon.
#[inline(always)]
pub(super) fn prefetch<I: Isa, T>(isa: I, at: &T) {
    isa.prefetch(at, PREFETCH);
}

/// A cache of E and the state of the rows that attend to it.
pub(super) struct Floats<'a, E, const R: usize> {
    pub(super) plan: &'a Plan,
    pub(super) k: &'a [E],
    pub(super) v: &'a [E],
    pub(super) state: FloatState<'a, R>,
    /// Groups whose outputs hold nothing yet.
    pub(super) fresh: [bool; GROUPS_MAX],
}

impl<E: Element, const R: usize> Method<R> for Floats<'_, E, R> {
    /// Scales the queries into `[groups][head_dim / 8][R][8]`, zeros beyond the last row.
    #[inline(always)]
    fn begin<I: Isa>(&mut self, isa: I, call: &Call<'_>, rows: Rows) -> Option<()> {
        let chunks = call.kv.head_dim() / 8;
        let factor = isa.splat(call.shape.scale * LOG2_E);
        for group in 0..rows.len.div_ceil(R) {
            let to = self.state.q.get_mut(group * chunks..)?.get_mut(..chunks)?;
            for r in 0..R {
                let row = group * R + r;
                if row < rows.len {
                    let from = call.query(rows, row)?.as_chunks().0;
                    for (to, from) in to.iter_mut().zip(from) {
                        isa.store(isa.mul(isa.load(from), factor), &mut to[r]);
                    }
                } else {
                    to.iter_mut().for_each(|to| to[r] = [0.0; 8]);
                }
            }
        }
        self.state.neg_m.iter_mut().for_each(|m| *m = [0.0; R]);
        self.state
            .sums
            .iter_mut()
            .for_each(|sums| *sums = [[0.0; 8]; R]);
        self.fresh = [true; GROUPS_MAX];
        Some(())
    }

    #[inline(always)]
    fn attend<I: Isa>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        pass: &Pass<R>,
    ) -> Option<()> {
        let block_len = call.kv.block_len();
        let k = at.of(call.kv, block_len, self.k)?;
        let v = at.of(call.kv, block_len, self.v)?;
        // Eight independent sums hide the latency of multiply-adds: with few rows, of several panels.
        if !I::VECTORS || R >= 4 {
            self.keys::<I, 1>(isa, call, at, pass, k)?;
        } else if R == 2 {
            self.keys::<I, 2>(isa, call, at, pass, k)?;
        } else {
            self.keys::<I, 4>(isa, call, at, pass, k)?;
        }
        self.values(isa, call, at, pass, v)
    }

    /// Divides by the sums of the probabilities.
    #[inline(always)]
    fn end<I: Isa>(&mut self, isa: I, call: &mut Call<'_>, rows: Rows) -> Option<()> {
        let tiles = self.plan.out_tiles();
        for row in 0..rows.len {
            let (group, r) = (row / R, row % R);
            let mut sum = isa.sum(isa.load(&self.state.sums.get(group)?[r % R]));
            if let Some(sink) = call.sink(rows, row) {
                sum += libm::exp2f(sink * LOG2_E + self.state.neg_m.get(group)?[r % R]);
            }
            let factor = isa.splat(1.0 / sum);
            let from = self.state.out.get(group * tiles..)?.get(..tiles)?;
            // Where this is not inlined, nothing else says that r is small.
            let from = from.iter().flat_map(|tile| &tile[r % R]);
            let to = call.output(rows, row)?.as_chunks_mut().0;
            for (to, from) in to.iter_mut().zip(from) {
                isa.store(isa.mul(isa.load(from), factor), to);
            }
        }
        Some(())
    }
}

impl<E: Element, const R: usize> Floats<'_, E, R> {
    /// Probabilities of a pass' rows and a block's keys, P panels at a time.
    #[inline(always)]
    fn keys<I: Isa, const P: usize>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        pass: &Pass<R>,
        k: &[E],
    ) -> Option<()> {
        let mut panel = 0;
        while P > 1 && panel + P <= at.count {
            self.panels::<I, P>(isa, call, at, pass, k, panel)?;
            panel += P;
        }
        while panel < at.count {
            self.panels::<I, 1>(isa, call, at, pass, k, panel)?;
            panel += 1;
        }
        Some(())
    }

    #[inline(always)]
    fn panels<I: Isa, const P: usize>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        pass: &Pass<R>,
        k: &[E],
        panel: usize,
    ) -> Option<()> {
        let head_dim = call.kv.head_dim();
        let tiles = self.plan.out_tiles();
        let wide: &[Wide<E>] = k.as_chunks().0.as_chunks().0;
        let k = wide.get(panel * head_dim..)?.get(..P * head_dim)?;
        let key = at.key() + panel * KEYS_PER_BLOCK;
        for (index, spans) in pass.groups() {
            let group = pass.from + index;
            let p = self
                .state
                .p
                .get_mut(index * self.plan.panels..)?
                .get_mut(..self.plan.panels)?;
            if spans.none_sees(key, P * KEYS_PER_BLOCK) {
                skipped(p.get_mut(panel..)?.get_mut(..P)?);
                continue;
            }
            let group = Group {
                q: self
                    .state
                    .q
                    .get(group * (head_dim / 8)..)?
                    .get(..head_dim / 8)?,
                spans,
                key,
                cap: call.shape.soft_cap,
                neg_m: self.state.neg_m.get_mut(group)?,
                sums: self.state.sums.get_mut(group)?,
                out: self.state.out.get_mut(group * tiles..)?.get_mut(..tiles)?,
                p,
                panel,
            };
            probabilities::<I, E, R, P>(isa, group, k)?;
        }
        Some(())
    }

    /// Adds the block's values, weighted, to the outputs.
    #[inline(always)]
    fn values<I: Isa>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        pass: &Pass<R>,
        v: &[E],
    ) -> Option<()> {
        let block_len = call.kv.block_len();
        let (full, tiles) = (call.kv.head_dim() / 16, self.plan.out_tiles());
        let step = if R >= 4 { VALUE_PANELS } else { at.count };
        let mut first = 0;
        while first < at.count {
            let count = step.min(at.count - first);
            let key = at.key() + first * KEYS_PER_BLOCK;
            let v = v.get(first * block_len..)?.get(..count * block_len)?;
            let mut dims = 0;
            while dims < tiles {
                // As many tiles of dimensions as make eight sums with the rows there are.
                let width = if !I::VECTORS || R >= 4 || dims >= full {
                    1
                } else {
                    (4 / R).min(full - dims)
                };
                for (index, spans) in pass.groups() {
                    if spans.none_sees(key, count * KEYS_PER_BLOCK) {
                        continue;
                    }
                    let keys = (spans.to[R - 1] - key).min(count * KEYS_PER_BLOCK);
                    let group = pass.from + index;
                    let out = self.state.out.get_mut(group * tiles + dims..)?;
                    let p = self
                        .state
                        .p
                        .get(index * self.plan.panels + first..)?
                        .get(..count)?;
                    let start = if *self.fresh.get(group)? {
                        Start::Zero
                    } else {
                        Start::Stored
                    };
                    let call = (p, v, block_len, dims, keys, start);
                    if dims >= full {
                        weigh_half_values(isa, out.first_mut()?, call);
                    } else if I::VECTORS && R == 1 && width == 4 {
                        weigh_values::<I, E, R, 4>(isa, out.first_chunk_mut()?, call);
                    } else if I::VECTORS && R == 1 && width == 3 {
                        weigh_values::<I, E, R, 3>(isa, out.first_chunk_mut()?, call);
                    } else if I::VECTORS && R <= 2 && width == 2 {
                        weigh_values::<I, E, R, 2>(isa, out.first_chunk_mut()?, call);
                    } else {
                        weigh_values::<I, E, R, 1>(isa, out.first_chunk_mut()?, call);
                    }
                }
                dims += width;
            }
            for (index, spans) in pass.groups() {
                if !spans.none_sees(key, count * KEYS_PER_BLOCK) {
                    *self.fresh.get_mut(pass.from + index)? = false;
                }
            }
            first += count;
        }
        Some(())
    }
}
