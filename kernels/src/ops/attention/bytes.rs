//! Caches of bytes: both products in integers.
//!
//! A query is rounded to levels of its own scale, so that a score is an exact integer sum times the two scales. The
//! probabilities of a block of keys, each times its value's scale, are rounded to levels of the largest of them; the block's
//! weighted values are again exact integer sums, which join the others with the factor 2^(m_block − m). Nothing is rescaled
//! but where a block raises the reference m by more than 40 (log₂).
//!
//! [`Fast`] takes products of bytes, [`Accurate`] of 16-bit words.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::call::{Blocks, Call, Rows, Spans};
use super::plan::{ByteState, Plan, Wide};
use super::walk::{Method, Pass};
use crate::isa::{Isa, Kernel};
use crate::layout::KEYS_PER_BLOCK;
use crate::math::{LOG2_E, exp2, exp2_coarse};
use crate::ops::levels::{amax, scale_and_factor};

/// The score of a key that is not visible, before the query's scale.
const HIDDEN: f32 = -3e38;

/// The least scale of a query: with it, [`HIDDEN`] still hides.
const SCALE_MIN: f32 = 1e-30;

/// A block that raises a row's reference by more (log₂) moves it.
const RISE_MAX: f32 = 40.0;

/// How wide the levels of queries and probabilities are.
pub(super) trait Width {
    /// A level. Four of them meet four bytes of keys or values.
    type Level: Copy + Default + FromBytes + IntoBytes + Immutable;
    /// Eight times four bytes as the products want them.
    type Operand<I: Isa>: Copy;
    /// The highest level of a query.
    const Q_MAX: f32;
    /// The highest level of a probability.
    const P_MAX: f32;

    /// Thirty-two lanes as levels, in the order of the products.
    fn levels<I: Isa>(isa: I, lanes: [I::I32; 4]) -> [Self::Level; 32];
    fn key<I: Isa>(isa: I, bytes: &[u8; 32]) -> Self::Operand<I>;
    fn value<I: Isa>(isa: I, bytes: &[i8; 32]) -> Self::Operand<I>;
    fn dot_key<I: Isa>(isa: I, acc: I::I32, key: Self::Operand<I>, q: [Self::Level; 4]) -> I::I32;
    fn dot_value<I: Isa>(isa: I, acc: I::I32, value: Self::Operand<I>, p: [Self::Level; 4]) -> I::I32;
    /// 2^x to more digits than the levels have, for x ≤ 0.
    fn exp2<I: Isa>(isa: I, x: I::F32) -> I::F32;
}

/// Queries in ±63, probabilities in 0..=127.
pub(super) struct Fast;

impl Width for Fast {
    type Level = i8;
    type Operand<I: Isa> = I::Bytes;
    const Q_MAX: f32 = 63.0;
    const P_MAX: f32 = 127.0;

    #[inline(always)]
    fn levels<I: Isa>(isa: I, lanes: [I::I32; 4]) -> [i8; 32] {
        let mut bytes = [0; 32];
        isa.store_bytes(isa.narrow(lanes), &mut bytes);
        zerocopy::transmute!(bytes)
    }
    #[inline(always)]
    fn key<I: Isa>(isa: I, bytes: &[u8; 32]) -> I::Bytes {
        isa.load_bytes_u8(bytes)
    }
    #[inline(always)]
    fn value<I: Isa>(isa: I, bytes: &[i8; 32]) -> I::Bytes {
        isa.load_bytes_i8(bytes)
    }
    #[inline(always)]
    fn dot_key<I: Isa>(isa: I, acc: I::I32, key: I::Bytes, q: [i8; 4]) -> I::I32 {
        isa.dot4_u8(acc, key, isa.splat4_i8(q))
    }
    #[inline(always)]
    fn dot_value<I: Isa>(isa: I, acc: I::I32, value: I::Bytes, p: [i8; 4]) -> I::I32 {
        isa.dot4_u7(acc, isa.splat4_i8(p), value)
    }
    #[inline(always)]
    fn exp2<I: Isa>(isa: I, x: I::F32) -> I::F32 {
        exp2_coarse(isa, x)
    }
}

