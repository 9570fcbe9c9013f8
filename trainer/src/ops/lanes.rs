//! Loops over whole vectors that several operations share.

use attentive::kernels::isa::Isa;

/// Σ a·b.
#[inline(always)]
pub(crate) fn dot<I: Isa>(isa: I, a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sum = isa.mul(isa.load_partial(a_rest), isa.load_partial(b_rest));
    for (a, b) in a.iter().zip(b) {
        sum = isa.fma(isa.load(a), isa.load(b), sum);
    }
    isa.sum(sum)
}

/// Σ a.
#[inline(always)]
pub(crate) fn sum<I: Isa>(isa: I, a: &[f32]) -> f32 {
    let (a, rest) = a.as_chunks::<8>();
    let mut sum = isa.load_partial(rest);
    for a in a {
        sum = isa.add(sum, isa.load(a));
    }
    isa.sum(sum)
}
