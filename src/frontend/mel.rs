//! Log-mel spectra: what speech models read.

use core::fmt;

use super::spectrum::{hann_power, is_length, set_cosines};
use super::window::Window;
use crate::kernels::constants::{exp, ln};

/// How sound becomes frames of energies in mel bands.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MelSpec {
    /// Samples a second.
    pub sample_rate: u32,
    /// Samples of a window, which is also the length of its transform: a multiple of 8.
    pub window: usize,
    /// Samples from one window to the next.
    pub hop: usize,
    /// Bands.
    pub bins: usize,
    /// Where the lowest band begins, in Hz.
    pub low: f32,
    /// Where the highest band ends, in Hz: at most half the sample rate.
    pub high: f32,
}

impl MelSpec {
    /// Whisper's (Radford et al. 2022): 80 bands of windows of 25 ms, 100 a second.
    pub const WHISPER: Self = Self {
        sample_rate: 16_000,
        window: 400,
        hop: 160,
        bins: 80,
        low: 0.0,
        high: 8_000.0,
    };

    /// Floats of memory that a [`Mel`] needs.
    pub const fn floats(&self) -> usize {
        // Cosines, samples in work, a power spectrum; the bands' corners.
        let Self { window, bins, .. } = *self;
        window * 2 + window / 2 + 1 + bins + 2
    }

    /// Floats of memory that a [`Listener`] needs.
    pub const fn listener_floats(&self) -> usize {
        self.floats() + self.window + self.bins
    }

    /// Frames that Whisper makes of so many samples: one for each whole hop.
    pub const fn frames(&self, samples: usize) -> usize {
        match samples.checked_div(self.hop) {
            Some(frames) => frames,
            None => 0,
        }
    }

    pub(super) const fn check(&self) -> Result<(), MelError> {
        let is_above = self.high > self.low;
        let field = match *self {
            Self { sample_rate: 0, .. } => "sample_rate (at least 1)",
            Self { window, .. } if !is_length(window) => "window (a multiple of 8)",
            Self { hop: 0, .. } => "hop (at least 1)",
            Self { bins: 0, .. } => "bins (at least 1)",
            Self { low, .. } if low < 0.0 => "low (at least 0)",
            // (A NaN is not above.)
            _ if !is_above => "high (above low)",
            Self { high, .. } if high > self.sample_rate as f32 / 2.0 => {
                "high (at most half the sample rate)"
            }
            _ => return Ok(()),
        };
        Err(MelError::Spec { field })
    }
}

/// What can go wrong between sound and a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum MelError {
    /// A field of the [`MelSpec`] is outside its limits.
    Spec {
        /// Its name and its limit.
        field: &'static str,
    },
    /// A slice has another length.
    Length {
        /// Which.
        what: &'static str,
        /// Elements needed (of memory: at least).
        need: usize,
        /// Elements there.
        have: usize,
    },
}

impl fmt::Display for MelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Spec { field } => write!(f, "mel bands of an impossible {field}"),
            Self::Length { what, need, have } => {
                write!(f, "{what}: {need} elements are needed, {have} are there")
            }
        }
    }
}

impl core::error::Error for MelError {}

fn check_len(what: &'static str, need: usize, have: usize) -> Result<(), MelError> {
    match need == have {
        true => Ok(()),
        false => Err(MelError::Length { what, need, have }),
    }
}

/// Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, then logarithmic, 27 steps for a factor of 6.4.
const LINEAR_HZ: f64 = 200.0 / 3.0;
const LINEAR_MELS: f64 = 15.0;
const LOG_STEP: f64 = 0.068_751_777_420_949_12;

const fn mel_of(hz: f64) -> f64 {
    match hz < LINEAR_MELS * LINEAR_HZ {
        true => hz / LINEAR_HZ,
        false => LINEAR_MELS + ln(hz / (LINEAR_MELS * LINEAR_HZ)) / LOG_STEP,
    }
}

const fn hz_of(mel: f64) -> f64 {
    match mel < LINEAR_MELS {
        true => mel * LINEAR_HZ,
        false => LINEAR_MELS * LINEAR_HZ * exp((mel - LINEAR_MELS) * LOG_STEP),
    }
}

/// A corner of the bands, in steps of the spectrum: band b rises from b to b + 1 and falls to b + 2.
pub(super) const fn corner(spec: &MelSpec, index: usize) -> f64 {
    let (low, high) = (mel_of(spec.low as f64), mel_of(spec.high as f64));
    let mel = low + (high - low) * index as f64 / (spec.bins + 1) as f64;
    hz_of(mel) * spec.window as f64 / spec.sample_rate as f64
}

