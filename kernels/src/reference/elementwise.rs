//! Functions of one element.

/// e^x.
pub fn exp(x: f64) -> f64 {
    libm::exp(x)
}

/// x / (1 + e^(−x)).
pub fn silu(x: f64) -> f64 {
    x / (1.0 + libm::exp(-x))
}

/// ½x(1 + tanh(√(2/π)(x + 0.044715x³))); for the lower tail, ½(1 + tanh u) is written 1 / (1 + e^(−2u)).
pub fn gelu_tanh(x: f64) -> f64 {
    let u = libm::sqrt(core::f64::consts::FRAC_2_PI) * (x + 0.044715 * x * x * x);
    x / (1.0 + libm::exp(-2.0 * u))
}

/// x · Φ(x) = ½x · erfc(−x/√2).
pub fn gelu_erf(x: f64) -> f64 {
    0.5 * x * libm::erfc(-x * core::f64::consts::FRAC_1_SQRT_2)
}

/// max(x, 0).
pub fn relu(x: f64) -> f64 {
    x.max(0.0)
}
