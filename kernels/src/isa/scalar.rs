//! Plain Rust: the instruction set of every processor.
//!
//! Multiply-adds are rounded twice, and whatever the standard library would take from the platform comes from `libm`,
//! so that a PC computes the same bits as a microcontroller.

use super::{Isa, Kernel, sealed::Sealed};
use half::{bf16, f16};

/// Proof of nothing: plain Rust runs everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar(());

impl Scalar {
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

impl Sealed for Scalar {}

/// Applies `f` lane by lane. (Closures over scalars carry no vector features, so they are harmless here.)
#[inline(always)]
fn map<T: Copy, U: Copy + Default, const N: usize>(a: [T; N], f: impl Fn(T) -> U) -> [U; N] {
    let mut out = [U::default(); N];
    for (out, a) in out.iter_mut().zip(a) {
        *out = f(a);
    }
    out
}

/// Applies `f` to pairs of lanes.
#[inline(always)]
fn zip<T: Copy, U: Copy + Default, const N: usize>(
    a: [T; N],
    b: [T; N],
    f: impl Fn(T, T) -> U,
) -> [U; N] {
    let mut out = [U::default(); N];
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
    out
}

/// Exact for every half, subnormals, infinities and NaN included: the exponents' biases differ by 112.
///
/// Eight conversions in a row are common: `f16::to_f32`, with a branch for each class, took 9 kB more of a firmware.
#[inline(always)]
fn half_to_f32(x: f16) -> f32 {
    const TWO_112: f32 = f32::from_bits((127 + 112) << 23);
    const INFINITY: u32 = 0x7c00 << 13;
    let magnitude = u32::from(x.to_bits() & 0x7fff) << 13;
    let bits = if magnitude < INFINITY {
        (f32::from_bits(magnitude) * TWO_112).to_bits()
    } else if magnitude == INFINITY {
        0x7f80_0000
    } else {
        magnitude | 0x7fc0_0000
    };
    f32::from_bits(bits | u32::from(x.to_bits() & 0x8000) << 16)
}

/// The nearest integer, ties to even, for |x| ≤ 2²²: added to 1.5·2²³, it is what the sum's low bits hold.
///
/// Thirty-two in a row are common: `libm::rintf`, which takes any number, made 9 kB of them in a firmware.
#[inline(always)]
fn round(x: f32) -> i32 {
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32
}

/// `acc[i] + Σ u·s` over four bytes a lane.
#[inline(always)]
fn dot4(mut acc: [i32; 8], u: [u8; 32], s: [u8; 32]) -> [i32; 8] {
    for ((acc, u), s) in acc
        .iter_mut()
        .zip(u.as_chunks::<4>().0)
        .zip(s.as_chunks::<4>().0)
    {
        for (u, s) in u.iter().zip(s) {
            *acc += i32::from(*u) * i32::from(*s as i8);
        }
    }
    acc
}

/// A kernel as a function of its own.
#[inline(never)]
fn run_apart<K: Kernel>(isa: Scalar, kernel: K) -> K::Output {
    kernel.run(isa)
}

impl Isa for Scalar {
    type F32 = [f32; 8];
    type I32 = [i32; 8];
    type I16 = [i16; 16];
    type Bytes = [u8; 32];
    type Mask = [bool; 8];

