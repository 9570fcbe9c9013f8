//! Positions of one head.

use crate::ops::position::RotaryStyle;

/// Rotates a head at `position`, the frequencies being base^(−2i / head_dim).
pub fn rotary(x: &[f32], position: usize, base: f64, style: RotaryStyle, out: &mut [f64]) {
    let pairs = x.len() / 2;
    for i in 0..pairs {
        let angle = position as f64 * libm::pow(base, -(i as f64) / pairs as f64);
        let (a, b) = match style {
            RotaryStyle::Half => (i, i + pairs),
            RotaryStyle::Interleaved => (2 * i, 2 * i + 1),
        };
        out[a] = f64::from(x[a]) * libm::cos(angle) - f64::from(x[b]) * libm::sin(angle);
        out[b] = f64::from(x[b]) * libm::cos(angle) + f64::from(x[a]) * libm::sin(angle);
    }
}

/// sin and cos of position / 10000^(2i/dim), alternating.
pub fn sinusoidal(position: usize, out: &mut [f64]) {
    let dim = out.len() as f64;
    for (i, out) in out.iter_mut().enumerate() {
        let angle = position as f64 / libm::pow(10_000.0, (i / 2 * 2) as f64 / dim);
        *out = if i % 2 == 0 {
            libm::sin(angle)
        } else {
            libm::cos(angle)
        };
    }
}
