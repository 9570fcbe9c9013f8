//! Numbers of four bits for keys and values: a level is the upper half of a byte, as with weights.
//!
//! Eight numbers lie in four bytes, the first four in the upper halves: to take them apart is a mask, and a shift and a
//! mask, on words.

/// The places of eight numbers, in bytes.
const BYTES: usize = 4;

/// Bytes of so many numbers, a multiple of eight.
pub const fn nibbles_len(numbers: usize) -> usize {
    numbers / 2
}

/// Writes a number, rounded to a multiple of 16 from −128 to 112: the nearest, halves upwards. What does not exist is not
/// written.
pub fn put_nibble(bytes: &mut [i8], index: usize, number: i8) {
    let (eight, inside) = (index / 8, index % 8);
    let at = eight.saturating_mul(BYTES).saturating_add(inside % BYTES);
    let level = number.saturating_add(8).cast_unsigned() & 0xf0;
    if let Some(byte) = bytes.get_mut(at) {
        let both = byte.cast_unsigned();
        *byte = match inside < BYTES {
            true => level | both & 0x0f,
            false => both & 0xf0 | level >> 4,
        }
        .cast_signed();
    }
}

/// Takes numbers apart: as many as both slices have.
pub fn unpack_nibbles(bytes: &[i8], numbers: &mut [i8]) {
    let eights = numbers.as_chunks_mut::<{ 2 * BYTES }>().0;
    for (bytes, numbers) in bytes.as_chunks::<BYTES>().0.iter().zip(eights) {
        let word = u32::from_ne_bytes(zerocopy::transmute!(*bytes));
        let (upper, lower) = (word & 0xf0f0_f0f0, word << 4 & 0xf0f0_f0f0);
        *numbers = zerocopy::transmute!([upper, lower]);
    }
}
