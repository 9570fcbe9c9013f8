//! The inner loops over keys of floats: a tile of scores and their exponentials.
//!
//! A tile is R rows by P panels of sixteen keys: 6 × 1, 4 × 1, 2 × 2 and 1 × 4, which are eight or twelve accumulators
//! of eight lanes. The sum of an element has the same order in all of them, so that a row's bits do not depend on how
//! many rows there are.

use super::call::Spans;
use super::float::Element;
use super::plan::{Tile, Wide};
use super::seldom::seldom;
use crate::isa::Isa;
use crate::layout::KEYS_PER_BLOCK;
use crate::math::{LOG2_E, exp2};

/// A score may exceed its reference by this much (log₂): 2⁶⁰ summed over any number of keys fits f32, and with every
/// row's first score above −60, nothing that matters falls below f32's smallest normal number.
pub(super) const RISE_MAX: f32 = 60.0;

/// A score that is not visible; its exponential is never taken.
pub(super) const HIDDEN: f32 = -3e38;

/// How far ahead of their use one row asks for 16-bit keys and values, in bytes: they come in several streams, which
/// the processor's own prefetching loses.
pub(super) const PREFETCH: usize = 4096;

/// Whether the element of this index begins a cache line, among rows of sixteen.
pub(super) const fn begins_line<E>(index: usize) -> bool {
    (index * size_of::<Wide<E>>()).is_multiple_of(64)
}

/// What a row group carries from tile to tile of a key block.
pub(super) struct Group<'a, const R: usize> {
    /// Scaled queries `[head_dim / 8][R][8]`.
    pub(super) q: &'a [[[f32; 8]; R]],
    /// Keys that each row sees.
    pub(super) spans: &'a Spans<R>,
    /// Negated references of the exponents.
    pub(super) neg_m: &'a mut [f32; R],
    /// Sums of the probabilities so far, eight partial sums a row.
    pub(super) sums: &'a mut [[f32; 8]; R],
    /// Outputs so far.
    pub(super) out: &'a mut [Tile<R>],
    /// Probabilities of this key block, a tile a panel.
    pub(super) p: &'a mut [Tile<R>],
}

/// Where a tile lies among the keys.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its first panel within the key block.
    pub(super) panel: usize,
    /// That panel's first key.
    pub(super) key: usize,
    /// The soft cap of the scores; 0 for none.
    pub(super) cap: f32,
}

/// Probabilities of one group and P panels of keys `[head_dim][16]`, relative to 2^m; exactly 0 where not visible.
#[inline(always)]
pub(super) fn probabilities<I: Isa, E: Element, const R: usize, const P: usize>(
    isa: I,
    group: &mut Group<'_, R>,
    at: Place,
    k: &[Wide<E>],
) -> Option<()> {
    let (key, len, spans) = (at.key, P * KEYS_PER_BLOCK, group.spans);
    let p = group.p.get_mut(at.panel..)?.first_chunk_mut::<P>()?;
    if spans.none_sees(key, len) {
        *p = [[[[0.0; 8]; 2]; R]; P];
        return Some(());
    }
    let half = P == 1 && R >= 4 && spans.to[R - 1] <= key + 8;
    let acc = if half {
        half_scores(isa, group.q, group.neg_m, at, k)
    } else {
        scores::<I, E, R, P>(isa, group.q, group.neg_m, at, k)?
    };
    let plain = spans.all_see(key, len);
    let usual = at.cap == 0.0 && (plain || (I::VECTORS && spans.all_begin(key, len)));
    if !usual || must_move(isa, &acc, group.sums) {
        return seldom::<I, E, R, P>(isa, group, at, k, acc);
    }
    if plain {
        exponentials(isa, &acc, group.sums, p);
    } else if half {
        visible_exponentials::<I, R, P, 1>(isa, &acc, spans, key, group.sums, p);
    } else {
        visible_exponentials::<I, R, P, 2>(isa, &acc, spans, key, group.sums, p);
    }
    Some(())
}

