//! Functions that the compiler can compute, so that tables need no float in the program.

use core::f64::consts::{LN_2, TAU};

/// cos(2π·m/len).
pub const fn cosine(m: usize, len: usize) -> f64 {
    let turn = m as f64 / len as f64;
    // Within half a turn of 0.
    let x = TAU * if turn > 0.5 { turn - 1.0 } else { turn };
    let (mut term, mut sum, mut k) = (1.0, 1.0, 0.0);
    while k < 40.0 {
        term *= -x * x / ((k + 1.0) * (k + 2.0));
        sum += term;
        k += 2.0;
    }
    sum
}

/// e^x.
pub const fn exp(x: f64) -> f64 {
    let small = x / 1024.0;
    let (mut term, mut sum, mut k) = (1.0, 1.0, 1.0);
    while k < 20.0 {
        term *= small / k;
        sum += term;
        k += 1.0;
    }
    let mut squarings = 0;
    while squarings < 10 {
        sum *= sum;
        squarings += 1;
    }
    sum
}

/// ln x of a number above 0: ln m + e·ln 2 for x = m·2^e with m from 1 to 2, and ln m = 2·artanh((m − 1) / (m + 1)).
pub const fn ln(x: f64) -> f64 {
    let (mut m, mut e) = (x, 0.0);
    while m >= 2.0 {
        (m, e) = (m / 2.0, e + 1.0);
    }
    while m < 1.0 {
        (m, e) = (m * 2.0, e - 1.0);
    }
    let t = (m - 1.0) / (m + 1.0);
    let (mut power, mut sum, mut k) = (t, 0.0, 1.0);
    while k < 60.0 {
        sum += power / k;
        power *= t * t;
        k += 2.0;
    }
    2.0 * sum + e * LN_2
}

/// The nearest integer.
pub const fn round(x: f64) -> i32 {
    // A cast saturates.
    (if x < 0.0 { x - 0.5 } else { x + 0.5 }) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_the_library() {
        for m in 0..=400 {
            let exact = (TAU * f64::from(m) / 400.0).cos();
            assert!((cosine(m as usize, 400) - exact).abs() < 1e-14, "{m}");
            let x = f64::from(m) / 20.0 - 10.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-12, "{x}");
            let x = x.exp();
            assert!((ln(x) - x.ln()).abs() < 1e-14 * (1.0 + x.ln().abs()), "{x}");
        }
        assert_eq!([-1.5, -0.4, 0.5, 1e20].map(round), [-2, 0, 1, i32::MAX]);
    }
}
