//! Which instruction set the kernels use.

use crate::isa::{Isa, Kernel, Scalar};

/// An instruction set that this processor has.
///
/// Detect once and pass it by value:
///
/// ```
/// use attentive_kernels::Backend;
///
/// let backend = Backend::detect();
/// assert!(Backend::available().any(|one| one == backend));
/// assert_eq!(Backend::by_name("scalar"), Some(Backend::SCALAR));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Scalar(Scalar),
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx2(crate::isa::Avx2),
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    AvxVnni(crate::isa::AvxVnni),
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx512(crate::isa::Avx512),
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    Neon(crate::isa::Neon),
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    NeonDotprod(crate::isa::NeonDotprod),
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    NeonI8mm(crate::isa::NeonI8mm),
}

impl Backend {
    /// Plain Rust: the same bits on every processor.
    pub const SCALAR: Self = Self(Level::Scalar(Scalar::new()));

    /// The best that the build's own target features guarantee, without looking at the processor.
    pub const BASELINE: Self = Self::baseline();

    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    const fn baseline() -> Self {
        match crate::isa::Avx2::from_build() {
            Some(token) => Self(Level::Avx2(token)),
            None => Self::SCALAR,
        }
    }
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    const fn baseline() -> Self {
        let neon = crate::isa::Neon::new();
        match neon.with_dotprod_from_build() {
            Some(token) => match token.with_i8mm_from_build() {
                Some(token) => Self(Level::NeonI8mm(token)),
                None => Self(Level::NeonDotprod(token)),
            },
            None => Self(Level::Neon(neon)),
        }
    }
    #[cfg(not(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon")
    )))]
    const fn baseline() -> Self {
        Self::SCALAR
    }

    /// The best that the processor has. Needs no operating system; costs microseconds under a hypervisor, so call it
    /// once.
    pub fn detect() -> Self {
        Self::found()
            .into_iter()
            .flatten()
            .last()
            .unwrap_or(Self::SCALAR)
    }

    /// Everything that the processor has, the slowest ([`SCALAR`](Self::SCALAR)) first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::found().into_iter().flatten()
    }

    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    fn found() -> [Option<Self>; 4] {
        let avx2 = crate::isa::Avx2::detect();
        let avx_vnni = avx2.and_then(crate::isa::Avx2::with_avx_vnni);
        let avx512 = avx2.and_then(crate::isa::Avx2::with_avx512);
        [
            Some(Self::SCALAR),
            avx2.map(|token| Self(Level::Avx2(token))),
            avx_vnni.map(|token| Self(Level::AvxVnni(token))),
            avx512.map(|token| Self(Level::Avx512(token))),
        ]
    }
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    fn found() -> [Option<Self>; 4] {
        let neon = crate::isa::Neon::new();
        let dotprod = neon.with_dotprod();
        let i8mm = dotprod.and_then(crate::isa::NeonDotprod::with_i8mm);
        [
            Some(Self::SCALAR),
            Some(Self(Level::Neon(neon))),
            dotprod.map(|token| Self(Level::NeonDotprod(token))),
            i8mm.map(|token| Self(Level::NeonI8mm(token))),
        ]
    }
    #[cfg(not(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon")
    )))]
    fn found() -> [Option<Self>; 1] {
        [Some(Self::SCALAR)]
    }

    /// The backend of that name, if the processor has it; see [`name`](Self::name).
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available().find(|backend| backend.name() == name)
    }

    /// "scalar", "avx2", "avxvnni", "avx512", "neon", "dotprod" or "i8mm".
    pub const fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar(_) => Scalar::NAME,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Level::Avx2(_) => crate::isa::Avx2::NAME,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Level::AvxVnni(_) => crate::isa::AvxVnni::NAME,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Level::Avx512(_) => crate::isa::Avx512::NAME,
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Level::Neon(_) => crate::isa::Neon::NAME,
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Level::NeonDotprod(_) => crate::isa::NeonDotprod::NAME,
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Level::NeonI8mm(_) => crate::isa::NeonI8mm::NAME,
        }
    }

    /// Runs a kernel compiled for this instruction set.
    #[inline(always)]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Level::Scalar(token) => kernel.run(token),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Level::Avx2(token) => crate::isa::run_avx2(token, kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Level::AvxVnni(token) if K::PRODUCTS => crate::isa::run_avx_vnni(token, kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Level::AvxVnni(token) => crate::isa::run_avx2(token.narrow(), kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Level::Avx512(token) if K::PRODUCTS => crate::isa::run_avx512(token, kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Level::Avx512(token) => crate::isa::run_avx2(token.narrow(), kernel),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Level::Neon(token) => crate::isa::run_arm(token, kernel),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Level::NeonDotprod(token) if K::PRODUCTS => crate::isa::run_arm(token, kernel),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Level::NeonDotprod(token) => crate::isa::run_arm(token.narrow(), kernel),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Level::NeonI8mm(token) if K::PRODUCTS => crate::isa::run_arm(token, kernel),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Level::NeonI8mm(token) => crate::isa::run_arm(token.narrow(), kernel),
        }
    }
}

/// Functions that run one kernel each, for callers with type parameters.
///
/// A generic function is compiled by the crates that name its types, each anew and with their optimization, and with it
/// the kernels that it runs. A function without type parameters is compiled once, here, and its stack frame is its own
/// and not part of a sum.
macro_rules! compiled_here {
    ($($name:ident($kernel:ty) -> $output:ty;)*) => {$(
        #[inline(never)]
        fn $name(backend: $crate::Backend, kernel: $kernel) -> $output {
            backend.run(kernel)
        }
    )*};
}

pub(crate) use compiled_here;

#[cfg(feature = "defmt")]
impl defmt::Format for Backend {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=str}", self.name());
    }
}
