//! The operations of x86-64 with AVX2, FMA and F16C (x86-64-v3): one 256-bit register for eight lanes. Byte products
//! add to 32 bits at once where the token proves AVX-VNNI or AVX-512.
//!
//! Intrinsics are `unsafe` to call because this module is compiled for the baseline; they become single instructions
//! once inlined into a trampoline. (The attribute is required even where the whole build has the features.)

use super::avx2_products;
use super::avx512;
use super::products as generic;
use super::x86::{AVX_VNNI, AVX2, AVX512, X86, run_apart};
use super::{Ahead, GROUP_STEPS, Isa, Kernel, U4Group};
use core::arch::x86_64::*;
use half::{bf16, f16};

/// Miri runs no assembly.
const HAS_ASM: bool = !cfg!(miri);

/// Lanes as signed bytes, saturated. The packs work on 128-bit halves: words of four lanes come out as 0 2 4 6 1 3 5 7.
#[inline]
#[target_feature(enable = "avx2")]
fn narrow_halves([a, b, c, d]: [__m256i; 4]) -> __m256i {
    _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d))
}

/// Words of `a` and `b` side by side, two a register: of each 128-bit half, words 0 and 1, then 2 and 3.
#[inline]
#[target_feature(enable = "avx2")]
fn interleaved_words(a: __m256i, b: __m256i) -> [__m128d; 4] {
    let low = _mm256_castsi256_pd(_mm256_unpacklo_epi32(a, b));
    let high = _mm256_castsi256_pd(_mm256_unpackhi_epi32(a, b));
    [
        _mm256_castpd256_pd128(low),
        _mm256_extractf128_pd::<1>(low),
        _mm256_castpd256_pd128(high),
        _mm256_extractf128_pd::<1>(high),
    ]
}

/// The first two lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn two_words(a: __m128i) -> [u32; 2] {
    let both = _mm_cvtsi128_si64(a) as u64;
    [both as u32, (both >> 32) as u32]
}

impl<const LEVEL: u8> Isa for X86<LEVEL> {
    type F32 = __m256;
    type I32 = __m256i;
    type I16 = __m256i;
    type Bytes = __m256i;
    type Mask = __m256;

