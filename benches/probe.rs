//! Loops that do nothing but what a limit is about: arithmetic in registers, loads, conversions.
//!
//! This is the one file of the benchmarks with `unsafe`. A limit is the rate at which the machine runs the
//! instructions a kernel cannot do without, so each loop is written with the very instructions: independent chains,
//! long enough to hide the latency (Zen 3: 4 cycles for an FMA, 7 for multiply, widen and add), everything in
//! registers or in one stream of loads. The compiler can drop none of it, since every result is used.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// What the loops run on: the widest instructions of this processor that the kernels use too.
#[derive(Clone, Copy, Debug)]
pub struct Probe(Isa);

#[derive(Clone, Copy, Debug)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

/// The arithmetic a product is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Fused multiply-add of f32; two operations a lane.
    F32,
    /// i8 × i8 summed into i32 (AVX2: `maddubs`, `maddwd`, `add`); two operations a product.
    I8,
    /// i16 × i16 summed into i32 (AVX2: `maddwd`, `add`); two operations a product.
    I16,
}

/// Rows and columns of the canary's tile, and the length of its products.
///
/// Twelve accumulators of eight lanes: eight, as the attention kernel has, are just as many as two pipes with a latency
/// of four cycles keep busy, and then each operation that takes the other pipe costs a cycle. (Intel's Sapphire Rapids
/// reaches .86 of its peak with a tile of 4×16 on an idle core, Zen 3 .97.)
const TILE: (usize, usize, usize) = (6, 16, 128);

/// Two panels in L1 for the [`Probe::canary`].
#[derive(Debug)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "no canary there")
)]
pub struct Canary {
    a: Vec<[f32; TILE.0]>,
    b: Vec<[f32; TILE.1]>,
}

impl Default for Canary {
    fn default() -> Self {
        Self {
            a: vec![[0.5; TILE.0]; TILE.2],
            b: vec![[0.25; TILE.1]; TILE.2],
        }
    }
}

