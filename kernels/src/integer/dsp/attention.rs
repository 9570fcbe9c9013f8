//! A tile of attention, for one query or four.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::assembly::{
    attentive_dsp_four_scores, attentive_dsp_four_values, attentive_dsp_greatest,
    attentive_dsp_scores, attentive_dsp_values, attentive_dsp_weigh,
};
use super::{Wide, Wides, as_four, widen, widen_four};
use crate::integer::attention::{Attend, Query, Running, Score, Scores, TILE, Tile};
use crate::integer::power::POWERS;
use crate::integer::{BATCH, power};

/// Dimensions of most heads.
const HEAD_DIM_USUAL: usize = 64;

/// See [`attend`](crate::integer::attend()).
pub(in crate::integer) fn attend(work: Attend<'_, '_>) {
    let Some(part) = Part::new(work.queries, work.tile, work.multiplier) else {
        return;
    };
    match (work.queries, part.is_usual()) {
        ([query], _) => part.one(query, work.running),
        (queries, true) => part.four::<{ HEAD_DIM_USUAL / 4 }>(queries, work.running),
        (queries, false) => part.four::<{ Tile::HEAD_DIM_MAX / 4 }>(queries, work.running),
    }
}

/// See [`scores`](crate::integer::scores()).
pub(in crate::integer) fn scores(work: Score<'_>) {
    let Some(part) = Part::new(work.queries, work.tile, work.multiplier) else {
        return;
    };
    let scores: *mut i16 = work.out.0.as_mut_ptr().cast();
    // SAFETY: behind `first` there is room for n scores of each query, since both are a tile at most together.
    unsafe {
        let scores = scores.add(part.first);
        match (work.queries, part.is_usual()) {
            ([query], _) => part.scores_of_one(query, scores),
            (queries, true) => part.scores_of_four::<{ HEAD_DIM_USUAL / 4 }>(queries, scores),
            (queries, false) => {
                part.scores_of_four::<{ Tile::HEAD_DIM_MAX / 4 }>(queries, scores);
            }
        }
    }
}

/// What is visible to any query of a tile: keys from a multiple of 8 on, one at least.
struct Part<'a> {
    head_dim: usize,
    multiplier: i32,
    /// (n, head_dim).
    keys: &'a [i8],
    n: usize,
    /// head_dim rows of `columns` bytes, with a gap between.
    values: &'a [i8],
    /// The first key's place in the tile.
    first: usize,
    /// Keys, rounded up to eights.
    columns: usize,
    gap: usize,
}

