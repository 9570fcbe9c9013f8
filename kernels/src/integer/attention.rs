//! Attention of some queries to a head's keys and values, tile by tile, with the softmax inside.

use core::ops::Range;

use super::product::dot;
use super::{POWER_ONE, power, scaled, to_i8, to_i16};
use crate::Backend;
use crate::error::ShapeError;
use crate::isa::{Isa, Kernel, LANES};

/// Keys of a tile: part of the contract, since sums are rounded and rescaled at its ends. The first tile of a text
/// begins at its first key, whatever a window hides.
pub const TILE: usize = 64;

/// Queries that are attended at once, and vectors of a product that share a pass over the weights.
pub const BATCH: usize = 4;

/// Keys and values of a tile.
///
/// Values are transposed, so that both products of attention are sums over bytes that lie side by side. A row may
/// be wider than the keys are many: what is behind is not used, whatever it is.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a> {
    head_dim: usize,
    keys: &'a [i8],
    values: &'a [i8],
    /// Bytes of a row of the values.
    width: usize,
}

impl<'a> Tile<'a> {
    /// Dimensions of the widest head.
    pub const HEAD_DIM_MAX: usize = 256;

    /// `keys` are (n, head_dim) and `values` (head_dim, width), with n of at most [`TILE`] and of at most the width, which is a
    /// multiple of 8 as the head's dimensions are. Both begin at words: addresses that 4 divides.
    ///
    /// # Errors
    /// When a length or an address is another, or the head is wider than [`Tile::HEAD_DIM_MAX`].
    pub fn new(head_dim: usize, keys: &'a [i8], values: &'a [i8]) -> Result<Self, ShapeError> {
        let n = keys.len().checked_div(head_dim).unwrap_or(0);
        let width = values.len().checked_div(head_dim).unwrap_or(0);
        ShapeError::check_eq("head_dim", head_dim.next_multiple_of(LANES), head_dim)?;
        ShapeError::check_at_most("head_dim", Self::HEAD_DIM_MAX, head_dim)?;
        for bytes in [keys, values] {
            let offset = bytes.as_ptr().addr() % 4;
            ShapeError::check_eq("address of keys or values, modulo 4", 0, offset)?;
        }
        ShapeError::check_at_most("keys", TILE, n)?;
        ShapeError::check_eq("keys", n.saturating_mul(head_dim), keys.len())?;
        ShapeError::check_eq("values", head_dim.saturating_mul(width), values.len())?;
        ShapeError::check_eq("width of the values", width.next_multiple_of(LANES), width)?;
        ShapeError::check_at_least("width of the values", n, width)?;
        Ok(Self {
            head_dim,
            keys,
            values,
            width,
        })
    }
}

/// A query, and the keys of the tile that it sees.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    /// (head_dim).
    pub elements: &'a [i8],
    /// Keys of the tile; where there are none, nothing is added to what the query has seen.
    pub visible: Range<usize>,
}

/// Scores of up to [`BATCH`] queries with a tile's keys, in 1/16 of a power of two; those of hidden keys are the least that
/// an i16 can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(4))]
pub struct Scores(pub [[i16; TILE]; BATCH]);

/// What softmax has seen so far (Milakov and Gimelshein 2018), for each of up to [`BATCH`] queries.
#[derive(Debug)]
pub struct Running<'a> {
    /// Greatest score.
    pub max: [i16; BATCH],
    /// Sum of 2^((score − max)/16) in 2⁻¹⁴; 0 before the first key.
    pub sum: [u32; BATCH],
    /// (head_dim): sums of the same times the values, in 2⁻⁸.
    pub values: &'a mut [[i32; BATCH]],
}