/// Queries in ±32767, probabilities in 0..=32767.
pub(super) struct Accurate;

impl Width for Accurate {
    type Level = i16;
    type Operand<I: Isa> = [I::I16; 2];
    const Q_MAX: f32 = 32767.0;
    const P_MAX: f32 = 32767.0;

    #[inline(always)]
    fn levels<I: Isa>(isa: I, [a, b, c, d]: [I::I32; 4]) -> [i16; 32] {
        let mut words = [[0; 16]; 2];
        isa.store_i16(isa.narrow_i16([a, b]), &mut words[0]);
        isa.store_i16(isa.narrow_i16([c, d]), &mut words[1]);
        zerocopy::transmute!(words)
    }
    #[inline(always)]
    fn key<I: Isa>(isa: I, bytes: &[u8; 32]) -> [I::I16; 2] {
        isa.widen_u8(isa.load_bytes_u8(bytes))
    }
    #[inline(always)]
    fn value<I: Isa>(isa: I, bytes: &[i8; 32]) -> [I::I16; 2] {
        isa.widen_i8(isa.load_bytes_i8(bytes))
    }
    #[inline(always)]
    fn dot_key<I: Isa>(isa: I, acc: I::I32, key: [I::I16; 2], [a, b, c, d]: [i16; 4]) -> I::I32 {
        let acc = isa.dot2_i16(acc, key[0], isa.splat2_i16([a, b]));
        isa.dot2_i16(acc, key[1], isa.splat2_i16([c, d]))
    }
    #[inline(always)]
    fn dot_value<I: Isa>(isa: I, acc: I::I32, value: [I::I16; 2], p: [i16; 4]) -> I::I32 {
        Self::dot_key(isa, acc, value, p)
    }
    #[inline(always)]
    fn exp2<I: Isa>(isa: I, x: I::F32) -> I::F32 {
        exp2(isa, x)
    }
}

/// An i8 cache.
#[derive(Clone, Copy)]
pub(super) struct Cache<'a> {
    pub(super) k: &'a [u8],
    pub(super) k_scales: &'a [f32],
    pub(super) v: &'a [i8],
    pub(super) v_scales: &'a [f32],
}

/// A cache and the state of the rows that attend to it.
pub(super) struct Bytes<'a, W: Width, const R: usize> {
    pub(super) plan: &'a Plan,
    pub(super) cache: Cache<'a>,
    pub(super) state: ByteState<'a, W::Level, R>,
}

