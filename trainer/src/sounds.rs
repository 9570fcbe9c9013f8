//! Clips of spoken words: loading them, which speakers are held out, and how they become patches.

use crate::random::Random;
use crate::speech::{RATE, read_wav};
use crate::task::Data;
use anyhow::{Context, Result, anyhow, ensure};
use attentive::frontend::{IntegerListener, Levels, Listener, MelSpec, MelTables};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The class of words that are none of the task's.
pub const OTHER: &str = "_other_";

/// Clips of one length, and what is varied about them in training.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sounds {
    /// Directory of one directory for each word, of WAV files whose names begin with the speaker's up to the first `_`
    /// (Speech Commands' layout, Warden 2018). Names that begin with `_` are classes of their own.
    pub directory: PathBuf,
    /// The words that are told apart; all others are one class, [`OTHER`].
    pub words: Vec<String>,
    /// How they become patches.
    #[serde(flatten)]
    pub sound: Sound,
    /// They are played faster or slower, and so higher or lower, by up to this factor above 1: other speakers' voices and
    /// tempos (Ko et al. 2015).
    #[serde(default = "same")]
    pub speed: f32,
    /// Clips are moved by up to so many samples in each direction.
    #[serde(default)]
    pub shift: usize,
    /// They become louder or softer by up to so many decibels.
    #[serde(default)]
    pub gain: f32,
    /// This share of them has noise added, 5 to 30 decibels softer than the loudest tenth of a second.
    #[serde(default)]
    pub noise: f32,
    /// The logarithmic spectrum is tilted by up to so much from its lowest to its highest band, in [`MelSpec`]'s scale.
    #[serde(default)]
    pub tilt: f32,
}

fn same() -> f32 {
    1.0
}

/// How a clip becomes patches: frames of the logarithm of mel bands, some of them a patch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
pub struct Sound {
    /// Samples of a clip, at 16 kHz.
    pub samples: usize,
    /// Samples of a window.
    pub window: usize,
    /// Samples from one window to the next.
    pub hop: usize,
    /// Mel bands of a frame.
    pub bins: usize,
    /// Frames of a patch.
    pub frames: usize,
    /// Subtracted from a frame's values.
    pub mean: f32,
    /// What they are then divided by.
    pub deviation: f32,
}

impl Sound {
    /// The bands, up to half the rate.
    pub fn spec(&self) -> MelSpec {
        MelSpec {
            window: self.window,
            hop: self.hop,
            bins: self.bins,
            ..MelSpec::WHISPER
        }
    }

    /// Patches of a clip.
    pub fn patches(&self) -> usize {
        let frames = match self.samples.checked_sub(self.window) {
            Some(rest) => 1 + rest / self.hop.max(1),
            None => 0,
        };
        frames / self.frames.max(1)
    }

    /// Values of a patch.
    pub fn patch_len(&self) -> usize {
        self.frames * self.bins
    }

    /// Whether a clip has a patch.
    ///
    /// # Errors
    /// When it has not, or the bands are impossible.
    pub fn check(&self) -> Result<()> {
        let spec = self.spec();
        let mut memory = vec![0.0; spec.listener_floats()];
        Listener::new(spec, &mut memory).map_err(|error| anyhow!("{error}"))?;
        ensure!(
            self.patches() > 0 && self.frames > 0,
            "a clip of {} samples has no patch of {} frames",
            self.samples,
            self.frames
        );
        Ok(())
    }

    /// The patches of a clip, `(patches, patch_len)`.
    ///
    /// # Errors
    /// When it has another length.
    pub fn cut(&self, samples: &[f32]) -> Result<Vec<f32>> {
        self.check_len(samples.len())?;
        let spec = self.spec();
        let mut memory = vec![0.0; spec.listener_floats()];
        let listener = Listener::new(spec, &mut memory);
        let mut listener = listener.map_err(|error| anyhow!("{error}"))?;
        let mut patches = Vec::new();
        listener.hear(samples, |frame| {
            let scaled = |x: &f32| (x - self.mean) / self.deviation;
            patches.extend(frame.iter().map(scaled));
        });
        patches.truncate(self.patches() * self.patch_len());
        Ok(patches)
    }