impl<'a> Part<'a> {
    /// Shapes were checked: head_dim and width are multiples of 8, all visible keys are there and at most a tile, and
    /// rows begin at words. `None` where no query sees a key.
    fn new(queries: &[Query<'_>], tile: &'a Tile<'_>, multiplier: i32) -> Option<Self> {
        let visible = || queries.iter().map(|query| &query.visible);
        let seen = || visible().filter(|visible| !visible.is_empty());
        let first = seen().map(|visible| visible.start).min().unwrap_or(0) & !7;
        let to = seen().map(|visible| visible.end).max().unwrap_or(0);
        let head_dim = tile.head_dim();
        let columns = (to.saturating_sub(first)).next_multiple_of(8);
        let keys = tile.keys().get(first * head_dim..to * head_dim);
        let keys = keys.filter(|keys| !keys.is_empty())?;
        let gap = tile.width().checked_sub(first + columns)? + first;
        Some(Part {
            head_dim,
            multiplier,
            keys,
            n: to - first,
            values: tile.values().get(first..).unwrap_or_default(),
            first,
            columns,
            gap,
        })
    }

    fn is_usual(&self) -> bool {
        self.head_dim <= HEAD_DIM_USUAL
    }

    /// # Safety
    /// There must be room for n scores, and they must begin at a word.
    #[inline(always)]
    unsafe fn scores_of_one(&self, query: &Query<'_>, scores: *mut i16) {
        let mut room = [const { MaybeUninit::uninit() }; Tile::HEAD_DIM_MAX / 4];
        let (wide, _) = widen(query.elements, self.head_dim / 4, &mut room);
        // SAFETY: `wide` has the query's elements and `keys` n rows of as many bytes, a multiple of 8, that begin at a
        // word.
        unsafe {
            attentive_dsp_scores(
                wide.as_ptr().cast(),
                self.keys.as_ptr(),
                self.head_dim / 8,
                scores,
                self.n,
                self.multiplier,
            );
        }
    }

    /// Of up to four queries of up to 4·`FOURS` elements.
    ///
    /// # Safety
    /// There must be room for n scores of four queries, a tile's 128 bytes apart, and they must begin at a word.
    #[inline(always)]
    unsafe fn scores_of_four<const FOURS: usize>(&self, queries: &[Query<'_>], scores: *mut i16) {
        let mut room = [const { MaybeUninit::uninit() }; FOURS];
        let queries = as_four(queries.iter().map(|query| query.elements));
        let wide = widen_four(queries, self.head_dim / 4, &mut room);
        // SAFETY: as in `scores_of_one`.
        unsafe {
            attentive_dsp_four_scores(
                wide.as_ptr().cast(),
                self.keys.as_ptr(),
                self.head_dim / 8,
                scores,
                self.n,
                self.multiplier,
            );
        }
    }

    /// Makes weights of a query's scores, `step` bytes between those of even and of odd places, and adds their sum.
    ///
    /// # Safety
    /// There must be a score of each key, and room for as many more as make it a multiple of 8. Behind `weights` there
    /// must be as many words as a query's weights take with that step.
    unsafe fn weigh(
        &self,
        lane: usize,
        visible: &Range<usize>,
        scores: *mut i16,
        weights: *mut u32,
        step: usize,
        running: &mut Running<'_>,
    ) {
        let (from, to) = (visible.start - self.first, visible.end - self.first);
        let hidden = (0..from).chain(to..self.columns);
        for place in hidden.clone() {
            // SAFETY: the place is below `columns`.
            unsafe { scores.add(place).write(i16::MIN) };
        }
        // SAFETY: there are `columns` scores, a multiple of 8.
        let greatest = unsafe { attentive_dsp_greatest(scores, self.columns / 8) };
        let greatest = (greatest as i16).max((greatest >> 16) as i16);
        let greatest = running.raise(lane, greatest);
        let half = u32::from(greatest.cast_unsigned());
        // SAFETY: as above; the table has an entry for each difference that is not cut, and the caller has the room.
        let mut sum = unsafe {
            attentive_dsp_weigh(
                scores,
                weights,
                self.columns / 4,
                half | half << 16,
                POWERS.as_ptr(),
                step,
            )
        };
        let hidden_weight = power((i32::from(greatest) - i32::from(i16::MIN)) as u32);
        if hidden_weight > 0 {
            // All scores are among the least there can be.
            for place in hidden {
                let word = (place / 4) * 2 + place % 2;
                // SAFETY: the place is below `columns`.
                unsafe {
                    let half = weights.byte_add(word * step).cast::<u16>();
                    half.add(place / 2 % 2).write(0);
                }
                sum = sum.wrapping_sub(hidden_weight.into());
            }
        }
        running.add_sum(lane, sum);
    }

    // Its buffers are on the stack, and so are those of `four`: not both at once.
    #[inline(never)]
    fn one(&self, query: &Query<'_>, running: &mut Running<'_>) {
        let mut scores = MaybeUninit::<[u32; TILE / 2]>::uninit();
        let scores: *mut i16 = scores.as_mut_ptr().cast();
        let mut weights = MaybeUninit::<[Wide; TILE / 4]>::uninit();
        let weights: *mut u32 = weights.as_mut_ptr().cast();
        // SAFETY: there is room for the scores and the weights of a tile, and all that are read were written. Of each of
        // head_dim rows of values, `columns` bytes are read, and `gap` are between; there is a running sum for each.
        unsafe {
            self.scores_of_one(query, scores);
            self.weigh(0, &query.visible, scores, weights, 4, running);
            let totals = running.values.as_mut_ptr_range();
            attentive_dsp_values(
                weights,
                self.values.as_ptr(),
                self.columns / 8,
                self.gap,
                totals.start,
                totals.end,
            );
        }
    }

    /// Up to four queries of up to 4·`FOURS` elements.
    #[inline(never)]
    fn four<const FOURS: usize>(&self, queries: &[Query<'_>], running: &mut Running<'_>) {
        let mut scores = MaybeUninit::<Scores>::uninit();
        let scores: *mut [i16; TILE] = scores.as_mut_ptr().cast();
        let mut weights = [const { MaybeUninit::<Wides>::uninit() }; TILE / 4];
        let is_seeing = |query: &Query<'_>| !query.visible.is_empty();
        if queries.len() < BATCH || !queries.iter().all(is_seeing) {
            // Who sees nothing has weights of nothing.
            for wides in weights.iter_mut().take(self.columns / 4) {
                wides.write([[0; BATCH]; 2]);
            }
        }
        let weights: *mut u32 = weights.as_mut_ptr().cast();
        // SAFETY: there is room for a tile of scores of four queries, 128 bytes apart, and for their weights, of which there
        // are 8 words for 4 columns, every fourth a query's. All that are read were written. Of each of head_dim rows of
        // values, `columns` bytes are read, and `gap` are between; there are running sums for each.
        unsafe {
            self.scores_of_four::<FOURS>(queries, scores.cast());
            for (lane, query) in queries.iter().enumerate() {
                if is_seeing(query) {
                    let (scores, weights) = (scores.add(lane), weights.add(lane));
                    self.weigh(lane, &query.visible, scores.cast(), weights, 16, running);
                }
            }
            let totals = running.values.as_mut_ptr_range();
            attentive_dsp_four_values(
                weights,
                self.values.as_ptr(),
                self.columns / 8,
                self.gap,
                totals.start,
                totals.end,
            );
        }
    }
}