impl<W: Width, const R: usize> Method<R> for Bytes<'_, W, R> {
    /// Rounds the queries into `[groups][head_dim / 4][R][4]`, zeros beyond the last row.
    #[inline(always)]
    fn begin<I: Isa>(&mut self, isa: I, call: &Call<'_>, rows: Rows) -> Option<()> {
        let quads = call.kv.head_dim() / 4;
        let state = &mut self.state;
        let factor = call.shape.scale * LOG2_E;
        for group in 0..rows.len.div_ceil(R) {
            let to = state.q.get_mut(group * quads..)?.get_mut(..quads)?;
            for r in 0..R {
                let row = group * R + r;
                let query = if row < rows.len { call.query(rows, row)? } else { &[] };
                let (scale, to_levels) = scale_and_factor(amax(isa, query), W::Q_MAX);
                // A NaN shows in the scale.
                let scale = scale * factor.abs();
                state.scale.get_mut(group)?[r] = if scale < SCALE_MIN { SCALE_MIN } else { scale };
                let to_levels = isa.splat(to_levels.copysign(factor));
                let mut sum = isa.splat_i32(0);
                let mut to = to.iter_mut();
                for chunk in query.chunks(32) {
                    let mut lanes = [isa.splat_i32(0); 4];
                    for (lanes, x) in lanes.iter_mut().zip(chunk.as_chunks().0) {
                        *lanes = isa.round_i32(isa.mul(isa.load(x), to_levels));
                        sum = isa.add_i32(sum, *lanes);
                    }
                    let levels = W::levels(isa, lanes);
                    for (to, levels) in to.by_ref().take(chunk.len() / 4).zip(levels.as_chunks().0) {
                        to[r] = *levels;
                    }
                }
                to.for_each(|to| to[r] = [W::Level::default(); 4]);
                let mut lanes = [0; 8];
                isa.store_i32(sum, &mut lanes);
                let sum = lanes.iter().fold(0i32, |sum, lane| sum.wrapping_add(*lane));
                state.start.get_mut(group)?[r] = sum.wrapping_mul(-128);
            }
        }
        state.reference.iter_mut().for_each(|m| *m = [0.0; R]);
        state.sum.iter_mut().for_each(|sum| *sum = [0.0; R]);
        state.out.iter_mut().for_each(|tile| *tile = [[[0.0; 8]; 2]; R]);
        Some(())
    }

    #[inline(always)]
    fn attend<I: Isa>(&mut self, isa: I, call: &Call<'_>, at: Blocks, pass: &Pass<R>) -> Option<()> {
        if !I::VECTORS || R >= 4 {
            self.keys::<I, 1>(isa, call, at, pass)?;
        } else if R == 2 {
            self.keys::<I, 2>(isa, call, at, pass)?;
        } else {
            self.keys::<I, 4>(isa, call, at, pass)?;
        }
        self.round_probabilities(isa, call, at, pass)?;
        self.values(isa, call, at, pass)
    }

    /// Divides by the sums of the probabilities.
    #[inline(always)]
    fn end<I: Isa>(&mut self, isa: I, call: &mut Call<'_>, rows: Rows) -> Option<()> {
        let tiles = self.plan.out_tiles();
        for row in 0..rows.len {
            let (group, r) = (row / R, row % R);
            let mut sum = self.state.sum.get(group)?[r];
            if let Some(sink) = call.sink(rows, row) {
                sum += libm::exp2f(sink * LOG2_E - self.state.reference.get(group)?[r]);
            }
            let factor = isa.splat(1.0 / sum);
            let from = self.state.out.get(group * tiles..)?.get(..tiles)?;
            let from = from.iter().flat_map(|tile| &tile[r % R]);
            let to = call.output(rows, row)?.as_chunks_mut().0;
            for (to, from) in to.iter_mut().zip(from) {
                isa.store(isa.mul(isa.load(from), factor), to);
            }
        }
        Some(())
    }
}

