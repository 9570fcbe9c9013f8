//! Complex numbers of two halves: what Fourier transforms are made of.

/// Real and imaginary part in one number: the lower and the upper half.
#[inline(always)]
pub const fn complex(re: i16, im: i16) -> i32 {
    (re as i32 & 0xffff) | (im as i32) << 16
}

/// Real and imaginary part of `a` times the conjugate of `b`, both of which are [`complex`]. Parts of 16 and of 15 bits
/// make sums of at most 31.
#[inline(always)]
pub fn times_conjugate(a: i32, b: i32) -> [i32; 2] {
    #[cfg(attentive_dsp)]
    {
        use super::instructions::{smuad, smusdx};
        [smuad(a, b), smusdx(a, b).wrapping_neg()]
    }
    #[cfg(not(attentive_dsp))]
    {
        let [a_re, a_im] = [i32::from(a as i16), a >> 16];
        let [b_re, b_im] = [i32::from(b as i16), b >> 16];
        [
            (a_re * b_re).wrapping_add(a_im * b_im),
            (a_im * b_re).wrapping_sub(a_re * b_im),
        ]
    }
}
