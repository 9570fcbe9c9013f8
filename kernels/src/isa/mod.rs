//! Instruction sets as token types.
//!
//! A value of a token type proves that the processor has the instructions, so that every operation on it is safe.
//! Tokens cannot be forged:
//!
//! ```compile_fail,E0423
//! let token = attentive_kernels::isa::Scalar(()); // the field is private
//! ```
//!
//! Ask [`Backend`](crate::Backend) for one instead: a kernel implements [`Kernel`], and
//! [`Backend::run`](crate::Backend::run) calls it with the token inside ONE `#[target_feature]` function per
//! instruction set.
//!
//! # The rule of inlining
//! Everything that takes a token, [`Kernel::run`] included, is `#[inline(always)]`: only code inlined into the
//! trampoline is compiled with the instruction set's features. A function that is not inlined still computes the right
//! result, but calls each intrinsic as a function. Closures that handle vectors break the rule silently; use loops.
//! (The exception is a cold path that is allowed to be slow.)
//!
//! # Eight lanes everywhere
//! [`Isa::F32`] has eight lanes: one AVX2 register, two NEON registers, an array on [`Scalar`]. Memory is only touched
//! through references to arrays (`&[f32; 8]`), so that bounds are the caller's types' business, and alignment nobody's.

mod products;
mod scalar;

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod avx2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod avx2_products;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod avx512;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod i8mm;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod x86;

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub(crate) use neon::run_arm;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub use neon::{Arm, Neon, NeonDotprod, NeonI8mm};
pub use scalar::Scalar;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub use x86::{Avx2, Avx512, AvxVnni, X86};
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(crate) use x86::{run_avx_vnni, run_avx2, run_avx512};

use crate::layout::GROUP;
use half::{bf16, f16};

#[cfg(test)]
mod tests;

/// Lanes of [`Isa::F32`] and [`Isa::I32`].
pub const LANES: usize = 8;

/// Steps of a group of columns that share a scale.
pub(crate) const GROUP_STEPS: usize = GROUP / 4;

/// [`GROUP_STEPS`] as a number that the compiler does not know. Where it does, it unrolls the loop over a group's
/// steps and reorders it so that the activations of all of them are kept at once, on the stack.
#[inline(always)]
pub(crate) fn group_steps() -> usize {
    core::hint::black_box(GROUP_STEPS)
}

/// A group of a panel of 4-bit weights, ready for many vectors.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct U4Group {
    /// The nibbles as bytes, four columns of sixteen rows a step.
    pub(crate) steps: [[[u8; 32]; 2]; GROUP_STEPS],
    /// One a row.
    pub(crate) scales: [[f32; 8]; 2],
    /// One a row.
    pub(crate) minima: [[f32; 8]; 2],
}

impl U4Group {
    pub(crate) const ZERO: Self = Self {
        steps: [[[0; 32]; 2]; GROUP_STEPS],
        scales: [[0.0; 8]; 2],
        minima: [[0.0; 8]; 2],
    };

    /// Unpacks weights that lie as [`WeightFormat::U4Group32`](crate::layout::WeightFormat::U4Group32) says.
    #[inline(always)]
    pub(crate) fn unpack<I: Isa>(
        &mut self,
        isa: I,
        from: &[[[u8; 32]; 2]; GROUP_STEPS / 2],
        scales: &[[f16; 8]; 2],
        minima: &[[f16; 8]; 2],
    ) {
        for ([low, high], bytes) in self.steps.as_chunks_mut::<2>().0.iter_mut().zip(from) {
            for ((low, high), bytes) in low.iter_mut().zip(high).zip(bytes) {
                let bytes = isa.load_bytes_u8(bytes);
                isa.store_bytes(isa.low_nibbles(bytes), low);
                isa.store_bytes(isa.high_nibbles(bytes), high);
            }
        }
        for (to, from) in [(&mut self.scales, scales), (&mut self.minima, minima)] {
            for (to, from) in to.iter_mut().zip(from) {
                isa.store(isa.load_f16(from), to);
            }
        }
    }
}

/// What the micro-kernels of float products ask memory for while they multiply: at each column a cache line, a bit further
/// than at the one before.
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    /// From the first panel's first column.
    bytes: usize,
    /// How much further at each column, counted from the column.
    step: usize,
}

impl Ahead {
    /// Nothing but what is read anyway.
    pub const NONE: Self = Self { bytes: 0, step: 0 };

    /// `len` bytes that begin `bytes` behind the first panel's first column, in the course of `cols` columns of
    /// `col_bytes`.
    pub(crate) const fn new(bytes: usize, len: usize, cols: usize, col_bytes: usize) -> Self {
        Self {
            bytes,
            step: len.div_ceil(cols).wrapping_sub(col_bytes),
        }
    }
}

