//! Micro-kernels of products on registers of sixteen lanes, a whole panel: AVX-512 with VNNI.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes and adds four products to 32 bits without saturation, so the
//! integers are those of every other instruction set. Two of them start in a cycle and take five: tiles have at least
//! eight chains. The contracts are those of [`Isa`](super::Isa).
//!
//! Safe functions but for loads; to call them, the caller's token proves the features.

use super::products::{PREFETCH_BYTES, common};
use super::{Ahead, GROUP_STEPS, U4Group};
use core::arch::x86_64::*;
use half::f16;

/// Both halves of a step.
#[inline]
#[target_feature(enable = "avx512f")]
fn load<T>(from: &[[T; 32]; 2]) -> __m512i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: the reference covers 64 bytes, and this load has no demand on their alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(from: &[[f32; 8]; 2]) -> __m512 {
    // SAFETY: the reference covers 64 bytes, and this load has no demand on their alignment.
    unsafe { _mm512_loadu_ps(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_f16(from: &[[f16; 8]; 2]) -> __m512 {
    // SAFETY: the reference covers 32 bytes, and this load has no demand on their alignment.
    let halves = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
    _mm512_cvtph_ps(halves)
}

#[inline(always)]
fn prefetch<T>(at: &T, bytes_ahead: usize) {
    let line = core::ptr::from_ref(at).wrapping_byte_add(bytes_ahead);
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word as i32)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat_f32(bits: u32) -> __m512 {
    _mm512_castsi512_ps(splat(bits))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn join([low, high]: [__m256i; 2]) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn halves(a: __m512i) -> [__m256i; 2] {
    [_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64::<1>(a)]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn join_f32([low, high]: [__m256; 2]) -> __m512 {
    _mm512_castsi512_ps(join([_mm256_castps_si256(low), _mm256_castps_si256(high)]))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn halves_f32(a: __m512) -> [__m256; 2] {
    let [low, high] = halves(_mm512_castps_si512(a));
    [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
}

/// The product of float weights, which differ in how they are loaded.
macro_rules! float_tile {
    ($name:ident, $weight:ty, $load:ident) => {
        #[allow(
            clippy::needless_range_loop,
            reason = "zipped iterators over arrays may stay calls and their sums in memory"
        )]
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
        pub(super) fn $name<const P: usize, const M: usize>(
            sums: &mut [[[__m256; 2]; M]; P],
            panels: [&[[[$weight; 8]; 2]]; P],
            x: [&[f32]; M],
            next: Ahead,
        ) {
            let mut wide = [[_mm512_setzero_ps(); P]; M];
            for m in 0..M {
                for p in 0..P {
                    wide[m][p] = join_f32(sums[p][m]);
                }
            }
            let (len, panels, x) = common(panels, x);
            let mut bytes = next.bytes;
            for k in 0..len {
                prefetch(&panels[0][k], bytes);
                bytes = bytes.wrapping_add(next.step);
                let mut w = [_mm512_setzero_ps(); P];
                for p in 0..P {
                    w[p] = $load(&panels[p][k]);
                }
                for m in 0..M {
                    let x = _mm512_set1_ps(x[m][k]);
                    for p in 0..P {
                        wide[m][p] = _mm512_fmadd_ps(w[p], x, wide[m][p]);
                    }
                }
            }
            for m in 0..M {
                for p in 0..P {
                    sums[p][m] = halves_f32(wide[m][p]);
                }
            }
        }
    };
}

float_tile!(add_f32_tile, f32, load_f32);
float_tile!(add_f16_tile, f16, load_f16);

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn add_i8_tile<const M: usize>(
    sums: &mut [[__m256i; 2]; M],
    panel: &[[[i8; 32]; 2]],
    words: &[[u32; M]],
) {
    let mut wide = [_mm512_setzero_si512(); M];
    for (wide, sums) in wide.iter_mut().zip(&*sums) {
        *wide = join(*sums);
    }
    for (step, words) in panel.iter().zip(words) {
        let w = load(step);
        for (sum, x) in wide.iter_mut().zip(words) {
            *sum = _mm512_dpbusd_epi32(*sum, splat(*x), w);
        }
    }
    for (sums, wide) in sums.iter_mut().zip(wide) {
        *sums = halves(wide);
    }
}

/// Adds a group's integer sums to the outputs, times the product of the scales of its weights and its activations.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_sums<const M: usize>(
    outputs: &mut [__m512; M],
    sums: [__m512i; M],
    scales: __m512,
    x_scales: &[u32; M],
) {
    for ((output, sum), x_scale) in outputs.iter_mut().zip(sums).zip(x_scales) {
        let scales = _mm512_mul_ps(scales, splat_f32(*x_scale));
        *output = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scales, *output);
    }
}

/// Adds a group's integer sums to the outputs, times the scales of its activations, then of its weights.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_scaled<const M: usize>(
    outputs: &mut [__m512; M],
    sums: [__m512i; M],
    scales: __m512,
    x_scales: &[u32; M],
) {
    for ((output, sum), x_scale) in outputs.iter_mut().zip(sums).zip(x_scales) {
        let product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), splat_f32(*x_scale));
        *output = _mm512_fmadd_ps(product, scales, *output);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn add_i8_groups<const M: usize>(
    outputs: &mut [[__m256; 2]; M],
    groups: &[[[[i8; 32]; 2]; GROUP_STEPS]],
    scales: &[[[f16; 8]; 2]],
    words: &[[u32; M]],
    units: &[[[u32; M]; 2]],
    steps: usize,
) {
    let mut wide = [_mm512_setzero_ps(); M];
    for (wide, outputs) in wide.iter_mut().zip(&*outputs) {
        *wide = join_f32(*outputs);
    }
    let offset = _mm512_set1_epi8(-128);
    let words = words.as_chunks::<GROUP_STEPS>().0;
    let activations = words.iter().zip(units);
    for ((group, scales), (words, [x_scales, starts])) in groups.iter().zip(scales).zip(activations)
    {
        let mut sums = [_mm512_setzero_si512(); M];
        for (sum, start) in sums.iter_mut().zip(starts) {
            *sum = splat(*start);
        }
        for (step, words) in group.iter().take(steps).zip(words) {
            let w = _mm512_xor_si512(load(step), offset);
            for (sum, x) in sums.iter_mut().zip(words) {
                *sum = _mm512_dpbusd_epi32(*sum, w, splat(*x));
            }
        }
        add_sums(&mut wide, sums, load_f16(scales), x_scales);
    }
    for (outputs, wide) in outputs.iter_mut().zip(wide) {
        *outputs = halves_f32(wide);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn dot_i8_panel(
    groups: &[[[[i8; 32]; 2]; GROUP_STEPS]],
    scales: &[[[f16; 8]; 2]],
    words: &[u32],
    units: &[[u32; 2]],
) -> [__m256; 2] {
    let offset = _mm512_set1_epi8(-128);
    let mut output = _mm512_setzero_ps();
    let words = words.as_chunks::<GROUP_STEPS>().0;
    let activations = words.iter().zip(units);
    for ((group, scales), (words, [x_scale, start])) in groups.iter().zip(scales).zip(activations) {
        let mut sum = splat(*start);
        for (step, x) in group.iter().zip(words) {
            prefetch(step, PREFETCH_BYTES);
            sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(load(step), offset), splat(*x));
        }
        let scales = _mm512_mul_ps(load_f16(scales), splat_f32(*x_scale));
        output = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scales, output);
    }
    halves_f32(output)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn add_u4_groups<const M: usize, const MINIMA: bool>(
    outputs: &mut [[__m256; 2]; M],
    groups: &[U4Group],
    words: &[[u32; M]],
    units: &[[[u32; M]; 2]],
    steps: usize,
) {
    let mut wide = [_mm512_setzero_ps(); M];
    for (wide, outputs) in wide.iter_mut().zip(&*outputs) {
        *wide = join_f32(*outputs);
    }
    let words = words.as_chunks::<GROUP_STEPS>().0;
    for ((group, words), [x_scales, sums]) in groups.iter().zip(words).zip(units) {
        let mut products = [_mm512_setzero_si512(); M];
        if !MINIMA {
            for (product, start) in products.iter_mut().zip(sums) {
                *product = splat(*start);
            }
        }
        for (step, words) in group.steps.iter().take(steps).zip(words) {
            let w = load(step);
            for (product, x) in products.iter_mut().zip(words) {
                *product = _mm512_dpbusd_epi32(*product, w, splat(*x));
            }
        }
        add_scaled(&mut wide, products, load_f32(&group.scales), x_scales);
        if MINIMA {
            let minima = load_f32(&group.minima);
            for (output, sum) in wide.iter_mut().zip(sums) {
                *output = _mm512_fmadd_ps(minima, splat_f32(*sum), *output);
            }
        }
    }
    for (outputs, wide) in outputs.iter_mut().zip(wide) {
        *outputs = halves_f32(wide);
    }
}

/// The high nibbles stay where they are, sixteenfold: a shift of the sum costs less than shifts of the bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn dot_u4_panel<const MINIMA: bool>(
    groups: &[[[[u8; 32]; 2]; GROUP_STEPS / 2]],
    [scales, minima]: [&[[[f16; 8]; 2]]; 2],
    words: &[u32],
    units: &[[u32; 2]],
) -> [__m256; 2] {
    let low_bits = _mm512_set1_epi8(15);
    let mut output = _mm512_setzero_ps();
    let words = words.as_chunks::<GROUP_STEPS>().0;
    let activations = words.iter().zip(units);
    let parameters = scales.iter().zip(minima);
    for ((group, (words, [x_scale, x_sum])), (scales, minima)) in
        groups.iter().zip(activations).zip(parameters)
    {
        let mut low = splat(if MINIMA { 0 } else { *x_sum });
        let mut high = _mm512_setzero_si512();
        for (bytes, [x0, x1]) in group.iter().zip(words.as_chunks::<2>().0) {
            prefetch(bytes, PREFETCH_BYTES);
            let bytes = load(bytes);
            low = _mm512_dpbusd_epi32(low, _mm512_and_si512(bytes, low_bits), splat(*x0));
            high = _mm512_dpbusd_epi32(high, _mm512_andnot_si512(low_bits, bytes), splat(*x1));
        }
        let sum = _mm512_add_epi32(low, _mm512_srai_epi32::<4>(high));
        let product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), splat_f32(*x_scale));
        output = _mm512_fmadd_ps(product, load_f16(scales), output);
        if MINIMA {
            output = _mm512_fmadd_ps(load_f16(minima), splat_f32(*x_sum), output);
        }
    }
    halves_f32(output)
}
