//! Caches of bytes: both products in integers.
//!
//! A query is rounded to levels of its own scale, so that a score is an exact integer sum times the two scales. The
//! probabilities of a block of keys, each times its value's scale, are rounded to levels of the largest of them; the block's
//! weighted values are again exact integer sums, which join the others with the factor 2^(m_block − m). Nothing is rescaled
//! but where a block raises the reference m by more than 40 (log₂).
//!
//! [`Width`] says whether the products are of bytes or of 16-bit words.

use super::call::{Blocks, Call, Rows, Spans};
use super::plan::{ByteState, KEYS_MAX_I8, PANELS_I8, Plan, Tile, Wide};
use super::walk::{Method, Pass, Totals};
use super::width::Width;
use crate::isa::{Isa, Kernel};
use crate::layout::KEYS_PER_BLOCK;
use crate::math::{LOG2_E, exp2};
use crate::ops::levels::{amax, scale_and_factor};

/// The score of a key that is not visible, before the query's scale.
const HIDDEN: f32 = -3e38;

/// The least scale of a query: with it, [`HIDDEN`] still hides.
const SCALE_MIN: f32 = 1e-30;

/// A block that raises a row's reference by more (log₂) moves it.
const RISE_MAX: f32 = 40.0;

/// Bytes asked for ahead of their use where one row reads them.
const PREFETCH: usize = 2048;

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
                let query = if row < rows.len {
                    call.query(rows, row)?
                } else {
                    &[]
                };
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
                    for (to, levels) in to.by_ref().take(chunk.len() / 4).zip(levels.as_chunks().0)
                    {
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
        state
            .out
            .iter_mut()
            .for_each(|tile| *tile = [[[0.0; 8]; 2]; R]);
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
        if !I::VECTORS || R >= 4 {
            self.keys::<I, 1>(isa, call, at, pass)?;
        } else if R == 2 {
            self.keys::<I, 2>(isa, call, at, pass)?;
        } else {
            self.keys::<I, 4>(isa, call, at, pass)?;
        }
        let mut pieces = self.pieces(at, pass);
        for piece in pieces.iter_mut().flatten() {
            self.find_highest(isa, piece)?;
        }
        let blocks = at.count.div_ceil(PANELS_I8);
        if blocks > 1 && self.moves_later(&pieces)? {
            // One after the other, as with more rows: what a reference's move rounds differently must not depend on them.
            for block in 0..blocks {
                let of_block =
                    pieces.map(|piece| piece.filter(|piece| piece.first == block * PANELS_I8));
                self.finish(isa, call, at, of_block)?;
            }
            return Some(());
        }
        self.finish(isa, call, at, pieces)
    }

    #[inline(always)]
    fn totals<I: Isa>(&self, _: I, group: usize) -> Option<Totals<R>> {
        Some(Totals {
            sums: *self.state.sum.get(group)?,
            references: *self.state.reference.get(group)?,
        })
    }

    #[inline(always)]
    fn outputs(&self) -> &[Tile<R>] {
        self.state.out
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
        let k: &[[[u8; 32]; 2]] = at
            .of(call.kv, call.kv.block_len(), self.cache.k)?
            .as_chunks()
            .0
            .as_chunks()
            .0;
        let k = k.get(panel * quads..)?.get(..P * quads)?;
        let scales = at.of(call.kv, KEYS_PER_BLOCK, self.cache.k_scales)?;
        let scales: &[Wide<f32>; P] = scales
            .as_chunks()
            .0
            .as_chunks()
            .0
            .get(panel..)?
            .first_chunk()?;
        let key = at.key() + panel * KEYS_PER_BLOCK;
        let row_len = self.plan.keys_of_row() / 16;
        for (index, spans) in pass.groups() {
            let group = pass.from + index;
            let mut rows = self
                .state
                .scores
                .get_mut(index * R * row_len..)?
                .chunks_exact_mut(row_len.max(1))
                .take(R);
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
                isa.apart(Adjust {
                    spans,
                    key,
                    cap,
                    scale,
                    scores,
                    row_len,
                    panel,
                    panels: P,
                })?;
            }
        }
        Some(())
    }

    /// The pieces that a pass has of the keys.
    #[inline(always)]
    fn pieces(&self, at: Blocks, pass: &Pass<R>) -> [Option<Piece>; PIECES] {
        let mut pieces = [None; PIECES];
        let mut free = pieces.iter_mut();
        for (index, spans) in pass.groups() {
            let panels = spans.to[R - 1]
                .saturating_sub(at.key())
                .div_ceil(KEYS_PER_BLOCK)
                .min(at.count);
            let mut first = 0;
            while first < panels {
                if let Some(piece) = free.next() {
                    *piece = Some(Piece {
                        index,
                        group: pass.from + index,
                        first,
                        panels: PANELS_I8.min(panels - first),
                        highest: [HIDDEN; 8],
                        block: [0.0; 8],
                        weight: [0.0; 8],
                    });
                }
                first += PANELS_I8;
            }
        }
        pieces
    }

    /// The panels of a piece's row.
    #[inline(always)]
    fn row(&mut self, piece: &Piece, r: usize) -> Option<&mut [Wide<f32>]> {
        let row_len = self.plan.keys_of_row() / 16;
        let row = self
            .state
            .scores
            .get_mut((piece.index * R + r) * row_len..)?;
        row.get_mut(piece.first..)?.get_mut(..piece.panels)
    }

    #[inline(always)]
    fn find_highest<I: Isa>(&mut self, isa: I, piece: &mut Piece) -> Option<()> {
        for r in 0..R {
            let mut lanes = [isa.splat(HIDDEN); 2];
            for scores in &*self.row(piece, r)? {
                for (lanes, scores) in lanes.iter_mut().zip(scores) {
                    *lanes = isa.max(*lanes, isa.load(scores));
                }
            }
            piece.highest[r % 8] = isa.max_lane(isa.max(lanes[0], lanes[1]));
        }
        Some(())
    }

    /// Whether a piece that is not its group's first raises a reference so far that it moves.
    fn moves_later(&self, pieces: &[Option<Piece>; PIECES]) -> Option<bool> {
        let mut moves = false;
        for r in 0..R {
            let mut reference = None;
            let mut group = usize::MAX;
            for piece in pieces.iter().flatten() {
                if piece.group != group {
                    group = piece.group;
                    let begun = self.state.sum.get(group)?[r] > 0.0;
                    reference = begun.then_some(self.state.reference.get(group)?[r]);
                }
                let block = piece.highest[r % 8] * self.state.scale.get(group)?[r];
                if piece.highest[r % 8] < HIDDEN / 2.0 {
                    continue;
                }
                let rise = block - reference.unwrap_or(block);
                moves |= piece.first > 0 && rise > RISE_MAX;
                if reference.is_none() || rise > RISE_MAX {
                    reference = Some(block);
                }
            }
        }
        Some(moves)
    }

    /// From scores to outputs. Stage by stage for all pieces: one row's stages depend on each other, rows do not.
    #[inline(always)]
    fn finish<I: Isa>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        mut pieces: [Option<Piece>; PIECES],
    ) -> Option<()> {
        let mut v_scales = at.of(call.kv, KEYS_PER_BLOCK, self.cache.v_scales)?;
        let written = call.shape.kv_len.saturating_sub(at.key());
        let clean;
        if written < v_scales.len() {
            // Scales that were never written may be NaN.
            let mut copy = [0.0; KEYS_MAX_I8];
            for (copy, scale) in copy.iter_mut().zip(v_scales.iter().take(written)) {
                *copy = *scale;
            }
            clean = copy;
            v_scales = clean.get(..v_scales.len())?;
        }
        let v_scales: &[Wide<f32>] = v_scales.as_chunks().0.as_chunks().0;
        for piece in pieces.iter_mut().flatten() {
            self.refer(isa, piece)?;
        }
        for piece in pieces.iter_mut().flatten() {
            self.exponentiate::<I>(isa, piece, v_scales.get(piece.first..)?)?;
        }
        for piece in pieces.iter().flatten() {
            self.round(isa, piece)?;
        }
        self.values(isa, call, at, &pieces)
    }

    /// Chooses the references that the piece's probabilities are relative to, and what they weigh.
    #[inline(always)]
    fn refer<I: Isa>(&mut self, isa: I, piece: &mut Piece) -> Option<()> {
        let group = piece.group;
        let highest = isa.load(&piece.highest);
        let mut sum = isa.load_partial(self.state.sum.get(group)?);
        let before = isa.load_partial(self.state.reference.get(group)?);
        let zero = isa.splat(0.0);
        // Rows that see none of these keys keep what they have. (A NaN counts as seen.)
        let unseen = isa.lt(highest, isa.splat(HIDDEN / 2.0));
        let block = isa.mul(highest, isa.load_partial(self.state.scale.get(group)?));
        let block = isa.select(unseen, zero, block);
        let first = isa.select(unseen, before, block);
        let mut reference = isa.select(isa.gt(sum, zero), before, first);
        let rise = isa.select(unseen, zero, isa.sub(block, reference));
        let rises = isa.gt(rise, isa.splat(RISE_MAX));
        if isa.any(rises) {
            let mut lanes = [0.0; 8];
            isa.store(rise, &mut lanes);
            self.rescale(group, &lanes)?;
            sum = isa.load_partial(self.state.sum.get(group)?);
            reference = isa.select(rises, block, reference);
        }
        isa.store_partial(reference, self.state.reference.get_mut(group)?);
        // Until its values' sum is there, a sum of nearly nothing says that the row has begun.
        let begun = isa.select(unseen, sum, isa.max(sum, isa.splat(f32::MIN_POSITIVE)));
        isa.store_partial(begun, self.state.sum.get_mut(group)?);
        isa.store(block, &mut piece.block);
        let weight = exp2(isa, isa.sub(block, reference));
        isa.store(isa.select(unseen, zero, weight), &mut piece.weight);
        Some(())
    }

    /// What rows computed with their old references, relative to new ones that are `rise` higher.
    #[cold]
    #[inline(never)]
    fn rescale(&mut self, group: usize, rise: &[f32; 8]) -> Option<()> {
        let tiles = self.plan.out_tiles();
        for r in 0..R {
            if rise[r % 8] > RISE_MAX {
                let factor = libm::exp2f(-rise[r % 8]);
                self.state.sum.get_mut(group)?[r] *= factor;
                for tile in self.state.out.get_mut(group * tiles..)?.get_mut(..tiles)? {
                    tile[r]
                        .as_flattened_mut()
                        .iter_mut()
                        .for_each(|x| *x *= factor);
                }
            }
        }
        Some(())
    }

    /// Turns the piece's scores into probabilities times their values' scales.
    #[inline(always)]
    fn exponentiate<I: Isa>(
        &mut self,
        isa: I,
        piece: &mut Piece,
        v_scales: &[Wide<f32>],
    ) -> Option<()> {
        let (mut sums, mut largests) = ([0.0; 8], [0.0; 8]);
        for r in 0..R {
            let scale = isa.splat(self.state.scale.get(piece.group)?[r]);
            let block = isa.splat(-piece.block[r % 8]);
            let mut sum = [isa.splat(0.0); 2];
            let mut largest = [isa.splat(0.0); 2];
            for (scores, v_scales) in self.row(piece, r)?.iter_mut().zip(v_scales) {
                for h in 0..2 {
                    let e = W::exp2(isa, isa.fma(isa.load(&scores[h]), scale, block));
                    sum[h] = isa.add(sum[h], e);
                    let e = isa.mul(e, isa.load(&v_scales[h]));
                    largest[h] = isa.max(largest[h], e);
                    isa.store(e, &mut scores[h]);
                }
            }
            sums[r % 8] = isa.sum(isa.add(sum[0], sum[1]));
            largests[r % 8] = isa.max_lane(isa.max(largest[0], largest[1]));
        }
        // From here on `block` is the factor from probabilities to levels, `weight` what a level weighs.
        let (largest, weight) = (isa.load(&largests), isa.load(&piece.weight));
        let sum = isa.load_partial(self.state.sum.get(piece.group)?);
        let sum = isa.fma(weight, isa.load(&sums), sum);
        isa.store_partial(sum, self.state.sum.get_mut(piece.group)?);
        // Below this the inverse would overflow; such values are as good as zero.
        let to_levels = isa.div(isa.splat(W::P_MAX), largest);
        let to_levels = isa.select(isa.lt(largest, isa.splat(1e-30)), isa.splat(0.0), to_levels);
        isa.store(to_levels, &mut piece.block);
        let level = isa.mul(largest, isa.splat(1.0 / W::P_MAX));
        isa.store(isa.mul(weight, level), &mut piece.weight);
        Some(())
    }

    /// Rounds the piece's probabilities to levels.
    #[inline(always)]
    fn round<I: Isa>(&mut self, isa: I, piece: &Piece) -> Option<()> {
        let row_len = self.plan.keys_of_row();
        let len = piece.panels.next_multiple_of(2) * KEYS_PER_BLOCK;
        for r in 0..R {
            let to_levels = isa.splat(piece.block[r % 8]);
            let at = (piece.index * R + r) * row_len + piece.first * KEYS_PER_BLOCK;
            let levels = self.state.p.get_mut(at / 4..)?.get_mut(..len / 4)?;
            let mut levels = levels.as_chunks_mut::<8>().0.iter_mut();
            let (pairs, last) = self
                .state
                .scores
                .get(at / 16..)?
                .get(..piece.panels)?
                .as_chunks::<2>();
            for (scores, to) in pairs.iter().zip(&mut levels) {
                *to = rounded::<I, W>(isa, scores, to_levels);
            }
            if let ([scores], Some(to)) = (last, levels.next()) {
                *to = rounded::<I, W>(isa, &[*scores, [[0.0; 8]; 2]], to_levels);
            }
        }
        Some(())
    }

    /// Adds the pieces' values, weighted, to the outputs.
    #[inline(always)]
    fn values<I: Isa>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        pieces: &[Option<Piece>; PIECES],
    ) -> Option<()> {
        let head_dim = call.kv.head_dim();
        let (full, tiles) = (head_dim / 16, self.plan.out_tiles());
        let v: &[[i8; 32]] = at
            .of(call.kv, call.kv.block_len(), self.cache.v)?
            .as_chunks()
            .0;
        let row_len = self.plan.keys_of_row() / 4;
        let mut dims = 0;
        while dims < tiles {
            let width = if !I::VECTORS || R >= 4 || dims >= full {
                1
            } else {
                (4 / R).min(full - dims)
            };
            for piece in pieces.iter().flatten() {
                let first = piece.first * KEYS_PER_BLOCK / 4;
                let out = self.state.out.get_mut(piece.group * tiles + dims..)?;
                let call = Weighing {
                    p: self.state.p.get(piece.index * R * row_len + first..)?,
                    row_len,
                    quads: piece.panels * KEYS_PER_BLOCK / 4,
                    v: v.get(first * head_dim / 8..)?,
                    dims,
                    v_stride: head_dim / 8,
                    weight: piece.weight.first_chunk()?,
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

/// Pieces of a pass: three groups of one block, two of two blocks, one of four blocks.
const PIECES: usize = 4;

/// A block of keys of one row group: what is rounded together.
#[derive(Clone, Copy)]
struct Piece {
    /// The group among the pass' groups, and among all.
    index: usize,
    group: usize,
    /// First panel and panels of what the group sees.
    first: usize,
    panels: usize,
    /// Highest score of each row, before the query's scale.
    highest: [f32; 8],
    /// Highest score of each row; then the factor that makes levels of probabilities.
    block: [f32; 8],
    /// What a probability of each row weighs in the outputs; then what a level does.
    weight: [f32; 8],
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
                    isa.prefetch(k, PREFETCH);
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
        for (r, row) in self
            .scores
            .chunks_exact_mut(self.row_len.max(1))
            .take(R)
            .enumerate()
        {
            let scores = row.get_mut(self.panel..)?.get_mut(..self.panels)?;
            if self.cap != 0.0 {
                // The scale is positive, and finite unless everything is NaN.
                let (scale, inverse) = (isa.splat(self.scale[r]), isa.splat(1.0 / self.scale[r]));
                for score in scores.as_flattened_mut() {
                    let capped =
                        super::tile::capped(isa, isa.mul(isa.load(score), scale), self.cap);
                    isa.store(isa.mul(capped, inverse), score);
                }
            }
            for (i, score) in scores
                .as_flattened_mut()
                .as_flattened_mut()
                .iter_mut()
                .enumerate()
            {
                if !self.spans.sees(r, self.key + i) {
                    *score = HIDDEN;
                }
            }
        }
        Some(())
    }
}

#[inline(always)]
fn rounded<I: Isa, W: Width>(isa: I, x: &[Wide<f32>; 2], to_levels: I::F32) -> [[W::Level; 4]; 8] {
    let [[a, b], [c, d]] = x;
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
    /// The first panel of dimensions.
    dims: usize,
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
    out: &mut [Tile<R>; T],
    call: Weighing<'_, W::Level, R>,
) -> Option<()> {
    let rows = rows_of(&call)?;
    let mut acc = [[[isa.splat_i32(0); 2]; R]; T];
    let v = call.v.chunks_exact(call.v_stride.max(1)).take(call.quads);
    let dims = call.dims;
    // Iterators of one length need no check a row and quad.
    if let (4, Some([a, b, c, d])) = (R, rows.first_chunk::<4>()) {
        for ((((a, b), c), d), v) in a.iter().zip(*b).zip(*c).zip(*d).zip(v) {
            let p = core::array::from_fn(|r| [*a, *b, *c, *d][r % 4]);
            weigh_quad::<I, W, R, T>(isa, &mut acc, &p, v.get(2 * dims..)?)?;
        }
    } else if let (1, Some([a])) = (R, rows.first_chunk::<1>()) {
        for (a, v) in a.iter().zip(v) {
            weigh_quad::<I, W, R, T>(isa, &mut acc, &[*a; R], v.get(2 * dims..)?)?;
        }
    } else {
        for (quad, v) in v.enumerate() {
            let mut p = [[W::Level::default(); 4]; R];
            for (p, row) in p.iter_mut().zip(&rows) {
                *p = *row.get(quad)?;
            }
            weigh_quad::<I, W, R, T>(isa, &mut acc, &p, v.get(2 * dims..)?)?;
        }
    }
    for (acc, out) in acc.iter().zip(out) {
        for ((acc, out), weight) in acc.iter().zip(out).zip(call.weight) {
            for (acc, out) in acc.iter().zip(out) {
                isa.store(
                    isa.fma(isa.to_f32(*acc), isa.splat(*weight), isa.load(out)),
                    out,
                );
            }
        }
    }
    Some(())
}

/// Four keys: `v` begins with the T tiles of sixteen dimensions.
#[inline(always)]
fn weigh_quad<I: Isa, W: Width, const R: usize, const T: usize>(
    isa: I,
    acc: &mut [[[I::I32; 2]; R]; T],
    p: &[[W::Level; 4]; R],
    v: &[[i8; 32]],
) -> Option<()> {
    let v: &[[[i8; 32]; 2]; T] = v.as_chunks().0.first_chunk()?;
    for (acc, v) in acc.iter_mut().zip(v) {
        if R == 1 {
            isa.prefetch(v, PREFETCH);
        }
        for (half, v) in v.iter().enumerate() {
            let v = W::value(isa, v);
            for (acc, p) in acc.iter_mut().zip(p) {
                acc[half] = W::dot_value(isa, acc[half], v, *p);
            }
        }
    }
    Some(())
}

/// As [`weigh_values`] for the last eight dimensions of a head whose dimension is an odd multiple of eight.
#[inline(always)]
fn weigh_half_values<I: Isa, W: Width, const R: usize>(
    isa: I,
    out: &mut Tile<R>,
    call: Weighing<'_, W::Level, R>,
) -> Option<()> {
    let rows = rows_of(&call)?;
    let mut acc = [isa.splat_i32(0); R];
    for (quad, v) in call
        .v
        .chunks_exact(call.v_stride.max(1))
        .take(call.quads)
        .enumerate()
    {
        let v = W::value(isa, v.get(2 * call.dims)?);
        for (acc, row) in acc.iter_mut().zip(&rows) {
            *acc = W::dot_value(isa, *acc, v, *row.get(quad)?);
        }
    }
    for ((acc, out), weight) in acc.iter().zip(out).zip(call.weight) {
        isa.store(
            isa.fma(isa.to_f32(*acc), isa.splat(*weight), isa.load(&out[0])),
            &mut out[0],
        );
    }
    Some(())
}
