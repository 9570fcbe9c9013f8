//! Softmax as the formula says.

/// `out = exp(x − max x) / Σ exp(x − max x)`.
pub fn softmax(x: &[f32], out: &mut [f64]) {
    let max = x
        .iter()
        .fold(f64::NEG_INFINITY, |m, x| m.max(f64::from(*x)));
    let mut sum = 0.0;
    for (out, x) in out.iter_mut().zip(x) {
        *out = libm::exp(f64::from(*x) - max);
        sum += *out;
    }
    out.iter_mut().for_each(|out| *out /= sum);
}
