//! Caches of bytes: both products in integers.
//!
//! A query is rounded to levels of its own scale, so that a score is an exact integer sum times the two scales. The
//! probabilities of a block of keys, each times its value's scale, are rounded to levels of the largest of them; the
//! block's weighted values are again exact integer sums, which join the others with the factor 2^(m_block − m). Nothing
//! is rescaled but where a block raises the reference m by more than 40 (log₂).
//!
//! The largest product of a probability and a scale is known before any exponential: it belongs to the largest
//! *weighted score*, a score plus the logarithm of its value's scale, which is found while the scores are stored
//! ([`scores`]). The logarithm is a lower bound that costs two instructions; levels are up to 6 % coarser for it
//! ([`pieces`]). So exponentials are rounded as soon as they are computed, and keys with large scores and small values,
//! as the first of a sequence often are, cost the others no precision.
//!
//! [`Width`] says whether the products are of bytes or of 16-bit words.

mod pieces;
mod scores;
mod values;

use super::call::{Blocks, Call, Rows};
use super::plan::{ByteState, Plan, QUADS_I8, Tile, Wide};
use super::walk::{Method, Pass, Totals};
use super::width::Width;
use crate::isa::Isa;
use crate::layout::{HEAD_DIM_MAX, KEYS_PER_BLOCK};
use crate::math::LOG2_E;
use crate::ops::levels::{amax, scale_and_factor};

/// The score of a key that is not visible, before the query's scale.
const HIDDEN: f32 = -3e38;

/// The least scale of a query: with it, [`HIDDEN`] still hides.
const SCALE_MIN: f32 = 1e-30;

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
    pub(super) state: ByteState<'a, W::Quad, R>,
    /// Room for keys or values that several groups of rows share, widened once for all: [`WIDENED_LEN`], or nothing.
    pub(super) widened: &'a mut [[W::Widened; 2]],
}

/// A panel of keys, or a block of values for sixteen dimensions: quads.
pub(super) const WIDENED_LEN: usize = HEAD_DIM_MAX / 4;
const _: () = assert!(QUADS_I8 <= WIDENED_LEN);

impl<W: Width, const R: usize> Method<R> for Bytes<'_, W, R> {
    /// Rounds the queries into `[groups][head_dim / 4][R]`, zeros beyond the last row.
    #[inline(always)]
    fn begin<I: Isa>(&mut self, isa: I, call: &Call<'_>, rows: Rows) -> Option<()> {
        let quads = call.kv.head_dim() / 4;
        let tiles = self.plan.out_tiles();
        let state = &mut self.state;
        let factor = call.shape.scale * LOG2_E;
        let groups = rows.len.div_ceil(R);
        for group in 0..groups {
            let to = state.q.get_mut(group * quads..)?.get_mut(..quads)?;
            let scale = state.scale.get_mut(group)?;
            let start = state.start.get_mut(group)?;
            for r in 0..R {
                let row = group * R + r;
                if row >= rows.len {
                    to.iter_mut().for_each(|to| to[r] = Default::default());
                    (scale[r], start[r]) = (SCALE_MIN, 0);
                    continue;
                }
                let query = call.query(rows, row)?;
                let (level, to_levels) = scale_and_factor(amax(isa, query), W::Q_MAX);
                // A NaN shows in the scale.
                let level = level * factor.abs();
                scale[r] = if level < SCALE_MIN { SCALE_MIN } else { level };
                let to_levels = isa.splat(to_levels.copysign(factor));
                let sum = query_levels::<I, W, R>(isa, query, to_levels, to, r);
                start[r] = sum.wrapping_mul(-128);
            }
        }
        let references = state.reference.iter_mut().take(groups);
        references.for_each(|m| *m = [f32::NEG_INFINITY; R]);
        let sums = state.sums.iter_mut().take(groups);
        sums.for_each(|sums| *sums = [[0.0; 8]; R]);
        let out = state.out.iter_mut().take(groups * tiles);
        out.for_each(|tile| *tile = [[[0.0; 8]; 2]; R]);
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
        let scales = ValueScales::new(self.cache.v_scales, call, at)?;
        if !I::VECTORS || R >= 4 {
            self.scores::<I, 1>(isa, call, at, pass, &scales)?;
        } else if R == 2 {
            self.scores::<I, 2>(isa, call, at, pass, &scales)?;
        } else {
            self.scores::<I, 4>(isa, call, at, pass, &scales)?;
        }
        let mut pieces = self.pieces(isa, at, pass)?;
        let blocks = self.plan.blocks();
        if blocks > 1 && self.moves_later(&pieces)? {
            // One after the other, as with more rows: what a reference's move rounds differently must not depend on
            // them.
            for block in 0..blocks {
                let mut of_block = pieces.map(|piece| piece.filter(|piece| piece.block == block));
                self.round(isa, &mut of_block, &scales)?;
                self.values(isa, call, at, &of_block)?;
            }
            return Some(());
        }
        self.round(isa, &mut pieces, &scales)?;
        self.values(isa, call, at, &pieces)
    }

    #[inline(always)]
    fn totals<I: Isa>(&self, isa: I, group: usize) -> Option<Totals<R>> {
        let mut sums = [0.0; R];
        for (sum, lanes) in sums.iter_mut().zip(self.state.sums.get(group)?) {
            *sum = isa.sum(isa.load(lanes));
        }
        Some(Totals {
            sums,
            references: *self.state.reference.get(group)?,
        })
    }

    #[inline(always)]
    fn outputs(&self) -> &[Tile<R>] {
        self.state.out
    }
}