    /// The same as levels of an integer model's input of that scale.
    ///
    /// # Errors
    /// As [`Sound::cut`].
    pub fn levels(&self, samples: &[i16], scale: f32) -> Result<Vec<i8>> {
        self.check_len(samples.len())?;
        let (spec, levels) = (self.spec(), self.scale(scale));
        let mut words = vec![0; spec.table_words()];
        let tables = MelTables::fill(&spec, &levels, &mut words)
            .and_then(|()| MelTables::new(&spec, &words))
            .map_err(|error| anyhow!("{error}"))?;
        let mut memory = vec![0; spec.integer_listener_words()];
        let listener = IntegerListener::new(&tables, &mut memory);
        let mut listener = listener.map_err(|error| anyhow!("{error}"))?;
        let mut levels = Vec::new();
        listener.hear(samples, |level| levels.push(level));
        levels.truncate(self.patches() * self.patch_len());
        Ok(levels)
    }

    fn scale(&self, scale: f32) -> Levels {
        Levels {
            mean: self.mean,
            deviation: self.deviation,
            scale,
        }
    }

    fn check_len(&self, have: usize) -> Result<()> {
        ensure!(
            have == self.samples,
            "a clip has {} samples, {have} came",
            self.samples
        );
        Ok(())
    }

    /// A recording as a clip: the part with the most energy in its middle of what is longer, zeros around what is
    /// shorter.
    pub fn fitted(&self, samples: &[f32]) -> Vec<f32> {
        let mut clip = vec![0.0; self.samples];
        match samples.len().checked_sub(self.samples) {
            None => {
                let from = (self.samples - samples.len()) / 2;
                clip[from..from + samples.len()].copy_from_slice(samples);
            }
            Some(spare) => {
                let power = |x: &f32| f64::from(*x) * f64::from(*x);
                let all: f64 = samples.iter().map(power).sum();
                let mut half = all / 2.0;
                let middle = samples.iter().position(|x| {
                    half -= power(x);
                    half <= 0.0
                });
                let from = middle
                    .unwrap_or(0)
                    .saturating_sub(self.samples / 2)
                    .min(spare);
                clip.copy_from_slice(&samples[from..from + self.samples]);
            }
        }
        clip
    }
}