/// Takes the exponentials of a tile that all its rows see.
#[inline(always)]
fn exponentials<I: Isa, const R: usize, const P: usize>(
    isa: I,
    acc: &[[[I::F32; 2]; P]; R],
    sums: &mut [[f32; 8]; R],
    p: &mut [Tile<R>; P],
) {
    for (r, (acc, sums)) in acc.iter().zip(sums).enumerate() {
        let mut sum = isa.load(sums);
        for (acc, p) in acc.iter().zip(&mut *p) {
            let e = [exp2(isa, acc[0]), exp2(isa, acc[1])];
            sum = isa.add(sum, isa.add(e[0], e[1]));
            isa.store(e[0], &mut p[r][0]);
            isa.store(e[1], &mut p[r][1]);
        }
        isa.store(sum, sums);
    }
}

/// As [`exponentials`] where row r sees the keys below `to[r]` alone, and none that is not in the first HALVES vectors
/// of a panel.
#[inline(always)]
fn visible_exponentials<I: Isa, const R: usize, const P: usize, const HALVES: usize>(
    isa: I,
    acc: &[[[I::F32; 2]; P]; R],
    spans: &Spans<R>,
    key: usize,
    sums: &mut [[f32; 8]; R],
    p: &mut [Tile<R>; P],
) {
    let first = isa.iota();
    let lanes = [first, isa.add(first, isa.splat(8.0))];
    let zero = isa.splat(0.0);
    for (r, (acc, sums)) in acc.iter().zip(sums).enumerate() {
        let mut sum = isa.load(sums);
        for (index, (acc, p)) in acc.iter().zip(&mut *p).enumerate() {
            let to = place_of(isa, spans.to[r], key + index * KEYS_PER_BLOCK);
            let mut e = [zero; 2];
            for half in 0..HALVES {
                e[half] = isa.select(isa.lt(lanes[half], to), exp2(isa, acc[half]), zero);
            }
            sum = isa.add(sum, isa.add(e[0], e[1]));
            isa.store(e[0], &mut p[r][0]);
            isa.store(e[1], &mut p[r][1]);
        }
        isa.store(sum, sums);
    }
}