mod sealed {
    /// Only this crate names instruction sets.
    pub trait Sealed {}
}

/// A computation written once for every instruction set; see [`Backend::run`](crate::Backend::run).
pub trait Kernel {
    /// What the computation returns.
    type Output;

    /// Whether it multiplies matrices or bytes: what the instruction sets beyond AVX2 and NEON are good for. All other
    /// kernels run on these, even where the processor has more: they are compiled once, and AVX-512's encodings, which
    /// are longer, made attention in f32 slower by 8 % (Intel Sapphire Rapids).
    const PRODUCTS: bool = false;

    /// Runs with the instruction set that `isa` proves. Implementations are `#[inline(always)]`.
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// Operations of an instruction set over eight lanes.
///
/// f32 results may differ between instruction sets in the last bits (fused or separate multiply-add, order of
/// horizontal sums); integer results are equal. Where an operation says "unspecified", it still neither panics nor is
/// undefined.
pub trait Isa: Copy + core::fmt::Debug + Send + Sync + sealed::Sealed + 'static {
    /// Eight f32.
    type F32: Copy;
    /// Eight i32.
    type I32: Copy;
    /// Sixteen i16.
    type I16: Copy;
    /// Thirty-two bytes; the operation decides about their sign.
    type Bytes: Copy;
    /// Eight booleans.
    type Mask: Copy;

    /// The name that [`Backend::by_name`](crate::Backend::by_name) knows.
    const NAME: &'static str;

    /// Whether eight lanes are registers. Where they are not, keeping many lanes alive costs memory traffic, and a
    /// kernel may take a plain loop instead (with the same results).
    const VECTORS: bool = true;

    /// Whether the micro-kernels of products work on registers of sixteen lanes, of which there are 32, so that they
    /// want wider tiles.
    const WIDE: bool = false;

    /// Whether [`dot4_u7`](Self::dot4_u7) is one instruction.
    const DOT4: bool = false;

    // Loads, stores, conversions of f32.

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F32;
    /// Lanes from memory.
    fn load(self, from: &[f32; 8]) -> Self::F32;
    /// Lanes to memory.
    fn store(self, a: Self::F32, to: &mut [f32; 8]);
    /// Lanes from half precision (exact).
    fn load_f16(self, from: &[f16; 8]) -> Self::F32;
    /// Lanes to half precision, rounded to nearest even.
    fn store_f16(self, a: Self::F32, to: &mut [f16; 8]);
    /// Lanes from bfloat16 (exact: the upper halves of f32).
    fn load_bf16(self, from: &[bf16; 8]) -> Self::F32;
    /// Lanes from signed bytes.
    fn load_i8(self, from: &[i8; 8]) -> Self::F32;
    /// Lanes 0, 1, …, 7.
    fn iota(self) -> Self::F32;

    /// Up to eight lanes from memory, zeros beyond.
    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> Self::F32 {
        let mut lanes = [0.0; 8];
        for (lane, x) in lanes.iter_mut().zip(from) {
            *lane = *x;
        }
        self.load(&lanes)
    }
    /// The first `to.len()` lanes to memory (at most eight).
    #[inline(always)]
    fn store_partial(self, a: Self::F32, to: &mut [f32]) {
        let mut lanes = [0.0; 8];
        self.store(a, &mut lanes);
        for (x, lane) in to.iter_mut().zip(&lanes) {
            *x = *lane;
        }
    }

    // Arithmetic of f32.