impl<W: Width, const R: usize> Bytes<'_, W, R> {
    /// Scores of a pass' rows and a block's keys, P panels at a time.
    #[inline(always)]
    fn keys<I: Isa, const P: usize>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        pass: &Pass<R>,
    ) -> Option<()> {
        let mut panel = 0;
        while P > 1 && panel + P <= at.count {
            self.panels::<I, P>(isa, call, at, pass, panel)?;
            panel += P;
        }
        while panel < at.count {
            self.panels::<I, 1>(isa, call, at, pass, panel)?;
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
        panel: usize,
    ) -> Option<()> {
        let quads = call.kv.head_dim() / 4;
        let k: &[[[u8; 32]; 2]] = at.of(call.kv, call.kv.block_len(), self.cache.k)?.as_chunks().0.as_chunks().0;
        let k = k.get(panel * quads..)?.get(..P * quads)?;
        let scales = at.of(call.kv, KEYS_PER_BLOCK, self.cache.k_scales)?;
        let scales: &[Wide<f32>; P] = scales.as_chunks().0.as_chunks().0.get(panel..)?.first_chunk()?;
        let key = at.key() + panel * KEYS_PER_BLOCK;
        let row_len = self.plan.keys_of_row() / 16;
        for (index, spans) in pass.groups() {
            let group = pass.from + index;
            let mut rows = self.state.scores.get_mut(index * R * row_len..)?.chunks_exact_mut(row_len).take(R);
            if spans.none_sees(key, P * KEYS_PER_BLOCK) {
                for row in rows {
                    row.get_mut(panel..)?.get_mut(..P)?.fill([[HIDDEN; 8]; 2]);
                }
                continue;
            }
            let q = self.state.q.get(group * quads..)?.get(..quads)?;
            let acc = scores::<I, W, R, P>(isa, q, self.state.start.get(group)?, k)?;
            for acc in &acc {
                let to = rows.next()?.get_mut(panel..)?.first_chunk_mut::<P>()?;
                for ((to, acc), scales) in to.iter_mut().zip(acc).zip(scales) {
                    for ((to, acc), scales) in to.iter_mut().zip(acc).zip(scales) {
                        isa.store(isa.mul(isa.to_f32(*acc), isa.load(scales)), to);
                    }
                }
            }
            let cap = call.shape.soft_cap;
            if cap != 0.0 || !spans.all_see(key, P * KEYS_PER_BLOCK) {
                let scores = self.state.scores.get_mut(index * R * row_len..)?;
                let scale = self.state.scale.get(group)?;
                isa.apart(Adjust { spans, key, cap, scale, scores, row_len, panel, panels: P })?;
            }
        }
        Some(())
    }

    /// Rounds the probabilities of the block.
    #[inline(always)]
    fn round_probabilities<I: Isa>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        pass: &Pass<R>,
    ) -> Option<()> {
        let mut v_scales = at.of(call.kv, KEYS_PER_BLOCK, self.cache.v_scales)?;
        let written = call.shape.kv_len.saturating_sub(at.key());
        if written < v_scales.len() {
            // Scales that were never written may be NaN.
            let clean = self.state.v_scales.get_mut(..v_scales.len())?;
            for (i, (clean, scale)) in clean.iter_mut().zip(v_scales).enumerate() {
                *clean = if i < written { *scale } else { 0.0 };
            }
            v_scales = clean;
        }
        let row_len = self.plan.keys_of_row();
        let tiles = self.plan.out_tiles();
        for (index, spans) in pass.groups() {
            let group = pass.from + index;
            let keys = block_keys(spans, at);
            for r in 0..R {
                let row = index * R + r;
                let scores = self.state.scores.get_mut(row * row_len / 16..)?.get_mut(..keys / 16)?;
                let levels = self.state.p.get_mut(row * row_len / 4..)?.get_mut(..keys.next_multiple_of(32) / 4)?;
                let row = Row {
                    scale: self.state.scale.get(group)?[r],
                    reference: &mut self.state.reference.get_mut(group)?[r],
                    sum: &mut self.state.sum.get_mut(group)?[r],
                    out: self.state.out.get_mut(group * tiles..)?.get_mut(..tiles)?,
                    r,
                };
                *self.state.weight.get_mut(row_of(index, r, R))? =
                    row.probabilities::<I, W>(isa, scores, v_scales.as_chunks().0.as_chunks().0, levels);
            }
        }
        Some(())
    }

    /// Adds the block's values, weighted, to the outputs.
    #[inline(always)]
    fn values<I: Isa>(&mut self, isa: I, call: &Call<'_>, at: Blocks, pass: &Pass<R>) -> Option<()> {
        let head_dim = call.kv.head_dim();
        let (full, tiles) = (head_dim / 16, self.plan.out_tiles());
        let v: &[[[i8; 4]; 8]] = at.of(call.kv, call.kv.block_len(), self.cache.v)?.as_chunks().0.as_chunks().0;
        let v: &[[i8; 32]] = zerocopy_flatten(v);
        let row_len = self.plan.keys_of_row() / 4;
        let mut dims = 0;
        while dims < tiles {
            let width = if !I::VECTORS || R >= 4 || dims >= full { 1 } else { (4 / R).min(full - dims) };
            for (index, spans) in pass.groups() {
                if spans.none_sees(at.key(), at.count * KEYS_PER_BLOCK) {
                    continue;
                }
                let quads = block_keys(spans, at) / 4;
                let group = pass.from + index;
                let out = self.state.out.get_mut(group * tiles + dims..)?;
                let call = Weighing {
                    p: self.state.p.get(index * R * row_len..)?,
                    row_len,
                    quads,
                    v: v.get(2 * dims..)?,
                    v_stride: head_dim / 8,
                    weight: self.state.weight.get(index * R..)?.first_chunk()?,
                };
                if dims >= full {
                    weigh_half_values::<I, W, R>(isa, out.first_mut()?, call)?;
                } else if I::VECTORS && R == 1 && width == 4 {
                    weigh_values::<I, W, R, 4>(isa, out.first_chunk_mut()?, call)?;
                } else if I::VECTORS && R == 1 && width == 3 {
                    weigh_values::<I, W, R, 3>(isa, out.first_chunk_mut()?, call)?;
                } else if I::VECTORS && R <= 2 && width == 2 {
                    weigh_values::<I, W, R, 2>(isa, out.first_chunk_mut()?, call)?;
                } else {
                    weigh_values::<I, W, R, 1>(isa, out.first_chunk_mut()?, call)?;
                }
            }
            dims += width;
        }
        Some(())
    }
}

