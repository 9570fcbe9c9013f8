//! Single instructions of Arm's DSP extension.

/// Functions of registers.
macro_rules! instructions {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) -> $out:ty = $text:literal;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(super) fn $name($($arg: $kind),*) -> $out {
            let out;
            // SAFETY: the instruction reads and writes registers only; it may set the Q flag, which nothing reads.
            unsafe {
                core::arch::asm!(
                    $text, out = lateout(reg) out, $($arg = in(reg) $arg),*, options(pure, nomem, nostack),
                );
            }
            out
        }
    )*};
}

#[cfg(not(attentive_helium))]
pub(super) use instructions;

instructions! {
    /// The nearest number of 8 bits.
    ssat8(x: i32) -> i32 = "ssat {out}, #8, {x}";
    /// The nearest number of 16 bits.
    ssat16(x: i32) -> i32 = "ssat {out}, #16, {x}";
    /// The products of the halves, added.
    smuad(a: i32, b: i32) -> i32 = "smuad {out}, {a}, {b}";
    /// The lower half of `a` times the upper one of `b`, less the upper one of `a` times the lower one of `b`.
    smusdx(a: i32, b: i32) -> i32 = "smusdx {out}, {a}, {b}";
    /// The high half of a product, rounded.
    smmulr(a: i32, b: i32) -> i32 = "smmulr {out}, {a}, {b}";
}
