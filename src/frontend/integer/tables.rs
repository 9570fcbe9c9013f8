//! What a listener without floats knows beforehand, computed by the compiler.

use crate::frontend::mel::{MelError, MelSpec, corner};
use crate::kernels::constants::{cosine, ln, round};

/// What a frame's values become before a model reads them: `(x − mean) / deviation`, in steps of `scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    /// Subtracted from a frame's values.
    pub mean: f32,
    /// What they are then divided by.
    pub deviation: f32,
    /// What a step is worth: [`Model::input_scale`](crate::integer::Model::input_scale).
    pub scale: f32,
}

/// Tables of a [`MelSpec`] and [`Levels`]: numbers of 32 bits, which stay in flash where they are a constant.
///
/// ```
/// use attentive::frontend::{Levels, MelSpec, MelTables};
///
/// const SPEC: MelSpec = MelSpec { bins: 40, ..MelSpec::WHISPER };
/// const LEVELS: Levels = Levels { mean: -0.2, deviation: 0.6, scale: 0.04 };
/// static WORDS: [i32; SPEC.table_words()] = MelTables::words(&SPEC, &LEVELS);
/// assert!(MelTables::new(&SPEC, &WORDS).is_ok());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MelTables<'a> {
    pub(super) window: usize,
    pub(super) hop: usize,
    /// Cosine and sine of 2π·m/window in 2⁻¹⁴: lower and upper half.
    pub(super) turns: &'a [i32],
    /// The bands' corners in 2⁻¹⁶ steps of the spectrum: band b rises from b to b + 1 and falls to b + 2.
    pub(super) corners: &'a [i32],
    /// From each corner to the next, 2³¹ over the distance.
    pub(super) slopes: &'a [i32],
    /// What is added to a band's level, in 2⁻¹⁶.
    pub(super) offsets: &'a [i32],
    /// What 2⁻¹⁰ of a power of two is worth, in 2⁻²⁴ of a level.
    pub(super) factor: i32,
    /// The level of silence, which none is below.
    pub(super) floor: i32,
}

impl MelSpec {
    /// Numbers of [`MelTables::words`].
    pub const fn table_words(&self) -> usize {
        self.window + (self.bins + 2) + (self.bins + 1) + self.bins + 2
    }
}

impl<'a> MelTables<'a> {
    /// The tables' numbers, for a constant. What is impossible does not compile.
    pub const fn words<const N: usize>(spec: &MelSpec, levels: &Levels) -> [i32; N] {
        let mut words = [0; N];
        match Self::fill(spec, levels, &mut words) {
            Ok(()) => words,
            Err(_) => panic!("mel bands that are impossible, or another number of words"),
        }
    }

    /// The same where they are not known before the program runs.
    ///
    /// # Errors
    /// [`MelError`] when the specification is impossible, or `words` are not [`MelSpec::table_words`].
    pub const fn fill(spec: &MelSpec, levels: &Levels, words: &mut [i32]) -> Result<(), MelError> {
        if let Err(error) = spec.check() {
            return Err(error);
        }
        if words.len() != spec.table_words() {
            return Err(length(spec, words.len()));
        }
        let (turns, rest) = words.split_at_mut(spec.window);
        let (corners, rest) = rest.split_at_mut(spec.bins + 2);
        let (slopes, rest) = rest.split_at_mut(spec.bins + 1);
        let (offsets, ends) = rest.split_at_mut(spec.bins);
        let mut m = 0;
        while m < spec.window {
            // cos(x − π/2) = sin x, and a window is a multiple of four.
            let back = (m + spec.window - spec.window / 4) % spec.window;
            let cosine_of_turn = round(cosine(m, spec.window) * 16384.0);
            turns[m] = cosine_of_turn & 0xffff | round(cosine(back, spec.window) * 16384.0) << 16;
            m += 1;
        }
        let mut index = 0;
        while index < spec.bins + 2 {
            corners[index] = round(corner(spec, index) * 65536.0);
            index += 1;
        }
        // log₁₀ x = log₂ x · log₁₀ 2, and levels are (log₁₀ x + 4) / 4, less the mean, over both others.
        let step = levels.deviation as f64 * levels.scale as f64;
        let decade = 1.0 / (4.0 * step);
        let mut index = 0;
        while index < spec.bins + 1 {
            let distance = corners[index + 1] - corners[index];
            slopes[index] = round(2147483648.0 / distance as f64);
            if index < spec.bins {
                let width = corner(spec, index + 2) - corner(spec, index);
                let hertz = width * spec.sample_rate as f64 / spec.window as f64;
                let norm = ln(2.0 / hertz) / core::f64::consts::LN_10;
                let level = ((norm + 4.0) / 4.0 - levels.mean as f64) / step;
                offsets[index] = round(level * 65536.0);
            }
            index += 1;
        }
        ends[0] = round(decade * core::f64::consts::LOG10_2 / 1024.0 * 16777216.0);
        ends[1] = round(((-10.0 + 4.0) / 4.0 - levels.mean as f64) / step);
        Ok(())
    }

    /// Reads [`words`](Self::words).
    ///
    /// # Errors
    /// [`MelError::Length`] when they are of another specification.
    pub const fn new(spec: &MelSpec, words: &'a [i32]) -> Result<Self, MelError> {
        let lens = [spec.window, spec.bins + 2, spec.bins + 1, spec.bins];
        let Some(([turns, corners, slopes, offsets], &[factor, floor])) = split(words, lens) else {
            return Err(length(spec, words.len()));
        };
        Ok(Self {
            window: spec.window,
            hop: spec.hop,
            turns,
            corners,
            slopes,
            offsets,
            factor,
            floor,
        })
    }
}

/// Parts of those lengths, and the rest.
const fn split(words: &[i32], [a, b, c, d]: [usize; 4]) -> Option<([&[i32]; 4], &[i32])> {
    let Some((first, rest)) = words.split_at_checked(a) else {
        return None;
    };
    let Some((second, rest)) = rest.split_at_checked(b) else {
        return None;
    };
    let Some((third, rest)) = rest.split_at_checked(c) else {
        return None;
    };
    match rest.split_at_checked(d) {
        Some((fourth, rest)) => Some(([first, second, third, fourth], rest)),
        None => None,
    }
}

const fn length(spec: &MelSpec, have: usize) -> MelError {
    MelError::Length {
        what: "words of mel tables",
        need: spec.table_words(),
        have,
    }
}
