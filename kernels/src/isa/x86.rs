//! What an x86-64 processor has: tokens, their detection, and the functions that are compiled with their features.

use super::{Kernel, sealed::Sealed};
use core::arch::x86_64::*;

/// Proof that the processor has AVX2, FMA and F16C and the operating system saves their registers; and beyond that what
/// [`AvxVnni`] and [`Avx512`] say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct X86<const LEVEL: u8>(());

pub(super) const AVX2: u8 = 0;
pub(super) const AVX_VNNI: u8 = 1;
pub(super) const AVX512: u8 = 2;

/// Proof of AVX2, FMA and F16C.
pub type Avx2 = X86<AVX2>;
/// Proof of AVX2, FMA, F16C and AVX-VNNI: `vpdpbusd` on 256 bits.
pub type AvxVnni = X86<AVX_VNNI>;
/// Proof of AVX2, FMA, F16C and AVX-512 F, BW, VL, VNNI: `vpdpbusd` on 512 bits. Everything but products of matrices
/// stays at 256 bits.
pub type Avx512 = X86<AVX512>;

impl Avx2 {
    /// The token if the whole build is compiled for these features.
    pub(crate) const fn from_build() -> Option<Self> {
        if cfg!(all(
            target_feature = "avx2",
            target_feature = "fma",
            target_feature = "f16c"
        )) {
            Some(Self(()))
        } else {
            None
        }
    }

    /// The token if the processor has the features. Executes `cpuid`, which is slow under a hypervisor: ask once.
    pub(crate) fn detect() -> Option<Self> {
        if Self::from_build().is_some() || (!cfg!(miri) && cpu_has_avx2_fma_f16c()) {
            Some(Self(()))
        } else {
            None
        }
    }

    /// The token with byte products of 256 bits, if the processor has them too.
    pub(crate) fn with_avx_vnni(self) -> Option<AvxVnni> {
        (!cfg!(miri) && cpu_has_avx_vnni()).then_some(X86(()))
    }

    /// The token with byte products of 512 bits, if the processor has them too.
    pub(crate) fn with_avx512(self) -> Option<Avx512> {
        (!cfg!(miri) && cpu_has_avx512_vnni()).then_some(X86(()))
    }
}

impl<const LEVEL: u8> X86<LEVEL> {
    /// The token of what every level has.
    pub(crate) const fn narrow(self) -> Avx2 {
        X86(())
    }
}

impl<const LEVEL: u8> Sealed for X86<LEVEL> {}

/// Calls the kernel where the compiler may use the features.
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<K: Kernel>(isa: Avx2, kernel: K) -> K::Output {
    kernel.run(isa)
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn avx_vnni<K: Kernel>(isa: AvxVnni, kernel: K) -> K::Output {
    kernel.run(isa)
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn avx512<K: Kernel>(isa: Avx512, kernel: K) -> K::Output {
    kernel.run(isa)
}

/// As [`avx2`], for [`Isa::apart`](super::Isa::apart).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn avx2_apart<K: Kernel>(isa: Avx2, kernel: K) -> K::Output {
    kernel.run(isa)
}

#[inline(always)]
pub(super) fn run_apart<K: Kernel>(isa: Avx2, kernel: K) -> K::Output {
    // SAFETY: `isa` proves the features.
    unsafe { avx2_apart(isa, kernel) }
}

#[inline(always)]
pub(crate) fn run_avx2<K: Kernel>(isa: Avx2, kernel: K) -> K::Output {
    // SAFETY: `isa` proves the features.
    unsafe { avx2(isa, kernel) }
}

#[inline(always)]
pub(crate) fn run_avx_vnni<K: Kernel>(isa: AvxVnni, kernel: K) -> K::Output {
    // SAFETY: `isa` proves the features.
    unsafe { avx_vnni(isa, kernel) }
}

#[inline(always)]
pub(crate) fn run_avx512<K: Kernel>(isa: Avx512, kernel: K) -> K::Output {
    // SAFETY: `isa` proves the features.
    unsafe { avx512(isa, kernel) }
}

/// Intel SDM vol. 1, 14.3 and 14.7: the processor's flags, and that the operating system saves the upper register
/// halves.
fn cpu_has_avx2_fma_f16c() -> bool {
    const FMA: u32 = 1 << 12;
    const OSXSAVE: u32 = 1 << 27;
    const AVX: u32 = 1 << 28;
    const F16C: u32 = 1 << 29;
    const AVX2: u32 = 1 << 5;
    let wanted = FMA | OSXSAVE | AVX | F16C;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & wanted != wanted {
        return false;
    }
    // SAFETY: OSXSAVE says that `xgetbv` is enabled.
    let saved = unsafe { saved_registers() };
    saved & 0b110 == 0b110 && __cpuid_count(7, 0).ebx & AVX2 != 0
}

/// Intel SDM vol. 2, `CPUID`, leaf 7, subleaf 1. To be asked where AVX2 is known to be there.
fn cpu_has_avx_vnni() -> bool {
    const AVX_VNNI: u32 = 1 << 4;
    __cpuid_count(7, 0).eax >= 1 && __cpuid_count(7, 1).eax & AVX_VNNI != 0
}

/// Intel SDM vol. 1, 15.2 to 15.4: the flags, and that the operating system saves opmasks, the upper halves of `zmm0`
/// to `zmm15`, and `zmm16` to `zmm31`. To be asked where AVX2 is known to be there.
fn cpu_has_avx512_vnni() -> bool {
    const F: u32 = 1 << 16;
    const BW: u32 = 1 << 30;
    const VL: u32 = 1 << 31;
    const VNNI: u32 = 1 << 11;
    const SAVED: u64 = 0b1110_0110;
    let leaf = __cpuid_count(7, 0);
    if leaf.ebx & (F | BW | VL) != F | BW | VL || leaf.ecx & VNNI == 0 {
        return false;
    }
    // SAFETY: AVX2 was found to be there, which includes that `xgetbv` is enabled.
    let saved = unsafe { saved_registers() };
    saved & SAVED == SAVED
}

/// The register sets that the operating system saves (XCR0).
#[target_feature(enable = "xsave")]
fn saved_registers() -> u64 {
    // SAFETY: register 0 exists wherever `xgetbv` does.
    unsafe { _xgetbv(0) }
}
