//! The inner loops over floats: a tile of scores and their exponentials, and a tile of outputs.
//!
//! A tile is R rows by P panels of sixteen keys (or T panels of sixteen dimensions): 6 × 1, 4 × 1, 2 × 2 and 1 × 4, which are
//! eight or twelve accumulators of eight lanes. The sum of an element has the same order in all of them, so that a row's bits
//! do not depend on how many rows there are.

use super::call::Spans;
use super::float::{Element, prefetch};
use super::plan::{Tile, Wide};
use crate::isa::{Isa, Kernel};
use crate::layout::KEYS_PER_BLOCK;
use crate::math::{LOG2_E, exp2};

/// A score may exceed its reference by this much (log₂): 2⁶⁰ summed over any number of keys fits f32, and with every row's
/// first score above −60, nothing that matters falls below f32's smallest normal number.
const RISE_MAX: f32 = 60.0;

/// A score that is not visible; its exponential is never taken.
const HIDDEN: f32 = -3e38;

/// What a row group carries from tile to tile.
pub(super) struct Group<'a, const R: usize> {
    /// Scaled queries `[head_dim / 8][R][8]`.
    pub(super) q: &'a [[[f32; 8]; R]],
    /// Keys that each row sees.
    pub(super) spans: &'a Spans<R>,
    /// The tile's first key.
    pub(super) key: usize,
    /// The soft cap of the scores; 0 for none.
    pub(super) cap: f32,
    /// Negated references of the exponents.
    pub(super) neg_m: &'a mut [f32; R],
    /// Sums of the probabilities so far, eight partial sums a row.
    pub(super) sums: &'a mut [[f32; 8]; R],
    /// Outputs so far.
    pub(super) out: &'a mut [Tile<R>],
    /// Probabilities of this key block, a tile a panel.
    pub(super) p: &'a mut [Tile<R>],
    /// The tile's first panel.
    pub(super) panel: usize,
}

/// The probabilities of keys that no row sees.
#[inline(always)]
pub(super) fn skipped<const R: usize>(p: &mut [Tile<R>]) {
    for tile in p {
        *tile = [[[0.0; 8]; 2]; R];
    }
}

/// Probabilities of one group and P panels of keys `[head_dim][16]`, relative to 2^m; exactly 0 where not visible.
#[inline(always)]
pub(super) fn probabilities<I: Isa, E: Element, const R: usize, const P: usize>(
    isa: I,
    group: Group<'_, R>,
    k: &[Wide<E>],
) -> Option<()> {
    let half = P == 1 && R >= 4 && group.spans.to[R - 1] <= group.key + 8;
    let acc = if half {
        half_scores(isa, &group, k)
    } else {
        scores::<I, E, R, P>(isa, &group, k)?
    };
    let plain = group.cap == 0.0 && group.spans.all_see(group.key, P * KEYS_PER_BLOCK);
    if !plain || must_move(isa, &acc, group.sums) {
        return seldom::<I, E, R, P>(isa, group, k, acc);
    }
    let p = group.p.get_mut(group.panel..)?.first_chunk_mut::<P>()?;
    for (r, (acc, sums)) in acc.iter().zip(group.sums).enumerate() {
        let mut sum = isa.load(sums);
        for (acc, p) in acc.iter().zip(&mut *p) {
            let e = [exp2(isa, acc[0]), exp2(isa, acc[1])];
            sum = isa.add(sum, isa.add(e[0], e[1]));
            isa.store(e[0], &mut p[r][0]);
            isa.store(e[1], &mut p[r][1]);
        }
        isa.store(sum, sums);
    }
    Some(())
}

