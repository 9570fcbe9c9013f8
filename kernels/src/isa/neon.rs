//! NEON (Advanced SIMD) of AArch64: two 128-bit registers for eight lanes. And the same with byte products that add
//! to 32 bits at once, by the extensions DotProd and I8MM.
//!
//! NEON belongs to every AArch64 target that this module is compiled for, so everything inlines without a trampoline.
//! Those need none either: their instructions are written by name (Rust's intrinsics for them are not stable), and
//! nothing else uses them.

use super::{GROUP_STEPS, Isa, Kernel, U4Group, i8mm, products, sealed::Sealed};
use core::arch::aarch64::*;
use core::arch::asm;
use half::{bf16, f16};

/// Proof that the build targets a processor with NEON; and beyond that what [`NeonDotprod`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arm<const LEVEL: u8>(());

const NEON: u8 = 0;
const DOTPROD: u8 = 1;
const I8MM: u8 = 2;

/// Proof of NEON.
pub type Neon = Arm<NEON>;
/// Proof of NEON and DotProd: `sdot`.
pub type NeonDotprod = Arm<DOTPROD>;
/// Proof of NEON, DotProd and I8MM: `smmla`.
pub type NeonI8mm = Arm<I8MM>;

impl Neon {
    pub(crate) const fn new() -> Self {
        Self(())
    }

    /// The token with byte products, if the whole build is compiled for them.
    pub(crate) const fn with_dotprod_from_build(self) -> Option<NeonDotprod> {
        if cfg!(target_feature = "dotprod") {
            Some(Arm(()))
        } else {
            None
        }
    }

    /// The token with byte products, if the processor has them. Without the standard library, whose answer comes from
    /// the operating system, only the build knows.
    pub(crate) fn with_dotprod(self) -> Option<NeonDotprod> {
        #[cfg(any(feature = "std", test))]
        if !cfg!(miri) && std::arch::is_aarch64_feature_detected!("dotprod") {
            return Some(Arm(()));
        }
        self.with_dotprod_from_build()
    }
}

impl NeonDotprod {
    /// The token with matrix products of bytes, if the whole build is compiled for them.
    pub(crate) const fn with_i8mm_from_build(self) -> Option<NeonI8mm> {
        if cfg!(target_feature = "i8mm") {
            Some(Arm(()))
        } else {
            None
        }
    }

    /// The token with matrix products of bytes, if the processor has them: see [`Neon::with_dotprod`].
    pub(crate) fn with_i8mm(self) -> Option<NeonI8mm> {
        #[cfg(any(feature = "std", test))]
        if !cfg!(miri) && std::arch::is_aarch64_feature_detected!("i8mm") {
            return Some(Arm(()));
        }
        self.with_i8mm_from_build()
    }
}

impl NeonI8mm {
    /// The low halves of both, and the high halves, of each register.
    #[inline(always)]
    pub(super) fn zip_halves(self, a: I32, b: I32) -> (I32, I32) {
        // SAFETY: `self` proves NEON.
        unsafe {
            let low = |a, b| vcombine_s32(vget_low_s32(a), vget_low_s32(b));
            let high = |a, b| vcombine_s32(vget_high_s32(a), vget_high_s32(b));
            (
                [low(a[0], b[0]), low(a[1], b[1])],
                [high(a[0], b[0]), high(a[1], b[1])],
            )
        }
    }

    /// Words of both in turn: from the low halves of each register, and from the high ones.
    #[inline(always)]
    pub(super) fn zip_words(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        // SAFETY: `self` proves NEON.
        unsafe {
            let words = |a| vreinterpretq_s32_s8(a);
            let low = |a, b| vreinterpretq_s8_s32(vzip1q_s32(words(a), words(b)));
            let high = |a, b| vreinterpretq_s8_s32(vzip2q_s32(words(a), words(b)));
            (
                [low(a[0], b[0]), low(a[1], b[1])],
                [high(a[0], b[0]), high(a[1], b[1])],
            )
        }
    }

    /// Eight bytes of two vectors: `a[0]`, `b[0]`, `a[1]`, `b[1]`.
    #[inline(always)]
    pub(super) fn pair_words(self, a: &[u32; 2], b: &[u32; 2]) -> int8x16_t {
        // SAFETY: `self` proves NEON; the references cover the words.
        unsafe {
            let (a, b) = (vld1_u32(a.as_ptr()), vld1_u32(b.as_ptr()));
            let zero = vdup_n_u32(0);
            vreinterpretq_s8_u32(vzip1q_u32(vcombine_u32(a, zero), vcombine_u32(b, zero)))
        }
    }
}