/// Mel bands of windows of sound, in borrowed memory.
///
/// A band is a triangle over the power spectrum of a Hann window whose corners are the middles of its neighbours,
/// divided by half its width in Hz, as librosa's `filters.mel` makes it by default and Whisper takes it.
///
/// ```
/// use attentive::frontend::{Mel, MelSpec};
///
/// const SPEC: MelSpec = MelSpec::WHISPER;
/// let mut memory = [0.0; SPEC.floats()];
/// let mut mel = Mel::new(SPEC, &mut memory)?;
/// let sound = [0.25; 16_000];
/// let mut frames = [[0.0; 80]; 100];
/// mel.whisper(&sound, frames.as_flattened_mut())?;
/// # Ok::<(), attentive::frontend::MelError>(())
/// ```
#[derive(Debug)]
pub struct Mel<'a> {
    spec: MelSpec,
    cosines: &'a mut [f32],
    /// Samples in work, then their transforms.
    work: &'a mut [f32],
    /// Power spectrum.
    power: &'a mut [f32],
    /// The bands' corners, in steps of the spectrum: band b rises from b to b + 1 and falls to b + 2.
    corners: &'a mut [f32],
}

impl<'a> Mel<'a> {
    /// Fills `memory`, of which [`MelSpec::floats`] elements are taken, with its tables.
    ///
    /// # Errors
    /// [`MelError`] when the specification is impossible or the memory too small.
    pub fn new(spec: MelSpec, memory: &'a mut [f32]) -> Result<Self, MelError> {
        spec.check()?;
        let (need, have) = (spec.floats(), memory.len());
        let short = MelError::Length {
            what: "memory of the mel bands",
            need,
            have,
        };
        let mut rest = memory;
        let mut take = |len| {
            let (taken, left) = core::mem::take(&mut rest).split_at_mut_checked(len)?;
            rest = left;
            Some(taken)
        };
        let mut cut = || {
            Some(Self {
                spec,
                cosines: take(spec.window)?,
                work: take(spec.window)?,
                power: take(spec.window / 2 + 1)?,
                corners: take(spec.bins + 2)?,
            })
        };
        let this = cut().ok_or(short)?;
        set_cosines(this.cosines);
        for (index, to) in this.corners.iter_mut().enumerate() {
            *to = corner(&spec, index) as f32;
        }
        Ok(this)
    }

    /// The specification.
    pub const fn spec(&self) -> &MelSpec {
        &self.spec
    }

    /// Energies in the bands of one window; silence is 0.
    ///
    /// # Errors
    /// [`MelError::Length`] when there are not [`window`](MelSpec::window) samples or
    /// [`bins`](MelSpec::bins) energies.
    pub fn energies(&mut self, samples: &[f32], energies: &mut [f32]) -> Result<(), MelError> {
        check_len("samples of a window", self.spec.window, samples.len())?;
        check_len("energies of a frame", self.spec.bins, energies.len())?;
        self.bands(|index| samples.get(index).copied().unwrap_or(0.0), energies);
        Ok(())
    }

    fn bands(&mut self, sample: impl Fn(usize) -> f32, energies: &mut [f32]) {
        // The lengths are those of `floats`, so there is a result.
        let _ = hann_power(sample, self.cosines, self.work, self.power);
        let hz = self.spec.sample_rate as f32 / self.spec.window as f32;
        for (energy, corners) in energies.iter_mut().zip(self.corners.windows(3)) {
            if let [from, top, to] = *corners {
                *energy = triangle(self.power, [from, top, to]) * 2.0 / ((to - from) * hz);
            }
        }
    }

    /// The frames of a whole recording as Whisper reads them: windows centred on every hop, the recording mirrored at
    /// both ends; log₁₀ of the energies, at most 8 below the largest, shifted and scaled by (x + 4) / 4.
    ///
    /// `frames` are [`MelSpec::frames`] of `samples`, each of [`bins`](MelSpec::bins). (Whisper's own models read 30
    /// seconds: put zeros behind what is shorter.)
    ///
    /// # Errors
    /// [`MelError::Length`] when `frames` has another length, or there are fewer samples than half a window, which
    /// cannot be mirrored.
    pub fn whisper(&mut self, samples: &[f32], frames: &mut [f32]) -> Result<(), MelError> {
        let MelSpec {
            window, hop, bins, ..
        } = self.spec;
        let half = window / 2;
        if samples.len() <= half {
            return Err(MelError::Length {
                what: "samples of a recording",
                need: half + 1,
                have: samples.len(),
            });
        }
        let need = self.spec.frames(samples.len()).saturating_mul(bins);
        check_len("frames of a recording", need, frames.len())?;
        // Where a window reaches beyond the recording, this is mirrored, its end sample being there once.
        let last = samples.len() - 1;
        let sample = |index: usize| {
            let index = match index.checked_sub(half) {
                Some(index) if index > last => last.saturating_sub(index - last),
                Some(index) => index,
                None => half - index,
            };
            samples.get(index).copied().unwrap_or(0.0)
        };
        let mut largest = f32::NEG_INFINITY;
        for (index, frame) in frames.chunks_exact_mut(bins.max(1)).enumerate() {
            let middle = index.saturating_mul(hop);
            self.bands(|index| sample(middle + index), frame);
            for energy in frame {
                *energy = log10(*energy);
                largest = largest.max(*energy);
            }
        }
        for x in frames {
            *x = scaled(x.max(largest - 8.0));
        }
        Ok(())
    }
}