impl Probe {
    /// Chooses the instructions; the constructor is what proves that the processor has them.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            return Self(Isa::Avx2);
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self(Isa::Neon);
        }
        Self(Isa::Portable)
    }

    /// Runs `steps` steps of every chain and returns the number of operations done.
    pub fn arithmetic(self, kind: Arithmetic, steps: usize) -> f64 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx2` exists only where `detect` saw AVX2, FMA and F16C.
            Isa::Avx2 => unsafe { avx2::arithmetic(kind, steps) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: `Isa::Neon` exists only where `detect` saw NEON.
            Isa::Neon => unsafe { neon::arithmetic(kind, steps) },
            Isa::Portable => portable::arithmetic(kind, steps),
        }
    }

    /// Reads every byte once, in order, with vector loads: the pattern of a product or of decode.
    pub fn read(self, bytes: &[u8]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx2` exists only where `detect` saw AVX2, FMA and F16C.
            Isa::Avx2 => unsafe { avx2::read(bytes) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: `Isa::Neon` exists only where `detect` saw NEON.
            Isa::Neon => unsafe { neon::read(bytes) },
            Isa::Portable => portable::read(bytes),
        }
    }

    /// Reads every byte once with vector loads, four quarters side by side.
    ///
    /// A single stream does not keep enough cache misses in flight for DRAM (Zen 3: 20 GB/s against 24), since the
    /// hardware's prefetchers work stream by stream. A kernel that walks several panels at once can use that.
    pub fn read_quarters(self, bytes: &[u8]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx2` exists only where `detect` saw AVX2, FMA and F16C.
            Isa::Avx2 => unsafe { avx2::read_quarters(bytes) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: `Isa::Neon` exists only where `detect` saw NEON.
            Isa::Neon => unsafe { neon::read_quarters(bytes) },
            Isa::Portable => portable::read(bytes),
        }
    }

    /// Reads every f16 once, converts it to f32 and adds it up by FMA.
    pub fn convert_f16(self, values: &[f16]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx2` exists only where `detect` saw AVX2, FMA and F16C.
            Isa::Avx2 => unsafe { avx2::convert_f16(values) },
            _ => portable::convert_f16(values),
        }
    }

    /// A 6×16 tile product in L1, `times` times; returns the operations done, or `None` where there is no such tile.
    ///
    /// A pure FMA chain hardly slows when a sibling thread takes load slots and decode slots of the core; this loop,
    /// mixed like a real kernel, does. It tells a disturbed machine from a quiet one.
    pub fn canary(self, panels: &Canary, times: usize) -> Option<f64> {
        for _ in 0..times {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Isa::Avx2` exists only where `detect` saw AVX2, FMA and F16C.
                Isa::Avx2 => unsafe { avx2::tile(&panels.a, &panels.b) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: `Isa::Neon` exists only where `detect` saw NEON.
                Isa::Neon => unsafe { neon::tile(&panels.a, &panels.b) },
                Isa::Portable => return None,
            }
        }
        Some((2 * TILE.0 * TILE.1 * TILE.2 * times) as f64)
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Arithmetic, TILE};
    use core::arch::asm;
    use core::arch::x86_64::*;
    use core::hint::black_box;
    use half::f16;

    /// Independent sums: with two operands and the temporaries they fill the 16 registers.
    const CHAINS: usize = 12;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn arithmetic(kind: Arithmetic, steps: usize) -> f64 {
        match kind {
            Arithmetic::F32 => f32_fma(steps),
            Arithmetic::I8 => i8_multiply_add(steps),
            Arithmetic::I16 => i16_multiply_add(steps),
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn f32_fma(steps: usize) -> f64 {
        let factor = _mm256_set1_ps(black_box(0.999));
        let term = _mm256_set1_ps(black_box(0.001));
        let mut sums = [_mm256_set1_ps(1.0); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, term);
            }
        }
        black_box(sums);
        (steps * CHAINS * 8 * 2) as f64
    }

    /// In assembly, or the compiler would compute the products once, before the loop; were the sum a factor instead,
    /// the latencies of all three instructions would add up to more than the chains hide.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn i8_multiply_add(steps: usize) -> f64 {
        let factor = _mm256_set1_epi8(3);
        let ones = _mm256_set1_epi16(1);
        let mut sums = [_mm256_setzero_si256(); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                // SAFETY: three instructions of AVX2 on registers.
                unsafe {
                    asm!(
                        "vpmaddubsw {product}, {factor}, {factor}",
                        "vpmaddwd {product}, {product}, {ones}",
                        "vpaddd {sum}, {sum}, {product}",
                        product = out(ymm_reg) _,
                        factor = in(ymm_reg) factor,
                        ones = in(ymm_reg) ones,
                        sum = inout(ymm_reg) *sum,
                        options(nomem, nostack, preserves_flags)
                    );
                }
            }
        }
        black_box(sums);
        (steps * CHAINS * 32 * 2) as f64
    }

    /// In assembly for the same reason.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn i16_multiply_add(steps: usize) -> f64 {
        let factor = _mm256_set1_epi16(3);
        let mut sums = [_mm256_setzero_si256(); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                // SAFETY: two instructions of AVX2 on registers.
                unsafe {
                    asm!(
                        "vpmaddwd {product}, {factor}, {factor}",
                        "vpaddd {sum}, {sum}, {product}",
                        product = out(ymm_reg) _,
                        factor = in(ymm_reg) factor,
                        sum = inout(ymm_reg) *sum,
                        options(nomem, nostack, preserves_flags)
                    );
                }
            }
        }
        black_box(sums);
        (steps * CHAINS * 16 * 2) as f64
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn read(bytes: &[u8]) {
        let mut mixed = [_mm256_setzero_si256(); 8];
        let (blocks, _) = bytes.as_chunks::<256>();
        for block in blocks {
            mix(&mut mixed, block);
        }
        black_box(mixed);
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn read_quarters(bytes: &[u8]) {
        let mut mixed = [_mm256_setzero_si256(); 8];
        let (blocks, _) = bytes.as_chunks::<256>();
        let (low, high) = blocks.split_at(blocks.len() / 2);
        let (a, b) = low.split_at(low.len() / 2);
        let (c, d) = high.split_at(high.len() / 2);
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            mix(&mut mixed, a);
            mix(&mut mixed, b);
            mix(&mut mixed, c);
            mix(&mut mixed, d);
        }
        black_box(mixed);
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn mix(mixed: &mut [__m256i; 8], block: &[u8; 256]) {
        let (parts, _) = block.as_chunks::<32>();
        for (mix, part) in mixed.iter_mut().zip(parts) {
            // SAFETY: `part` is 32 readable bytes, and this load has no demand on their alignment.
            let loaded = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
            *mix = _mm256_or_si256(*mix, loaded);
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn convert_f16(values: &[f16]) {
        let factor = _mm256_set1_ps(black_box(0.5));
        let mut sums = [_mm256_setzero_ps(); 8];
        let (blocks, rest) = values.as_chunks::<64>();
        for block in blocks {
            let (parts, _) = block.as_chunks::<8>();
            for (sum, part) in sums.iter_mut().zip(parts) {
                // SAFETY: `part` is 8 readable f16, 16 bytes, and this load has no demand on their alignment.
                let loaded = unsafe { _mm_loadu_si128(part.as_ptr().cast()) };
                *sum = _mm256_fmadd_ps(_mm256_cvtph_ps(loaded), factor, *sum);
            }
        }
        black_box((sums, rest.first()));
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn tile(a: &[[f32; TILE.0]], b: &[[f32; TILE.1]]) {
        let mut sums = [[_mm256_setzero_ps(); 2]; TILE.0];
        for (column, row) in a.iter().zip(b) {
            // SAFETY: `row` is 16 readable f32, of which this load takes the first 8, with any alignment.
            let low = unsafe { _mm256_loadu_ps(row.as_ptr()) };
            // SAFETY: `row` is 16 readable f32, of which this load takes the last 8, with any alignment.
            let high = unsafe { _mm256_loadu_ps(row.as_ptr().add(8)) };
            for (sum, &factor) in sums.iter_mut().zip(column) {
                let factor = _mm256_set1_ps(factor);
                sum[0] = _mm256_fmadd_ps(factor, low, sum[0]);
                sum[1] = _mm256_fmadd_ps(factor, high, sum[1]);
            }
        }
        black_box(sums);
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::{Arithmetic, TILE};
    use core::arch::aarch64::*;
    use core::hint::black_box;

    /// Independent sums: enough for four pipes with a latency of four cycles.
    const CHAINS: usize = 16;

    #[target_feature(enable = "neon")]
    pub(super) fn arithmetic(kind: Arithmetic, steps: usize) -> f64 {
        match kind {
            Arithmetic::F32 => f32_fma(steps),
            Arithmetic::I8 => i8_multiply_add(steps),
            Arithmetic::I16 => i16_multiply_add(steps),
        }
    }

    #[target_feature(enable = "neon")]
    fn f32_fma(steps: usize) -> f64 {
        let factor = vdupq_n_f32(black_box(0.999));
        let term = vdupq_n_f32(black_box(0.001));
        let mut sums = [vdupq_n_f32(1.0); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = vfmaq_f32(term, *sum, factor);
            }
        }
        black_box(sums);
        (steps * CHAINS * 4 * 2) as f64
    }

    /// Without the dot-product instructions (which stable Rust lacks): widening multiply, pairwise add into i32.
    #[target_feature(enable = "neon")]
    fn i8_multiply_add(steps: usize) -> f64 {
        let factor = vdup_n_s8(black_box(3));
        let mut sums = [vdupq_n_s32(black_box(5)); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                let products = vmull_s8(vreinterpret_s8_s32(vget_low_s32(*sum)), factor);
                *sum = vpadalq_s16(*sum, products);
            }
        }
        black_box(sums);
        (steps * CHAINS * 8 * 2) as f64
    }

    #[target_feature(enable = "neon")]
    fn i16_multiply_add(steps: usize) -> f64 {
        let factor = vdup_n_s16(black_box(3));
        let mut sums = [vdupq_n_s32(black_box(5)); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = vmlal_s16(*sum, vreinterpret_s16_s32(vget_low_s32(*sum)), factor);
            }
        }
        black_box(sums);
        (steps * CHAINS * 4 * 2) as f64
    }

    #[target_feature(enable = "neon")]
    pub(super) fn read(bytes: &[u8]) {
        let mut mixed = [vdupq_n_u8(0); 8];
        let (blocks, _) = bytes.as_chunks::<128>();
        for block in blocks {
            mix(&mut mixed, block);
        }
        black_box(mixed);
    }

    #[target_feature(enable = "neon")]
    pub(super) fn read_quarters(bytes: &[u8]) {
        let mut mixed = [vdupq_n_u8(0); 8];
        let (blocks, _) = bytes.as_chunks::<128>();
        let (low, high) = blocks.split_at(blocks.len() / 2);
        let (a, b) = low.split_at(low.len() / 2);
        let (c, d) = high.split_at(high.len() / 2);
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            mix(&mut mixed, a);
            mix(&mut mixed, b);
            mix(&mut mixed, c);
            mix(&mut mixed, d);
        }
        black_box(mixed);
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn mix(mixed: &mut [uint8x16_t; 8], block: &[u8; 128]) {
        let (parts, _) = block.as_chunks::<16>();
        for (mix, part) in mixed.iter_mut().zip(parts) {
            // SAFETY: `part` is 16 readable bytes, and this load has no demand on their alignment.
            let loaded = unsafe { vld1q_u8(part.as_ptr()) };
            *mix = vorrq_u8(*mix, loaded);
        }
    }

    #[target_feature(enable = "neon")]
    pub(super) fn tile(a: &[[f32; TILE.0]], b: &[[f32; TILE.1]]) {
        let mut sums = [[vdupq_n_f32(0.0); TILE.1 / 4]; TILE.0];
        for (column, row) in a.iter().zip(b) {
            let (parts, _) = row.as_chunks::<4>();
            for (part, index) in parts.iter().zip(0..TILE.1 / 4) {
                // SAFETY: `part` is 4 readable f32, and this load has no demand on their alignment.
                let loaded = unsafe { vld1q_f32(part.as_ptr()) };
                for (sum, &factor) in sums.iter_mut().zip(column) {
                    sum[index] = vfmaq_n_f32(sum[index], loaded, factor);
                }
            }
        }
        black_box(sums);
    }
}

/// What the compiler makes of plain loops: an honest limit for a processor without the instructions above.
mod portable {
    use super::{Arithmetic, HalfFloatSliceExt};
    use core::hint::black_box;
    use half::f16;

    const LANES: usize = 32;

    pub(super) fn arithmetic(kind: Arithmetic, steps: usize) -> f64 {
        match kind {
            Arithmetic::F32 => {
                let (factor, term) = (black_box(0.999_f32), black_box(0.001_f32));
                let mut sums = [1.0_f32; LANES];
                for _ in 0..steps {
                    sums = sums.map(|sum| sum * factor + term);
                }
                black_box(sums);
            }
            Arithmetic::I8 => {
                let factor = black_box(3_i8);
                let mut sums = [5_i32; LANES];
                for _ in 0..steps {
                    sums = sums.map(|sum| {
                        sum.wrapping_add(i32::from(i16::from(sum as i8) * i16::from(factor)))
                    });
                }
                black_box(sums);
            }
            Arithmetic::I16 => {
                let factor = black_box(3_i16);
                let mut sums = [5_i32; LANES];
                for _ in 0..steps {
                    sums =
                        sums.map(|sum| sum.wrapping_add(i32::from(sum as i16) * i32::from(factor)));
                }
                black_box(sums);
            }
        }
        (steps * LANES * 2) as f64
    }

    pub(super) fn read(bytes: &[u8]) {
        let mut mixed = [0_u64; 8];
        let (blocks, rest) = bytes.as_chunks::<64>();
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            for (mix, word) in mixed.iter_mut().zip(words) {
                *mix |= u64::from_ne_bytes(*word);
            }
        }
        black_box((mixed, rest.iter().fold(0, |mix, byte| mix | byte)));
    }

    pub(super) fn convert_f16(values: &[f16]) {
        let mut sums = [0.0_f32; 64];
        let (blocks, _) = values.as_chunks::<64>();
        for block in blocks {
            let mut converted = [0.0; 64];
            block.convert_to_f32_slice(&mut converted);
            for (sum, value) in sums.iter_mut().zip(converted) {
                *sum += value * 0.5;
            }
        }
        black_box(sums);
    }
}
