//! Power spectra of real signals, of any length that is a multiple of eight.
//!
//! Speech models take windows of round milliseconds, 400 samples say, which no power of two is. A length P·Q, P the
//! power of two in it, is Q transforms of P samples that lie Q apart ([`microfft`]), and the sum over these that is
//! left, Σ A[n][k mod P] · e^(−2πi·nk/PQ) (Cooley and Tukey 1965), of which a real signal needs the first half.

use microfft::real;

/// The longest transform of microfft's that is used; a longer power of two counts as a multiple of it. (The crate's
/// feature `size-512` also offers one of 1024, for which its table of sines is too short.)
const P_MAX: usize = 512;

/// The power of two in `len`.
const fn power(len: usize) -> usize {
    let power = len & len.wrapping_neg();
    if power < P_MAX { power } else { P_MAX }
}

/// Whether spectra of such windows can be computed here.
pub(super) const fn is_length(len: usize) -> bool {
    len > 0 && len.is_multiple_of(8)
}

/// Writes cos(2π·m/len) for every m.
pub(super) fn set_cosines(cosines: &mut [f32]) {
    let step = core::f64::consts::TAU / cosines.len() as f64;
    for (m, cosine) in cosines.iter_mut().enumerate() {
        *cosine = libm::cos(m as f64 * step) as f32;
    }
}

/// |X[k]|² for k = 0..=len/2, where X is the transform of the samples 0..len times the periodic Hann window
/// ½ − ½·cos(2πn/len).
///
/// `cosines` are those of [`set_cosines`], and as long as `work`; `powers` has len/2 + 1 elements. `None` when a length
/// is another.
pub(super) fn hann_power(
    sample: impl Fn(usize) -> f32,
    cosines: &[f32],
    work: &mut [f32],
    powers: &mut [f32],
) -> Option<()> {
    let len = cosines.len();
    let p = power(len).max(1);
    let q = len.checked_div(p)?.max(1);
    for (n, part) in work.chunks_exact_mut(p).enumerate() {
        let from = cosines.iter().enumerate().skip(n).step_by(q);
        for (to, (index, cosine)) in part.iter_mut().zip(from) {
            *to = sample(index) * (0.5 - 0.5 * cosine);
        }
        transform(part)?;
    }
    for (k, to) in powers.iter_mut().enumerate() {
        let k_of_part = k & (p - 1);
        let (mut re, mut im) = (0.0, 0.0);
        // nk modulo len, and the same a quarter turn back: cos(x − π/2) = sin x.
        let (mut turn, mut back) = (0, len - len / 4);
        for part in work.chunks_exact(p) {
            let (a_re, a_im) = value(part, k_of_part)?;
            let (cosine, sine) = (*cosines.get(turn)?, *cosines.get(back)?);
            re += a_re * cosine + a_im * sine;
            im += a_im * cosine - a_re * sine;
            turn = step(turn, k, len);
            back = step(back, k, len);
        }
        *to = re * re + im * im;
    }
    Some(())
}

/// (from + by) mod len, where both are at most len.
fn step(from: usize, by: usize, len: usize) -> usize {
    let to = from + by;
    if to < len { to } else { to - len }
}

/// Value k of a transform of p real samples, as microfft leaves it: real and imaginary parts of the first half in
/// turns, the real value p/2 in the place of the first's imaginary part, which is 0.
fn value(part: &[f32], k: usize) -> Option<(f32, f32)> {
    let p = part.len();
    let at = |k: usize| Some((*part.get(2 * k)?, *part.get(2 * k + 1)?));
    match k {
        0 => Some((*part.first()?, 0.0)),
        k if 2 * k == p => Some((*part.get(1)?, 0.0)),
        k if 2 * k < p => at(k),
        // The conjugate of the mirrored one.
        k => at(p - k).map(|(re, im)| (re, -im)),
    }
}

/// A transform in place.
fn transform(part: &mut [f32]) -> Option<()> {
    match part.len() {
        8 => _ = real::rfft_8(part.first_chunk_mut()?),
        16 => _ = real::rfft_16(part.first_chunk_mut()?),
        32 => _ = real::rfft_32(part.first_chunk_mut()?),
        64 => _ = real::rfft_64(part.first_chunk_mut()?),
        128 => _ = real::rfft_128(part.first_chunk_mut()?),
        256 => _ = real::rfft_256(part.first_chunk_mut()?),
        P_MAX => _ = real::rfft_512(part.first_chunk_mut()?),
        _ => return None,
    }
    Some(())
}