    const NAME: &'static str = match LEVEL {
        AVX2 => "avx2",
        AVX_VNNI => "avxvnni",
        _ => "avx512",
    };
    const WIDE: bool = LEVEL == AVX512;
    const DOT4: bool = LEVEL != AVX2;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, from: &[f32; 8]) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, a: __m256, to: &mut [f32; 8]) {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), a) };
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; 8]) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store_f16(self, a: __m256, to: &mut [f16; 8]) {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe {
            _mm_storeu_si128(
                to.as_mut_ptr().cast(),
                _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a),
            )
        };
    }
    #[inline(always)]
    fn load_bf16(self, from: &[bf16; 8]) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe {
            // Neither a conversion nor a shift: these would take the ports of the multiply-adds.
            let both = _mm256_broadcastsi128_si256(_mm_loadu_si128(from.as_ptr().cast()));
            #[rustfmt::skip]
            let upper_halves = _mm256_setr_epi8(
                -1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7,
                -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15,
            );
            _mm256_castsi256_ps(_mm256_shuffle_epi8(both, upper_halves))
        }
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; 8]) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn iota(self) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_setr_ps(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn max_if_positive(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe {
            _mm256_castsi256_ps(_mm256_max_epi32(
                _mm256_castps_si256(a),
                _mm256_castps_si256(b),
            ))
        }
    }
    #[inline(always)]
    fn neg(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_xor_ps(a, _mm256_set1_ps(-0.0)) }
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    fn round_even(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn add_exponent(self, p: __m256, t: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe {
            let k = _mm256_slli_epi32::<23>(_mm256_castps_si256(t));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), k))
        }
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe {
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
        }
    }
    #[inline(always)]
    fn first(self, a: __m256) -> f32 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_cvtss_f32(a) }
    }
    #[inline(always)]
    fn max_lane(self, a: __m256) -> f32 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe {
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps::<1>(a, a)))
        }
    }
    #[inline(always)]
    fn max_bits(self, a: __m256) -> u32 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe {
            let a = _mm256_castps_si256(a);
            let a = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            let a = _mm_max_epi32(a, _mm_shuffle_epi32::<0b00_00_11_10>(a));
            let a = _mm_max_epi32(a, _mm_shuffle_epi32::<0b00_00_00_01>(a));
            _mm_cvtsi128_si32(a) as u32
        }
    }
    #[inline(always)]
    fn max_bits_of_two(self, a: __m256, b: __m256) -> [u32; 2] {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe {
            let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
            let a = _mm256_max_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let a = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            two_words(_mm_max_epi32(a, _mm_unpackhi_epi64(a, a)))
        }
    }
    #[inline(always)]
    fn gt(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_cmp_ps::<_CMP_GT_OQ>(a, b) }
    }
    #[inline(always)]
    fn lt(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn select(self, mask: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_blendv_ps(no, yes, mask) }
    }
    #[inline(always)]
    fn all(self, mask: __m256) -> bool {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_movemask_ps(mask) == 0xff }
    }
    #[inline(always)]
    fn any(self, mask: __m256) -> bool {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_movemask_ps(mask) != 0 }
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_set1_epi32(x) }
    }
    #[inline(always)]
    fn load_i32(self, from: &[i32; 8]) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_i32(self, a: __m256i, to: &mut [i32; 8]) {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), a) };
    }
    #[inline(always)]
    fn add_i32(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    fn sum_i32(self, a: __m256i) -> i32 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe {
            let a = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            let a = _mm_add_epi32(a, _mm_shuffle_epi32::<0b00_00_11_10>(a));
            let a = _mm_add_epi32(a, _mm_shuffle_epi32::<0b00_00_00_01>(a));
            _mm_cvtsi128_si32(a)
        }
    }
    #[inline(always)]
    fn sums_of_two(self, a: __m256i, b: __m256i) -> [i32; 2] {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        let sums = unsafe {
            let a = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let a = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            two_words(_mm_add_epi32(a, _mm_unpackhi_epi64(a, a)))
        };
        sums.map(|sum| sum as i32)
    }
    #[inline(always)]
    fn to_f32(self, a: __m256i) -> __m256 {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn round_i32(self, a: __m256) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_cvtps_epi32(a) }
    }
    #[inline(always)]
    fn bits(self, a: __m256) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_castps_si256(a) }
    }
    #[inline(always)]
    fn store_i8(self, a: __m256i, to: &mut [i8; 8]) {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe {
            let words =
                _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            _mm_storel_epi64(to.as_mut_ptr().cast(), _mm_packs_epi16(words, words));
        }
    }
    #[inline(always)]
    fn load_bytes_i8(self, from: &[i8; 32]) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_bytes_u8(self, from: &[u8; 32]) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_bytes(self, a: __m256i, to: &mut [u8; 32]) {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), a) };
    }
    #[inline(always)]
    fn splat4_u8(self, from: [u8; 4]) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_set1_epi32(i32::from_ne_bytes(from)) }
    }
    #[inline(always)]
    fn splat4_i8(self, from: [i8; 4]) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_set1_epi32(i32::from_ne_bytes(from.map(|a| a as u8))) }
    }
    #[inline(always)]
    fn low_nibbles(self, a: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_and_si256(a, _mm256_set1_epi8(15)) }
    }
    #[inline(always)]
    fn high_nibbles(self, a: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_and_si256(_mm256_srli_epi16::<4>(a), _mm256_set1_epi8(15)) }
    }
    #[inline(always)]
    fn dot4_u7(self, acc: __m256i, u: __m256i, s: __m256i) -> __m256i {
        match LEVEL {
            // SAFETY: `self` proves AVX-VNNI.
            AVX_VNNI => unsafe { _mm256_dpbusd_avx_epi32(acc, u, s) },
            // SAFETY: `self` proves AVX-512 VNNI and VL.
            AVX512 => unsafe { _mm256_dpbusd_epi32(acc, u, s) },
            // A pair of products is at most 2·127·128 = 32 512 in magnitude, so `maddubs` does not saturate.
            // SAFETY: `self` proves AVX2, FMA and F16C.
            _ => unsafe {
                let pairs = _mm256_maddubs_epi16(u, s);
                _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            },
        }
    }
    #[inline(always)]
    fn dot4_u8(self, acc: __m256i, u: __m256i, s: __m256i) -> __m256i {
        // A pair of products is at most 2·255·64 = 32 640, so `maddubs` does not saturate here either.
        self.dot4_u7(acc, u, s)
    }
    const WEIGHT_OFFSET: i32 = 128;
    #[inline(always)]
    fn load_weights(self, from: &[i8; 32]) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_xor_si256(self.load_bytes_i8(from), _mm256_set1_epi8(-128)) }
    }
    #[inline(always)]
    fn dot4_weights(self, acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        self.dot4_u8(acc, w, x)
    }
    #[inline(always)]
    fn narrow(self, a: [__m256i; 4]) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe {
            let bytes = narrow_halves(a);
            _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
        }
    }
    #[inline(always)]
    fn store_words_of_two(
        self,
        [a, b]: [[__m256i; 4]; 2],
        to: &mut [[u32; 2]],
        [first, stride]: [usize; 2],
    ) {
        // SAFETY: `self` proves AVX2.
        let pairs = unsafe { interleaved_words(narrow_halves(a), narrow_halves(b)) };
        for (i, pairs) in pairs.into_iter().enumerate() {
            // Even words in the lower 128 bits, odd ones in the upper.
            let k = [0, 1, 4, 5][i];
            if let Some(to) = to.get_mut(first + k * stride) {
                // SAFETY: `self` proves AVX2; the reference covers eight bytes.
                unsafe { _mm_storel_pd(to.as_mut_ptr().cast(), pairs) };
            }
            if let Some(to) = to.get_mut(first + (k + 2) * stride) {
                // SAFETY: `self` proves AVX2; the reference covers eight bytes.
                unsafe { _mm_storeh_pd(to.as_mut_ptr().cast(), pairs) };
            }
        }
    }
    #[inline(always)]
    fn splat2_i16(self, x: u32) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_set1_epi32(x as i32) }
    }
    #[inline(always)]
    fn dot2_u4(self, acc: __m256i, u: __m256i, s: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { _mm256_add_epi16(acc, _mm256_maddubs_epi16(u, s)) }
    }
    #[inline(always)]
    fn load_i16(self, from: &[i16; 16]) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_i16(self, a: __m256i, to: &mut [i16; 16]) {
        // SAFETY: `self` proves AVX2, FMA and F16C; the reference covers the bytes.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), a) };
    }
    #[inline(always)]
    fn narrow_i16(self, a: [__m256i; 2]) -> __m256i {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe {
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a[0], a[1]));
            let words = _mm256_shufflelo_epi16::<0b11_01_10_00>(words);
            _mm256_shufflehi_epi16::<0b11_01_10_00>(words)
        }
    }
    #[inline(always)]
    fn widen_u8(self, a: __m256i) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe {
            [
                _mm256_and_si256(a, _mm256_set1_epi16(0xff)),
                _mm256_srli_epi16::<8>(a),
            ]
        }
    }
    #[inline(always)]
    fn widen_i8(self, a: __m256i) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe {
            [
                _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(a)),
                _mm256_srai_epi16::<8>(a),
            ]
        }
    }
    #[inline(always)]
    fn dot2_i16(self, acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
        match LEVEL {
            // SAFETY: `self` proves AVX-VNNI.
            AVX_VNNI => unsafe { _mm256_dpwssd_avx_epi32(acc, a, b) },
            // SAFETY: `self` proves AVX-512 VNNI and VL.
            AVX512 => unsafe { _mm256_dpwssd_epi32(acc, a, b) },
            // SAFETY: `self` proves AVX2, FMA and F16C.
            _ => unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)) },
        }
    }
    #[inline(always)]
    fn apart<K: Kernel>(self, kernel: K) -> K::Output {
        run_apart(self.narrow(), kernel)
    }
    #[inline(always)]
    fn prefetch<T>(self, at: &T, bytes_ahead: usize) {
        let line = core::ptr::from_ref(at).wrapping_byte_add(bytes_ahead);
        if !cfg!(miri) {
            // SAFETY: a prefetch never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
        }
    }
    #[inline(always)]
    fn add_f32_tile<const P: usize, const M: usize>(
        self,
        sums: &mut [[[__m256; 2]; M]; P],
        panels: [&[[[f32; 8]; 2]]; P],
        x: [&[f32]; M],
        next: Ahead,
    ) {
        if LEVEL == AVX512 {
            // SAFETY: `self` proves the features.
            unsafe { avx512::add_f32_tile(sums, panels, x, next) }
        } else {
            generic::add_float_tile(self, sums, panels, x, next);
        }
    }
    #[inline(always)]
    fn add_f16_tile<const P: usize, const M: usize>(
        self,
        sums: &mut [[[__m256; 2]; M]; P],
        panels: [&[[[f16; 8]; 2]]; P],
        x: [&[f32]; M],
        next: Ahead,
    ) {
        if LEVEL == AVX512 {
            // SAFETY: `self` proves the features.
            unsafe { avx512::add_f16_tile(sums, panels, x, next) }
        } else {
            generic::add_float_tile(self, sums, panels, x, next);
        }
    }
    #[inline(always)]
    fn add_i8_tile<const M: usize>(
        self,
        sums: &mut [[__m256i; 2]; M],
        panel: &[[[i8; 32]; 2]],
        words: &[[u32; M]],
    ) {
        if LEVEL == AVX512 {
            // SAFETY: `self` proves the features.
            unsafe { avx512::add_i8_tile(sums, panel, words) }
        } else if LEVEL == AVX2
            && HAS_ASM
            && M == 4
            && let Ok(sums) = sums.as_mut_slice().try_into()
        {
            let words = words.as_flattened().as_chunks().0;
            // SAFETY: `self` proves AVX2.
            unsafe { avx2_products::add_i8_tile(sums, panel, words) }
        } else {
            generic::add_i8_tile(self, sums, panel, words);
        }
    }
    #[inline(always)]
    fn add_i8_groups<const M: usize>(
        self,
        outputs: &mut [[__m256; 2]; M],
        groups: &[[[[i8; 32]; 2]; GROUP_STEPS]],
        scales: &[[[f16; 8]; 2]],
        words: &[[u32; M]],
        units: &[[[u32; M]; 2]],
        steps: usize,
    ) {
        if LEVEL == AVX512 {
            // SAFETY: `self` proves the features.
            unsafe { avx512::add_i8_groups(outputs, groups, scales, words, units, steps) }
        } else {
            generic::add_i8_groups(self, outputs, groups, scales, words, units, steps);
        }
    }
    #[inline(always)]
    fn dot_i8_panel(
        self,
        groups: &[[[[i8; 32]; 2]; GROUP_STEPS]],
        scales: &[[[f16; 8]; 2]],
        words: &[u32],
        units: &[[u32; 2]],
    ) -> [__m256; 2] {
        if LEVEL == AVX512 {
            // SAFETY: `self` proves the features.
            unsafe { avx512::dot_i8_panel(groups, scales, words, units) }
        } else {
            generic::dot_i8_panel(self, groups, scales, words, units)
        }
    }
    #[inline(always)]
    fn add_u4_groups<const M: usize, const MINIMA: bool>(
        self,
        outputs: &mut [[__m256; 2]; M],
        groups: &[U4Group],
        words: &[[u32; M]],
        units: &[[[u32; M]; 2]],
        steps: usize,
    ) {
        if LEVEL == AVX512 {
            // SAFETY: `self` proves the features.
            unsafe { avx512::add_u4_groups::<M, MINIMA>(outputs, groups, words, units, steps) }
        } else if LEVEL == AVX2
            && HAS_ASM
            && M == 6
            && let Ok(outputs) = outputs.as_mut_slice().try_into()
        {
            let words = words.as_flattened().as_chunks().0;
            let units = units.as_flattened().as_flattened();
            let units = units.as_chunks().0.as_chunks().0;
            // SAFETY: `self` proves AVX2 and FMA.
            unsafe { avx2_products::add_u4_groups::<MINIMA>(outputs, groups, words, units) }
        } else {
            generic::add_u4_groups::<_, M, MINIMA>(self, outputs, groups, words, units, steps);
        }
    }
    #[inline(always)]
    fn dot_u4_panel<const MINIMA: bool>(
        self,
        groups: &[[[[u8; 32]; 2]; GROUP_STEPS / 2]],
        parameters: [&[[[f16; 8]; 2]]; 2],
        words: &[u32],
        units: &[[u32; 2]],
    ) -> [__m256; 2] {
        if LEVEL == AVX512 {
            // SAFETY: `self` proves the features.
            unsafe { avx512::dot_u4_panel::<MINIMA>(groups, parameters, words, units) }
        } else {
            generic::dot_u4_panel::<_, MINIMA>(self, groups, parameters, words, units)
        }
    }
}
