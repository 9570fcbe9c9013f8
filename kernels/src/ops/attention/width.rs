//! How wide the integers are that a cache of bytes meets: bytes, or words of sixteen bits.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::isa::Isa;
use crate::math::{LOWEST_COARSE, exp2, exp2_coarse};

/// How wide the levels of queries and probabilities are.
pub(super) trait Width {
    /// A level. Four of them meet four bytes of keys or values.
    type Level: Copy + Default + FromBytes + IntoBytes + Immutable;
    /// Eight times four bytes as the products want them.
    type Operand<I: Isa>: Copy;
    /// The highest level of a query.
    const Q_MAX: f32;
    /// log₂ of the highest level of a probability.
    const P_MAX_LOG2: f32;

    /// Thirty-two lanes as levels, in the order of the products.
    fn levels<I: Isa>(isa: I, lanes: [I::I32; 4]) -> [Self::Level; 32];
    fn key<I: Isa>(isa: I, bytes: &[u8; 32]) -> Self::Operand<I>;
    fn value<I: Isa>(isa: I, bytes: &[i8; 32]) -> Self::Operand<I>;
    fn dot_key<I: Isa>(isa: I, acc: I::I32, key: Self::Operand<I>, q: [Self::Level; 4]) -> I::I32;
    fn dot_value<I: Isa>(
        isa: I,
        acc: I::I32,
        value: Self::Operand<I>,
        p: [Self::Level; 4],
    ) -> I::I32;
    /// 2^x to more digits than the levels have, for x ≤ 80; 2⁻⁸⁰ below −80.
    fn exp2<I: Isa>(isa: I, x: I::F32) -> I::F32;
}

/// Queries in ±63, probabilities in 0..=127.
pub(super) struct Fast;

impl Width for Fast {
    type Level = i8;
    type Operand<I: Isa> = I::Bytes;
    const Q_MAX: f32 = 63.0;
    const P_MAX_LOG2: f32 = 6.988_684_7;

    #[inline(always)]
    fn levels<I: Isa>(isa: I, lanes: [I::I32; 4]) -> [i8; 32] {
        let mut bytes = [0; 32];
        isa.store_bytes(isa.narrow(lanes), &mut bytes);
        zerocopy::transmute!(bytes)
    }
    #[inline(always)]
    fn key<I: Isa>(isa: I, bytes: &[u8; 32]) -> I::Bytes {
        isa.load_bytes_u8(bytes)
    }
    #[inline(always)]
    fn value<I: Isa>(isa: I, bytes: &[i8; 32]) -> I::Bytes {
        isa.load_bytes_i8(bytes)
    }
    #[inline(always)]
    fn dot_key<I: Isa>(isa: I, acc: I::I32, key: I::Bytes, q: [i8; 4]) -> I::I32 {
        isa.dot4_u8(acc, key, isa.splat4_i8(q))
    }
    #[inline(always)]
    fn dot_value<I: Isa>(isa: I, acc: I::I32, value: I::Bytes, p: [i8; 4]) -> I::I32 {
        isa.dot4_u7(acc, isa.splat4_i8(p), value)
    }
    #[inline(always)]
    fn exp2<I: Isa>(isa: I, x: I::F32) -> I::F32 {
        exp2_coarse(isa, x)
    }
}

/// Queries in ±32767, probabilities in 0..=32767.
pub(super) struct Accurate;

impl Width for Accurate {
    type Level = i16;
    type Operand<I: Isa> = [I::I16; 2];
    const Q_MAX: f32 = 32767.0;
    const P_MAX_LOG2: f32 = 14.999_956;

    #[inline(always)]
    fn levels<I: Isa>(isa: I, [a, b, c, d]: [I::I32; 4]) -> [i16; 32] {
        let mut words = [[0; 16]; 2];
        isa.store_i16(isa.narrow_i16([a, b]), &mut words[0]);
        isa.store_i16(isa.narrow_i16([c, d]), &mut words[1]);
        zerocopy::transmute!(words)
    }
    #[inline(always)]
    fn key<I: Isa>(isa: I, bytes: &[u8; 32]) -> [I::I16; 2] {
        isa.widen_u8(isa.load_bytes_u8(bytes))
    }
    #[inline(always)]
    fn value<I: Isa>(isa: I, bytes: &[i8; 32]) -> [I::I16; 2] {
        isa.widen_i8(isa.load_bytes_i8(bytes))
    }
    #[inline(always)]
    fn dot_key<I: Isa>(isa: I, acc: I::I32, key: [I::I16; 2], [a, b, c, d]: [i16; 4]) -> I::I32 {
        let acc = isa.dot2_i16(acc, key[0], isa.splat2_i16(word(a, b)));
        isa.dot2_i16(acc, key[1], isa.splat2_i16(word(c, d)))
    }
    #[inline(always)]
    fn dot_value<I: Isa>(isa: I, acc: I::I32, value: [I::I16; 2], p: [i16; 4]) -> I::I32 {
        Self::dot_key(isa, acc, value, p)
    }
    #[inline(always)]
    fn exp2<I: Isa>(isa: I, x: I::F32) -> I::F32 {
        exp2(isa, isa.max(isa.splat(LOWEST_COARSE), x))
    }
}

/// Two levels as a product takes them.
#[inline(always)]
fn word(low: i16, high: i16) -> u32 {
    u32::from(low as u16) | u32::from(high as u16) << 16
}
