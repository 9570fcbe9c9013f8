//! Scores of a pass' rows and a block's keys.

use super::{Bytes, HIDDEN, PREFETCH, ValueScales};
use crate::isa::{Isa, Kernel};
use crate::layout::KEYS_PER_BLOCK;
use crate::math::log2_below;
use crate::ops::attention::call::{Blocks, Call, Spans};
use crate::ops::attention::plan::{PANELS_I8, Wide};
use crate::ops::attention::tile::capped;
use crate::ops::attention::walk::Pass;
use crate::ops::attention::width::{Source, Width};

/// The least logarithm of a value's scale: the exponentials of keys whose values are zero stay finite.
const LOG_MIN: f32 = -60.0;

impl<W: Width, const R: usize> Bytes<'_, W, R> {
    /// Scores, and the largest weighted scores, of the pass; P panels at a time.
    #[inline(always)]
    pub(super) fn scores<I: Isa, const P: usize>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        pass: &Pass<R>,
        scales: &ValueScales<'_>,
    ) -> Option<()> {
        let highest = self.state.highest.iter_mut();
        highest.for_each(|highest| *highest = [[f32::NEG_INFINITY; 8]; R]);
        let mut panel = 0;
        while P > 1 && panel + P <= at.count {
            self.panels::<I, P>(isa, call, at, pass, scales, panel)?;
            panel += P;
        }
        while panel < at.count {
            self.panels::<I, 1>(isa, call, at, pass, scales, panel)?;
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
        scales: &ValueScales<'_>,
        panel: usize,
    ) -> Option<()> {
        let quads = call.kv.head_dim() / 4;
        let k: &[[[u8; 32]; 2]] = at
            .of(call.kv, call.kv.block_len(), self.cache.k)?
            .as_chunks()
            .0
            .as_chunks()
            .0;
        let k = k.get(panel * quads..)?.get(..P * quads)?;
        // Where several groups of rows meet the same keys.
        let widens = W::WIDENS && I::VECTORS && P == 1 && pass.groups().count() > 1;
        if widens {
            for (to, from) in self.widened.iter_mut().zip(k) {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = W::widen(isa, W::key(isa, from));
                }
            }
        }
        let k_scales = at.of(call.kv, KEYS_PER_BLOCK, self.cache.k_scales)?;
        let k_scales: &[Wide<f32>; P] = k_scales
            .as_chunks()
            .0
            .as_chunks()
            .0
            .get(panel..)?
            .first_chunk()?;
        let mut logs = [[[0.0; 8]; 2]; P];
        for (p, logs) in logs.iter_mut().enumerate() {
            for (log, scales) in logs.iter_mut().zip(scales.panel(panel + p)) {
                let lower = log2_below(isa, isa.load(scales));
                isa.store(isa.max(isa.splat(LOG_MIN), lower), log);
            }
        }
        let key = at.key() + panel * KEYS_PER_BLOCK;
        let (block, first) = (panel / PANELS_I8, panel % PANELS_I8);
        // Panels that are taken together are of one block.
        let first = first.min(PANELS_I8 - P);
        for (index, spans) in pass.groups() {
            let piece = index * self.plan.blocks() + block;
            let rows = self.state.scores.get_mut(piece)?;
            if spans.none_sees(key, P * KEYS_PER_BLOCK) {
                for row in rows {
                    for p in 0..P {
                        row[first + p] = [[HIDDEN; 8]; 2];
                    }
                }
                continue;
            }
            let group = pass.from + index;
            let q = self.state.q.get(group * quads..)?.get(..quads)?;
            let start = self.state.start.get(group)?;
            // The head's dimension is a multiple of eight: quads come in pairs, where the registers do for two.
            let acc = if widens {
                let k = self.widened.get(..quads)?;
                products::<I, W, _, R, P, 1>(isa, q, start, k)?
            } else if W::WIDENS {
                products::<I, W, _, R, P, 1>(isa, q, start, k)?
            } else {
                products::<I, W, _, R, P, 2>(isa, q, start, k)?
            };
            let scale = self.state.scale.get(group)?;
            let highest = self.state.highest.get_mut(piece)?;
            let cap = call.shape.soft_cap;
            if cap != 0.0 || !spans.all_see(key, P * KEYS_PER_BLOCK) {
                for (row, acc) in rows.iter_mut().zip(&acc) {
                    for p in 0..P {
                        for h in 0..2 {
                            let score = isa.mul(isa.to_f32(acc[p][h]), isa.load(&k_scales[p][h]));
                            isa.store(score, &mut row[first + p][h]);
                        }
                    }
                }
                isa.apart(Adjust {
                    spans,
                    key,
                    cap,
                    scale,
                    rows,
                    first,
                    logs: &logs,
                    highest,
                });
                continue;
            }
            for r in 0..R {
                let (row, acc) = (&mut rows[r], &acc[r]);
                let scale = isa.splat(scale[r]);
                let mut largest = isa.load(&highest[r]);
                for p in 0..P {
                    for h in 0..2 {
                        let score = isa.mul(isa.to_f32(acc[p][h]), isa.load(&k_scales[p][h]));
                        isa.store(score, &mut row[first + p][h]);
                        largest = isa.max(largest, isa.fma(score, scale, isa.load(&logs[p][h])));
                    }
                }
                isa.store(largest, &mut highest[r]);
            }
        }
        Some(())
    }
}

