//! From scores to levels of probabilities.
//!
//! A piece, what one group of rows has of one block of keys, is rounded together. With s a score (log₂) and L a lower
//! bound of the logarithm of its value's scale, the piece's reference is the largest s + L, here M. A key's term is
//! 2^(s − M + C), its level the term times the value's scale, rounded: C is as large as keeps levels within 2 to the
//! power of [`Width::P_MAX_LOG2`], whatever the bound's error. Terms and levels weigh 2^(M − m − C) in the row's sum
//! and outputs.

use super::{Bytes, HIDDEN, ValueScales};
use crate::isa::Isa;
use crate::layout::KEYS_PER_BLOCK;
use crate::math::{LOG2_BELOW, exp2};
use crate::ops::attention::call::Blocks;
use crate::ops::attention::plan::{KEYS_I8, PIECES, Wide};
use crate::ops::attention::walk::Pass;
use crate::ops::attention::width::Width;

/// A piece that raises a row's reference by more (log₂) moves it.
const RISE_MAX: f32 = 40.0;

/// A block of keys of one row group.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// Which of the pass.
    pub(super) index: usize,
    /// The group among all.
    pub(super) group: usize,
    /// The block among the pass', and its first key.
    pub(super) block: usize,
    pub(super) first: usize,
    /// Keys of it up to the last that the group sees.
    pub(super) keys: usize,
    /// The largest weighted score of each row.
    highest: [f32; 8],
    /// C − M of each row.
    shift: [f32; 8],
    /// What a level of each row weighs.
    pub(super) weight: [f32; 8],
}