/// Samples of sixteen bits, which is what clips are kept as.
pub fn to_i16(samples: &[f32]) -> Vec<i16> {
    let scaled = |x: &f32| (x * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
    samples.iter().map(scaled).collect()
}

/// The same in ±1.
pub fn to_f32(samples: &[i16]) -> Vec<f32> {
    samples.iter().map(|x| f32::from(*x) / 32_768.0).collect()
}

impl Sounds {
    /// Checks the table.
    ///
    /// # Errors
    /// When clips cannot become patches, or a share is none.
    pub fn check(&self) -> Result<()> {
        self.sound.check()?;
        ensure!(
            (0.0..=1.0).contains(&self.noise)
                && (0.0..=60.0).contains(&self.gain)
                && (0.0..=4.0).contains(&self.tilt)
                && (1.0..=2.0).contains(&self.speed),
            "noise should lie between 0 and 1, gain between 0 and 60, tilt between 0 and 4, speed between 1 and 2"
        );
        ensure!(
            self.shift < self.sound.samples && !self.words.is_empty(),
            "shift should be shorter than a clip, and words should name one word at least"
        );
        Ok(())
    }

    /// The class of a directory.
    pub fn class(&self, directory: &str) -> String {
        let own = directory.starts_with('_') || self.words.iter().any(|word| word == directory);
        if own { directory } else { OTHER }.to_owned()
    }

    /// Clips of a directory, their classes and their speakers, sorted by path.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else.
    pub fn clips(&self, directory: &Path) -> Result<Vec<Clip>> {
        let mut out = Vec::new();
        for word in sorted(directory)? {
            if !word.is_dir() {
                continue;
            }
            let class = self.class(&name(&word));
            for path in sorted(&word)? {
                if path.extension().is_none_or(|ending| ending != "wav") {
                    continue;
                }
                let file = name(&path);
                let speaker = file.split('_').next().unwrap_or_default().to_owned();
                let samples = to_i16(&self.sound.fitted(&read_wav(&path)?));
                out.push(Clip {
                    class: class.clone(),
                    speaker,
                    samples,
                });
            }
        }
        ensure!(
            !out.is_empty(),
            "{} should hold a directory of WAV files for each word; `attentive speak` makes such",
            directory.display()
        );
        Ok(out)
    }

    /// Clips in three parts by their speakers: what is trained on, what decides when to stop, what no training hears.
    ///
    /// # Errors
    /// As [`Sounds::clips`], and when there are too few speakers.
    pub fn split(&self, data: &Data) -> Result<[Vec<Clip>; 3]> {
        let mut by_speaker: BTreeMap<String, Vec<Clip>> = BTreeMap::new();
        for clip in self.clips(&self.directory)? {
            by_speaker
                .entry(clip.speaker.clone())
                .or_default()
                .push(clip);
        }
        let speakers: Vec<Vec<Clip>> = by_speaker.into_values().collect();
        let parts = crate::examples::split(speakers, data)?;
        Ok(parts.map(|speakers| speakers.into_iter().flatten().collect()))
    }

    /// A clip as another recording of it might be, as patches.
    ///
    /// # Errors
    /// As [`Sound::cut`].
    pub fn varied(&self, samples: &[i16], random: &mut Random) -> Result<Vec<f32>> {
        let clip = to_f32(samples);
        let shift = random.below(2 * self.shift + 1);
        let gain = 10f32.powf(self.gain * (random.unit() as f32 * 2.0 - 1.0) / 20.0);
        let speed = self.speed.powf(random.unit() as f32 * 2.0 - 1.0);
        let mut varied = vec![0.0; clip.len()];
        let middle = clip.len() as f32 / 2.0;
        for (index, to) in varied.iter_mut().enumerate() {
            // Between two samples, linearly.
            let from = (index as f32 + shift as f32 - self.shift as f32 - middle) * speed + middle;
            let (before, part) = (from.floor(), from - from.floor());
            let at = |place: f32| match place >= 0.0 {
                true => clip.get(place as usize).copied().unwrap_or(0.0),
                false => 0.0,
            };
            *to = (at(before) * (1.0 - part) + at(before + 1.0) * part) * gain;
        }
        let (has_noise, softer) = (random.unit(), 5.0 + 25.0 * random.unit() as f32);
        let redness = random.unit() as f32;
        if has_noise < f64::from(self.noise) {
            let tenth = (RATE / 10) as usize;
            let power = |part: &[f32]| part.iter().map(|x| x * x).sum::<f32>() / part.len() as f32;
            let loudest = varied.chunks(tenth).map(power).fold(1e-8, f32::max);
            let noise = noise(varied.len(), redness, random);
            let scale = loudest.sqrt() * 10f32.powf(-softer / 20.0);
            for (x, noise) in varied.iter_mut().zip(noise) {
                *x += noise * scale;
            }
        }
        let mut patches = self.sound.cut(&varied)?;
        let tilt = self.tilt * (random.unit() as f32 * 2.0 - 1.0) / self.sound.deviation;
        let bins = self.sound.bins;
        for frame in patches.chunks_exact_mut(bins) {
            for (band, x) in frame.iter_mut().enumerate() {
                *x += tilt * (band as f32 / bins as f32 - 0.5);
            }
        }
        Ok(patches)
    }
}

/// Noise of power 1, white at redness 0, ever more of low frequencies towards 1.
pub fn noise(len: usize, redness: f32, random: &mut Random) -> Vec<f32> {
    // A first-order low pass keeps the share √(1 − k²) of white noise's deviation.
    let keep = 0.98 * redness;
    let scale = (1.0 - keep * keep).sqrt();
    let mut state = 0.0;
    random
        .normal(len, scale)
        .into_iter()
        .map(|x| {
            state = keep * state + x;
            state
        })
        .collect()
}

/// A clip of a word.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Its class.
    pub class: String,
    /// Who speaks.
    pub speaker: String,
    /// As many as a clip of the task has.
    pub samples: Vec<i16>,
}

fn sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("reading the directory {}", directory.display());
    let entries = std::fs::read_dir(directory).with_context(context)?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths
        .map_err(|error: std::io::Error| error)
        .with_context(context)?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
