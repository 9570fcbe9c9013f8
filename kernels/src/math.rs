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

/// The same to degree 2, 1.8e-3: its largest error is that of the constant and the linear term.
const EXP2_COARSE: [f32; 3] = [1.000_443_1, 0.703_448, 0.238_428_94];

/// The same to degree 3, 7.5e-5.
const EXP2_FAIR: [f32; 4] = [0.999_928_06, 0.693_261, 0.242_611_12, 0.055_171_67];

/// Where [`exp2_coarse`] and [`exp2_fair`] end: nothing that is multiplied by it gets near the subnormal numbers, which
/// are slow.
const LOWEST: f32 = -80.0;

/// As [`exp2`] within 1.9e-3 relative, for −80 ≤ x < 128; 2⁻⁸⁰ below.
#[inline(always)]
pub(crate) fn exp2_coarse<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    power_of_two(isa, isa.max(isa.splat(LOWEST), x), &EXP2_COARSE)
}

/// As [`exp2_coarse`] within 7.6e-5 relative.
#[inline(always)]
pub(crate) fn exp2_fair<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    power_of_two(isa, isa.max(isa.splat(LOWEST), x), &EXP2_FAIR)
}

/// How far [`log2_below`] may lie below the logarithm: log₂(1 + f) − f at its largest, and the roundings.
pub(crate) const LOG2_BELOW: f32 = 0.0862;

/// A lower bound of log₂ x for x ≥ 2⁻¹²⁶, [`LOG2_BELOW`] below it at most: exponent plus fraction, which is the
/// representation read as an integer; −127 for 0.
#[inline(always)]
pub(crate) fn log2_below<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let bits = isa.to_f32(isa.bits(x));
    isa.fma(bits, isa.splat(1.0 / 8_388_608.0), isa.splat(-127.0))
}

/// 2^x within 2.1e-7 relative (3.5 ULP) for −126 ≤ x < 128; 2⁻¹²⁶ below; unspecified above; NaN for NaN.
#[inline(always)]
pub(crate) fn exp2<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    // In this order AVX2's maximum returns x where x is NaN.
    power_of_two(isa, isa.max(isa.splat(-126.0), x), &EXP2)
}

/// x = k + f with k the nearest integer; 2^f is the polynomial and k goes into the exponent.
#[inline(always)]
fn power_of_two<I: Isa>(isa: I, x: I::F32, polynomial: &[f32]) -> I::F32 {
    let t = isa.add(x, isa.splat(ROUND));
    let f = isa.sub(x, isa.sub(t, isa.splat(ROUND)));
    let Some((highest, rest)) = polynomial.split_last() else {
        return x;
    };
    let mut p = isa.splat(*highest);
    for c in rest.iter().rev() {
        p = isa.fma(p, f, isa.splat(*c));
    }
    isa.add_exponent(p, t)
}

/// Coefficients of (e^r − 1 − r) / r² on ±ln 2 / 2, descending (Moshier, Cephes `expf`).
const EXP: [f32; 6] = [
    1.987_569_1e-4,
    1.398_2e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    5e-1,
];

/// ln 2 in two parts; a multiple of the first by an exponent is exact (Cody and Waite 1980).
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// e^x within 2 ULP where the result is a normal number above 1.2e-38; 0 below, infinity above; NaN for NaN.
#[inline(always)]
pub(crate) fn exp<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let t = isa.fma(x, isa.splat(LOG2_E), isa.splat(ROUND));
    let k = isa.sub(t, isa.splat(ROUND));
    let r = isa.fma(k, isa.splat(-LN2[0]), x);
    let r = isa.fma(k, isa.splat(-LN2[1]), r);
    let [first, rest @ ..] = EXP;
    let mut p = isa.splat(first);
    for c in rest {
        p = isa.fma(p, r, isa.splat(c));
    }
    let y = isa.add(isa.fma(p, isa.mul(r, r), r), isa.splat(1.0));
    let y = isa.add_exponent(y, t);
    // A NaN stays: it came through r, and neither comparison holds for it.
    let y = isa.select(isa.lt(x, isa.splat(EXP_LOWEST)), isa.splat(0.0), y);
    isa.select(
        isa.gt(x, isa.splat(EXP_HIGHEST)),
        isa.splat(f32::INFINITY),
        y,
    )
}

/// Arguments whose exponentials are normal numbers.
const EXP_LOWEST: f32 = -87.3;
const EXP_HIGHEST: f32 = 88.722_83;

#[cfg(test)]
mod tests {
    use super::{exp, exp2, exp2_coarse, exp2_fair};
    use crate::Backend;
    use crate::isa::{Isa, Kernel};
    use crate::testing::backends;

    struct Apply([f32; 8]);

    impl Kernel for Apply {
        type Output = [[f32; 8]; 4];

        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> [[f32; 8]; 4] {
            let x = isa.load(&self.0);
            let mut out = [[0.0; 8]; 4];
            isa.store(exp(isa, x), &mut out[0]);
            isa.store(exp2(isa, x), &mut out[1]);
            isa.store(exp2_coarse(isa, x), &mut out[2]);
            isa.store(exp2_fair(isa, x), &mut out[3]);
            out
        }
    }

    /// e^x, and 2^x in three ways.
    fn all(backend: Backend, x: f32) -> [f32; 4] {
        backend.run(Apply([x; 8])).map(|lanes| lanes[0])
    }

    #[test]
    fn exponentials_are_as_accurate_as_documented() {
        let step = if cfg!(miri) { 3.7 } else { 0.000_37 };
        for backend in backends() {
            let mut x = -126.0f32;
            while x < 127.9 {
                let [e, two, coarse, fair] = all(backend, x).map(f64::from);
                let exact = f64::from(x).exp2();
                let within = |got: f64, exact: f64, bound: f64| {
                    let error = (got / exact - 1.0).abs();
                    assert!(error < bound, "{}: 2^{x}, {error:e}", backend.name());
                };
                within(two, exact, 2.6e-7);
                within(coarse, exact.max((-80.0f64).exp2()), 1.9e-3);
                within(fair, exact.max((-80.0f64).exp2()), 7.6e-5);
                if x > super::EXP_LOWEST && x < super::EXP_HIGHEST {
                    let exact = f64::from(x).exp();
                    let ulp = f64::from(f32::EPSILON) * exact.log2().floor().exp2();
                    assert!((e - exact).abs() <= 2.0 * ulp, "{}: e^{x}", backend.name());
                }
                x += step;
            }
        }
    }

    #[test]
    fn exponentials_of_extremes() {
        for backend in backends() {
            let infinite = f32::INFINITY;
            for (x, e) in [
                (-infinite, 0.0),
                (-88.0, 0.0),
                (0.0, 1.0),
                (89.0, infinite),
                (infinite, infinite),
            ] {
                assert_eq!(all(backend, x)[0], e, "{}: e^{x}", backend.name());
            }
            assert!(all(backend, f32::NAN).iter().all(|y| y.is_nan()));
            for x in [-infinite, -127.0] {
                assert!((all(backend, x)[1] / f32::MIN_POSITIVE - 1.0).abs() < 3e-7);
            }
        }
    }
}