/// Scores of a tile relative to their references (absolute ones where they will be capped).
#[inline(always)]
pub(super) fn scores<I: Isa, E: Element, const R: usize, const P: usize>(
    isa: I,
    q: &[[[f32; 8]; R]],
    neg_m: &[f32; R],
    at: Place,
    keys: &[Wide<E>],
) -> Option<[[[I::F32; 2]; P]; R]> {
    let mut acc = [[[isa.splat(0.0); 2]; P]; R];
    if at.cap == 0.0 {
        for (acc, neg_m) in acc.iter_mut().zip(neg_m) {
            *acc = [[isa.splat(*neg_m); 2]; P];
        }
    }
    let head_dim = keys.len() / P;
    let mut panels: [core::slice::Iter<'_, _>; P] = core::array::from_fn(|_| [].iter());
    for (p, panel) in panels.iter_mut().enumerate() {
        *panel = keys
            .get(p * head_dim..)?
            .get(..head_dim)?
            .as_chunks::<8>()
            .0
            .iter();
    }
    for q in q {
        let mut chunk = [None; P];
        for (chunk, panel) in chunk.iter_mut().zip(&mut panels) {
            *chunk = Some(panel.next()?);
        }
        // One by one: a loop is unrolled where its body is short, and then only are the places constants.
        score_dim::<I, E, R, P, 0>(isa, &mut acc, q, &chunk)?;
        score_dim::<I, E, R, P, 1>(isa, &mut acc, q, &chunk)?;
        score_dim::<I, E, R, P, 2>(isa, &mut acc, q, &chunk)?;
        score_dim::<I, E, R, P, 3>(isa, &mut acc, q, &chunk)?;
        score_dim::<I, E, R, P, 4>(isa, &mut acc, q, &chunk)?;
        score_dim::<I, E, R, P, 5>(isa, &mut acc, q, &chunk)?;
        score_dim::<I, E, R, P, 6>(isa, &mut acc, q, &chunk)?;
        score_dim::<I, E, R, P, 7>(isa, &mut acc, q, &chunk)?;
    }
    Some(acc)
}

/// One dimension of a chunk of eight.
#[inline(always)]
fn score_dim<I: Isa, E: Element, const R: usize, const P: usize, const DIM: usize>(
    isa: I,
    acc: &mut [[[I::F32; 2]; P]; R],
    q: &[[f32; 8]; R],
    chunk: &[Option<&[Wide<E>; 8]>; P],
) -> Option<()> {
    for (p, chunk) in chunk.iter().enumerate() {
        let k = &(*chunk)?[DIM];
        if R == 1 && E::NARROW && begins_line::<E>(DIM) {
            isa.prefetch(k, PREFETCH);
        }
        let k = [E::load(isa, &k[0]), E::load(isa, &k[1])];
        for (acc, q) in acc.iter_mut().zip(q) {
            let q = isa.splat(q[DIM]);
            acc[p][0] = isa.fma(q, k[0], acc[p][0]);
            acc[p][1] = isa.fma(q, k[1], acc[p][1]);
        }
    }
    Some(())
}

/// As [`scores`] where no row sees any of the last eight keys, which count as hidden.
#[inline(always)]
fn half_scores<I: Isa, E: Element, const R: usize, const P: usize>(
    isa: I,
    q: &[[[f32; 8]; R]],
    neg_m: &[f32; R],
    at: Place,
    k: &[Wide<E>],
) -> [[[I::F32; 2]; P]; R] {
    let mut acc = [[[isa.splat(0.0); 2]; P]; R];
    if at.cap == 0.0 {
        for (acc, neg_m) in acc.iter_mut().zip(neg_m) {
            *acc = [[isa.splat(*neg_m); 2]; P];
        }
    }
    for (q, k) in q.iter().zip(k.as_chunks::<8>().0) {
        for (dim, k) in k.iter().enumerate() {
            let k = E::load(isa, &k[0]);
            for (acc, q) in acc.iter_mut().zip(q) {
                acc[0][0] = isa.fma(isa.splat(q[dim]), k, acc[0][0]);
            }
        }
    }
    acc
}

/// Whether a score left the range of its reference (or is NaN).
#[inline(always)]
fn must_move<I: Isa, const R: usize, const P: usize>(
    isa: I,
    acc: &[[[I::F32; 2]; P]; R],
    sums: &[[f32; 8]; R],
) -> bool {
    let mut highest = isa.splat(0.0);
    for acc in acc.as_flattened() {
        highest = isa.max_if_positive(isa.max_if_positive(highest, acc[0]), acc[1]);
    }
    let mut low = false;
    // Rows begin in order, so the last has begun last. (A sum of 0 may also be that of hidden keys: then nothing
    // moves.)
    if sums[R - 1][0] == 0.0 {
        for row in acc {
            low |= isa.first(row[0][0]) < -RISE_MAX;
        }
    }
    low | !isa.all(isa.lt(highest, isa.splat(RISE_MAX)))
}

/// A key's place in the panel that begins at `first`, in all lanes; 0 if it lies before, 16 if behind.
#[inline(always)]
pub(super) fn place_of<I: Isa>(isa: I, key: usize, first: usize) -> I::F32 {
    isa.splat(key.saturating_sub(first).min(KEYS_PER_BLOCK) as f32)
}

/// `cap · tanh(score / cap)`, both in units of log₂ ("soft capping", Gemma Team 2024, section 2), from
/// tanh x = 1 − 2 / (e^2x + 1): within 2e-7 · cap.
#[inline(always)]
pub(super) fn capped<I: Isa>(isa: I, score: I::F32, cap: f32) -> I::F32 {
    let cap = cap * LOG2_E;
    let x = isa.mul(score, isa.splat(2.0 * LOG2_E / cap));
    // Beyond ±30 tanh is ±1; the exponential stays finite.
    let x = isa.min(isa.splat(60.0), isa.max(isa.splat(-60.0), x));
    let e = isa.add(exp2(isa, x), isa.splat(1.0));
    let tanh = isa.sub(isa.splat(1.0), isa.div(isa.splat(2.0), e));
    isa.mul(tanh, isa.splat(cap))
}
