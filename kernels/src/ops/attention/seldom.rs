//! What a tile of scores seldom needs, in a function apart from the loops: masks of windows, caps, and references that
//! move.

use super::float::Element;
use super::plan::{Tile, Wide};
use super::tile::{Group, HIDDEN, Place, RISE_MAX, capped, place_of, scores};
use crate::isa::{Isa, Kernel};
use crate::layout::KEYS_PER_BLOCK;
use crate::math::exp2;

/// The tile again, panel by panel: with masks, caps and references that move.
#[inline(always)]
pub(super) fn seldom<I: Isa, E: Element, const R: usize, const P: usize>(
    isa: I,
    group: &mut Group<'_, R>,
    at: Place,
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
    let mut moved = false;
    for (index, scores_of) in tiles.iter_mut().enumerate() {
        let at = Place {
            panel: at.panel + index,
            key: at.key + index * KEYS_PER_BLOCK,
            ..at
        };
        if P > 1 && moved {
            // As a tile of one panel would: from the new references on.
            let len = k.len() / P;
            let k = k.get(index * len..)?.get(..len)?;
            let acc = scores::<I, E, R, 1>(isa, group.q, group.neg_m, at, k)?;
            for (scores, [acc]) in scores_of.iter_mut().zip(acc) {
                isa.store(acc[0], &mut scores[0]);
                isa.store(acc[1], &mut scores[1]);
            }
        }
        moved |= isa.apart(Seldom {
            group: &mut *group,
            at,
            scores: scores_of,
        })?;
    }
    Some(())
}

/// One panel's scores on their way to probabilities, in memory.
struct Seldom<'a, 'b, const R: usize> {
    group: &'a mut Group<'b, R>,
    at: Place,
    scores: &'a mut Tile<R>,
}

impl<const R: usize> Kernel for Seldom<'_, '_, R> {
    /// Whether a reference moved.
    type Output = Option<bool>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Option<bool> {
        let Self { group, at, scores } = self;
        let first = isa.iota();
        let lanes = [first, isa.add(first, isa.splat(8.0))];
        // Of this panel: keys below `to` and either from `from` on or below `keep`.
        let keep = place_of(isa, group.spans.keep, at.key);
        let hidden = isa.splat(HIDDEN);
        let mut highest = [hidden; R];
        for (r, (scores, highest)) in scores.iter_mut().zip(&mut highest).enumerate() {
            let from = place_of(isa, group.spans.from[r], at.key);
            let to = place_of(isa, group.spans.to[r], at.key);
            for (scores, lanes) in scores.iter_mut().zip(lanes) {
                let mut score = isa.load(scores);
                if at.cap != 0.0 {
                    score = isa.add(capped(isa, score, at.cap), isa.splat(group.neg_m[r]));
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
                moved |= move_reference(group, at.panel, r, scores);
            }
        }
        let p = group.p.get_mut(at.panel)?;
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

/// Makes row r's largest score in this panel, rounded up, its reference if it lies too high, or too low for a first
/// one; says whether it did.
#[cold]
#[inline(never)]
fn move_reference<const R: usize>(
    group: &mut Group<'_, R>,
    panel: usize,
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
    // A whole number, so that what was computed before is rescaled exactly: how much of it was already multiplied into
    // the output depends on the size of the key blocks, which depends on the number of rows.
    let rise = libm::ceilf(highest);
    group.neg_m[r] -= rise;
    scores
        .iter_mut()
        .filter(|x| **x > HIDDEN / 2.0)
        .for_each(|x| *x -= rise);
    if begun {
        // Nothing was computed with a first reference, and the factor could be infinite.
        rescale(group, panel, r, libm::exp2f(-rise));
    }
    true
}

/// What row r computed with its old reference, relative to the new one.
fn rescale<const R: usize>(group: &mut Group<'_, R>, panel: usize, r: usize, factor: f32) {
    group.sums[r].iter_mut().for_each(|x| *x *= factor);
    let before = group.p.iter_mut().take(panel);
    for tile in group.out.iter_mut().chain(before) {
        tile[r]
            .as_flattened_mut()
            .iter_mut()
            .for_each(|x| *x *= factor);
    }
}