impl<W: Width, const R: usize> Bytes<'_, W, R> {
    /// C.
    const LEVEL: f32 = W::P_MAX_LOG2 - LOG2_BELOW;

    /// The pieces that a pass has of the keys.
    #[inline(always)]
    pub(super) fn pieces<I: Isa>(
        &self,
        isa: I,
        at: Blocks,
        pass: &Pass<R>,
    ) -> Option<[Option<Piece>; PIECES]> {
        let mut pieces = [None; PIECES];
        let mut free = pieces.iter_mut();
        for (index, spans) in pass.groups() {
            let keys = spans.to[R - 1]
                .saturating_sub(at.key())
                .min(at.count * KEYS_PER_BLOCK);
            let (mut block, mut first) = (0, 0);
            while first < keys {
                let index_of_pass = index * self.plan.blocks() + block;
                let mut highest = [f32::NEG_INFINITY; 8];
                let lanes = self.state.highest.get(index_of_pass)?;
                for (highest, lanes) in highest.iter_mut().zip(lanes) {
                    *highest = isa.max_lane(isa.load(lanes));
                }
                *free.next()? = Some(Piece {
                    index: index_of_pass,
                    group: pass.from + index,
                    block,
                    first,
                    keys: KEYS_I8.min(keys - first),
                    highest,
                    shift: [0.0; 8],
                    weight: [0.0; 8],
                });
                (block, first) = (block + 1, first + KEYS_I8);
            }
        }
        Some(pieces)
    }

    /// Whether a piece that is not its group's first raises a reference so far that it moves.
    pub(super) fn moves_later(&self, pieces: &[Option<Piece>; PIECES]) -> Option<bool> {
        let mut moves = false;
        for r in 0..R {
            let mut reference = f32::NEG_INFINITY;
            let mut group = usize::MAX;
            for piece in pieces.iter().flatten() {
                if piece.group != group {
                    group = piece.group;
                    reference = self.state.reference.get(group)?[r];
                }
                let highest = piece.highest[r % 8];
                if highest > self.state.scale.get(group)?[r] * (HIDDEN / 2.0)
                    && highest - reference > RISE_MAX
                {
                    moves |= piece.block > 0 && reference > f32::NEG_INFINITY;
                    reference = highest;
                }
            }
        }
        Some(moves)
    }

    /// Rounds probabilities. Stage by stage for all pieces: one row's stages depend on each other, rows do not.
    #[inline(always)]
    pub(super) fn round<I: Isa>(
        &mut self,
        isa: I,
        pieces: &mut [Option<Piece>; PIECES],
        scales: &ValueScales<'_>,
    ) -> Option<()> {
        for piece in pieces.iter_mut().flatten() {
            self.refer(isa, piece)?;
        }
        for piece in pieces.iter().flatten() {
            self.levels(isa, piece, scales)?;
        }
        Some(())
    }

    /// Chooses the references that the piece's probabilities are relative to, and what they weigh.
    #[inline(always)]
    fn refer<I: Isa>(&mut self, isa: I, piece: &mut Piece) -> Option<()> {
        let group = piece.group;
        let zero = isa.splat(0.0);
        let highest = isa.load(&piece.highest);
        let before = isa.load_partial(self.state.reference.get(group)?);
        let scale = isa.load_partial(self.state.scale.get(group)?);
        // Rows that see none of these keys keep what they have. (So does a NaN, which shows in the sum.)
        let seen = isa.gt(highest, isa.mul(scale, isa.splat(HIDDEN / 2.0)));
        let begun = isa.gt(before, isa.splat(f32::NEG_INFINITY));
        let block = isa.select(seen, highest, zero);
        let mut reference = isa.select(begun, before, block);
        let rise = isa.select(seen, isa.sub(block, reference), zero);
        let rises = isa.gt(rise, isa.splat(RISE_MAX));
        if isa.any(rises) {
            let mut lanes = [0.0; 8];
            isa.store(rise, &mut lanes);
            self.rescale(group, &lanes)?;
            reference = isa.select(rises, block, reference);
        }
        isa.store_partial(
            isa.select(seen, reference, before),
            self.state.reference.get_mut(group)?,
        );
        isa.store(isa.sub(isa.splat(Self::LEVEL), block), &mut piece.shift);
        let weight = isa.sub(isa.sub(block, reference), isa.splat(Self::LEVEL));
        isa.store(isa.select(seen, exp2(isa, weight), zero), &mut piece.weight);
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
                let sums = self.state.sums.get_mut(group)?;
                sums[r].iter_mut().for_each(|x| *x *= factor);
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

    /// Makes levels of the piece's scores, and adds to the rows' sums.
    #[inline(always)]
    fn levels<I: Isa>(&mut self, isa: I, piece: &Piece, scales: &ValueScales<'_>) -> Option<()> {
        let rows = self.state.scores.get(piece.index)?;
        let to = self.state.p.get_mut(piece.index)?;
        let scale = self.state.scale.get(piece.group)?;
        let sums = self.state.sums.get_mut(piece.group)?;
        for r in 0..R {
            let scale = isa.splat(scale[r]);
            let shift = isa.splat(piece.shift[r % 8]);
            let mut sum = [isa.splat(0.0); 2];
            let (pairs, last) = rows[r]
                .get(..piece.keys.div_ceil(KEYS_PER_BLOCK))?
                .as_chunks::<2>();
            let mut to = to[r].as_chunks_mut::<8>().0.iter_mut();
            let mut panel = piece.first / KEYS_PER_BLOCK;
            for (pair, to) in pairs.iter().zip(&mut to) {
                let [a, b] =
                    terms::<I, W>(isa, &pair[0], scale, shift, &mut sum, scales.panel(panel));
                let [c, d] = terms::<I, W>(
                    isa,
                    &pair[1],
                    scale,
                    shift,
                    &mut sum,
                    scales.panel(panel + 1),
                );
                *to = W::levels(isa, [a, b, c, d]);
                panel += 2;
            }
            if let ([scores], Some(to)) = (last, to.next()) {
                let [a, b] =
                    terms::<I, W>(isa, scores, scale, shift, &mut sum, scales.panel(panel));
                *to = W::levels(isa, [a, b, isa.splat_i32(0), isa.splat_i32(0)]);
            }
            let sum = isa.add(sum[0], sum[1]);
            let weight = isa.splat(piece.weight[r % 8]);
            isa.store(isa.fma(weight, sum, isa.load(&sums[r])), &mut sums[r]);
        }
        Some(())
    }
}

/// Levels of a panel's scores; their terms are added to the sums.
#[inline(always)]
fn terms<I: Isa, W: Width>(
    isa: I,
    scores: &Wide<f32>,
    scale: I::F32,
    shift: I::F32,
    sums: &mut [I::F32; 2],
    v_scales: &Wide<f32>,
) -> [I::I32; 2] {
    let mut levels = [isa.splat_i32(0); 2];
    for h in 0..2 {
        let term = W::exp2(isa, isa.fma(isa.load(&scores[h]), scale, shift));
        sums[h] = isa.add(sums[h], term);
        levels[h] = isa.round_i32(isa.mul(term, isa.load(&v_scales[h])));
    }
    levels
}
