//! Recordings as models hear them: samples of a file, and frames of these.

use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::frontend::{Mel, MelSpec};
use hound::{SampleFormat, WavReader};
use rubato::{FftFixedIn, Resampler};
use std::ops::RangeInclusive;
use std::path::Path;

/// Samples a second that models hear.
pub const RATE: u32 = MelSpec::WHISPER.sample_rate;

/// Frames of a window, half a minute.
pub const FRAMES: usize = 3000;

/// A frame is 10 ms.
pub const FRAMES_A_SECOND: usize = 100;

/// Samples a second that files may have: what recorders make; beyond, a header is damaged and would cost gigabytes.
const RATES: RangeInclusive<u32> = 1_000..=768_000;

/// Zeros that the reference puts behind a recording before it makes frames.
const SILENCE: usize = 160;

/// Sound of one channel at [`RATE`], in ±1.
///
/// # Errors
/// A file that is no WAV or holds no sound.
pub fn read_wav(path: &Path) -> Result<Vec<f32>> {
    let context = || format!("reading {}", path.display());
    let mut reader = WavReader::open(path).with_context(context)?;
    let spec = reader.spec();
    let samples: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect::<Result<_, _>>(),
        SampleFormat::Int => {
            let most = f32::from(2u8).powi(i32::from(spec.bits_per_sample) - 1);
            let samples = reader.samples::<i32>();
            samples
                .map(|sample| sample.map(|sample| sample as f32 / most))
                .collect()
        }
    }
    .with_context(context)?;
    let channels = usize::from(spec.channels.max(1));
    let mono: Vec<f32> = samples
        .chunks_exact(channels)
        .map(|frame| frame.iter().sum::<f32>() / channels as f32)
        .collect();
    ensure!(!mono.is_empty(), "{} holds no sound", path.display());
    ensure!(
        mono.iter().all(|sample| sample.is_finite()),
        "{} holds samples that are no numbers",
        path.display()
    );
    resampled(mono, spec.sample_rate, RATE).with_context(|| path.display().to_string())
}

/// At another rate, by the Fourier transform.
///
/// # Errors
/// When one of the rates is beyond what recorders make.
pub fn resampled(samples: Vec<f32>, from: u32, to: u32) -> Result<Vec<f32>> {
    if from == to {
        return Ok(samples);
    }
    let wrong = [from, to].into_iter().find(|rate| !RATES.contains(rate));
    ensure!(
        wrong.is_none(),
        "a rate of {} samples a second; supported are {} to {}",
        wrong.unwrap_or_default(),
        RATES.start(),
        RATES.end()
    );
    let len = (samples.len() as u64 * u64::from(to)).div_ceil(u64::from(from)) as usize;
    // Transforms of an even number of samples on both sides: their delay is half of that, and a whole number.
    let unit = 2 * (from / common_divisor(from, to)) as usize;
    let chunk = 512usize.next_multiple_of(unit);
    let made = FftFixedIn::<f32>::new(from as usize, to as usize, 2 * chunk, 2, 1);
    let mut resampler = made.map_err(|error| anyhow!("from {from} samples a second: {error}"))?;
    let delay = resampler.output_delay();
    let mut out = Vec::with_capacity(len + delay + 1024);
    let mut rest = samples.as_slice();
    while out.len() < len + delay {
        let n = resampler.input_frames_next();
        let made = match rest.split_at_checked(n) {
            Some((chunk, after)) => {
                rest = after;
                resampler.process(&[chunk], None)
            }
            None => {
                let last = [core::mem::take(&mut rest)];
                let last = Some(last.as_slice()).filter(|last| !last[0].is_empty());
                resampler.process_partial(last, None)
            }
        };
        let made = made.map_err(|error| anyhow!("resampling: {error}"))?;
        match made.first() {
            Some(made) if !made.is_empty() => out.extend_from_slice(made),
            _ => bail!("resampling gave nothing"),
        }
    }
    Ok(out[delay..][..len].to_vec())
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// The frames of a whole recording, as the reference makes them.
#[derive(Clone, Debug)]
pub struct Frames(Vec<f32>);

impl Frames {
    const BINS: usize = MelSpec::WHISPER.bins;

    /// Of samples at [`RATE`].
    ///
    /// # Errors
    /// A recording that is too short.
    pub fn new(samples: &[f32]) -> Result<Self> {
        let spec = MelSpec::WHISPER;
        let mut memory = vec![0.0; spec.floats()];
        let mut mel = Mel::new(spec, &mut memory).map_err(|error| anyhow!("{error:?}"))?;
        let mut samples = samples.to_vec();
        samples.resize(samples.len() + SILENCE, 0.0);
        let mut frames = vec![0.0; spec.frames(samples.len()) * Self::BINS];
        mel.whisper(&samples, &mut frames)
            .map_err(|_| anyhow!("the recording is shorter than a window of 25 ms"))?;
        // The reference leaves out the last frame, which is half silence.
        let len = frames.len().saturating_sub(Self::BINS).max(Self::BINS);
        frames.truncate(len);
        Ok(Self(frames))
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.0.len() / Self::BINS
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// [`FRAMES`] frames from `at` on, filled up with zeros.
    pub fn window(&self, at: usize) -> Vec<f32> {
        let rest = self.0.get(at * Self::BINS..).unwrap_or_default();
        let mut window = rest[..rest.len().min(FRAMES * Self::BINS)].to_vec();
        window.resize(FRAMES * Self::BINS, 0.0);
        window
    }
}