/// Where row r of a pass' group lies among the pass' rows.
#[inline(always)]
fn row_of(index: usize, r: usize, rows: usize) -> usize {
    index * rows + r
}

/// `[..][8][4]` as `[..][32]`.
#[inline(always)]
fn zerocopy_flatten(v: &[[[i8; 4]; 8]]) -> &[[i8; 32]] {
    v.as_flattened().as_flattened().as_chunks().0
}

/// Keys of the block up to the last that the group sees, in whole panels.
#[inline(always)]
fn block_keys<const R: usize>(spans: &Spans<R>, at: Blocks) -> usize {
    let len = at.count * KEYS_PER_BLOCK;
    spans.to[R - 1].saturating_sub(at.key()).min(len).next_multiple_of(KEYS_PER_BLOCK)
}

/// Integer scores of R rows and P panels of keys `[head_dim / 4][16][4]`.
#[inline(always)]
fn scores<I: Isa, W: Width, const R: usize, const P: usize>(
    isa: I,
    q: &[[[W::Level; 4]; R]],
    start: &[i32; R],
    k: &[[[u8; 32]; 2]],
) -> Option<[[[I::I32; 2]; P]; R]> {
    let mut acc = [[[isa.splat_i32(0); 2]; P]; R];
    for (acc, start) in acc.iter_mut().zip(start) {
        *acc = [[isa.splat_i32(*start); 2]; P];
    }
    let quads = k.len() / P;
    let mut panels: [core::slice::Iter<'_, _>; P] = core::array::from_fn(|_| [].iter());
    for (p, panel) in panels.iter_mut().enumerate() {
        *panel = k.get(p * quads..)?.get(..quads)?.as_chunks::<2>().0.iter();
    }
    // The head's dimension is a multiple of eight, so quads come in pairs.
    for q in q.as_chunks::<2>().0 {
        let mut pair = [None; P];
        for (pair, panel) in pair.iter_mut().zip(&mut panels) {
            *pair = Some(panel.next()?);
        }
        for quad in 0..2 {
            for (p, pair) in pair.iter().enumerate() {
                let k = &(*pair)?[quad];
                if R == 1 {
                    super::float::prefetch(isa, k);
                }
                for (half, k) in k.iter().enumerate() {
                    let k = W::key(isa, k);
                    for (acc, q) in acc.iter_mut().zip(&q[quad]) {
                        acc[p][half] = W::dot_key(isa, acc[p][half], k, *q);
                    }
                }
            }
        }
    }
    Some(acc)
}

/// Caps scores and hides those of keys that a row does not see.
struct Adjust<'a, const R: usize> {
    spans: &'a Spans<R>,
    key: usize,
    cap: f32,
    scale: &'a [f32; R],
    scores: &'a mut [Wide<f32>],
    row_len: usize,
    panel: usize,
    panels: usize,
}

