//! Scores of a pass' rows and a block's keys.

use super::{Bytes, HIDDEN, PREFETCH, ValueScales};
use crate::isa::{Isa, Kernel};
use crate::layout::KEYS_PER_BLOCK;
use crate::math::log2_below;
use crate::ops::attention::call::{Blocks, Call, Spans};
use crate::ops::attention::plan::{GROUPS_PER_PASS, PANELS_I8, Wide};
use crate::ops::attention::tile::capped;
use crate::ops::attention::walk::Pass;
use crate::ops::attention::width::{Source, Width};

/// The least logarithm of a value's scale: the exponentials of keys whose values are zero stay finite.
const LOG_MIN: f32 = -60.0;

/// One group of rows before a block of keys: a piece's scores are made here.
struct Group<'a, W: Width, const R: usize> {
    /// Levels of the queries `[head_dim / 4][R]`.
    q: &'a [[W::Quad; R]],
    start: &'a [i32; R],
    scale: &'a [f32; R],
    spans: &'a Spans<R>,
    scores: &'a mut [[Wide<f32>; PANELS_I8]; R],
    highest: &'a mut [[f32; 8]; R],
}

/// P panels of keys, and what their scores are multiplied by and compared with.
#[derive(Clone, Copy)]
struct Keys<'a, S, const P: usize> {
    /// `[P][head_dim / 4][16][4]`.
    k: &'a [[S; 2]],
    scales: &'a [Wide<f32>; P],
    /// Lower bounds of the logarithms of the values' scales.
    logs: &'a [Wide<f32>; P],
    /// The first panel of the block.
    panel: usize,
    /// The first key of all.
    key: usize,
    /// The soft cap of the scores; 0 for none.
    cap: f32,
}

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
        let quads = call.kv.head_dim() / 4;
        let blocks = self.plan.blocks();
        let k: &[[[u8; 32]; 2]] = at
            .of(call.kv, call.kv.block_len(), self.cache.k)?
            .as_chunks()
            .0
            .as_chunks()
            .0;
        let k_scales = at.of(call.kv, KEYS_PER_BLOCK, self.cache.k_scales)?;
        let k_scales: &[Wide<f32>] = k_scales.as_chunks().0.as_chunks().0;
        // Where several groups of rows meet the same keys.
        let widens = W::WIDENS && I::VECTORS && P == 1 && pass.groups().count() > 1;
        let widened = self.widened.get_mut(..if widens { quads } else { 0 })?;
        let state = &mut self.state;
        for block in 0..blocks {
            let mut q = state.q.get(pass.from * quads..)?.chunks_exact(quads.max(1));
            let mut start = state.start.get(pass.from..)?.iter();
            let mut scale = state.scale.get(pass.from..)?.iter();
            let mut scores = state.scores.iter_mut().skip(block).step_by(blocks);
            let mut highest = state.highest.iter_mut().skip(block).step_by(blocks);
            let mut groups = [const { None }; GROUPS_PER_PASS];
            for (group, (_, spans)) in groups.iter_mut().zip(pass.groups()) {
                let highest = highest.next()?;
                *highest = [[f32::NEG_INFINITY; 8]; R];
                *group = Some(Group::<W, R> {
                    q: q.next()?,
                    start: start.next()?,
                    scale: scale.next()?,
                    spans,
                    scores: scores.next()?,
                    highest,
                });
            }
            let first = block * PANELS_I8;
            let count = PANELS_I8.min(at.count.saturating_sub(first));
            let mut panel = 0;
            while panel < count {
                let number = first + panel;
                let key = at.key() + number * KEYS_PER_BLOCK;
                let (k, k_scales) = (k.get(number * quads..)?, k_scales.get(number..)?);
                let cap = call.shape.soft_cap;
                if P > 1 && panel + P <= count {
                    let mut of_panels = [[[0.0; 8]; 2]; P];
                    for (p, to) in of_panels.iter_mut().enumerate() {
                        logs(isa, scales.panel(number + p), to);
                    }
                    let keys = Keys::<_, P> {
                        k: k.get(..P * quads)?,
                        scales: k_scales.first_chunk()?,
                        logs: &of_panels,
                        panel,
                        key,
                        cap,
                    };
                    for group in groups.iter_mut().flatten() {
                        tile::<I, W, _, R, P>(isa, group, keys)?;
                    }
                    panel += P;
                    continue;
                }
                let mut of_panel = [[[0.0; 8]; 2]];
                logs(isa, scales.panel(number), &mut of_panel[0]);
                let keys = Keys::<_, 1> {
                    k: k.get(..quads)?,
                    scales: k_scales.first_chunk()?,
                    logs: &of_panel,
                    panel,
                    key,
                    cap,
                };
                if widens {
                    for (to, from) in widened.iter_mut().zip(keys.k) {
                        to[0] = W::widen(isa, W::key(isa, &from[0]));
                        to[1] = W::widen(isa, W::key(isa, &from[1]));
                    }
                    let keys = Keys {
                        k: &*widened,
                        scales: keys.scales,
                        logs: keys.logs,
                        panel,
                        key,
                        cap,
                    };
                    for group in groups.iter_mut().flatten() {
                        tile::<I, W, _, R, 1>(isa, group, keys)?;
                    }
                } else {
                    for group in groups.iter_mut().flatten() {
                        tile::<I, W, _, R, 1>(isa, group, keys)?;
                    }
                }
                panel += 1;
            }
        }
        Some(())
    }
}

