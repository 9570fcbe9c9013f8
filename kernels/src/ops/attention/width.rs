//! How wide the integers are that a cache of bytes meets: bytes, or words of sixteen bits.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::isa::Isa;
use crate::math::{exp2_coarse, exp2_fair};

/// How wide the levels of queries and probabilities are.
pub(super) trait Width: Sized {
    /// Four levels, which meet four bytes of keys or values: in words that are each repeated over a register.
    type Quad: Copy + Default + FromBytes + IntoBytes + Immutable;
    /// Eight times four bytes as the products want them.
    type Operand<I: Isa>: Copy;
    /// An operand in memory, if that is worth while.
    type Widened: Source<Self> + Copy + Default;
    /// Whether it is.
    const WIDENS: bool;
    /// The highest level of a query.
    const Q_MAX: f32;
    /// log₂ of the highest level of a probability.
    const P_MAX_LOG2: f32;

    /// Thirty-two lanes as levels, in the order of the products.
    fn levels<I: Isa>(isa: I, lanes: [I::I32; 4]) -> [Self::Quad; 8];
    fn key<I: Isa>(isa: I, bytes: &[u8; 32]) -> Self::Operand<I>;
    fn value<I: Isa>(isa: I, bytes: &[i8; 32]) -> Self::Operand<I>;
    fn widen<I: Isa>(isa: I, operand: Self::Operand<I>) -> Self::Widened;
    fn dot_keys<I: Isa, const H: usize>(
        isa: I,
        acc: &mut [I::I32; H],
        keys: &[Self::Operand<I>; H],
        q: &Self::Quad,
    );
    fn dot_values<I: Isa, const H: usize>(
        isa: I,
        acc: &mut [I::I32; H],
        values: &[Self::Operand<I>; H],
        p: &Self::Quad,
    );
    /// 2^x, closer than keys and values of a byte are, for x ≤ 80; 2⁻⁸⁰ below −80.
    fn exp2<I: Isa>(isa: I, x: I::F32) -> I::F32;
}

/// Eight times four bytes of keys or of values as they lie in memory.
pub(super) trait Source<W: Width> {
    fn operand<I: Isa>(&self, isa: I) -> W::Operand<I>;
}

impl<W: Width> Source<W> for [u8; 32] {
    #[inline(always)]
    fn operand<I: Isa>(&self, isa: I) -> W::Operand<I> {
        W::key(isa, self)
    }
}

impl<W: Width> Source<W> for [i8; 32] {
    #[inline(always)]
    fn operand<I: Isa>(&self, isa: I) -> W::Operand<I> {
        W::value(isa, self)
    }
}

impl Source<Accurate> for [[i16; 16]; 2] {
    #[inline(always)]
    fn operand<I: Isa>(&self, isa: I) -> [I::I16; 2] {
        [isa.load_i16(&self[0]), isa.load_i16(&self[1])]
    }
}

/// Queries in ±64, probabilities in 0..=127.
pub(super) struct Fast;

impl Width for Fast {
    type Quad = u32;
    type Operand<I: Isa> = I::Bytes;
    type Widened = [u8; 32];
    const WIDENS: bool = false;
    const Q_MAX: f32 = 64.0;
    const P_MAX_LOG2: f32 = 6.988_684_7;

    #[inline(always)]
    fn levels<I: Isa>(isa: I, lanes: [I::I32; 4]) -> [u32; 8] {
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
    fn widen<I: Isa>(isa: I, operand: I::Bytes) -> [u8; 32] {
        let mut bytes = [0; 32];
        isa.store_bytes(operand, &mut bytes);
        bytes
    }
    #[inline(always)]
    fn dot_keys<I: Isa, const H: usize>(
        isa: I,
        acc: &mut [I::I32; H],
        keys: &[I::Bytes; H],
        q: &u32,
    ) {
        let q = isa.splat4_i8(zerocopy::transmute!(*q));
        for (acc, key) in acc.iter_mut().zip(keys) {
            *acc = isa.dot4_u8(*acc, *key, q);
        }
    }
    #[inline(always)]
    fn dot_values<I: Isa, const H: usize>(
        isa: I,
        acc: &mut [I::I32; H],
        values: &[I::Bytes; H],
        p: &u32,
    ) {
        let p = isa.splat4_i8(zerocopy::transmute!(*p));
        for (acc, value) in acc.iter_mut().zip(values) {
            *acc = isa.dot4_u7(*acc, p, *value);
        }
    }
    #[inline(always)]
    fn exp2<I: Isa>(isa: I, x: I::F32) -> I::F32 {
        exp2_coarse(isa, x)
    }
}

/// Queries in ±32767, probabilities in 0..=32767.
pub(super) struct Accurate;

impl Width for Accurate {
    // Two words, and products take them by reference: loaded as one, they would have to be taken apart.
    type Quad = [u32; 2];
    type Operand<I: Isa> = [I::I16; 2];
    type Widened = [[i16; 16]; 2];
    const WIDENS: bool = true;
    const Q_MAX: f32 = 32767.0;
    const P_MAX_LOG2: f32 = 14.999_956;

    #[inline(always)]
    fn levels<I: Isa>(isa: I, [a, b, c, d]: [I::I32; 4]) -> [[u32; 2]; 8] {
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
    fn widen<I: Isa>(isa: I, operand: [I::I16; 2]) -> [[i16; 16]; 2] {
        let mut words = [[0; 16]; 2];
        isa.store_i16(operand[0], &mut words[0]);
        isa.store_i16(operand[1], &mut words[1]);
        words
    }
    #[inline(always)]
    fn dot_keys<I: Isa, const H: usize>(
        isa: I,
        acc: &mut [I::I32; H],
        keys: &[[I::I16; 2]; H],
        q: &[u32; 2],
    ) {
        for (pair, q) in q.iter().enumerate() {
            let q = isa.splat2_i16(*q);
            for (acc, key) in acc.iter_mut().zip(keys) {
                *acc = isa.dot2_i16(*acc, key[pair], q);
            }
        }
    }
    #[inline(always)]
    fn dot_values<I: Isa, const H: usize>(
        isa: I,
        acc: &mut [I::I32; H],
        values: &[[I::I16; 2]; H],
        p: &[u32; 2],
    ) {
        Self::dot_keys(isa, acc, values, p);
    }
    #[inline(always)]
    fn exp2<I: Isa>(isa: I, x: I::F32) -> I::F32 {
        exp2_fair(isa, x)
    }
}