/// Each register: lane 2i + j gains `Σ_{c<8} x[8i+c] · w[8j+c]`, all signed.
#[inline(always)]
pub(super) fn smmla_pair(_: NeonI8mm, acc: I32, x: int8x16_t, w: Bytes) -> I32 {
    // SAFETY: the token proves I8MM.
    unsafe { [smmla(acc[0], x, w[0]), smmla(acc[1], x, w[1])] }
}

impl<const LEVEL: u8> Arm<LEVEL> {
    /// The token with matrix products, if this is it.
    #[inline(always)]
    const fn as_i8mm(self) -> Option<NeonI8mm> {
        if LEVEL == I8MM { Some(Arm(())) } else { None }
    }

    /// The token of what every level has.
    pub(crate) const fn narrow(self) -> Neon {
        Arm(())
    }
}

impl<const LEVEL: u8> Sealed for Arm<LEVEL> {}

type F32 = [float32x4_t; 2];
type I32 = [int32x4_t; 2];
type I16 = [int16x8_t; 2];
type Bytes = [int8x16_t; 2];
type Mask = [uint32x4_t; 2];

/// Lane i: `acc[i] + Σ_{c<4} u[4i+c] · s[4i+c]`, both signed; a pair of products must fit i16.
#[inline]
#[target_feature(enable = "neon")]
fn dot4_s8(acc: int32x4_t, u: int8x16_t, s: int8x16_t) -> int32x4_t {
    let lo = vpaddlq_s16(vmull_s8(vget_low_s8(u), vget_low_s8(s)));
    let hi = vpaddlq_s16(vmull_high_s8(u, s));
    vaddq_s32(acc, vpaddq_s32(lo, hi))
}

/// As [`dot4_s8`] with u unsigned: widened to i16 first.
#[inline]
#[target_feature(enable = "neon")]
fn dot4_u8(acc: int32x4_t, u: int8x16_t, s: int8x16_t) -> int32x4_t {
    let u = vreinterpretq_u8_s8(u);
    let (u_lo, s_lo) = (
        vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(u))),
        vmovl_s8(vget_low_s8(s)),
    );
    let (u_hi, s_hi) = (vreinterpretq_s16_u16(vmovl_high_u8(u)), vmovl_high_s8(s));
    let lo = vpaddq_s32(
        vmull_s16(vget_low_s16(u_lo), vget_low_s16(s_lo)),
        vmull_high_s16(u_lo, s_lo),
    );
    let hi = vpaddq_s32(
        vmull_s16(vget_low_s16(u_hi), vget_low_s16(s_hi)),
        vmull_high_s16(u_hi, s_hi),
    );
    vaddq_s32(acc, vpaddq_s32(lo, hi))
}

/// Lane i: `acc[i] + u[2i] · s[2i] + u[2i+1] · s[2i+1]`, wrapping.
#[inline]
#[target_feature(enable = "neon")]
fn dot2_s8(acc: int16x8_t, u: int8x16_t, s: int8x16_t) -> int16x8_t {
    let pairs = vpaddq_s16(
        vmull_s8(vget_low_s8(u), vget_low_s8(s)),
        vmull_high_s8(u, s),
    );
    vaddq_s16(acc, pairs)
}

/// A kernel as a function of its own.
#[inline(never)]
pub(crate) fn run_arm<I: Isa, K: Kernel>(isa: I, kernel: K) -> K::Output {
    kernel.run(isa)
}