/// Lower bounds of the logarithms of sixteen values' scales.
#[inline(always)]
fn logs<I: Isa>(isa: I, scales: &Wide<f32>, to: &mut Wide<f32>) {
    for (to, scales) in to.iter_mut().zip(scales) {
        let lower = log2_below(isa, isa.load(scales));
        isa.store(isa.max(isa.splat(LOG_MIN), lower), to);
    }
}

/// Scores of one group and P panels of keys.
#[inline(always)]
fn tile<I: Isa, W: Width, S: Source<W>, const R: usize, const P: usize>(
    isa: I,
    group: &mut Group<'_, W, R>,
    keys: Keys<'_, S, P>,
) -> Option<()> {
    let (spans, key) = (group.spans, keys.key);
    // Panels that are taken together are of one block.
    let first = keys.panel.min(PANELS_I8 - P);
    if spans.none_sees(key, P * KEYS_PER_BLOCK) {
        for row in &mut *group.scores {
            for p in 0..P {
                row[first + p] = [[HIDDEN; 8]; 2];
            }
        }
        return Some(());
    }
    // The head's dimension is a multiple of eight: quads come in pairs, where the registers do for two.
    let acc = if W::WIDENS {
        products::<I, W, S, R, P, 1>(isa, group.q, group.start, keys.k)?
    } else {
        products::<I, W, S, R, P, 2>(isa, group.q, group.start, keys.k)?
    };
    if keys.cap != 0.0 || !spans.all_see(key, P * KEYS_PER_BLOCK) {
        for (row, acc) in group.scores.iter_mut().zip(&acc) {
            for p in 0..P {
                for h in 0..2 {
                    let score = isa.mul(isa.to_f32(acc[p][h]), isa.load(&keys.scales[p][h]));
                    isa.store(score, &mut row[first + p][h]);
                }
            }
        }
        isa.apart(Adjust {
            spans,
            key,
            cap: keys.cap,
            scale: group.scale,
            scores: group.scores,
            first,
            logs: keys.logs,
            highest: group.highest,
        });
        return Some(());
    }
    for (r, (row, acc)) in group.scores.iter_mut().zip(&acc).enumerate() {
        let scale = isa.splat(group.scale[r]);
        let mut largest = isa.load(&group.highest[r]);
        for p in 0..P {
            for h in 0..2 {
                let score = isa.mul(isa.to_f32(acc[p][h]), isa.load(&keys.scales[p][h]));
                isa.store(score, &mut row[first + p][h]);
                let log = isa.load(&keys.logs[p][h]);
                largest = isa.max(largest, isa.fma(score, scale, log));
            }
        }
        isa.store(largest, &mut group.highest[r]);
    }
    Some(())
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
struct Adjust<'a, const R: usize, const P: usize> {
    spans: &'a Spans<R>,
    key: usize,
    cap: f32,
    scale: &'a [f32; R],
    scores: &'a mut [[Wide<f32>; PANELS_I8]; R],
    /// The first panel of the block.
    first: usize,
    logs: &'a [Wide<f32>; P],
    highest: &'a mut [[f32; 8]; R],
}

impl<const R: usize, const P: usize> Kernel for Adjust<'_, R, P> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { spans, key, .. } = self;
        let hidden = isa.splat(HIDDEN);
        for (r, (row, highest)) in self.scores.iter_mut().zip(self.highest).enumerate() {
            // The scale is positive, and finite unless everything is NaN.
            let (scale, inverse) = (isa.splat(self.scale[r]), isa.splat(1.0 / self.scale[r]));
            let end = isa.splat(keys_before(key, spans.to[r]));
            let window = isa.splat(keys_before(key, spans.from[r]));
            let kept = isa.splat(keys_before(key, spans.keep));
            let mut keys = isa.iota();
            let mut largest = isa.load(highest);
            for (scores, logs) in row.iter_mut().skip(self.first).zip(self.logs) {
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
