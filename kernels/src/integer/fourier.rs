//! Fourier transforms of real numbers, joined step by step (Cooley and Tukey 1965).

use super::complex::times_conjugate;

/// A step that joins transforms, each of every `transforms · factor`-th sample, to longer ones.
///
/// Of a transform of length n the values 0 to n / 2 are kept, [`complex`](super::complex()) numbers: those behind are the
/// conjugates of those before.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Cosine and sine of the angles of a whole turn in 2⁻¹⁴, `len · factor · transforms` of them, as
    /// [`complex`](super::complex()) has them.
    pub turns: &'a [i32],
    /// Length of a transform before.
    pub len: usize,
    /// How many make one.
    pub factor: usize,
    /// How many there are then.
    pub transforms: usize,
}

impl Step<'_> {
    /// Values that are kept of a transform of that length.
    pub const fn values(len: usize) -> usize {
        len / 2 + 1
    }

    /// Bits that a product loses, so that the sum of the step's stays below 2³¹: values are in 2 to the power of 14 less
    /// than these.
    pub const fn left_out(&self) -> u32 {
        usize::BITS - self.factor.leading_zeros()
    }

    /// Writes the values of all transforms, from those before: (transforms, values). Returns the bits that any part's
    /// magnitude has.
    // A firmware compiles this crate for speed, its caller for size.
    #[inline(never)]
    pub fn join(&self, from: &[i32], to: &mut [[i32; 2]]) -> u32 {
        let each = Self::values(self.len.saturating_mul(self.factor));
        let mut largest = 0;
        for (m, to) in to.chunks_exact_mut(each).enumerate() {
            for (k, to) in to.iter_mut().enumerate() {
                *to = self.sum(from, m, k);
                largest |= to[0].unsigned_abs() | to[1].unsigned_abs();
            }
        }
        largest
    }

    /// Value k of transform m; 0 where there is none.
    #[inline(never)]
    pub fn value(&self, from: &[i32], m: usize, k: usize) -> [i32; 2] {
        self.sum(from, m, k)
    }

    #[inline(always)]
    fn sum(&self, from: &[i32], m: usize, k: usize) -> [i32; 2] {
        let all = self.turns.len();
        let place = k.checked_rem(self.len).unwrap_or(0);
        let by = k.wrapping_mul(self.transforms);
        // Behind the half lie the conjugates of the mirrored values; the other way round, their sum is the conjugate of
        // what is wanted.
        let mirrored = place > self.len / 2;
        let (place, by) = match mirrored {
            true => (self.len.wrapping_sub(place), all.wrapping_sub(by)),
            false => (place, by),
        };
        let each = Self::values(self.len);
        let left_out = self.left_out();
        let (mut re, mut im) = (0i32, 0i32);
        let mut at = 0usize;
        let first = m.wrapping_mul(each).wrapping_add(place);
        let stride = each.wrapping_mul(self.transforms);
        let mut index = first;
        for _ in 0..self.factor {
            let (Some(&value), Some(&turn)) = (from.get(index), self.turns.get(at)) else {
                break;
            };
            index = index.wrapping_add(stride);
            let [of_re, of_im] = times_conjugate(value, turn);
            re = re.wrapping_add(of_re >> left_out);
            im = im.wrapping_add(of_im >> left_out);
            // On by less than a whole turn.
            at = at.wrapping_add(by);
            if at >= all {
                at = at.wrapping_sub(all);
            }
        }
        [re, if mirrored { im.wrapping_neg() } else { im }]
    }
}