    const NAME: &'static str = "scalar";
    const VECTORS: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    fn load(self, from: &[f32; 8]) -> [f32; 8] {
        *from
    }
    #[inline(always)]
    fn store(self, a: [f32; 8], to: &mut [f32; 8]) {
        *to = a;
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; 8]) -> [f32; 8] {
        map(*from, half_to_f32)
    }
    #[inline(always)]
    fn store_f16(self, a: [f32; 8], to: &mut [f16; 8]) {
        *to = map(a, f16::from_f32);
    }
    #[inline(always)]
    fn load_bf16(self, from: &[bf16; 8]) -> [f32; 8] {
        map(*from, |x| f32::from_bits(u32::from(x.to_bits()) << 16))
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; 8]) -> [f32; 8] {
        map(*from, f32::from)
    }
    #[inline(always)]
    fn iota(self) -> [f32; 8] {
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    }
    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn min(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn max_if_positive(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| {
            if (a.to_bits() as i32) > (b.to_bits() as i32) {
                a
            } else {
                b
            }
        })
    }
    #[inline(always)]
    fn neg(self, a: [f32; 8]) -> [f32; 8] {
        map(a, |a| -a)
    }
    #[inline(always)]
    fn abs(self, a: [f32; 8]) -> [f32; 8] {
        map(a, f32::abs)
    }
    #[inline(always)]
    fn sqrt(self, a: [f32; 8]) -> [f32; 8] {
        map(a, libm::sqrtf)
    }
    #[inline(always)]
    fn round_even(self, a: [f32; 8]) -> [f32; 8] {
        map(a, libm::rintf)
    }
    #[inline(always)]
    fn add_exponent(self, p: [f32; 8], t: [f32; 8]) -> [f32; 8] {
        zip(p, t, |p, t| {
            f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23))
        })
    }
    #[inline(always)]
    fn sum(self, a: [f32; 8]) -> f32 {
        let [a0, a1, a2, a3, a4, a5, a6, a7] = a;
        ((a0 + a4) + (a2 + a6)) + ((a1 + a5) + (a3 + a7))
    }
    #[inline(always)]
    fn first(self, a: [f32; 8]) -> f32 {
        a[0]
    }
    #[inline(always)]
    fn max_lane(self, a: [f32; 8]) -> f32 {
        let mut max = f32::NEG_INFINITY;
        for a in a {
            max = if a > max { a } else { max };
        }
        max
    }
    #[inline(always)]
    fn max_bits(self, a: [f32; 8]) -> u32 {
        a.iter().fold(0, |max, a| max.max(a.to_bits()))
    }
    #[inline(always)]
    fn gt(self, a: [f32; 8], b: [f32; 8]) -> [bool; 8] {
        zip(a, b, |a, b| a > b)
    }
    #[inline(always)]
    fn lt(self, a: [f32; 8], b: [f32; 8]) -> [bool; 8] {
        zip(a, b, |a, b| a < b)
    }
    #[inline(always)]
    fn select(self, mask: [bool; 8], yes: [f32; 8], no: [f32; 8]) -> [f32; 8] {
        let mut out = no;
        for ((out, yes), mask) in out.iter_mut().zip(yes).zip(mask) {
            *out = if mask { yes } else { *out };
        }
        out
    }
    #[inline(always)]
    fn all(self, mask: [bool; 8]) -> bool {
        let mut all = true;
        for lane in mask {
            all &= lane;
        }
        all
    }
    #[inline(always)]
    fn any(self, mask: [bool; 8]) -> bool {
        let mut any = false;
        for lane in mask {
            any |= lane;
        }
        any
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> [i32; 8] {
        [x; 8]
    }
    #[inline(always)]
    fn load_i32(self, from: &[i32; 8]) -> [i32; 8] {
        *from
    }
    #[inline(always)]
    fn store_i32(self, a: [i32; 8], to: &mut [i32; 8]) {
        *to = a;
    }
    #[inline(always)]
    fn add_i32(self, a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn sum_i32(self, a: [i32; 8]) -> i32 {
        a.iter().fold(0, |sum: i32, a| sum.wrapping_add(*a))
    }
    #[inline(always)]
    fn to_f32(self, a: [i32; 8]) -> [f32; 8] {
        map(a, |a| a as f32)
    }
    #[inline(always)]
    fn round_i32(self, a: [f32; 8]) -> [i32; 8] {
        map(a, round)
    }
    #[inline(always)]
    fn bits(self, a: [f32; 8]) -> [i32; 8] {
        map(a, |a| a.to_bits() as i32)
    }
    #[inline(always)]
    fn store_i8(self, a: [i32; 8], to: &mut [i8; 8]) {
        *to = map(a, |a| a.clamp(-128, 127) as i8);
    }
    #[inline(always)]
    fn load_bytes_i8(self, from: &[i8; 32]) -> [u8; 32] {
        map(*from, |a| a as u8)
    }
    #[inline(always)]
    fn load_bytes_u8(self, from: &[u8; 32]) -> [u8; 32] {
        *from
    }
    #[inline(always)]
    fn store_bytes(self, a: [u8; 32], to: &mut [u8; 32]) {
        *to = a;
    }
    #[inline(always)]
    fn splat4_u8(self, from: [u8; 4]) -> [u8; 32] {
        let mut out = [0; 32];
        for four in out.as_chunks_mut::<4>().0 {
            *four = from;
        }
        out
    }
    #[inline(always)]
    fn splat4_i8(self, from: [i8; 4]) -> [u8; 32] {
        self.splat4_u8(map(from, |a| a as u8))
    }
    #[inline(always)]
    fn low_nibbles(self, a: [u8; 32]) -> [u8; 32] {
        map(a, |a| a & 15)
    }
    #[inline(always)]
    fn high_nibbles(self, a: [u8; 32]) -> [u8; 32] {
        map(a, |a| a >> 4)
    }
    #[inline(always)]
    fn dot4_u7(self, acc: [i32; 8], u: [u8; 32], s: [u8; 32]) -> [i32; 8] {
        dot4(acc, u, s)
    }
    #[inline(always)]
    fn dot4_u8(self, acc: [i32; 8], u: [u8; 32], s: [u8; 32]) -> [i32; 8] {
        dot4(acc, u, s)
    }
    const WEIGHT_OFFSET: i32 = 128;
    #[inline(always)]
    fn load_weights(self, from: &[i8; 32]) -> [u8; 32] {
        map(*from, |a| a as u8 ^ 128)
    }
    #[inline(always)]
    fn dot4_weights(self, acc: [i32; 8], w: [u8; 32], x: [u8; 32]) -> [i32; 8] {
        dot4(acc, w, x)
    }
    #[inline(always)]
    fn narrow(self, a: [[i32; 8]; 4]) -> [u8; 32] {
        let mut out = [0; 32];
        for (out, a) in out.iter_mut().zip(a.as_flattened()) {
            *out = (*a).clamp(-128, 127) as i8 as u8;
        }
        out
    }
    #[inline(always)]
    fn splat2_i16(self, x: u32) -> [i16; 16] {
        core::array::from_fn(|i| (x >> (i % 2 * 16)) as i16)
    }
    #[inline(always)]
    fn dot2_u4(self, mut acc: [i16; 16], u: [u8; 32], s: [u8; 32]) -> [i16; 16] {
        for ((acc, u), s) in acc
            .iter_mut()
            .zip(u.as_chunks::<2>().0)
            .zip(s.as_chunks::<2>().0)
        {
            for (u, s) in u.iter().zip(s) {
                *acc = acc.wrapping_add(i16::from(*u) * i16::from(*s as i8));
            }
        }
        acc
    }
    #[inline(always)]
    fn load_i16(self, from: &[i16; 16]) -> [i16; 16] {
        *from
    }
    #[inline(always)]
    fn store_i16(self, a: [i16; 16], to: &mut [i16; 16]) {
        *to = a;
    }
    #[inline(always)]
    fn narrow_i16(self, a: [[i32; 8]; 2]) -> [i16; 16] {
        let mut out = [0; 16];
        for (out, a) in out.iter_mut().zip(a.as_flattened()) {
            *out = (*a).clamp(-32_768, 32_767) as i16;
        }
        for four in out.as_chunks_mut::<4>().0 {
            four.swap(1, 2);
        }
        out
    }
    #[inline(always)]
    fn widen_u8(self, a: [u8; 32]) -> [[i16; 16]; 2] {
        let mut out = [[0; 16]; 2];
        for (i, [even, odd]) in a.as_chunks::<2>().0.iter().enumerate() {
            out[0][i % 16] = i16::from(*even);
            out[1][i % 16] = i16::from(*odd);
        }
        out
    }
    #[inline(always)]
    fn widen_i8(self, a: [u8; 32]) -> [[i16; 16]; 2] {
        self.widen_u8(a)
            .map(|a| map(a, |a| i16::from(a as u8 as i8)))
    }
    #[inline(always)]
    fn dot2_i16(self, mut acc: [i32; 8], a: [i16; 16], b: [i16; 16]) -> [i32; 8] {
        let pairs = a.as_chunks::<2>().0.iter().zip(b.as_chunks::<2>().0);
        for (acc, (a, b)) in acc.iter_mut().zip(pairs) {
            for (a, b) in a.iter().zip(b) {
                *acc = acc.wrapping_add(i32::from(*a) * i32::from(*b));
            }
        }
        acc
    }
    #[inline(always)]
    fn apart<K: Kernel>(self, kernel: K) -> K::Output {
        run_apart(self, kernel)
    }
}
