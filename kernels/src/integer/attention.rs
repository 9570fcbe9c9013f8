//! Attention of one query to a head's keys and values, tile by tile, with the softmax inside.

use super::product::dot;
use super::{POWER_ONE, power, scaled, to_i8, to_i16};
use crate::Backend;
use crate::error::ShapeError;
use crate::isa::{Isa, Kernel, LANES};

/// Keys of a tile: part of the contract, since sums are rounded and rescaled at its ends. The first tile of a text
/// begins at its first key, whatever a window hides.
pub const TILE: usize = 64;

/// What softmax has seen so far (Milakov and Gimelshein 2018).
#[derive(Debug)]
pub struct Running<'a> {
    /// Greatest score.
    pub max: i16,
    /// Sum of 2^((score − max)/16) in 2⁻¹⁴; 0 before the first tile.
    pub sum: u32,
    /// (head_dim): sums of the same times the values, in 2⁻⁸.
    pub values: &'a mut [i32],
}

/// Adds a tile of keys and values to what was seen.
///
/// `query` is (head_dim), a multiple of 8; `keys` and `values` are (n, head_dim) with n of at most [`TILE`]; `multiplier` makes a score
/// of a product of query and key.
///
/// # Errors
/// When a length is another.
pub fn attend(
    backend: Backend,
    query: &[i8],
    keys: &[i8],
    values: &[i8],
    multiplier: i32,
    running: &mut Running<'_>,
) -> Result<(), ShapeError> {
    let head_dim = query.len().max(1);
    let n = keys.len() / head_dim;
    ShapeError::check_at_most("keys", TILE, n)?;
    ShapeError::check_eq("keys", n * head_dim, keys.len())?;
    ShapeError::check_eq("values", keys.len(), values.len())?;
    ShapeError::check_eq("running values", query.len(), running.values.len())?;
    ShapeError::check_eq("query", query.len().next_multiple_of(LANES), query.len())?;
    if n == 0 {
        return Ok(());
    }
    let tile = Tile {
        query,
        keys,
        values,
        multiplier,
        running,
    };
    #[cfg(attentive_dsp)]
    if super::dsp::can_attend(&tile) {
        super::dsp::attend(tile);
        return Ok(());
    }
    backend.run(tile);
    Ok(())
}

pub(super) struct Tile<'a, 'r> {
    pub(super) query: &'a [i8],
    pub(super) keys: &'a [i8],
    pub(super) values: &'a [i8],
    pub(super) multiplier: i32,
    pub(super) running: &'a mut Running<'r>,
}

impl Kernel for Tile<'_, '_> {
    type Output = ();

    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let head_dim = self.query.len().max(1);
        let running = self.running;
        let mut weights = [0i16; TILE];
        let n = self.keys.len() / head_dim;
        let Some(weights) = weights.get_mut(..n) else {
            return;
        };
        let mut max = i16::MIN;
        for (score, key) in weights.iter_mut().zip(self.keys.chunks_exact(head_dim)) {
            *score = to_i16(scaled(dot(self.query, key), self.multiplier));
            max = max.max(*score);
        }
        running.weigh(max, weights);
        // A tile's sum has 64 · 2¹⁴ · 2⁷ at most.
        let (totals, _) = running.values.as_chunks_mut::<LANES>();
        for (index, totals) in totals.iter_mut().enumerate() {
            let mut sums = [0i32; LANES];
            for (&weight, values) in weights.iter().zip(self.values.chunks_exact(head_dim)) {
                if let Some(values) = values.as_chunks::<LANES>().0.get(index) {
                    for (sum, &value) in sums.iter_mut().zip(values) {
                        *sum = sum.wrapping_add(i32::from(weight) * i32::from(value));
                    }
                }
            }
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = total.saturating_add(sum.wrapping_add(1 << 5) >> 6);
            }
        }
    }
}

impl Running<'_> {
    /// Nothing seen.
    pub fn clear(&mut self) {
        self.max = i16::MIN;
        self.sum = 0;
        self.values.fill(0);
    }

    /// Makes weights of a tile's scores, of which `max` is the greatest, and adds them to the sum.
    #[inline(always)]
    pub(super) fn weigh(&mut self, max: i16, scores: &mut [i16]) {
        self.raise(max);
        let mut sum = 0u32;
        for score in scores {
            let below = i32::from(self.max) - i32::from(*score);
            let p = power(below as u32);
            sum = sum.wrapping_add(u32::from(p));
            *score = p as i16;
        }
        self.sum = self.sum.saturating_add(sum);
    }

    /// Makes `max` the greatest score, if it is greater, and what was summed smaller by as much.
    #[inline(always)]
    fn raise(&mut self, max: i16) {
        if max <= self.max {
            return;
        }
        let rise = i32::from(max) - i32::from(self.max);
        self.max = max;
        if self.sum == 0 {
            return;
        }
        let factor = power(rise as u32);
        let half = i64::from(POWER_ONE) / 2;
        let shrunk = |x: i64| (x.wrapping_mul(i64::from(factor)).wrapping_add(half)) >> 14;
        self.sum = shrunk(i64::from(self.sum)) as u32;
        for value in &mut *self.values {
            *value = shrunk(i64::from(*value)) as i32;
        }
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

/// The head's output in steps of its own: `Σ p·v / Σ p · scale`.
///
/// # Errors
/// When `out` has not the length of the sums.
pub fn finish(running: &Running<'_>, scale: OutScale, out: &mut [i8]) -> Result<(), ShapeError> {
    ShapeError::check_eq("out", running.values.len(), out.len())?;
    let sum = running.sum.max(u32::from(POWER_ONE));
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
    for (out, &value) in out.iter_mut().zip(&*running.values) {
        *out = to_i8(scaled(value, factor));
    }
    Ok(())
}
