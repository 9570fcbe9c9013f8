//! The functions of the feed-forward block by tables, which the compiler fills.

use super::{scaled, to_i8, to_i16};
use crate::constants::exp;

/// A function of the feed-forward block. Inputs are in 1/64, results in 1/1024, but for [`Function::Relu`], whose
/// input's unit is its result's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// max(x, 0).
    Relu,
    /// x / (1 + e^−x).
    Silu,
    /// GELU in its tanh form (Hendrycks and Gimpel 2016).
    GeluTanh,
    /// x · Φ(x).
    GeluErf,
}

/// f(z) in i16's range: within 1/1024 of the function at a multiple of 1/64, where it is below 32; beyond, 32.
#[inline(always)]
pub fn activate(function: Function, z: i32) -> i16 {
    match function {
        Function::Relu => to_i16(z.max(0)),
        Function::Silu => bent(&SILU, z),
        Function::GeluTanh => bent(&GELU_TANH, z),
        Function::GeluErf => bent(&GELU_ERF, z),
    }
}

/// The three functions are z − δ(z) for positive z and −δ(−z) for negative ones, δ being small and soon gone.
#[inline(always)]
fn bent<T: Copy + Into<i32>>(table: &[T], z: i32) -> i16 {
    let z = i32::from(to_i16(z));
    let delta = table.get(z.unsigned_abs() as usize);
    let delta = delta.map_or(0, |delta| (*delta).into());
    to_i16((z.max(0) << 4) - delta)
}

/// `out = f(z) · multiplier / 2³²`.
// This crate's own code, with its optimization, whatever that of the program is; so is the next.
#[inline(never)]
pub fn plain(function: Function, z: &[i32], multiplier: i32, out: &mut [i8]) {
    for (out, &z) in out.iter_mut().zip(z) {
        *out = to_i8(scaled(i32::from(activate(function, z)), multiplier));
    }
}

/// `out = f(gate) · up · multiplier / 2³²`, `up` in i16's range.
#[inline(never)]
pub fn gated(function: Function, gate: &[i32], up: &[i32], multiplier: i32, out: &mut [i8]) {
    for (out, (&gate, &up)) in out.iter_mut().zip(gate.iter().zip(up)) {
        let gate = i32::from(activate(function, gate));
        *out = to_i8(scaled(gate * i32::from(to_i16(up)), multiplier));
    }
}

/// δ up to 8; beyond it is less than 3/1024.
const LEN: usize = 8 * 64;

static SILU: [u16; LEN] = table(Function::Silu);
static GELU_TANH: [u8; SHORT] = short(&table(Function::GeluTanh));
static GELU_ERF: [u8; SHORT] = short(&table(Function::GeluErf));

/// δ of both forms of GELU is below 1/4, and rounds to nothing from 4 on.
const SHORT: usize = 4 * 64;

/// A table that fits bytes. One that does not would not compile.
const fn short(table: &[u16; LEN]) -> [u8; SHORT] {
    let mut out = [0; SHORT];
    let mut index = 0;
    while index < LEN {
        let delta = table[index];
        if index < SHORT {
            assert!(delta < 256);
            out[index] = delta as u8;
        } else {
            assert!(delta == 0);
        }
        index += 1;
    }
    out
}

/// z − f(z) at the multiples of 1/64, in 1/1024. Computed by the compiler: no float is left in the program.
const fn table(function: Function) -> [u16; LEN] {
    let mut table = [0; LEN];
    let mut index = 0;
    while index < LEN {
        let z = index as f64 / 64.0;
        let share = match function {
            Function::Relu => 0.0,
            Function::Silu => 1.0 / (1.0 + exp(z)),
            Function::GeluTanh => {
                // (1 − tanh u) / 2 = 1 / (1 + e^2u), u = √(2/π) · (z + 0.044715 z³).
                const ROOT: f64 = 0.797_884_560_802_865_4;
                1.0 / (1.0 + exp(2.0 * ROOT * (z + 0.044_715 * z * z * z)))
            }
            Function::GeluErf => upper_tail(z),
        };
        table[index] = (z * share * 1024.0 + 0.5) as u16;
        index += 1;
    }
    table
}

/// 1 − Φ(z): Φ(z) − 1/2 = φ(z) · (z + z³/3 + z⁵/(3·5) + …) (Abramowitz and Stegun, 26.2.11).
const fn upper_tail(z: f64) -> f64 {
    const ROOT: f64 = 0.398_942_280_401_432_7; // 1/√2π
    let (mut term, mut sum, mut k) = (z, z, 3.0);
    while k < 300.0 {
        term *= z * z / k;
        sum += term;
        k += 2.0;
    }
    let tail = 0.5 - ROOT / exp(z * z / 2.0) * sum;
    if tail > 0.0 { tail } else { 0.0 }
}
