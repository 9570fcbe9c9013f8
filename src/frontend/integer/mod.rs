//! Log-mel frames without a float: the same bits on every processor.
//!
//! As [`Listener`](super::Listener), in numbers of 16 and 32 bits: a window's samples, weighed by Hann's, are scaled up to
//! what 15 bits hold, their transform is that of `spectrum` in two steps of whole numbers, powers have 64 bits, and the
//! logarithm has 10 bits behind the point. What a model reads are levels of a byte.

mod spectrum;
mod tables;

pub use tables::{Levels, MelTables};

use super::mel::{MelError, MelSpec};
use super::window::Window;
use spectrum::Spectrum;

impl MelSpec {
    /// Numbers of memory that an [`IntegerListener`] needs.
    pub const fn integer_listener_words(&self) -> usize {
        self.window + spectrum::words(self.window)
    }
}

/// Frames of sound that never ends, as levels of a byte, without a float.
///
/// A frame is a [`Listener`](super::Listener)'s, made what [`Levels`] say; a level is one off where it lies between two,
/// and energies 80 dB below the loudest of a window may be louder.
///
/// ```
/// use attentive::frontend::{IntegerListener, Levels, MelSpec, MelTables};
///
/// const SPEC: MelSpec = MelSpec { bins: 40, ..MelSpec::WHISPER };
/// const LEVELS: Levels = Levels { mean: -0.2, deviation: 0.6, scale: 0.04 };
/// static WORDS: [i32; SPEC.table_words()] = MelTables::words(&SPEC, &LEVELS);
///
/// let tables = MelTables::new(&SPEC, &WORDS)?;
/// let mut memory = [0; SPEC.integer_listener_words()];
/// let mut listener = IntegerListener::new(&tables, &mut memory)?;
/// let mut levels = Vec::new();
/// for samples in [[100_i16, -100]; 800] {
///     listener.hear(&samples, |level| levels.push(level));
/// }
/// assert_eq!(levels.len(), 40 * (1 + (1600 - 400) / 160));
/// # Ok::<(), attentive::frontend::MelError>(())
/// ```
#[derive(Debug)]
pub struct IntegerListener<'a> {
    tables: &'a MelTables<'a>,
    window: Window<'a, i32>,
    spectrum: Spectrum<'a>,
}

impl<'a> IntegerListener<'a> {
    /// Of `memory`, [`MelSpec::integer_listener_words`] elements are taken.
    ///
    /// # Errors
    /// [`MelError::Length`] when the memory is too small.
    pub fn new(tables: &'a MelTables<'a>, memory: &'a mut [i32]) -> Result<Self, MelError> {
        let need = tables.window + spectrum::words(tables.window);
        let short = MelError::Length {
            what: "memory of a listener",
            need,
            have: memory.len(),
        };
        let (window, rest) = memory.split_at_mut_checked(tables.window).ok_or(short)?;
        let spectrum = Spectrum::new(tables.turns, rest).ok_or(short)?;
        Ok(Self {
            tables,
            window: Window::new(window, tables.hop),
            spectrum,
        })
    }

    /// Takes samples, as many as there are, and gives the levels of each frame that they complete to `each`, the lowest
    /// band's first.
    pub fn hear(&mut self, samples: &[i16], mut each: impl FnMut(i8)) {
        let (tables, spectrum) = (self.tables, &mut self.spectrum);
        let samples = samples.iter().copied().map(i32::from);
        self.window
            .hear(samples, |window| frame(tables, spectrum, window, &mut each));
    }

    /// Forgets what was heard.
    pub fn forget(&mut self) {
        self.window.forget();
    }
}

/// The levels of a window.
fn frame(
    tables: &MelTables<'_>,
    spectrum: &mut Spectrum<'_>,
    samples: &[i32],
    each: &mut impl FnMut(i8),
) {
    let exponent = spectrum.transform(samples);
    let mut powers = spectrum.powers();
    // What the band that ends with a segment has, and the one that begins with it.
    let (mut falling, mut rising) = (0u64, 0u64);
    let segments = tables.corners.windows(2).zip(tables.slopes);
    let mut next = powers.next();
    for (index, (corners, slope)) in segments.enumerate() {
        let &[from, to] = corners else {
            return;
        };
        while let Some((k, power)) = next {
            if k >= to {
                break;
            }
            // In 2⁻¹⁵; what lies before the first corner is in no band.
            let above = k.wrapping_sub(from);
            if above >= 0 {
                let product = above.cast_unsigned().wrapping_mul(slope.cast_unsigned());
                let up = u64::from((product >> 16).min(1 << 15));
                rising = rising.saturating_add(weighed(power, up));
                falling = falling.saturating_add(weighed(power, (1 << 15) - up));
            }
            next = powers.next();
        }
        if let Some(band) = index.checked_sub(1) {
            let offset = tables.offsets.get(band).copied().unwrap_or(0);
            each(level(tables, offset, falling, exponent));
        }
        (falling, rising) = (rising, 0);
    }
}
/// power · weight / 2¹⁵, without leaving 64 bits.
fn weighed(power: u64, weight: u64) -> u64 {
    let high = (power >> 15).wrapping_mul(weight);
    high.wrapping_add((power & 0x7fff).wrapping_mul(weight) >> 15)
}

/// The level of an energy of 2^exponent's.
fn level(tables: &MelTables<'_>, offset: i32, energy: u64, exponent: i32) -> i8 {
    let floor = tables.floor;
    let level = match energy {
        0 => floor,
        _ => {
            let log = i64::from(exponent.wrapping_mul(1 << 10).wrapping_add(log2(energy)));
            let level = log.wrapping_mul(i64::from(tables.factor)) >> 8;
            let level = level.wrapping_add(i64::from(offset)).wrapping_add(1 << 15) >> 16;
            (level.clamp(-1000, 1000) as i32).max(floor)
        }
    };
    level.clamp(i8::MIN.into(), i8::MAX.into()) as i8
}

/// log₂ x in 2⁻¹⁰, rounded down; x is not 0.
fn log2(x: u64) -> i32 {
    let zeros = x.leading_zeros();
    let mut log = 63u32.saturating_sub(zeros);
    // From 1 to 2, in 2⁻¹⁵: squared, it says one bit after the other.
    let mut mantissa = ((x << zeros) >> 48) as u32;
    for _ in 0..10 {
        mantissa = mantissa.wrapping_mul(mantissa) >> 15;
        let bit = mantissa >> 16;
        mantissa >>= bit;
        log = log << 1 | bit;
    }
    log as i32
}

#[cfg(test)]
mod tests {
    use super::log2;

    #[test]
    fn logarithms_are_right_to_two_units() {
        for shift in 0..64 {
            for x in [
                1u64 << shift,
                (1 << shift) | (1 << shift >> 1),
                u64::MAX >> shift,
            ] {
                let exact = (x as f64).log2() * 1024.0;
                let off = exact - f64::from(log2(x));
                assert!((-0.01..2.0).contains(&off), "{x}: {off}");
            }
        }
    }
}
