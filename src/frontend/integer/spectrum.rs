//! Power spectra of whole numbers, of any length that is a multiple of eight.
//!
//! A length P·Q, P the power of two in it but 16 at most, is Q transforms of P samples that lie Q apart, from their
//! definition, and the sum over these that is left (Cooley and Tukey 1965), as in the spectrum of floats. What comes out of
//! either step is scaled to what 15 bits hold, with one exponent for all.

/// The longest transform of the first step.
const P_MAX: usize = 16;

const fn power(len: usize) -> usize {
    let power = len & len.wrapping_neg();
    if power < P_MAX { power } else { P_MAX }
}

/// Numbers of memory for windows of that length.
pub(super) const fn words(len: usize) -> usize {
    let p = power(len);
    match len.checked_div(p) {
        Some(q) => q * (p + 2),
        None => 0,
    }
}

#[derive(Debug)]
pub(super) struct Spectrum<'a> {
    /// Cosines and sines in 2⁻¹⁴.
    turns: &'a [i32],
    /// Real and imaginary parts of the values 0..=p/2 of each of the q transforms.
    parts: &'a mut [[i32; 2]],
    p: usize,
    q: usize,
}

impl<'a> Spectrum<'a> {
    /// `None` when there is too little memory.
    pub(super) fn new(turns: &'a [i32], memory: &'a mut [i32]) -> Option<Self> {
        let len = turns.len();
        let p = power(len);
        let memory = memory.get_mut(..words(len))?;
        Some(Self {
            turns,
            parts: memory.as_chunks_mut().0,
            p,
            q: len.checked_div(p)?,
        })
    }

    /// The first step for so many samples, weighed by Hann's window. 2 to what is returned is the unit of the powers, of
    /// samples in ±1.
    pub(super) fn transform(&mut self, samples: &[i32]) -> i32 {
        let weighed = samples.iter().zip(self.turns).map(hann);
        let most = weighed.fold(0, |most, x| most | x.unsigned_abs());
        let shift = bits(most) - 15;
        let (p, q) = (self.p, self.q.max(1));
        let mut largest = 0;
        for (n, part) in self.parts.chunks_exact_mut(p / 2 + 1).enumerate() {
            let mut x = [0; P_MAX];
            let own = samples.iter().zip(self.turns).skip(n).step_by(q);
            for (to, from) in x.iter_mut().zip(own) {
                *to = scaled(hann(from), shift);
            }
            for (k, value) in part.iter_mut().enumerate() {
                // Sixteen products of 2²⁹ are a sum of 2³³, so four bits are left out.
                let (mut re, mut im) = (8, 8);
                let mut at = 0;
                for x in x.iter().take(p) {
                    let [cosine, sine] = turn(self.turns, at);
                    re += x.wrapping_mul(cosine) >> 4;
                    im -= x.wrapping_mul(sine) >> 4;
                    at = on(at, k * q, self.turns.len());
                }
                *value = [re >> 10, im >> 10];
                largest |= (re >> 10).unsigned_abs() | (im >> 10).unsigned_abs();
            }
        }
        let second = (bits(largest) - 15).max(0);
        for value in self.parts.as_flattened_mut() {
            *value = scaled(*value, second);
        }
        // Hann's weights are in 2⁻¹⁵, and so are samples; powers are squares.
        2 * (shift + second - 15 - 15 - (14 - self.left_out()))
    }

    /// Bits that are left out of a product of 2³⁰, so that q of them are as much.
    fn left_out(&self) -> i32 {
        bits(self.q as u32)
    }

    /// Each step of the spectrum in 2⁻¹⁶, and its power.
    pub(super) fn powers(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        (0..=self.turns.len() / 2).map(|k| ((k << 16) as i32, self.power(k)))
    }

    fn power(&self, k: usize) -> u64 {
        let half = self.p / 2;
        let k_of_part = k & (self.p - 1);
        // Behind the half lie the conjugates of the mirrored values; the other way round, their sum is the conjugate of
        // what is wanted, and as large.
        let (first, by) = match k_of_part > half {
            true => (self.p - k_of_part, self.turns.len() - k),
            false => (k_of_part, k),
        };
        let left_out = self.left_out();
        let (mut re, mut im) = (0i32, 0i32);
        let mut at = 0;
        for part in self.parts.chunks_exact(half + 1) {
            let [a_re, a_im] = part.get(first).copied().unwrap_or_default();
            let [cosine, sine] = turn(self.turns, at);
            let of_re = a_re
                .wrapping_mul(cosine)
                .wrapping_add(a_im.wrapping_mul(sine));
            let of_im = a_im
                .wrapping_mul(cosine)
                .wrapping_sub(a_re.wrapping_mul(sine));
            re = re.wrapping_add(of_re >> left_out);
            im = im.wrapping_add(of_im >> left_out);
            at = on(at, by, self.turns.len());
        }
        let square = |sum: i32| u64::from(sum.unsigned_abs()).pow(2);
        square(re).wrapping_add(square(im))
    }
}

/// A sample with its weight in 2⁻¹⁵.
#[inline(always)]
fn hann((sample, turn): (&i32, &i32)) -> i32 {
    sample.wrapping_mul((1 << 14) - i32::from(*turn as i16))
}

/// Cosine and sine at a place on the circle.
#[inline(always)]
fn turn(turns: &[i32], at: usize) -> [i32; 2] {
    let turn = turns.get(at).copied().unwrap_or(0);
    [i32::from(turn as i16), turn >> 16]
}

/// A place on the circle, on by less than a whole turn.
#[inline(always)]
fn on(at: usize, by: usize, len: usize) -> usize {
    let to = at + by;
    if to < len { to } else { to - len }
}

/// Bits of a magnitude.
const fn bits(magnitude: u32) -> i32 {
    32 - magnitude.leading_zeros() as i32
}

/// x / 2^shift, rounded.
fn scaled(x: i32, shift: i32) -> i32 {
    match shift {
        0 => x,
        1.. => (x >> (shift - 1)).wrapping_add(1) >> 1,
        _ => x << -shift,
    }
}
