//! Functions of single elements.
//!
//! All take −0, subnormals and infinities as IEEE arithmetic does and return NaN for NaN, unless said otherwise. The
//! figures of accuracy are what `elementwise/tests.rs` measures on every backend.

mod functions;

use crate::isa::{Isa, Kernel};
use crate::{Backend, ShapeError, Vector};
use functions::{Exp, Function, GeluErf, GeluTanh, Relu, Silu};

use super::norm::{Parameter, store};

/// x ← e^x, within 1 ulp (1.2·10⁻⁷ relative); results below 2⁻¹²⁶ become 0, beyond the largest f32 infinity.
pub fn exp(backend: Backend, x: &mut [f32]) {
    backend.run(Map { x, function: Exp });
}

/// x ← x · Φ(x) by the tanh approximation of Φ (Hendrycks & Gimpel 2016): ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
///
/// Accuracy: against that formula, relative 2.5·10⁻⁷ above −1; below, absolute 6·10⁻⁸. −∞ gives NaN.
pub fn gelu_tanh(backend: Backend, x: &mut [f32]) {
    backend.run(Map {
        x,
        function: GeluTanh,
    });
}

/// x ← x · Φ(x), Φ(x) = ½(1 + erf(x/√2)) being the normal distribution (Hendrycks & Gimpel 2016).
///
/// Accuracy: relative 4·10⁻⁷ above 0; below, absolute 10⁻⁷ and relative 6·10⁻⁶ down to x = −13, where the result
/// underflows to 0.
pub fn gelu_erf(backend: Backend, x: &mut [f32]) {
    backend.run(Map {
        x,
        function: GeluErf,
    });
}

/// x ← x / (1 + e^(−x)), also called swish (Ramachandran et al. 2017).
///
/// Accuracy: relative 2.2·10⁻⁷ above x = −87, where the result underflows to −0; −∞ gives NaN.
pub fn silu(backend: Backend, x: &mut [f32]) {
    backend.run(Map { x, function: Silu });
}

/// x ← max(x, 0), exact; NaN gives NaN or 0.
pub fn relu(backend: Backend, x: &mut [f32]) {
    backend.run(Map { x, function: Relu });
}

struct Map<'a, F> {
    x: &'a mut [f32],
    function: F,
}

impl<F: Function> Kernel for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (eights, rest) = self.x.as_chunks_mut::<8>();
        for x in eights {
            isa.store(self.function.of(isa, isa.load(x)), x);
        }
        isa.store_partial(self.function.of(isa, isa.load_partial(rest)), rest);
    }
}

/// gate ← silu(gate) · up (Shazeer 2020, eq. 6). Accuracy: as [`silu`], and a rounding.
///
/// # Errors
/// [`ShapeError`] when the lengths differ.
pub fn swiglu(backend: Backend, gate: &mut [f32], up: &[f32]) -> Result<(), ShapeError> {
    gated(backend, gate, up, Silu)
}

/// gate ← gelu(gate) · up (Shazeer 2020, eq. 6), with the tanh approximation. Accuracy: as [`gelu_tanh`], and a
/// rounding.
///
/// # Errors
/// [`ShapeError`] when the lengths differ.
pub fn geglu(backend: Backend, gate: &mut [f32], up: &[f32]) -> Result<(), ShapeError> {
    gated(backend, gate, up, GeluTanh)
}

fn gated<F: Function>(
    backend: Backend,
    gate: &mut [f32],
    up: &[f32],
    function: F,
) -> Result<(), ShapeError> {
    ShapeError::check_eq("up beside the gate", gate.len(), up.len())?;
    backend.run(Gated { gate, up, function });
    Ok(())
}

struct Gated<'a, F> {
    gate: &'a mut [f32],
    up: &'a [f32],
    function: F,
}

impl<F: Function> Kernel for Gated<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (gate, up) in self.gate.chunks_mut(8).zip(self.up.chunks(8)) {
            let value = self.function.of(isa, f32::load(isa, gate));
            store(isa, isa.mul(value, f32::load(isa, up)), gate);
        }
    }
}

/// x ← x + y, one rounding each.
///
/// # Errors
/// [`ShapeError`] when the lengths differ.
pub fn add(backend: Backend, x: &mut [f32], y: &[f32]) -> Result<(), ShapeError> {
    ShapeError::check_eq("summand", x.len(), y.len())?;
    backend.run(Add { x, y });
    Ok(())
}

/// x ← x + bias for each row of `x`, which is `(x.len() / bias.len(), bias.len())`; one rounding each.
///
/// # Errors
/// [`ShapeError`] when `x` is not whole rows.
pub fn add_bias(backend: Backend, x: &mut [f32], bias: &Vector<'_>) -> Result<(), ShapeError> {
    ShapeError::check_at_least("bias", 1, bias.len())?;
    ShapeError::check_eq(
        "whole rows beside the bias",
        x.len().next_multiple_of(bias.len().max(1)),
        x.len(),
    )?;
    match *bias {
        Vector::F32(y) => backend.run(Add { x, y }),
        Vector::F16(y) => backend.run(Add { x, y }),
    }
    Ok(())
}

/// Adds y to each row of x.
struct Add<'a, P> {
    x: &'a mut [f32],
    y: &'a [P],
}

impl<P: Parameter> Kernel for Add<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for row in self.x.chunks_mut(self.y.len().max(1)) {
            for (x, y) in row.chunks_mut(8).zip(self.y.chunks(8)) {
                store(isa, isa.add(f32::load(isa, x), P::load(isa, y)), x);
            }
        }
    }
}

#[cfg(test)]
mod tests;