/// Integer scores of R rows and P panels of keys `[head_dim / 4][16][4]`, U quads at a step.
#[inline(always)]
fn products<I: Isa, W: Width, S: Source<W>, const R: usize, const P: usize, const U: usize>(
    isa: I,
    q: &[[W::Quad; R]],
    start: &[i32; R],
    k: &[[S; 2]],
) -> Option<[[[I::I32; 2]; P]; R]> {
    let mut acc = [[[isa.splat_i32(0); 2]; P]; R];
    for (acc, start) in acc.iter_mut().zip(start) {
        *acc = [[isa.splat_i32(*start); 2]; P];
    }
    let quads = k.len() / P;
    let mut panels: [core::slice::Iter<'_, _>; P] = core::array::from_fn(|_| [].iter());
    for (p, panel) in panels.iter_mut().enumerate() {
        *panel = k.get(p * quads..)?.get(..quads)?.as_chunks::<U>().0.iter();
    }
    for q in q.as_chunks::<U>().0 {
        let mut step = [None; P];
        for (step, panel) in step.iter_mut().zip(&mut panels) {
            *step = Some(panel.next()?);
        }
        for quad in 0..U {
            for (p, step) in step.iter().enumerate() {
                let k = &(*step)?[quad];
                if R == 1 {
                    isa.prefetch(k, PREFETCH);
                }
                let k = [k[0].operand(isa), k[1].operand(isa)];
                for (acc, q) in acc.iter_mut().zip(&q[quad]) {
                    W::dot_keys(isa, &mut acc[p], &k, q);
                }
            }
        }
    }
    Some(acc)
}

/// Caps scores, hides those of keys that a row does not see, and finds the largest weighted ones.
struct Adjust<'a, const R: usize> {
    spans: &'a Spans<R>,
    key: usize,
    cap: f32,
    scale: &'a [f32; R],
    rows: &'a mut [[Wide<f32>; PANELS_I8]; R],
    /// The first panel, of as many as there are logarithms.
    first: usize,
    logs: &'a [Wide<f32>],
    highest: &'a mut [[f32; 8]; R],
}

impl<const R: usize> Kernel for Adjust<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { spans, key, .. } = self;
        let hidden = isa.splat(HIDDEN);
        for (r, (row, highest)) in self.rows.iter_mut().zip(self.highest).enumerate() {
            // The scale is positive, and finite unless everything is NaN.
            let (scale, inverse) = (isa.splat(self.scale[r]), isa.splat(1.0 / self.scale[r]));
            let end = isa.splat(keys_before(key, spans.to[r]));
            let window = isa.splat(keys_before(key, spans.from[r]));
            let kept = isa.splat(keys_before(key, spans.keep));
            let mut keys = isa.iota();
            let mut largest = isa.load(highest);
            let panels = row.iter_mut().skip(self.first).zip(self.logs);
            for (scores, logs) in panels {
                for (to, log) in scores.iter_mut().zip(logs) {
                    let mut score = isa.load(to);
                    if self.cap != 0.0 {
                        score = isa.mul(capped(isa, isa.mul(score, scale), self.cap), inverse);
                    }
                    score = isa.select(isa.lt(keys, end), score, hidden);
                    if spans.from[r] > key {
                        let seen = isa.select(isa.lt(keys, kept), score, hidden);
                        score = isa.select(isa.lt(keys, window), seen, score);
                    }
                    keys = isa.add(keys, isa.splat(8.0));
                    isa.store(score, to);
                    largest = isa.max(largest, isa.fma(score, scale, isa.load(log)));
                }
            }
            isa.store(largest, highest);
        }
    }
}

/// How many keys from `key` on, of those of a block, lie before `end`.
#[inline(always)]
fn keys_before(key: usize, end: usize) -> f32 {
    f32::from(end.saturating_sub(key).min(255) as u8)
}
