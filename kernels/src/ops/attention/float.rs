//! Caches of floats: probabilities from registers, values weighted by them.
//!
//! Converting 16-bit floats takes the ports of the multiply-adds, in every row group's tiles anew. So where rows are
//! many a key block is converted once, and then all row groups of the query block pass over it in f32. (Four rows or
//! fewer convert as they load: one or two groups do not pay for writing the block.)

use super::call::{Blocks, Call, Rows};
use super::plan::{FloatState, GROUPS_PER_PASS, Plan, Tile, Wide};
use super::tile::{Group, Place, probabilities};
use super::values::{Start, Weighing, weigh_half_values, weigh_values};
use super::walk::{Method, Pass, Totals};
use crate::isa::Isa;
use crate::layout::KEYS_PER_BLOCK;
use crate::math::LOG2_E;
use half::{bf16, f16};

/// Panels of keys whose values are multiplied while an output tile stays in registers: as many as leave a head's values
/// in L1 for the pass' next row group.
const VALUE_PANELS: usize = 8;

/// A float that a cache stores.
pub(super) trait Element: Copy {
    /// Whether loading it as f32 costs a conversion.
    const NARROW: bool;
    /// Eight of them as f32.
    fn load<I: Isa>(isa: I, from: &[Self; 8]) -> I::F32;
}

impl Element for f32 {
    const NARROW: bool = false;

    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f32; 8]) -> I::F32 {
        isa.load(from)
    }
}

impl Element for f16 {
    const NARROW: bool = true;

    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f16; 8]) -> I::F32 {
        isa.load_f16(from)
    }
}

impl Element for bf16 {
    const NARROW: bool = true;

    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[bf16; 8]) -> I::F32 {
        isa.load_bf16(from)
    }
}

/// A cache of E and the state of the rows that attend to it.
pub(super) struct Floats<'a, E, const R: usize> {
    pub(super) k: &'a [E],
    pub(super) v: &'a [E],
    pub(super) rows: FloatRows<'a, R>,
    /// The key block's keys and values as f32, if [`Self::widens`].
    pub(super) widened: [&'a mut [f32]; 2],
}

/// The rows of a query block.
pub(super) struct FloatRows<'a, const R: usize> {
    pub(super) plan: &'a Plan,
    pub(super) state: FloatState<'a, R>,
}

impl<E: Element, const R: usize> Floats<'_, E, R> {
    /// Whether key blocks are converted before they are multiplied.
    #[inline(always)]
    fn widens<I: Isa>() -> bool {
        E::NARROW && I::VECTORS && R > 4
    }
}

impl<E: Element, const R: usize> Method<R> for Floats<'_, E, R> {
    #[inline(always)]
    fn begin<I: Isa>(&mut self, isa: I, call: &Call<'_>, rows: Rows) -> Option<()> {
        self.rows.begin(isa, call, rows)
    }

    #[inline(always)]
    fn enter<I: Isa>(&mut self, isa: I, call: &Call<'_>, at: Blocks) -> Option<()> {
        if Self::widens::<I>() {
            for (to, from) in self.widened.iter_mut().zip([self.k, self.v]) {
                let from = at.of(call.kv, call.kv.block_len(), from)?.as_chunks().0;
                for (to, from) in to.as_chunks_mut().0.iter_mut().zip(from) {
                    isa.store(E::load(isa, from), to);
                }
            }
        }
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
        if Self::widens::<I>() {
            let [k, v] = &self.widened;
            let len = at.count * block_len;
            let (k, v) = (k.get(..len)?, v.get(..len)?);
            return self.rows.attend(isa, call, at, pass, k, v);
        }
        let k = at.of(call.kv, block_len, self.k)?;
        let v = at.of(call.kv, block_len, self.v)?;
        self.rows.attend(isa, call, at, pass, k, v)
    }

    #[inline(always)]
    fn totals<I: Isa>(&self, isa: I, group: usize) -> Option<Totals<R>> {
        let mut totals = Totals {
            sums: [0.0; R],
            references: [0.0; R],
        };
        let sums = totals.sums.iter_mut().zip(self.rows.state.sums.get(group)?);
        for (to, from) in sums {
            *to = isa.sum(isa.load(from));
        }
        for (to, from) in totals
            .references
            .iter_mut()
            .zip(self.rows.state.neg_m.get(group)?)
        {
            *to = -from;
        }
        Some(totals)
    }

    #[inline(always)]
    fn outputs(&self) -> &[Tile<R>] {
        self.rows.state.out
    }
}

