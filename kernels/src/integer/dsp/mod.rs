//! Armv7E-M and Armv8-M with the DSP extension: two products of 16 bits an instruction.
//!
//! Weights, keys and values stay bytes. For four vectors at once, two bytes are widened by one instruction and then
//! multiplied eight times (25 instructions for 32 products). For one, `sxtab16` widens two bytes and adds two inputs at once,
//! so by Winograd's inner product ([`pair_sums`](super::pair_sums)) four columns of a row take three instructions and a
//! share of the loads. Four rows of four bits share a word for two columns: twelve instructions for sixteen products.

mod assembly;
mod attention;
mod product;
mod quads;

use core::mem::MaybeUninit;

use super::BATCH;
use super::instructions::instructions;

pub(super) use attention::{attend, scores};
pub(super) use product::product;
pub(super) use quads::product_of_quads;

/// Four columns of a vector, widened: the halves (0, 2) and (1, 3).
type Wide = [u32; 2];

/// The same of four vectors.
type Wides = [[u32; BATCH]; 2];

/// Widens bytes; returns the widened, and the sum of the products of pairs. `steps` fours at least, with zeros at the end.
fn widen<'a>(x: &[i8], steps: usize, room: &'a mut [MaybeUninit<Wide>]) -> (&'a [Wide], i32) {
    let mut sum = 0;
    let (fours, rest) = x.as_chunks::<4>();
    let fours = fours.iter().copied().chain([padded(rest)]);
    let mut len = 0;
    let all = fours.chain(core::iter::repeat([0; 4]));
    for (place, four) in room.iter_mut().zip(all).take(steps) {
        let (even, odd) = (sxtb16(word(four)), sxtb16_high(word(four)));
        place.write([even, odd]);
        sum = smlad(even, odd, sum);
        len += 1;
    }
    // SAFETY: so many were written.
    let wide = unsafe { core::slice::from_raw_parts(room.as_ptr().cast(), len) };
    (wide, sum)
}

/// The same of four vectors, as long as the first.
fn widen_four<'a>(
    [a, b, c, d]: [&[i8]; BATCH],
    steps: usize,
    room: &'a mut [MaybeUninit<Wides>],
) -> &'a [Wides] {
    let whole = (a.as_chunks::<4>().0.iter()).zip(b.as_chunks::<4>().0);
    let whole = whole.zip(c.as_chunks::<4>().0.iter().zip(d.as_chunks::<4>().0));
    let mut len = 0;
    for (place, ((a, b), (c, d))) in room.iter_mut().zip(whole).take(steps) {
        let [a, b, c, d] = [a, b, c, d].map(|four| word(*four));
        let even = [sxtb16(a), sxtb16(b), sxtb16(c), sxtb16(d)];
        let odd = [
            sxtb16_high(a),
            sxtb16_high(b),
            sxtb16_high(c),
            sxtb16_high(d),
        ];
        place.write([even, odd]);
        len += 1;
    }
    let last = [a, b, c, d].map(|x| word(padded(x.as_chunks::<4>().1)));
    let last = [last.map(sxtb16), last.map(sxtb16_high)];
    let behind = room.iter_mut().take(steps).skip(len);
    for (place, wides) in behind.zip(
        [last]
            .into_iter()
            .chain(core::iter::repeat([[0; BATCH]; 2])),
    ) {
        place.write(wides);
        len += 1;
    }
    // SAFETY: so many were written.
    unsafe { core::slice::from_raw_parts(room.as_ptr().cast(), len) }
}

/// Up to four vectors as four: the last takes the places of those that are not there.
fn as_four<'a>(vectors: impl Iterator<Item = &'a [i8]>) -> [&'a [i8]; BATCH] {
    let mut four = [&[][..]; BATCH];
    let mut last = &[][..];
    let mut vectors = vectors.fuse();
    for place in &mut four {
        last = vectors.next().unwrap_or(last);
        *place = last;
    }
    four
}

/// Fewer than four bytes, with zeros behind.
fn padded(rest: &[i8]) -> [i8; 4] {
    let mut four = [0; 4];
    for (to, from) in four.iter_mut().zip(rest) {
        *to = *from;
    }
    four
}

fn word(bytes: [i8; 4]) -> u32 {
    u32::from_le_bytes(bytes.map(i8::cast_unsigned))
}

instructions! {
    /// Bytes 0 and 2 as halves.
    sxtb16(x: u32) -> u32 = "sxtb16 {out}, {x}";
    /// Bytes 1 and 3 as halves.
    sxtb16_high(x: u32) -> u32 = "sxtb16 {out}, {x}, ror #8";
    /// Both products of halves, and `sum`.
    smlad(a: u32, b: u32, sum: i32) -> i32 = "smlad {out}, {a}, {b}, {sum}";
}
