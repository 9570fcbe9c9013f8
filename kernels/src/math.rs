//! Exponentials shared by the kernels.

use crate::isa::Isa;

/// 1.5·2²³: adding it to |x| < 2²² leaves round(x), ties to even, in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// log₂ e.
pub(crate) const LOG2_E: f32 = core::f32::consts::LOG2_E;

/// Coefficients of 2^f on ±½, ascending: minimax in relative error by Remez exchange, 7.2e-8 before rounding.
const EXP2: [f32; 6] = [
    1.000_000_1,
    0.693_146_94,
    0.240_221_2,
    0.055_507_13,
    0.009_675_541,
    0.001_327_647_2,
];

/// 2^x within 2.1e-7 relative (3.5 ULP) for −126 ≤ x < 128; 2⁻¹²⁶ below; unspecified above; NaN for NaN.
///
/// x = k + f with k the nearest integer; 2^f is a polynomial of degree 5 and k goes into the exponent.
#[inline(always)]
pub(crate) fn exp2<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    // In this order AVX2's maximum returns x where x is NaN.
    let x = isa.max(isa.splat(-126.0), x);
    let t = isa.add(x, isa.splat(ROUND));
    let f = isa.sub(x, isa.sub(t, isa.splat(ROUND)));
    let [c0, c1, c2, c3, c4, c5] = EXP2;
    let mut p = isa.fma(f, isa.splat(c5), isa.splat(c4));
    for c in [c3, c2, c1, c0] {
        p = isa.fma(p, f, isa.splat(c));
    }
    isa.add_exponent(p, t)
}