impl<const R: usize> FloatRows<'_, R> {
    /// Scales the queries into `[groups][head_dim / 8][R][8]`, zeros beyond the last row.
    #[inline(always)]
    fn begin<I: Isa>(&mut self, isa: I, call: &Call<'_>, rows: Rows) -> Option<()> {
        let chunks = call.kv.head_dim() / 8;
        let factor = isa.splat(call.shape.scale * LOG2_E);
        for group in 0..rows.len.div_ceil(R) {
            let mut from: [&[[f32; 8]]; R] = [&[]; R];
            for (r, from) in from.iter_mut().enumerate() {
                let row = group * R + r;
                if row < rows.len {
                    *from = call.query(rows, row)?.as_chunks().0;
                }
            }
            let to = self.state.q.get_mut(group * chunks..)?.get_mut(..chunks)?;
            for (chunk, to) in to.iter_mut().enumerate() {
                for (to, from) in to.iter_mut().zip(from) {
                    let from = from.get(chunk).unwrap_or(&[0.0; 8]);
                    isa.store(isa.mul(isa.load(from), factor), to);
                }
            }
        }
        self.state.neg_m.fill([0.0; R]);
        self.state.sums.fill([[0.0; 8]; R]);
        self.state.fresh.fill(true);
        Some(())
    }

    #[inline(always)]
    fn attend<I: Isa, E: Element>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        pass: &Pass<R>,
        k: &[E],
        v: &[E],
    ) -> Option<()> {
        // Eight independent sums hide the latency of multiply-adds: with few rows, of several panels.
        if !I::VECTORS || R >= 4 {
            self.keys::<I, E, 1>(isa, call, at, pass, k)?;
        } else if R == 2 {
            self.keys::<I, E, 2>(isa, call, at, pass, k)?;
        } else {
            self.keys::<I, E, 4>(isa, call, at, pass, k)?;
        }
        self.values(isa, call, at, pass, v)
    }

    /// Probabilities of a pass' rows and a block's keys, P panels at a time.
    #[inline(always)]
    fn keys<I: Isa, E: Element, const P: usize>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        pass: &Pass<R>,
        k: &[E],
    ) -> Option<()> {
        let head_dim = call.kv.head_dim();
        let (chunks, tiles) = (head_dim / 8, self.plan.out_tiles());
        let state = &mut self.state;
        let mut q = state
            .q
            .get(pass.from * chunks..)?
            .chunks_exact(chunks.max(1));
        let out = state.out.get_mut(pass.from * tiles..)?;
        let mut out = out.chunks_exact_mut(tiles.max(1));
        let mut p = state.p.chunks_exact_mut(self.plan.panels.max(1));
        let mut sums = state.sums.get_mut(pass.from..)?.iter_mut();
        let mut neg_m = state.neg_m.get_mut(pass.from..)?.iter_mut();
        let mut groups = [const { None }; GROUPS_PER_PASS];
        for (group, (_, spans)) in groups.iter_mut().zip(pass.groups()) {
            *group = Some(Group {
                q: q.next()?,
                spans,
                neg_m: neg_m.next()?,
                sums: sums.next()?,
                out: out.next()?,
                p: p.next()?,
            });
        }
        let k: &[Wide<E>] = k.as_chunks().0.as_chunks().0;
        let mut panel = 0;
        while panel < at.count {
            let place = Place {
                panel,
                key: at.key() + panel * KEYS_PER_BLOCK,
                cap: call.shape.soft_cap,
            };
            let k = k.get(panel * head_dim..)?;
            if P > 1 && panel + P <= at.count {
                let k = k.get(..P * head_dim)?;
                for group in groups.iter_mut().flatten() {
                    probabilities::<I, E, R, P>(isa, group, place, k)?;
                }
                panel += P;
            } else {
                let k = k.get(..head_dim)?;
                for group in groups.iter_mut().flatten() {
                    probabilities::<I, E, R, 1>(isa, group, place, k)?;
                }
                panel += 1;
            }
        }
        Some(())
    }

    /// Adds the block's values, weighted, to the outputs.
    #[inline(always)]
    fn values<I: Isa, E: Element>(
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
            let (key, len) = (at.key() + first * KEYS_PER_BLOCK, count * KEYS_PER_BLOCK);
            let v = v.get(first * block_len..)?.get(..count * block_len)?;
            let mut weighings = [const { None }; GROUPS_PER_PASS];
            let p = self.state.p.chunks_exact(self.plan.panels.max(1));
            let fresh = self.state.fresh.get_mut(pass.from..)?;
            let groups = pass.groups().zip(p).zip(fresh);
            for (weighing, (((_, spans), p), fresh)) in weighings.iter_mut().zip(groups) {
                if spans.none_sees(key, len) {
                    continue;
                }
                *weighing = Some(Weighing {
                    p: p.get(first..)?.get(..count)?,
                    v,
                    block_len,
                    keys: (spans.to[R - 1] - key).min(len),
                    start: if core::mem::take(fresh) {
                        Start::Zero
                    } else {
                        Start::Stored
                    },
                });
            }
            for (index, weighing) in weighings.iter().enumerate() {
                let Some(weighing) = weighing else {
                    continue;
                };
                let out = self.state.out.get_mut((pass.from + index) * tiles..)?;
                let mut dims = 0;
                while dims < tiles {
                    let out = out.get_mut(dims..)?;
                    // As many tiles of dimensions as make eight sums with the rows there are.
                    let width = if !I::VECTORS || R >= 4 || dims >= full {
                        1
                    } else {
                        (4 / R).min(full - dims)
                    };
                    if dims >= full {
                        weigh_half_values(isa, out.first_mut()?, dims, weighing);
                    } else if I::VECTORS && R == 1 && width == 4 {
                        weigh_values::<I, E, R, 4>(isa, out.first_chunk_mut()?, dims, weighing);
                    } else if I::VECTORS && R == 1 && width == 3 {
                        weigh_values::<I, E, R, 3>(isa, out.first_chunk_mut()?, dims, weighing);
                    } else if I::VECTORS && R <= 2 && width == 2 {
                        weigh_values::<I, E, R, 2>(isa, out.first_chunk_mut()?, dims, weighing);
                    } else {
                        weigh_values::<I, E, R, 1>(isa, out.first_chunk_mut()?, dims, weighing);
                    }
                    dims += width;
                }
            }
            first += count;
        }
        Some(())
    }
}