/// Adds a tile of keys and values to what up to [`BATCH`] queries have seen; `multiplier` makes a score of a product of
/// query and key.
///
/// # Errors
/// When a length is another, or a query sees keys that are not there.
pub fn attend(
    backend: Backend,
    queries: &[Query<'_>],
    tile: &Tile<'_>,
    multiplier: i32,
    running: &mut Running<'_>,
) -> Result<(), ShapeError> {
    tile.check(queries)?;
    ShapeError::check_eq("running values", tile.head_dim, running.values.len())?;
    let work = Attend {
        queries,
        tile,
        multiplier,
        running,
    };
    #[cfg(attentive_dsp)]
    {
        let _ = backend;
        #[cfg(attentive_helium)]
        super::helium::attend(work);
        #[cfg(not(attentive_helium))]
        super::dsp::attend(work);
    }
    #[cfg(not(attentive_dsp))]
    backend.run(work);
    Ok(())
}

/// Scores of up to [`BATCH`] queries with a tile's keys: the first half of [`attend`], for those who want to look at what
/// attends to what. Places of `out` beyond the queries are what they were.
///
/// # Errors
/// When a length is another, or a query sees keys that are not there.
pub fn scores(
    backend: Backend,
    queries: &[Query<'_>],
    tile: &Tile<'_>,
    multiplier: i32,
    out: &mut Scores,
) -> Result<(), ShapeError> {
    tile.check(queries)?;
    let work = Score {
        queries,
        tile,
        multiplier,
        out,
    };
    #[cfg(attentive_dsp)]
    {
        let _ = backend;
        #[cfg(attentive_helium)]
        super::helium::scores(work);
        #[cfg(not(attentive_helium))]
        super::dsp::scores(work);
    }
    #[cfg(not(attentive_dsp))]
    backend.run(work);
    for (scores, query) in out.0.iter_mut().zip(queries) {
        let before = scores.iter_mut().take(query.visible.start);
        before.for_each(|score| *score = i16::MIN);
        let behind = scores.iter_mut().skip(query.visible.end);
        behind.for_each(|score| *score = i16::MIN);
    }
    Ok(())
}

impl Tile<'_> {
    fn check(&self, queries: &[Query<'_>]) -> Result<(), ShapeError> {
        let n = self.keys.len().checked_div(self.head_dim).unwrap_or(0);
        ShapeError::check_at_most("queries", BATCH, queries.len())?;
        for query in queries {
            ShapeError::check_eq("query", self.head_dim, query.elements.len())?;
            ShapeError::check_at_most("visible keys", n, query.visible.end)?;
        }
        Ok(())
    }

    #[cfg(attentive_dsp)]
    pub(super) const fn head_dim(&self) -> usize {
        self.head_dim
    }

    #[cfg(attentive_dsp)]
    pub(super) const fn keys(&self) -> &[i8] {
        self.keys
    }

    #[cfg(attentive_dsp)]
    pub(super) const fn values(&self) -> &[i8] {
        self.values
    }

    #[cfg(attentive_dsp)]
    pub(super) const fn width(&self) -> usize {
        self.width
    }
}

/// What [`attend`] does, checked.
pub(super) struct Attend<'a, 'r> {
    pub(super) queries: &'a [Query<'a>],
    pub(super) tile: &'a Tile<'a>,
    pub(super) multiplier: i32,
    pub(super) running: &'a mut Running<'r>,
}

/// What [`scores`] does, checked.
pub(super) struct Score<'a> {
    pub(super) queries: &'a [Query<'a>],
    pub(super) tile: &'a Tile<'a>,
    pub(super) multiplier: i32,
    pub(super) out: &'a mut Scores,
}

impl Kernel for Score<'_> {
    type Output = ();

    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let keys = self.tile.keys.chunks_exact(self.tile.head_dim.max(1));
        for (query, scores) in self.queries.iter().zip(&mut self.out.0) {
            for (key, score) in keys.clone().zip(scores) {
                *score = to_i16(scaled(dot(query.elements, key), self.multiplier));
            }
        }
    }
}

impl Kernel for Attend<'_, '_> {
    type Output = ();

    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let Self {
            queries,
            tile,
            multiplier,
            running,
        } = self;
        let head_dim = tile.head_dim.max(1);
        for (lane, query) in queries.iter().enumerate() {
            let visible = query.visible.clone();
            let mut weights = [0i16; TILE];
            let Some(weights) = weights.get_mut(..visible.len()) else {
                continue;
            };
            if weights.is_empty() {
                continue;
            }
            let keys = tile.keys.chunks_exact(head_dim).skip(visible.start);
            let mut max = i16::MIN;
            for (score, key) in weights.iter_mut().zip(keys) {
                *score = to_i16(scaled(dot(query.elements, key), multiplier));
                max = max.max(*score);
            }
            running.weigh(lane, max, weights);
            let rows = tile.values.chunks_exact(tile.width.max(1));
            for (totals, row) in running.values.iter_mut().zip(rows) {
                let sum = dot(weights, row.get(visible.clone()).unwrap_or_default());
                if let Some(total) = totals.get_mut(lane) {
                    *total = with_tile(*total, sum);
                }
            }
        }
    }
}

/// A running sum with a tile's, which has 64 · 2¹⁴ · 2⁷ at most.
#[inline(always)]
const fn with_tile(total: i32, sum: i32) -> i32 {
    total.saturating_add(sum.wrapping_add(1 << 5) >> 6)
}

