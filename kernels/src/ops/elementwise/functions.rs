//! The functions on eight lanes.

use crate::isa::Isa;
use crate::math;

/// A function of one element, eight at a time.
pub(super) trait Function: Copy {
    fn of<I: Isa>(self, isa: I, x: I::F32) -> I::F32;
}

#[derive(Clone, Copy)]
pub(super) struct Exp;

impl Function for Exp {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        math::exp(isa, x)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Relu;

impl Function for Relu {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        isa.max(x, isa.splat(0.0))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        over_one_plus_exp(isa, x, isa.neg(x))
    }
}

/// ½(1 + tanh u) = 1 / (1 + e^(−2u)), so that the tail does not cancel.
#[derive(Clone, Copy)]
pub(super) struct GeluTanh;

impl Function for GeluTanh {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        // −2√(2/π), and the same times 0.044715.
        let (linear, cubic) = (isa.splat(-1.595_769), isa.splat(-0.071_354_82));
        let exponent = isa.mul(x, isa.fma(isa.mul(x, x), cubic, linear));
        over_one_plus_exp(isa, x, exponent)
    }
}

/// x / (1 + e^exponent).
#[inline(always)]
fn over_one_plus_exp<I: Isa>(isa: I, x: I::F32, exponent: I::F32) -> I::F32 {
    isa.div(x, isa.add(isa.splat(1.0), math::exp(isa, exponent)))
}

/// Coefficients of ½·erfc(a/√2)·e^(a²/2) / t in t = 1 / (1 + 0.305·a), ascending: minimax in relative error over 0 ≤ a
/// ≤ 14 (reweighted least squares), 1.1·10⁻⁷ with these rounded coefficients.
const UPPER_TAIL: [f32; 8] = [
    0.121_639_736,
    0.122_466_795,
    0.103_421_01,
    0.121_021_25,
    -0.037_976_097,
    0.185_716_21,
    -0.152_987_97,
    0.036_699_124,
];

/// x·Φ(x) = max(x, 0) − |x|·Φ(−|x|), where the upper tail Φ(−|x|) is a polynomial times e^(−x²/2): neither side
/// cancels.
#[derive(Clone, Copy)]
pub(super) struct GeluErf;

impl Function for GeluErf {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        // Beyond 40 the tail is 0; an infinity would make it NaN.
        let a = isa.min(isa.abs(x), isa.splat(40.0));
        let t = isa.div(isa.splat(1.0), isa.fma(a, isa.splat(0.305), isa.splat(1.0)));
        let [rest @ .., last] = UPPER_TAIL;
        let mut p = isa.splat(last);
        for coefficient in rest.into_iter().rev() {
            p = isa.fma(p, t, isa.splat(coefficient));
        }
        let density = math::exp(isa, isa.mul(isa.mul(x, x), isa.splat(-0.5)));
        let tail = isa.mul(isa.mul(p, t), density);
        isa.sub(isa.max(x, isa.splat(0.0)), isa.mul(a, tail))
    }
}