impl<const R: usize> Kernel for Adjust<'_, R> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Option<()> {
        for (r, row) in self.scores.chunks_exact_mut(self.row_len).take(R).enumerate() {
            let scores = row.get_mut(self.panel..)?.get_mut(..self.panels)?;
            if self.cap != 0.0 {
                // The scale is positive, and finite unless everything is NaN.
                let (scale, inverse) = (isa.splat(self.scale[r]), isa.splat(1.0 / self.scale[r]));
                for score in scores.as_flattened_mut() {
                    let capped = super::tile::capped(isa, isa.mul(isa.load(score), scale), self.cap);
                    isa.store(isa.mul(capped, inverse), score);
                }
            }
            for (i, score) in scores.as_flattened_mut().as_flattened_mut().iter_mut().enumerate() {
                if !self.spans.sees(r, self.key + i) {
                    *score = HIDDEN;
                }
            }
        }
        Some(())
    }
}

/// What a row carries from block to block.
struct Row<'a, const R: usize> {
    scale: f32,
    reference: &'a mut f32,
    sum: &'a mut f32,
    out: &'a mut [super::plan::Tile<R>],
    r: usize,
}

impl<const R: usize> Row<'_, R> {
    /// Turns scores into levels, which it writes with zeros up to a multiple of 32; returns the weight of a level in the
    /// outputs.
    #[inline(always)]
    fn probabilities<I: Isa, W: Width>(
        self,
        isa: I,
        scores: &mut [Wide<f32>],
        v_scales: &[Wide<f32>],
        levels: &mut [[W::Level; 4]],
    ) -> f32 {
        let mut highest = [isa.splat(HIDDEN); 2];
        for scores in &*scores {
            for (highest, scores) in highest.iter_mut().zip(scores) {
                *highest = isa.max(*highest, isa.load(scores));
            }
        }
        let highest = isa.max_lane(isa.max(highest[0], highest[1]));
        if highest <= HIDDEN / 2.0 {
            levels.iter_mut().for_each(|level| *level = [W::Level::default(); 4]);
            return 0.0;
        }
        let block = highest * self.scale;
        let (scale, neg_m) = (isa.splat(self.scale), isa.splat(-block));
        let mut sums = [isa.splat(0.0); 2];
        let mut largest = [isa.splat(0.0); 2];
        for (scores, v_scales) in scores.iter_mut().zip(v_scales) {
            for h in 0..2 {
                let e = W::exp2(isa, isa.fma(isa.load(&scores[h]), scale, neg_m));
                sums[h] = isa.add(sums[h], e);
                let e = isa.mul(e, isa.load(&v_scales[h]));
                largest[h] = isa.max(largest[h], e);
                isa.store(e, &mut scores[h]);
            }
        }
        let sum = isa.sum(isa.add(sums[0], sums[1]));
        let largest = isa.max_lane(isa.max(largest[0], largest[1]));
        // Below this the inverse would overflow; such values are as good as zero.
        let to_levels = isa.splat(if largest > 1e-30 { W::P_MAX / largest } else { 0.0 });
        let (pairs, last) = scores.as_chunks::<2>();
        let mut levels = levels.as_chunks_mut::<8>().0.iter_mut();
        for (scores, to) in pairs.iter().zip(&mut levels) {
            let lanes = [[scores[0][0], scores[0][1]], [scores[1][0], scores[1][1]]];
            *to = rounded::<I, W>(isa, lanes, to_levels);
        }
        if let ([scores], Some(to)) = (last, levels.next()) {
            *to = rounded::<I, W>(isa, [*scores, [[0.0; 8]; 2]], to_levels);
        }

        let Self { reference, sum: sum_before, out, r, .. } = self;
        if *sum_before == 0.0 {
            *reference = block;
        } else if block - *reference > RISE_MAX {
            let factor = libm::exp2f(*reference - block);
            *reference = block;
            *sum_before *= factor;
            for tile in out {
                tile[r % R].as_flattened_mut().iter_mut().for_each(|x| *x *= factor);
            }
        }
        let weight = isa.first(exp2(isa, isa.splat(block - *reference)));
        *sum_before += weight * sum;
        weight * (largest / W::P_MAX)
    }
}