/// Scores of a tile relative to their references (absolute ones where they will be capped).
#[inline(always)]
fn scores<I: Isa, E: Element, const R: usize, const P: usize>(
    isa: I,
    group: &Group<'_, R>,
    k: &[Wide<E>],
) -> Option<[[[I::F32; 2]; P]; R]> {
    let mut acc = [[[isa.splat(0.0); 2]; P]; R];
    if group.cap == 0.0 {
        for (acc, neg_m) in acc.iter_mut().zip(&*group.neg_m) {
            *acc = [[isa.splat(*neg_m); 2]; P];
        }
    }
    let head_dim = k.len() / P;
    let mut panels: [core::slice::Iter<'_, _>; P] = core::array::from_fn(|_| [].iter());
    for (p, panel) in panels.iter_mut().enumerate() {
        *panel = k
            .get(p * head_dim..)?
            .get(..head_dim)?
            .as_chunks::<8>()
            .0
            .iter();
    }
    for q in group.q {
        let mut chunk = [None; P];
        for (chunk, panel) in chunk.iter_mut().zip(&mut panels) {
            *chunk = Some(panel.next()?);
        }
        for dim in 0..8 {
            for (p, chunk) in chunk.iter().enumerate() {
                let k = &(*chunk)?[dim];
                if R == 1 {
                    prefetch(isa, k);
                }
                let k = [E::load(isa, &k[0]), E::load(isa, &k[1])];
                for (acc, q) in acc.iter_mut().zip(q) {
                    let q = isa.splat(q[dim]);
                    acc[p][0] = isa.fma(q, k[0], acc[p][0]);
                    acc[p][1] = isa.fma(q, k[1], acc[p][1]);
                }
            }
        }
    }
    Some(acc)
}

/// As [`scores`] where no row sees any of the last eight keys, which count as hidden.
#[inline(always)]
fn half_scores<I: Isa, E: Element, const R: usize, const P: usize>(
    isa: I,
    group: &Group<'_, R>,
    k: &[Wide<E>],
) -> [[[I::F32; 2]; P]; R] {
    let mut acc = [[[isa.splat(0.0); 2]; P]; R];
    if group.cap == 0.0 {
        for (acc, neg_m) in acc.iter_mut().zip(&*group.neg_m) {
            *acc = [[isa.splat(*neg_m); 2]; P];
        }
    }
    for (q, k) in group.q.iter().zip(k.as_chunks::<8>().0) {
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
    // Rows begin in order, so the last has begun last. (A sum of 0 may also be that of hidden keys: then nothing moves.)
    if sums[R - 1][0] == 0.0 {
        for row in acc {
            low |= isa.first(row[0][0]) < -RISE_MAX;
        }
    }
    low | !isa.all(isa.lt(highest, isa.splat(RISE_MAX)))
}

/// The tile again, panel by panel: with masks, caps and references that move.
#[inline(always)]
fn seldom<I: Isa, E: Element, const R: usize, const P: usize>(
    isa: I,
    group: Group<'_, R>,
    k: &[Wide<E>],
    acc: [[[I::F32; 2]; P]; R],
) -> Option<()> {
    let mut tiles = [[[[0.0; 8]; 2]; R]; P];
    for (r, acc) in acc.iter().enumerate() {
        for (tile, acc) in tiles.iter_mut().zip(acc) {
            isa.store(acc[0], &mut tile[r][0]);
            isa.store(acc[1], &mut tile[r][1]);
        }
    }
    let Group {
        q,
        spans,
        key,
        cap,
        neg_m,
        sums,
        out,
        p,
        panel,
    } = group;
    let mut moved = false;
    for (index, tile) in tiles.iter_mut().enumerate() {
        let mut group = Group {
            q,
            spans,
            key: key + index * KEYS_PER_BLOCK,
            cap,
            neg_m: &mut *neg_m,
            sums: &mut *sums,
            out: &mut *out,
            p: &mut *p,
            panel: panel + index,
        };
        if P > 1 && moved {
            // As a tile of one panel would: from the new references on.
            let len = k.len() / P;
            let k = k.get(index * len..)?.get(..len)?;
            for (tile, [acc]) in tile.iter_mut().zip(scores::<I, E, R, 1>(isa, &group, k)?) {
                isa.store(acc[0], &mut tile[0]);
                isa.store(acc[1], &mut tile[1]);
            }
        }
        moved |= isa.apart(Seldom {
            group: &mut group,
            scores: tile,
        })?;
    }
    Some(())
}

/// One panel's scores on their way to probabilities, in memory.
struct Seldom<'a, 'b, const R: usize> {
    group: &'a mut Group<'b, R>,
    scores: &'a mut Tile<R>,
}

impl<const R: usize> Kernel for Seldom<'_, '_, R> {
    /// Whether a reference moved.
    type Output = Option<bool>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Option<bool> {
        let Self { group, scores } = self;
        let first = isa.iota();
        let lanes = [first, isa.add(first, isa.splat(8.0))];
        // Of this panel: keys below `to` and either from `from` on or below `keep`.
        let keep = place_of(isa, group.spans.keep, group.key);
        let hidden = isa.splat(HIDDEN);
        let mut highest = [hidden; R];
        for (r, (scores, highest)) in scores.iter_mut().zip(&mut highest).enumerate() {
            let from = place_of(isa, group.spans.from[r], group.key);
            let to = place_of(isa, group.spans.to[r], group.key);
            for (scores, lanes) in scores.iter_mut().zip(lanes) {
                let mut score = isa.load(scores);
                if group.cap != 0.0 {
                    score = isa.add(capped(isa, score, group.cap), isa.splat(group.neg_m[r]));
                }
                let kept = isa.select(isa.lt(lanes, keep), score, hidden);
                score = isa.select(isa.lt(lanes, from), kept, score);
                score = isa.select(isa.lt(lanes, to), score, hidden);
                *highest = isa.max_if_positive(*highest, score);
                isa.store(score, scores);
            }
        }
        let mut moves = isa.splat(0.0);
        for highest in highest {
            moves = isa.max_if_positive(moves, highest);
        }
        // Where the last row has begun, so has every row that sees one of these keys.
        let mut moved = false;
        if group.sums[R - 1][0] == 0.0 || !isa.all(isa.lt(moves, isa.splat(RISE_MAX))) {
            for (r, scores) in scores.iter_mut().enumerate() {
                moved |= move_reference(group, r, scores);
            }
        }
        let p = group.p.get_mut(group.panel)?;
        for ((scores, p), sums) in scores.iter().zip(p).zip(&mut *group.sums) {
            let mut sum = isa.splat(0.0);
            for (scores, p) in scores.iter().zip(p) {
                let score = isa.load(scores);
                // So that a NaN stays.
                let is_hidden = isa.gt(isa.splat(HIDDEN / 2.0), score);
                let e = isa.select(is_hidden, isa.splat(0.0), exp2(isa, score));
                isa.store(e, p);
                sum = isa.add(sum, e);
            }
            isa.store(isa.add(isa.load(sums), sum), sums);
        }
        Some(moved)
    }
}

/// Makes row r's largest score here its reference if it lies too high, or too low for a first one; says whether it did.
#[cold]
#[inline(never)]
fn move_reference<const R: usize>(
    group: &mut Group<'_, R>,
    r: usize,
    scores: &mut Wide<f32>,
) -> bool {
    let scores = scores.as_flattened_mut();
    let highest = scores
        .iter()
        .fold(HIDDEN, |m, x| if *x > m { *x } else { m });
    let begun = group.sums[r].iter().any(|sum| *sum != 0.0);
    let moves = highest > RISE_MAX || (!begun && highest < -RISE_MAX);
    // Infinite scores cannot be a reference; they become NaN in the end.
    if !moves || highest.abs() > f32::MAX / 4.0 {
        return false;
    }
    group.neg_m[r] -= highest;
    scores
        .iter_mut()
        .filter(|x| **x > HIDDEN / 2.0)
        .for_each(|x| *x -= highest);
    if begun {
        // Nothing was computed with a first reference, and the factor could be infinite.
        rescale(group, r, libm::exp2f(-highest));
    }
    true
}

/// A key's place in the panel that begins at `first`, in all lanes; 0 if it lies before, 16 if behind.
#[inline(always)]
fn place_of<I: Isa>(isa: I, key: usize, first: usize) -> I::F32 {
    isa.splat(key.saturating_sub(first).min(KEYS_PER_BLOCK) as f32)
}

/// What row r computed with its old reference, relative to the new one.
fn rescale<const R: usize>(group: &mut Group<'_, R>, r: usize, factor: f32) {
    group.sums[r].iter_mut().for_each(|x| *x *= factor);
    let before = group.p.iter_mut().take(group.panel);
    for tile in group.out.iter_mut().chain(before) {
        tile[r]
            .as_flattened_mut()
            .iter_mut()
            .for_each(|x| *x *= factor);
    }
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

/// Where an output tile's sum starts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With these keys: what is stored is not read.
    Zero,
    /// With what earlier keys left.
    Stored,
}

/// Probabilities, a tile a panel; values, `block_len` apart; the first panel of dimensions; the number of keys.
pub(super) type Weighing<'a, E, const R: usize> =
    (&'a [Tile<R>], &'a [E], usize, usize, usize, Start);

/// `out[t][r] += Σ_j p[r][j] · v[t][j]` over the first `keys` values of successive blocks, for T panels `[16 keys][16]` of
/// dimensions.
#[inline(always)]
pub(super) fn weigh_values<I: Isa, E: Element, const R: usize, const T: usize>(
    isa: I,
    out: &mut [Tile<R>; T],
    (p, v, block_len, dims, keys, start): Weighing<'_, E, R>,
) {
    let mut acc = [[[isa.splat(0.0); 2]; R]; T];
    if start == Start::Stored {
        for (acc, out) in acc.as_flattened_mut().iter_mut().zip(out.as_flattened()) {
            *acc = [isa.load(&out[0]), isa.load(&out[1])];
        }
    }
    for (panel, p) in p.iter().enumerate() {
        let v = v.get(panel * block_len..).unwrap_or(&[]);
        let v: &[[Wide<E>; 16]] = v.as_chunks().0.as_chunks().0.as_chunks().0;
        let Some(v) = v.get(dims..).and_then(|v| v.first_chunk::<T>()) else {
            break;
        };
        let keys = keys.saturating_sub(panel * KEYS_PER_BLOCK);
        if I::VECTORS && keys >= KEYS_PER_BLOCK {
            for quad in 0..4 {
                weigh_quad(isa, &mut acc, p, v, quad, 4);
            }
        } else {
            for quad in 0..keys.min(KEYS_PER_BLOCK).div_ceil(4) {
                weigh_quad(isa, &mut acc, p, v, quad, keys - 4 * quad);
            }
        }
    }
    for (acc, out) in acc.as_flattened().iter().zip(out.as_flattened_mut()) {
        isa.store(acc[0], &mut out[0]);
        isa.store(acc[1], &mut out[1]);
    }
}

/// Up to four keys of a panel.
///
/// Four a step, so that their places in `p` are constants: finding each key's half and lane costs as many instructions as
/// its multiplications.
#[inline(always)]
fn weigh_quad<I: Isa, E: Element, const R: usize, const T: usize>(
    isa: I,
    acc: &mut [[[I::F32; 2]; R]; T],
    p: &Tile<R>,
    v: &[[Wide<E>; 16]; T],
    quad: usize,
    keys: usize,
) {
    let mut rows = [&[0.0; 4]; R];
    for (row, p) in rows.iter_mut().zip(p) {
        if let Some(p) = p.as_flattened().as_chunks::<4>().0.get(quad) {
            *row = p;
        }
    }
    for lane in 0..4 {
        if lane >= keys {
            break;
        }
        for (acc, v) in acc.iter_mut().zip(v) {
            let Some(v) = v.as_chunks::<4>().0.get(quad) else {
                return;
            };
            let v = &v[lane];
            if R == 1 {
                prefetch(isa, v);
            }
            let v = [E::load(isa, &v[0]), E::load(isa, &v[1])];
            for (acc, p) in acc.iter_mut().zip(rows) {
                let p = isa.splat(p[lane]);
                acc[0] = isa.fma(p, v[0], acc[0]);
                acc[1] = isa.fma(p, v[1], acc[1]);
            }
        }
    }
}

/// As [`weigh_values`] for the half panel `[16 keys][8]` of a head whose dimension is an odd multiple of eight.
#[inline(always)]
pub(super) fn weigh_half_values<I: Isa, E: Element, const R: usize>(
    isa: I,
    out: &mut Tile<R>,
    (p, v, block_len, dims, keys, start): Weighing<'_, E, R>,
) {
    let mut acc = [isa.splat(0.0); R];
    if start == Start::Stored {
        for (acc, out) in acc.iter_mut().zip(&*out) {
            *acc = isa.load(&out[0]);
        }
    }
    for (panel, p) in p.iter().enumerate() {
        let v = v
            .get(panel * block_len + dims * 256..)
            .unwrap_or(&[])
            .as_chunks::<8>()
            .0;
        let keys = keys
            .saturating_sub(panel * KEYS_PER_BLOCK)
            .min(KEYS_PER_BLOCK);
        for (j, v) in v.iter().enumerate().take(keys) {
            let v = E::load(isa, v);
            for (acc, p) in acc.iter_mut().zip(p) {
                *acc = isa.fma(isa.splat(p[j / 8 % 2][j % 8]), v, *acc);
            }
        }
    }
    for (acc, out) in acc.into_iter().zip(out) {
        isa.store(acc, &mut out[0]);
    }
}