/// Rounds row r's query to levels `[head_dim / 4][R]` and returns their sum.
#[inline(always)]
fn query_levels<I: Isa, W: Width, const R: usize>(
    isa: I,
    query: &[f32],
    to_levels: I::F32,
    to: &mut [[W::Quad; R]],
    r: usize,
) -> i32 {
    let mut sum = isa.splat_i32(0);
    let (fours, rest) = query.as_chunks::<32>();
    let (to_fours, to_rest) = to.as_chunks_mut::<8>();
    for (four, to) in fours.iter().zip(to_fours) {
        let mut lanes = [isa.splat_i32(0); 4];
        for (lanes, x) in lanes.iter_mut().zip(four.as_chunks::<8>().0) {
            *lanes = isa.round_i32(isa.mul(isa.load(x), to_levels));
            sum = isa.add_i32(sum, *lanes);
        }
        let levels = W::levels(isa, lanes);
        for (to, quad) in to.iter_mut().zip(levels) {
            to[r] = quad;
        }
    }
    let eights = rest.as_chunks::<8>().0;
    for (x, to) in eights.iter().zip(to_rest.as_chunks_mut::<2>().0) {
        let lanes = isa.round_i32(isa.mul(isa.load(x), to_levels));
        sum = isa.add_i32(sum, lanes);
        let zero = isa.splat_i32(0);
        let levels = W::levels(isa, [lanes, zero, zero, zero]);
        for (to, quad) in to.iter_mut().zip(levels) {
            to[r] = quad;
        }
    }
    let mut lanes = [0; 8];
    isa.store_i32(sum, &mut lanes);
    lanes
        .iter()
        .fold(0, |sum: i32, lane| sum.wrapping_add(*lane))
}

/// Scales of some blocks' values.
struct ValueScales<'a> {
    /// Panels whose keys are all there.
    full: &'a [Wide<f32>],
    /// The panel after them: scales that were never written may be NaN, so they are left out.
    last: Wide<f32>,
}

impl<'a> ValueScales<'a> {
    #[inline(always)]
    fn new(all: &'a [f32], call: &Call<'_>, at: Blocks) -> Option<Self> {
        let scales = at.of(call.kv, KEYS_PER_BLOCK, all)?;
        let written = call.shape.kv_len.saturating_sub(at.key());
        let (full, rest) = scales
            .get(..written.min(scales.len()))?
            .as_chunks::<KEYS_PER_BLOCK>();
        let mut last = [0.0; KEYS_PER_BLOCK];
        for (to, scale) in last.iter_mut().zip(rest) {
            *to = *scale;
        }
        Some(Self {
            full: full.as_flattened().as_chunks().0.as_chunks().0,
            last: *last.as_chunks().0.first_chunk()?,
        })
    }

    #[inline(always)]
    fn panel(&self, panel: usize) -> &Wide<f32> {
        self.full.get(panel).unwrap_or(&self.last)
    }
}