#[inline(always)]
fn rounded<I: Isa, W: Width>(isa: I, x: [Wide<f32>; 2], to_levels: I::F32) -> [[W::Level; 4]; 8] {
    let [[a, b], [c, d]] = &x;
    let lanes = [
        isa.round_i32(isa.mul(isa.load(a), to_levels)),
        isa.round_i32(isa.mul(isa.load(b), to_levels)),
        isa.round_i32(isa.mul(isa.load(c), to_levels)),
        isa.round_i32(isa.mul(isa.load(d), to_levels)),
    ];
    let levels = W::levels(isa, lanes);
    let mut quads = [[W::Level::default(); 4]; 8];
    for (quad, levels) in quads.iter_mut().zip(levels.as_chunks().0) {
        *quad = *levels;
    }
    quads
}

/// Levels `[R][row_len]` quads, values `[quads][v_stride]`.
struct Weighing<'a, L, const R: usize> {
    p: &'a [[L; 4]],
    row_len: usize,
    quads: usize,
    v: &'a [[i8; 32]],
    v_stride: usize,
    weight: &'a [f32; R],
}

/// The rows of levels.
#[inline(always)]
fn rows_of<'a, L, const R: usize>(call: &Weighing<'a, L, R>) -> Option<[&'a [[L; 4]]; R]> {
    let mut rows: [&[[L; 4]]; R] = [&[]; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = call.p.get(r * call.row_len..)?.get(..call.quads)?;
    }
    Some(rows)
}

/// `out[t][r] += weight[r] · Σ_j p[r][j] · v[t][j]` for T tiles of sixteen dimensions.
#[inline(always)]
fn weigh_values<I: Isa, W: Width, const R: usize, const T: usize>(
    isa: I,
    out: &mut [super::plan::Tile<R>; T],
    call: Weighing<'_, W::Level, R>,
) -> Option<()> {
    let rows = rows_of(&call)?;
    let mut acc = [[[isa.splat_i32(0); 2]; R]; T];
    for (quad, v) in call.v.chunks(call.v_stride).take(call.quads).enumerate() {
        let v: &[[[i8; 32]; 2]; T] = v.as_chunks().0.first_chunk()?;
        let mut p = [[W::Level::default(); 4]; R];
        for (p, row) in p.iter_mut().zip(&rows) {
            *p = *row.get(quad)?;
        }
        for (acc, v) in acc.iter_mut().zip(v) {
            if R == 1 {
                super::float::prefetch(isa, v);
            }
            for (half, v) in v.iter().enumerate() {
                let v = W::value(isa, v);
                for (acc, p) in acc.iter_mut().zip(&p) {
                    acc[half] = W::dot_value(isa, acc[half], v, *p);
                }
            }
        }
    }
    for (acc, out) in acc.iter().zip(out) {
        for ((acc, out), weight) in acc.iter().zip(out).zip(call.weight) {
            for (acc, out) in acc.iter().zip(out) {
                isa.store(isa.fma(isa.to_f32(*acc), isa.splat(*weight), isa.load(out)), out);
            }
        }
    }
    Some(())
}

/// As [`weigh_values`] for the last eight dimensions of a head whose dimension is an odd multiple of eight.
#[inline(always)]
fn weigh_half_values<I: Isa, W: Width, const R: usize>(
    isa: I,
    out: &mut super::plan::Tile<R>,
    call: Weighing<'_, W::Level, R>,
) -> Option<()> {
    let rows = rows_of(&call)?;
    let mut acc = [isa.splat_i32(0); R];
    for (quad, v) in call.v.chunks(call.v_stride).take(call.quads).enumerate() {
        let v = W::value(isa, v.first()?);
        for (acc, row) in acc.iter_mut().zip(&rows) {
            *acc = W::dot_value(isa, *acc, v, *row.get(quad)?);
        }
    }
    for ((acc, out), weight) in acc.iter().zip(out).zip(call.weight) {
        isa.store(isa.fma(isa.to_f32(*acc), isa.splat(*weight), isa.load(&out[0])), &mut out[0]);
    }
    Some(())
}