/// Lane i: `acc[i] + Σ_{c<4} a[4i+c] · b[4i+c]`, all signed, by `sdot`.
///
/// # Safety
/// The processor must have DotProd.
#[inline(always)]
unsafe fn sdot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the caller has DotProd; the instruction only touches its registers.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// Lane 2i + j: `acc[2i+j] + Σ_{c<8} a[8i+c] · b[8j+c]`, all signed, by `smmla`.
///
/// # Safety
/// The processor must have I8MM.
#[inline(always)]
unsafe fn smmla(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the caller has I8MM; the instruction only touches its registers.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

impl<const LEVEL: u8> Isa for Arm<LEVEL> {
    type F32 = F32;
    type I32 = I32;
    type I16 = I16;
    type Bytes = Bytes;
    type Mask = Mask;

    const NAME: &'static str = match LEVEL {
        NEON => "neon",
        DOTPROD => "dotprod",
        _ => "i8mm",
    };
    const DOT4: bool = LEVEL >= DOTPROD;

    #[inline(always)]
    fn splat(self, x: f32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vdupq_n_f32(x); 2] }
    }
    #[inline(always)]
    fn load(self, from: &[f32; 8]) -> F32 {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        unsafe {
            let float32x4x2_t(lo, hi) = vld1q_f32_x2(from.as_ptr());
            [lo, hi]
        }
    }
    #[inline(always)]
    fn store(self, a: F32, to: &mut [f32; 8]) {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        unsafe {
            vst1q_f32_x2(to.as_mut_ptr(), float32x4x2_t(a[0], a[1]));
        }
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; 8]) -> F32 {
        // SAFETY: `self` proves NEON; the conversions touch registers only and the reference covers the bytes.
        unsafe {
            let bits = vld1q_u16(from.as_ptr().cast());
            let (lo, hi);
            asm!(
                "fcvtl {lo:v}.4s, {bits:v}.4h",
                "fcvtl2 {hi:v}.4s, {bits:v}.8h",
                lo = out(vreg) lo,
                hi = lateout(vreg) hi,
                bits = in(vreg) bits,
                options(pure, nomem, nostack, preserves_flags),
            );
            [lo, hi]
        }
    }
    #[inline(always)]
    fn store_f16(self, a: F32, to: &mut [f16; 8]) {
        // SAFETY: `self` proves NEON; the conversions touch registers only and the reference covers the bytes.
        unsafe {
            let bits: uint16x8_t;
            asm!(
                "fcvtn {bits:v}.4h, {lo:v}.4s",
                "fcvtn2 {bits:v}.8h, {hi:v}.4s",
                bits = out(vreg) bits,
                lo = in(vreg) a[0],
                hi = in(vreg) a[1],
                options(pure, nomem, nostack, preserves_flags),
            );
            vst1q_u16(to.as_mut_ptr().cast(), bits);
        }
    }
    #[inline(always)]
    fn load_bf16(self, from: &[bf16; 8]) -> F32 {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        unsafe {
            let bits = vld1q_u16(from.as_ptr().cast());
            let (lo, hi) = (
                vshll_n_u16::<16>(vget_low_u16(bits)),
                vshll_high_n_u16::<16>(bits),
            );
            [vreinterpretq_f32_u32(lo), vreinterpretq_f32_u32(hi)]
        }
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; 8]) -> F32 {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        unsafe {
            let words = vmovl_s8(vld1_s8(from.as_ptr()));
            self.to_f32([vmovl_s16(vget_low_s16(words)), vmovl_high_s16(words)])
        }
    }
    #[inline(always)]
    fn iota(self) -> F32 {
        self.load(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    }
    #[inline(always)]
    fn add(self, a: F32, b: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    fn sub(self, a: F32, b: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    fn mul(self, a: F32, b: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    fn div(self, a: F32, b: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    fn fma(self, a: F32, b: F32, c: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])] }
    }
    #[inline(always)]
    fn min(self, a: F32, b: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vminq_f32(a[0], b[0]), vminq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    fn max(self, a: F32, b: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vmaxq_f32(a[0], b[0]), vmaxq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    fn max_if_positive(self, a: F32, b: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe {
            let max = |a, b| {
                vreinterpretq_f32_s32(vmaxq_s32(
                    vreinterpretq_s32_f32(a),
                    vreinterpretq_s32_f32(b),
                ))
            };
            [max(a[0], b[0]), max(a[1], b[1])]
        }
    }
    #[inline(always)]
    fn neg(self, a: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vnegq_f32(a[0]), vnegq_f32(a[1])] }
    }
    #[inline(always)]
    fn abs(self, a: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vabsq_f32(a[0]), vabsq_f32(a[1])] }
    }
    #[inline(always)]
    fn sqrt(self, a: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vsqrtq_f32(a[0]), vsqrtq_f32(a[1])] }
    }
    #[inline(always)]
    fn round_even(self, a: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vrndnq_f32(a[0]), vrndnq_f32(a[1])] }
    }
    #[inline(always)]
    fn add_exponent(self, p: F32, t: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe {
            let scale = |p, t| {
                let k = vshlq_n_s32::<23>(vreinterpretq_s32_f32(t));
                vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), k))
            };
            [scale(p[0], t[0]), scale(p[1], t[1])]
        }
    }
    #[inline(always)]
    fn sum(self, a: F32) -> f32 {
        // SAFETY: `self` proves NEON.
        unsafe { vaddvq_f32(vaddq_f32(a[0], a[1])) }
    }
    #[inline(always)]
    fn first(self, a: F32) -> f32 {
        // SAFETY: `self` proves NEON.
        unsafe { vgetq_lane_f32::<0>(a[0]) }
    }
    #[inline(always)]
    fn max_lane(self, a: F32) -> f32 {
        // SAFETY: `self` proves NEON.
        unsafe { vmaxvq_f32(vmaxq_f32(a[0], a[1])) }
    }
    #[inline(always)]
    fn max_bits(self, a: F32) -> u32 {
        // SAFETY: `self` proves NEON.
        unsafe {
            let bits = |a| vreinterpretq_u32_f32(a);
            vmaxvq_u32(vmaxq_u32(bits(a[0]), bits(a[1])))
        }
    }
    #[inline(always)]
    fn gt(self, a: F32, b: F32) -> Mask {
        // SAFETY: `self` proves NEON.
        unsafe { [vcgtq_f32(a[0], b[0]), vcgtq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    fn lt(self, a: F32, b: F32) -> Mask {
        // SAFETY: `self` proves NEON.
        unsafe { [vcltq_f32(a[0], b[0]), vcltq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    fn select(self, mask: Mask, yes: F32, no: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe {
            [
                vbslq_f32(mask[0], yes[0], no[0]),
                vbslq_f32(mask[1], yes[1], no[1]),
            ]
        }
    }
    #[inline(always)]
    fn all(self, mask: Mask) -> bool {
        // SAFETY: `self` proves NEON.
        unsafe { vminvq_u32(vandq_u32(mask[0], mask[1])) != 0 }
    }
    #[inline(always)]
    fn any(self, mask: Mask) -> bool {
        // SAFETY: `self` proves NEON.
        unsafe { vmaxvq_u32(vorrq_u32(mask[0], mask[1])) != 0 }
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> I32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vdupq_n_s32(x); 2] }
    }
    #[inline(always)]
    fn load_i32(self, from: &[i32; 8]) -> I32 {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        unsafe {
            let int32x4x2_t(lo, hi) = vld1q_s32_x2(from.as_ptr());
            [lo, hi]
        }
    }
    #[inline(always)]
    fn store_i32(self, a: I32, to: &mut [i32; 8]) {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        unsafe {
            vst1q_s32_x2(to.as_mut_ptr(), int32x4x2_t(a[0], a[1]));
        }
    }
    #[inline(always)]
    fn add_i32(self, a: I32, b: I32) -> I32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vaddq_s32(a[0], b[0]), vaddq_s32(a[1], b[1])] }
    }
    #[inline(always)]
    fn sum_i32(self, a: I32) -> i32 {
        // SAFETY: `self` proves NEON.
        unsafe { vaddvq_s32(vaddq_s32(a[0], a[1])) }
    }
    #[inline(always)]
    fn to_f32(self, a: I32) -> F32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vcvtq_f32_s32(a[0]), vcvtq_f32_s32(a[1])] }
    }
    #[inline(always)]
    fn round_i32(self, a: F32) -> I32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vcvtnq_s32_f32(a[0]), vcvtnq_s32_f32(a[1])] }
    }
    #[inline(always)]
    fn bits(self, a: F32) -> I32 {
        // SAFETY: `self` proves NEON.
        unsafe { [vreinterpretq_s32_f32(a[0]), vreinterpretq_s32_f32(a[1])] }
    }
    #[inline(always)]
    fn store_i8(self, a: I32, to: &mut [i8; 8]) {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        unsafe {
            let words = vcombine_s16(vqmovn_s32(a[0]), vqmovn_s32(a[1]));
            vst1_s8(to.as_mut_ptr(), vqmovn_s16(words));
        }
    }
    #[inline(always)]
    fn load_bytes_i8(self, from: &[i8; 32]) -> Bytes {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        unsafe {
            let int8x16x2_t(lo, hi) = vld1q_s8_x2(from.as_ptr());
            [lo, hi]
        }
    }
    #[inline(always)]
    fn load_bytes_u8(self, from: &[u8; 32]) -> Bytes {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        unsafe {
            let uint8x16x2_t(lo, hi) = vld1q_u8_x2(from.as_ptr());
            [vreinterpretq_s8_u8(lo), vreinterpretq_s8_u8(hi)]
        }
    }
    #[inline(always)]
    fn store_bytes(self, a: Bytes, to: &mut [u8; 32]) {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        unsafe {
            let bytes = uint8x16x2_t(vreinterpretq_u8_s8(a[0]), vreinterpretq_u8_s8(a[1]));
            vst1q_u8_x2(to.as_mut_ptr(), bytes);
        }
    }
    #[inline(always)]
    fn splat4_u8(self, from: [u8; 4]) -> Bytes {
        // SAFETY: `self` proves NEON.
        unsafe { [vreinterpretq_s8_s32(vdupq_n_s32(i32::from_ne_bytes(from))); 2] }
    }
    #[inline(always)]
    fn splat4_i8(self, from: [i8; 4]) -> Bytes {
        self.splat4_u8(from.map(|a| a as u8))
    }
    #[inline(always)]
    fn low_nibbles(self, a: Bytes) -> Bytes {
        // SAFETY: `self` proves NEON.
        unsafe {
            let low = vdupq_n_s8(15);
            [vandq_s8(a[0], low), vandq_s8(a[1], low)]
        }
    }
    #[inline(always)]
    fn high_nibbles(self, a: Bytes) -> Bytes {
        // SAFETY: `self` proves NEON.
        unsafe {
            let high = |a| vreinterpretq_s8_u8(vshrq_n_u8::<4>(vreinterpretq_u8_s8(a)));
            [high(a[0]), high(a[1])]
        }
    }
    #[inline(always)]
    fn dot4_u7(self, acc: I32, u: Bytes, s: Bytes) -> I32 {
        // Below 128, unsigned bytes are signed ones.
        if LEVEL >= DOTPROD {
            // SAFETY: `self` proves DotProd.
            return unsafe { [sdot(acc[0], u[0], s[0]), sdot(acc[1], u[1], s[1])] };
        }
        // SAFETY: `self` proves NEON.
        unsafe { [dot4_s8(acc[0], u[0], s[0]), dot4_s8(acc[1], u[1], s[1])] }
    }
    #[inline(always)]
    fn dot4_u8(self, acc: I32, u: Bytes, s: Bytes) -> I32 {
        // SAFETY: `self` proves NEON.
        unsafe { [dot4_u8(acc[0], u[0], s[0]), dot4_u8(acc[1], u[1], s[1])] }
    }
    const WEIGHT_OFFSET: i32 = 0;
    #[inline(always)]
    fn load_weights(self, from: &[i8; 32]) -> Bytes {
        self.load_bytes_i8(from)
    }
    #[inline(always)]
    fn dot4_weights(self, acc: I32, w: Bytes, x: Bytes) -> I32 {
        // Both are signed; a pair of products is at most 2·128·63 in magnitude, within i16.
        self.dot4_u7(acc, x, w)
    }
    #[inline(always)]
    fn narrow(self, a: [I32; 4]) -> Bytes {
        // SAFETY: `self` proves NEON.
        unsafe {
            let words = |a: I32| vcombine_s16(vqmovn_s32(a[0]), vqmovn_s32(a[1]));
            let bytes = |a, b| vcombine_s8(vqmovn_s16(words(a)), vqmovn_s16(words(b)));
            [bytes(a[0], a[1]), bytes(a[2], a[3])]
        }
    }
    #[inline(always)]
    fn splat2_i16(self, x: u32) -> I16 {
        // SAFETY: `self` proves NEON.
        unsafe { [vreinterpretq_s16_u32(vdupq_n_u32(x)); 2] }
    }
    #[inline(always)]
    fn dot2_u4(self, acc: I16, u: Bytes, s: Bytes) -> I16 {
        // SAFETY: `self` proves NEON.
        unsafe { [dot2_s8(acc[0], u[0], s[0]), dot2_s8(acc[1], u[1], s[1])] }
    }
    #[inline(always)]
    fn load_i16(self, from: &[i16; 16]) -> I16 {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        let int16x8x2_t(a, b) = unsafe { vld1q_s16_x2(from.as_ptr()) };
        [a, b]
    }
    #[inline(always)]
    fn store_i16(self, a: I16, to: &mut [i16; 16]) {
        // SAFETY: `self` proves NEON; the reference covers the bytes.
        unsafe {
            vst1q_s16_x2(to.as_mut_ptr(), int16x8x2_t(a[0], a[1]));
        }
    }
    #[inline(always)]
    fn narrow_i16(self, a: [I32; 2]) -> I16 {
        // SAFETY: `self` proves NEON.
        unsafe {
            const MIDDLE: [u8; 16] = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15];
            let order = vld1q_u8(MIDDLE.as_ptr());
            let swap = |words| vreinterpretq_s16_u8(vqtbl1q_u8(vreinterpretq_u8_s16(words), order));
            let narrow = |a: I32| swap(vcombine_s16(vqmovn_s32(a[0]), vqmovn_s32(a[1])));
            [narrow(a[0]), narrow(a[1])]
        }
    }
    #[inline(always)]
    fn widen_u8(self, a: Bytes) -> [I16; 2] {
        // SAFETY: `self` proves NEON.
        unsafe {
            let words = |a| vreinterpretq_u16_s8(a);
            let even = |a| vreinterpretq_s16_u16(vandq_u16(words(a), vdupq_n_u16(0xff)));
            let odd = |a| vreinterpretq_s16_u16(vshrq_n_u16::<8>(words(a)));
            [[even(a[0]), even(a[1])], [odd(a[0]), odd(a[1])]]
        }
    }
    #[inline(always)]
    fn widen_i8(self, a: Bytes) -> [I16; 2] {
        // SAFETY: `self` proves NEON.
        unsafe {
            let words = |a| vreinterpretq_s16_s8(a);
            let even = |a| vshrq_n_s16::<8>(vshlq_n_s16::<8>(words(a)));
            let odd = |a| vshrq_n_s16::<8>(words(a));
            [[even(a[0]), even(a[1])], [odd(a[0]), odd(a[1])]]
        }
    }
    #[inline(always)]
    fn dot2_i16(self, acc: I32, a: I16, b: I16) -> I32 {
        // SAFETY: `self` proves NEON.
        unsafe {
            let dot = |acc, a, b| {
                let lo = vmull_s16(vget_low_s16(a), vget_low_s16(b));
                vaddq_s32(acc, vpaddq_s32(lo, vmull_high_s16(a, b)))
            };
            [dot(acc[0], a[0], b[0]), dot(acc[1], a[1], b[1])]
        }
    }
    #[inline(always)]
    fn apart<K: Kernel>(self, kernel: K) -> K::Output {
        run_arm(self.narrow(), kernel)
    }

    #[inline(always)]
    fn add_i8_tile<const M: usize>(
        self,
        sums: &mut [[I32; 2]; M],
        panel: &[[[i8; 32]; 2]],
        words: &[[u32; M]],
    ) {
        match self.as_i8mm() {
            Some(isa) if M % 2 == 0 => i8mm::add_i8_tile(isa, sums, panel, words),
            _ => products::add_i8_tile(self, sums, panel, words),
        }
    }
    #[inline(always)]
    fn add_i8_groups<const M: usize>(
        self,
        outputs: &mut [[F32; 2]; M],
        groups: &[[[[i8; 32]; 2]; GROUP_STEPS]],
        scales: &[[[f16; 8]; 2]],
        words: &[[u32; M]],
        units: &[[[u32; M]; 2]],
        steps: usize,
    ) {
        match self.as_i8mm() {
            Some(isa) if M % 2 == 0 => {
                i8mm::add_i8_groups(isa, outputs, groups, scales, words, units, steps)
            }
            _ => products::add_i8_groups(self, outputs, groups, scales, words, units, steps),
        }
    }
    #[inline(always)]
    fn add_u4_groups<const M: usize, const MINIMA: bool>(
        self,
        outputs: &mut [[F32; 2]; M],
        groups: &[U4Group],
        words: &[[u32; M]],
        units: &[[[u32; M]; 2]],
        steps: usize,
    ) {
        match self.as_i8mm() {
            Some(isa) if M % 2 == 0 => {
                i8mm::add_u4_groups::<M, MINIMA>(isa, outputs, groups, words, units, steps)
            }
            _ => {
                products::add_u4_groups::<_, M, MINIMA>(self, outputs, groups, words, units, steps)
            }
        }
    }
}