impl Running<'_> {
    /// Nothing seen.
    pub fn clear(&mut self) {
        self.max = [i16::MIN; BATCH];
        self.sum = [0; BATCH];
        self.values.fill([0; BATCH]);
    }

    /// Makes weights of the scores of a query in a tile, of which `max` is the greatest, and adds them to its sum.
    #[inline(always)]
    fn weigh(&mut self, lane: usize, max: i16, scores: &mut [i16]) {
        let max = i32::from(self.raise(lane, max));
        let mut sum = 0u32;
        for score in scores {
            let p = power((max - i32::from(*score)) as u32);
            sum = sum.wrapping_add(u32::from(p));
            *score = p as i16;
        }
        self.add_sum(lane, sum);
    }

    /// Adds a tile's sum of weights to a query's.
    #[inline(always)]
    pub(super) fn add_sum(&mut self, lane: usize, sum: u32) {
        if let Some(all) = self.sum.get_mut(lane) {
            *all = all.saturating_add(sum);
        }
    }

    /// Makes `max` a query's greatest score, if it is greater, and what was summed smaller by as much. Returns the greatest.
    #[inline(always)]
    pub(super) fn raise(&mut self, lane: usize, max: i16) -> i16 {
        let (Some(greatest), Some(sum)) = (self.max.get_mut(lane), self.sum.get_mut(lane)) else {
            return max;
        };
        if max <= *greatest {
            return *greatest;
        }
        let rise = i32::from(max) - i32::from(*greatest);
        *greatest = max;
        if *sum == 0 {
            return max;
        }
        let factor = power(rise as u32);
        let half = i64::from(POWER_ONE) / 2;
        let shrunk = |x: i64| (x.wrapping_mul(i64::from(factor)).wrapping_add(half)) >> 14;
        *sum = shrunk(i64::from(*sum)) as u32;
        for value in self
            .values
            .iter_mut()
            .filter_map(|lanes| lanes.get_mut(lane))
        {
            *value = shrunk(i64::from(*value)) as i32;
        }
        max
    }
}

/// Steps of the values in a step of the output, as mantissa · 2^−shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutScale {
    /// 2¹⁴ to 2¹⁵.
    pub mantissa: u16,
    /// 8 to 22: factors of 2⁻⁷ to 2⁷.
    pub shift: u8,
}

/// A query's output in steps of its own: `Σ p·v / Σ p · scale`.
///
/// # Errors
/// When `out` has not the length of the sums, or there is no such query.
pub fn finish(
    running: &Running<'_>,
    lane: usize,
    scale: OutScale,
    out: &mut [i8],
) -> Result<(), ShapeError> {
    ShapeError::check_eq("out", running.values.len(), out.len())?;
    ShapeError::check_at_most("lane", BATCH - 1, lane)?;
    let sum = running.sum.get(lane).copied().unwrap_or(0);
    let sum = sum.max(u32::from(POWER_ONE));
    let zeros = sum.leading_zeros();
    // 16 bits of the sum, the highest set; 16 of its inverse.
    let inverse = 0x8000_0000u32
        .checked_div((sum << zeros) >> 16)
        .unwrap_or(0);
    // `sum` is at least 2¹⁴, so there are at most 17 zeros.
    let shift = u32::from(scale.shift)
        .saturating_add(9)
        .saturating_sub(zeros);
    let factor = u64::from(inverse).wrapping_mul(u64::from(scale.mantissa));
    let factor = factor.checked_shr(shift).unwrap_or(0).min(i32::MAX as u64) as i32;
    #[cfg(attentive_helium)]
    let done = super::helium::finish(running.values, lane, factor, out);
    #[cfg(not(attentive_helium))]
    let done = 0;
    let sums = running.values.get(done..).unwrap_or_default();
    let out = out.get_mut(done..).unwrap_or_default();
    match lane {
        0 => write::<0>(sums, factor, out),
        1 => write::<1>(sums, factor, out),
        2 => write::<2>(sums, factor, out),
        _ => write::<3>(sums, factor, out),
    }
    Ok(())
}

/// A query's sums, scaled. The compiler knows the place, so that there is nothing to check for each.
fn write<const LANE: usize>(sums: &[[i32; BATCH]], factor: i32, out: &mut [i8]) {
    for (out, lanes) in out.iter_mut().zip(sums) {
        *out = to_i8(scaled(lanes[LANE], factor));
    }
}
