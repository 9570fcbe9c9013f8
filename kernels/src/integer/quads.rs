//! Products of a matrix of four bits a number with vectors of bytes.
//!
//! Four rows lie together: of each column a number of 16 bits, `(a + 8) + 16·(b + 8) + 256·(c + 8) + 4096·d` for the
//! levels a, b, c and d of −8 to 7. One multiplication of such a number adds all four rows' products to a sum, of which
//! masks leave one row after the other.

use super::product::{Rows, in_eights, stride};
use super::scaled;
use crate::error::ShapeError;
use crate::isa::{Isa, Kernel};

/// Rows that lie together.
pub const QUAD: usize = 4;

/// Four levels of 0.
const ZERO: u16 = 0x0888;

/// Numbers of a matrix: its fours of rows by [`stride`](stride)`(cols)`.
pub const fn quads_len(rows: usize, cols: usize) -> usize {
    (rows / QUAD).saturating_mul(stride(cols))
}

/// Packs levels of −8 to 7, (rows, cols), with zeros behind the columns. Others are taken for the nearest of these.
///
/// # Errors
/// When rows are no multiple of four, or `out` has not [`quads_len`] numbers.
pub fn pack_quads(cols: usize, levels: &[i8], out: &mut [u16]) -> Result<(), ShapeError> {
    let rows = levels.len().checked_div(cols).unwrap_or(0);
    ShapeError::check_eq("levels", rows.saturating_mul(cols), levels.len())?;
    ShapeError::check_eq("rows, modulo 4", 0, rows % QUAD)?;
    ShapeError::check_eq("quads", quads_len(rows, cols), out.len())?;
    out.fill(ZERO);
    let quads = out.chunks_exact_mut(stride(cols).max(1));
    for (quad, levels) in quads.zip(levels.chunks(QUAD.saturating_mul(cols).max(1))) {
        for (lane, row) in levels.chunks_exact(cols.max(1)).enumerate() {
            let shift = 4 * lane as u32;
            for (number, level) in quad.iter_mut().zip(row) {
                let level = i16::from((*level).clamp(-8, 7)).cast_unsigned();
                // Adding 8 is turning the highest bit over; the last row's stays.
                *number ^= (level & 15) << shift;
            }
        }
    }
    Ok(())
}

/// What Winograd's inner product adds to each four of rows' sums: Σ c·c' of the columns (0, 2), (1, 3), (4, 6), (5, 7), …
/// for c + 8, and how much more the same of (c + 8) + 16·d is.
///
/// # Errors
/// When `quads` are not as many rows of [`stride`](stride)`(cols)` as `out` has twos.
pub fn quad_sums(cols: usize, quads: &[u16], out: &mut [i32]) -> Result<(), ShapeError> {
    let stride = stride(cols);
    let (twos, rest) = out.as_chunks_mut::<2>();
    ShapeError::check_eq("pair sums, modulo 2", 0, rest.len())?;
    ShapeError::check_eq("quads", twos.len().saturating_mul(stride), quads.len())?;
    for (out, quad) in twos.iter_mut().zip(quads.chunks_exact(stride.max(1))) {
        *out = [0, 0];
        let [own, more] = out;
        for [a, b, c, d] in quad.as_chunks::<4>().0 {
            for (one, other) in [(a, c), (b, d)] {
                let third = |number: u16| i32::from(number >> 8 & 15);
                let both = |number: u16| i32::from(number.cast_signed() >> 8);
                let product = third(*one).wrapping_mul(third(*other));
                *own = own.wrapping_add(product);
                let product = both(*one).wrapping_mul(both(*other)).wrapping_sub(product);
                *more = more.wrapping_add(product);
            }
        }
    }
    Ok(())
}

impl Kernel for Rows<'_, u16> {
    type Output = ();

    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let vectors = self.x.chunks_exact(self.cols.max(1));
        for (x, out) in vectors.zip(self.out.chunks_exact_mut(self.rows.max(1))) {
            let quads = self.weights.chunks_exact(self.stride.max(1));
            let scales = self.multipliers.as_chunks().0.iter();
            let scales = scales.zip(self.biases.as_chunks().0);
            let fours = out.as_chunks_mut::<QUAD>().0.iter_mut().zip(quads);
            for ((out, quad), (multipliers, biases)) in fours.zip(scales) {
                let [multipliers, biases]: [&[i32; QUAD]; 2] = [multipliers, biases];
                let sums = sums(quad, x)
                    .into_iter()
                    .zip(multipliers.iter().zip(biases));
                for (out, (sum, (&multiplier, &bias))) in out.iter_mut().zip(sums) {
                    *out = scaled(bias.wrapping_add(sum), multiplier);
                }
            }
        }
    }
}

/// 16·Σ w·x of four rows: a level stands for the byte of which it is the upper half.
#[inline(always)]
fn sums(quad: &[u16], x: &[i8]) -> [i32; QUAD] {
    let mut sums = [0i32; QUAD];
    let mut all = 0i32;
    in_eights(quad, x, |number, x| {
        let x = i32::from(x);
        all = all.wrapping_add(x);
        let [a, b, c, d] = &mut sums;
        *a = a.wrapping_add(i32::from(number & 15).wrapping_mul(x));
        *b = b.wrapping_add(i32::from(number >> 4 & 15).wrapping_mul(x));
        *c = c.wrapping_add(i32::from(number >> 8 & 15).wrapping_mul(x));
        *d = d.wrapping_add(i32::from(number.cast_signed() >> 12).wrapping_mul(x));
    });
    let [a, b, c, d] = sums;
    let eight = all.wrapping_mul(8);
    let sixteenth = |sum: i32| sum.wrapping_mul(16);
    [
        sixteenth(a.wrapping_sub(eight)),
        sixteenth(b.wrapping_sub(eight)),
        sixteenth(c.wrapping_sub(eight)),
        sixteenth(d),
    ]
}
