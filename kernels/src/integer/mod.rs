//! The integer profile: inference without a float, the same bits on every processor.
//!
//! `docs/integer.md` is the contract: units, roundings, the order of everything, error bounds and where the formulas
//! come from. Each operation here is that contract as plain code. It is compiled for every instruction set and has the
//! same result on all of them, because integers are added in any order to the same sum; where an instruction set has
//! code of its own, tests compare its bits with the plain code's.
//!
//! | quantity | type | unit |
//! |---|---|---|
//! | weights | i8, or the upper four bits of one | a scale for each row, folded into multipliers |
//! | residual stream | i16 | one scale for the model |
//! | inputs of products, queries, keys, values | i8 | a calibrated scale each |
//! | accumulators | i32 | exact |
//! | scores | i16 | 1/16 of a power of two |
//! | probabilities | 14 bits | 2⁻¹⁴, not normalized |
//!
//! What a slice does not hold is neither read nor written; operations whose shapes can disagree check them.

mod activation;
mod attention;
mod complex;
#[cfg(all(attentive_dsp, not(attentive_helium)))]
mod dsp;
mod embed;
mod fourier;
#[cfg(attentive_helium)]
mod helium;
#[cfg(attentive_dsp)]
mod instructions;
mod nibbles;
mod norm;
mod power;
mod product;
mod quads;
mod rotary;
#[cfg(test)]
mod tests;

pub use activation::{Function, activate, gated, plain};
pub use attention::{BATCH, OutScale, Query, Running, Scores, TILE, Tile, attend, finish, scores};
pub use complex::{complex, times_conjugate};
pub use embed::{Table, embed};
pub use fourier::Step;
pub use nibbles::{nibbles_len, put_nibble, unpack_nibbles};
pub use norm::{Norm, norm};
pub use power::{POWER_ONE, power};
pub use product::{
    Linked, Product, ROW_ALIGN, Weights, pair_sums, product, product_linked, stride,
};
pub use quads::{QUAD, pack_quads, quad_sums, quads_len};
pub use rotary::{angles, rotate};

/// `round(x · multiplier / 2³²)`, halves upwards: one rounding high multiply, which Armv7E-M has as an instruction.
#[inline(always)]
pub fn scaled(x: i32, multiplier: i32) -> i32 {
    #[cfg(attentive_dsp)]
    return instructions::smmulr(x, multiplier);
    #[cfg(not(attentive_dsp))]
    return ((i64::from(x) * i64::from(multiplier) + (1 << 31)) >> 32) as i32;
}

/// The nearest i8.
#[inline(always)]
pub fn to_i8(x: i32) -> i8 {
    #[cfg(attentive_dsp)]
    return instructions::ssat8(x) as i8;
    #[cfg(not(attentive_dsp))]
    return x.clamp(i8::MIN.into(), i8::MAX.into()) as i8;
}

/// The nearest i16.
#[inline(always)]
pub fn to_i16(x: i32) -> i16 {
    #[cfg(attentive_dsp)]
    return instructions::ssat16(x) as i16;
    #[cfg(not(attentive_dsp))]
    return x.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
}

/// The residual connection: x = x + delta, both in the stream's unit; what leaves i16 stays at its end.
pub fn add(x: &mut [i16], delta: &[i32]) {
    for (x, &delta) in x.iter_mut().zip(delta) {
        *x = to_i16(i32::from(*x).saturating_add(delta));
    }
}