    /// a + b.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a − b.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a · b.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a / b.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a · b + c: fused on AVX2 and NEON, rounded twice on [`Scalar`] (so that a PC reproduces a microcontroller's
    /// bits).
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The smaller; unspecified which where one is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The larger; unspecified which where one is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The larger where at least one is positive (a positive NaN counts as larger than infinity), something not
    /// positive elsewhere. Compares the bits as integers, which AVX2 does twice as fast as [`max`](Self::max).
    fn max_if_positive(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// −a.
    fn neg(self, a: Self::F32) -> Self::F32;
    /// |a|.
    fn abs(self, a: Self::F32) -> Self::F32;
    /// √a, correctly rounded.
    fn sqrt(self, a: Self::F32) -> Self::F32;
    /// Nearest integer, ties to even.
    fn round_even(self, a: Self::F32) -> Self::F32;
    /// `p · 2^k`, where the low bits of `t`'s representation hold the integer k (as in `t = x + 1.5·2²³`), by integer
    /// addition to p's exponent. The result must be a normal number, else it is unspecified.
    fn add_exponent(self, p: Self::F32, t: Self::F32) -> Self::F32;
    /// Sum of the lanes; the order is the instruction set's.
    fn sum(self, a: Self::F32) -> f32;
    /// Lane 0.
    fn first(self, a: Self::F32) -> f32;
    /// Largest lane; unspecified if one is NaN.
    fn max_lane(self, a: Self::F32) -> f32;

    /// Bits of the largest lane, none of which is negative (a NaN counts as larger than infinity).
    fn max_bits(self, a: Self::F32) -> u32;
    /// [`max_bits`](Self::max_bits) of both.
    #[inline(always)]
    fn max_bits_of_two(self, a: Self::F32, b: Self::F32) -> [u32; 2] {
        [self.max_bits(a), self.max_bits(b)]
    }

    // Comparisons.

    /// a > b; false where one is NaN.
    fn gt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// a < b; false where one is NaN.
    fn lt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `yes` where the mask is set, `no` elsewhere.
    fn select(self, mask: Self::Mask, yes: Self::F32, no: Self::F32) -> Self::F32;
    /// Whether all lanes of the mask are set.
    fn all(self, mask: Self::Mask) -> bool;
    /// Whether any lane of the mask is set.
    fn any(self, mask: Self::Mask) -> bool;

    // Eight i32.

    /// All lanes `x`.
    fn splat_i32(self, x: i32) -> Self::I32;
    /// Lanes from memory.
    fn load_i32(self, from: &[i32; 8]) -> Self::I32;
    /// Lanes to memory.
    fn store_i32(self, a: Self::I32, to: &mut [i32; 8]);
    /// a + b, wrapping.
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Sum of the lanes, wrapping.
    fn sum_i32(self, a: Self::I32) -> i32;
    /// [`sum_i32`](Self::sum_i32) of both.
    #[inline(always)]
    fn sums_of_two(self, a: Self::I32, b: Self::I32) -> [i32; 2] {
        [self.sum_i32(a), self.sum_i32(b)]
    }
    /// Lanes as f32, rounded to nearest even.
    fn to_f32(self, a: Self::I32) -> Self::F32;
    /// Lanes rounded to nearest even; unspecified unless |a| ≤ 2²².
    fn round_i32(self, a: Self::F32) -> Self::I32;
    /// The representations of the lanes.
    fn bits(self, a: Self::F32) -> Self::I32;
    /// Lanes as signed bytes, saturated.
    fn store_i8(self, a: Self::I32, to: &mut [i8; 8]);

    // Bytes and their products.

    /// Thirty-two signed bytes from memory.
    fn load_bytes_i8(self, from: &[i8; 32]) -> Self::Bytes;
    /// Thirty-two unsigned bytes from memory.
    fn load_bytes_u8(self, from: &[u8; 32]) -> Self::Bytes;
    /// Thirty-two bytes to memory.
    fn store_bytes(self, a: Self::Bytes, to: &mut [u8; 32]);
    /// Four unsigned bytes, eight times.
    fn splat4_u8(self, from: [u8; 4]) -> Self::Bytes;
    /// Four signed bytes, eight times.
    fn splat4_i8(self, from: [i8; 4]) -> Self::Bytes;
    /// The low four bits of each byte.
    fn low_nibbles(self, a: Self::Bytes) -> Self::Bytes;
    /// The high four bits of each byte, moved down.
    fn high_nibbles(self, a: Self::Bytes) -> Self::Bytes;
    /// Lane i: `acc[i] + Σ_{c<4} u[4i+c] · s[4i+c]`, u unsigned and at most 127, s signed. Exact.
    fn dot4_u7(self, acc: Self::I32, u: Self::Bytes, s: Self::Bytes) -> Self::I32;
    /// As [`dot4_u7`](Self::dot4_u7), for any unsigned u and |s| ≤ 64. Exact.
    fn dot4_u8(self, acc: Self::I32, u: Self::Bytes, s: Self::Bytes) -> Self::I32;
    /// What [`load_weights`](Self::load_weights) adds to a weight: 128 where [`dot4_weights`](Self::dot4_weights) wants
    /// it unsigned, else 0.
    const WEIGHT_OFFSET: i32;
    /// Thirty-two signed bytes from memory, each with [`WEIGHT_OFFSET`](Self::WEIGHT_OFFSET) added.
    fn load_weights(self, from: &[i8; 32]) -> Self::Bytes;
    /// Lane i: `acc[i] + Σ_{c<4} w[4i+c] · x[4i+c]`, w from [`load_weights`](Self::load_weights), x signed and
    /// |x| ≤ 63. Exact.
    fn dot4_weights(self, acc: Self::I32, w: Self::Bytes, x: Self::Bytes) -> Self::I32;
    /// Thirty-two lanes as signed bytes, saturated, in order.
    fn narrow(self, a: [Self::I32; 4]) -> Self::Bytes;
    /// Word k, four lanes of either part as signed bytes, saturated, the first in the low byte, to
    /// `to[first + k · stride]`, for k of 0 to 7.
    #[inline(always)]
    fn store_words_of_two(
        self,
        parts: [[Self::I32; 4]; 2],
        to: &mut [[u32; 2]],
        [first, stride]: [usize; 2],
    ) {
        for (i, part) in parts.into_iter().enumerate() {
            let mut bytes = [0; 32];
            self.store_bytes(self.narrow(part), &mut bytes);
            for (k, quad) in bytes.as_chunks::<4>().0.iter().enumerate() {
                if let Some(to) = to.get_mut(first + k * stride) {
                    to[i] = u32::from_le_bytes(*quad);
                }
            }
        }
    }
    /// Two lanes of sixteen bits, the first in the low half of `x`, eight times.
    fn splat2_i16(self, x: u32) -> Self::I16;
    /// Lane i: `acc[i] + u[2i] · s[2i] + u[2i+1] · s[2i+1]`, u unsigned and at most 15, s signed. Sums wrap: eight
    /// additions to zero with |s| ≤ 127 stay within 30 480, so are exact.
    fn dot2_u4(self, acc: Self::I16, u: Self::Bytes, s: Self::Bytes) -> Self::I16;

    /// Sixteen i16 from memory.
    fn load_i16(self, from: &[i16; 16]) -> Self::I16;
    /// Sixteen i16 to memory.
    fn store_i16(self, a: Self::I16, to: &mut [i16; 16]);
    /// Sixteen lanes as i16, saturated, the middle two of every four exchanged: the order of
    /// [`widen_u8`](Self::widen_u8) for [`dot2_i16`](Self::dot2_i16).
    fn narrow_i16(self, a: [Self::I32; 2]) -> Self::I16;
    /// Lane i: unsigned byte 2i, and unsigned byte 2i + 1.
    fn widen_u8(self, a: Self::Bytes) -> [Self::I16; 2];
    /// Lane i: signed byte 2i, and signed byte 2i + 1.
    fn widen_i8(self, a: Self::Bytes) -> [Self::I16; 2];
    /// Lane i: `acc[i] + a[2i] · b[2i] + a[2i+1] · b[2i+1]`, wrapping.
    fn dot2_i16(self, acc: Self::I32, a: Self::I16, b: Self::I16) -> Self::I32;

    /// Runs a kernel as a function of its own, never inlined: for what is seldom needed beside a loop whose registers
    /// are all taken.
    fn apart<K: Kernel>(self, kernel: K) -> K::Output;

    // Micro-kernels, written once in terms of the operations above; an instruction set with something better
    // overrides them.

    /// P panels of f32 weights times M vectors: `sums[p][m]` gains, column by column in order, `panels[p][k]` times
    /// `x[m][k]`. Meanwhile memory is asked for `next`.
    #[inline(always)]
    fn add_f32_tile<const P: usize, const M: usize>(
        self,
        sums: &mut [[[Self::F32; 2]; M]; P],
        panels: [&[[[f32; 8]; 2]]; P],
        x: [&[f32]; M],
        next: Ahead,
    ) {
        products::add_float_tile(self, sums, panels, x, next);
    }

    /// As [`add_f32_tile`](Self::add_f32_tile) for f16 weights.
    #[inline(always)]
    fn add_f16_tile<const P: usize, const M: usize>(
        self,
        sums: &mut [[[Self::F32; 2]; M]; P],
        panels: [&[[[f16; 8]; 2]]; P],
        x: [&[f32]; M],
        next: Ahead,
    ) {
        products::add_float_tile(self, sums, panels, x, next);
    }

    /// One panel of int8 weights times M vectors: `sums[m]` gains [`dot4_u7`](Self::dot4_u7) of `words[k][m]` and both
    /// halves of `panel[k]` for every step k, of which there are a multiple of eight.
    #[inline(always)]
    fn add_i8_tile<const M: usize>(
        self,
        sums: &mut [[Self::I32; 2]; M],
        panel: &[[[i8; 32]; 2]],
        words: &[[u32; M]],
    ) {
        products::add_i8_tile::<_, M>(self, sums, panel, words)
    }

    /// One panel of int8 weights times one vector: `sums` gain [`dot4_u7`](Self::dot4_u7) of `words[k]` and both halves
    /// of `panel[k]` for every step k, of which there are a multiple of eight.
    #[inline(always)]
    fn add_i8_panel(self, sums: &mut [Self::I32; 2], panel: &[[[i8; 32]; 2]], words: &[u32]) {
        products::add_i8_panel(self, sums, panel, words)
    }

    /// Four panels of int8 weights times one vector: as [`add_i8_panel`](Self::add_i8_panel) for each of them.
    #[inline(always)]
    fn add_i8_panels(
        self,
        sums: &mut [[Self::I32; 2]; 4],
        panels: [&[[[i8; 32]; 2]]; 4],
        words: &[u32],
    ) {
        products::add_i8_panels(self, sums, panels, words)
    }

    /// Groups of int8 weights times M vectors: for every group g, in order, `outputs[m]` gains `scales[g]` times
    /// `units[g][0][m]`, an f32's bits, times an integer: it starts at `units[g][1][m]` and gains
    /// [`dot4_weights`](Self::dot4_weights) of `groups[g][k]` and `words[8·g + k][m]` for each of the group's steps.
    /// `steps` is eight, as a number that the compiler does not know.
    #[inline(always)]
    fn add_i8_groups<const M: usize>(
        self,
        outputs: &mut [[Self::F32; 2]; M],
        groups: &[[[[i8; 32]; 2]; GROUP_STEPS]],
        scales: &[[[f16; 8]; 2]],
        words: &[[u32; M]],
        units: &[[[u32; M]; 2]],
        steps: usize,
    ) {
        products::add_i8_groups::<_, M>(self, outputs, groups, scales, words, units, steps)
    }

    /// A panel of int8 weights times one vector, with the sums and roundings of
    /// [`add_i8_groups`](Self::add_i8_groups).
    #[inline(always)]
    fn dot_i8_panel(
        self,
        groups: &[[[[i8; 32]; 2]; GROUP_STEPS]],
        scales: &[[[f16; 8]; 2]],
        words: &[u32],
        units: &[[u32; 2]],
    ) -> [Self::F32; 2] {
        products::dot_i8_panel(self, groups, scales, words, units)
    }

    /// The word for a group's relative scale, at most 8192, where it multiplies products with 4-bit weights.
    #[inline(always)]
    fn scale_u4(self, scale: i32) -> u32 {
        products::scale_u4::<Self>(scale)
    }

    /// The word that makes the products of a group of 4-bit weights start at −8·sum; |sum| is at most 32·127.
    #[inline(always)]
    fn start_u4(self, sum: i32) -> u32 {
        products::start_u4::<Self>(sum)
    }

    /// Groups of 4-bit weights, unpacked, times M vectors: for every group g, in order, `outputs[m]` gains the
    /// group's scale times the product, rounded, of the relative scale of which [`scale_u4`](Self::scale_u4) made
    /// `units[g][0][m]`, and the integer Σ u·x, exact, over its unsigned bytes u and the signed bytes x (in ±127) of
    /// `words[8·g..][m]`. The integer starts at `units[g][1][m]`, which [`start_u4`](Self::start_u4) made; with MINIMA
    /// it starts at 0, and the output gains the group's minimum times `units[g][1][m]`, an f32's bits. `steps` is
    /// eight, as a number that the compiler does not know.
    #[inline(always)]
    fn add_u4_groups<const M: usize, const MINIMA: bool>(
        self,
        outputs: &mut [[Self::F32; 2]; M],
        groups: &[U4Group],
        words: &[[u32; M]],
        units: &[[[u32; M]; 2]],
        steps: usize,
    ) {
        products::add_u4_groups::<_, M, MINIMA>(self, outputs, groups, words, units, steps)
    }

    /// A panel of packed 4-bit weights times one vector, with the sums and roundings of
    /// [`add_u4_groups`](Self::add_u4_groups); without MINIMA, `minima` only has to be as long as `scales`.
    #[inline(always)]
    fn dot_u4_panel<const MINIMA: bool>(
        self,
        groups: &[[[[u8; 32]; 2]; GROUP_STEPS / 2]],
        parameters: [&[[[f16; 8]; 2]]; 2],
        words: &[u32],
        units: &[[u32; 2]],
    ) -> [Self::F32; 2] {
        products::dot_u4_panel::<_, MINIMA>(self, groups, parameters, words, units)
    }

    /// Asks for the cache line `bytes_ahead` behind `at`; a hint without effect on results.
    #[inline(always)]
    fn prefetch<T>(self, at: &T, bytes_ahead: usize) {
        let _ = (at, bytes_ahead);
    }
}
