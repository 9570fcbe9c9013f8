//! Normalisations of one row.

/// x / √(mean(x²) + eps) · gain.
pub fn rms_norm(x: &[f32], gain: impl Fn(usize) -> f32, eps: f32, out: &mut [f64]) {
    let mean = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / x.len() as f64;
    for (i, (out, x)) in out.iter_mut().zip(x).enumerate() {
        *out = f64::from(*x) / libm::sqrt(mean + f64::from(eps)) * f64::from(gain(i));
    }
}

/// (x − mean(x)) / √(var(x) + eps) · gain + bias.
pub fn layer_norm(
    x: &[f32],
    gain: impl Fn(usize) -> f32,
    bias: impl Fn(usize) -> f32,
    eps: f32,
    out: &mut [f64],
) {
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / x.len() as f64;
    let square = |x: &f32| (f64::from(*x) - mean) * (f64::from(*x) - mean);
    let variance = x.iter().map(square).sum::<f64>() / x.len() as f64;
    for (i, (out, x)) in out.iter_mut().zip(x).enumerate() {
        let unit = (f64::from(*x) - mean) / libm::sqrt(variance + f64::from(eps));
        *out = unit * f64::from(gain(i)) + f64::from(bias(i));
    }
}