/// Energies below this are silence.
const FLOOR: f32 = 1e-10;

fn log10(energy: f32) -> f32 {
    libm::log10f(energy.max(FLOOR))
}

/// Whisper's scale: about −1 to 1.
fn scaled(log10: f32) -> f32 {
    (log10 + 4.0) / 4.0
}

/// A triangle over a spectrum; its corners are in steps of it.
fn triangle(power: &[f32], [from, top, to]: [f32; 3]) -> f32 {
    let (rise, fall) = (1.0 / (top - from), 1.0 / (to - top));
    // The first step behind the corner; corners are at least 0.
    let first = from as usize + 1;
    let mut sum = 0.0;
    for (k, power) in power.iter().enumerate().skip(first) {
        let k = k as f32;
        if k >= to {
            break;
        }
        let weight = if k < top {
            (k - from) * rise
        } else {
            (to - k) * fall
        };
        sum += weight * power;
    }
    sum
}

/// Frames of sound that never ends, a hop at a time.
///
/// A frame is [`Mel::whisper`]'s, except that its window begins, and does not lie in the middle, at the hop, and that
/// no energy is compared with the largest of a recording. The first frame comes when the first window is full.
///
/// ```
/// use attentive::frontend::{Listener, MelSpec};
///
/// const SPEC: MelSpec = MelSpec { bins: 40, window: 512, ..MelSpec::WHISPER };
/// let mut memory = [0.0; SPEC.listener_floats()];
/// let mut listener = Listener::new(SPEC, &mut memory)?;
/// let mut frames = 0;
/// for samples in [[0_i16; 100]; 16] {
///     listener.hear_i16(&samples, |frame| frames += frame.len() / 40);
/// }
/// assert_eq!(frames, 1 + (1600 - 512) / 160);
/// # Ok::<(), attentive::frontend::MelError>(())
/// ```
#[derive(Debug)]
pub struct Listener<'a> {
    mel: Mel<'a>,
    window: Window<'a, f32>,
    frame: &'a mut [f32],
}

impl<'a> Listener<'a> {
    /// Of `memory`, [`MelSpec::listener_floats`] elements are taken.
    ///
    /// # Errors
    /// [`MelError`] when the specification is impossible or the memory too small.
    pub fn new(spec: MelSpec, memory: &'a mut [f32]) -> Result<Self, MelError> {
        spec.check()?;
        let (need, have) = (spec.listener_floats(), memory.len());
        let short = MelError::Length {
            what: "memory of a listener",
            need,
            have,
        };
        let (window, rest) = memory.split_at_mut_checked(spec.window).ok_or(short)?;
        let (frame, rest) = rest.split_at_mut_checked(spec.bins).ok_or(short)?;
        Ok(Self {
            mel: Mel::new(spec, rest).map_err(|_| short)?,
            window: Window::new(window, spec.hop),
            frame,
        })
    }

    /// Takes samples in ±1, as many as there are, and gives each frame that they complete to `each`.
    pub fn hear(&mut self, samples: &[f32], each: impl FnMut(&[f32])) {
        self.hear_all(samples.iter().copied(), each);
    }

    /// As [`hear`](Self::hear), for samples of sixteen bits.
    pub fn hear_i16(&mut self, samples: &[i16], each: impl FnMut(&[f32])) {
        let samples = samples.iter().map(|x| f32::from(*x) / 32_768.0);
        self.hear_all(samples, each);
    }

    /// Forgets what was heard.
    pub fn forget(&mut self) {
        self.window.forget();
    }

    fn hear_all(&mut self, samples: impl Iterator<Item = f32>, mut each: impl FnMut(&[f32])) {
        let (mel, frame) = (&mut self.mel, &mut *self.frame);
        self.window.hear(samples, |window| {
            // The lengths are right by construction.
            let _ = mel.energies(window, frame);
            for energy in &mut *frame {
                *energy = scaled(log10(*energy));
            }
            each(frame);
        });
    }
}
