//! Speech to text: sound of any file and rate, half a minute at a time, through a model that hears.

use crate::import::vocabulary::Vocabulary;
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::frontend::{Mel, MelSpec};
use attentive::{BeamOptions, Executor, Model, Session};
use hound::{SampleFormat, WavReader};
use rubato::{FftFixedIn, Resampler};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

/// Samples a second that models hear.
pub const RATE: u32 = MelSpec::WHISPER.sample_rate;

/// Samples a second that files may have: what recorders make; beyond, a header is damaged and would cost gigabytes.
const RATES: RangeInclusive<u32> = 1_000..=768_000;

/// Frames of a window, half a minute.
pub const FRAMES: usize = 3000;

/// Zeros that the reference puts behind a recording before it makes frames.
const SILENCE: usize = 160;

/// The tokens that steer a model that hears; the `speech` table of a file's provenance record.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Speech {
    /// Begins a text.
    pub start: u32,
    /// Ends a text.
    pub end: u32,
    /// What was said is written down as it was said.
    pub transcribe: u32,
    /// What was said is written down in English.
    pub translate: u32,
    /// The text has no times.
    pub no_timestamps: u32,
    /// Nobody speaks; some models have another name for it, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_speech: Option<u32>,
    /// Never written.
    pub suppress: Vec<u32>,
    /// Not written first.
    pub suppress_first: Vec<u32>,
    /// The tokens of languages by their codes.
    pub languages: BTreeMap<String, u32>,
}

/// The part of a record that this module reads.
#[derive(Deserialize)]
struct Record {
    speech: Option<Speech>,
}

impl Speech {
    /// The table of a file, if its record has it.
    pub fn of(model: &Model<'_>) -> Option<Self> {
        let record: Record = toml::from_str(model.provenance()).ok()?;
        record.speech
    }

    /// From a tokenizer and CTranslate2's `config.json`.
    ///
    /// # Errors
    /// A token that is missing.
    pub fn new(vocabulary: &Vocabulary, config: &Value) -> Result<Self> {
        let find = |text: &str| {
            (0..vocabulary.len() as u32).find(|id| vocabulary.text(Some(*id)) == Some(text))
        };
        let token =
            |text: &str| find(text).with_context(|| format!("tokenizer.json has no token {text}"));
        let list = |key: &str| -> Vec<u32> {
            let ids = config[key].as_array().into_iter().flatten();
            // −1 stands for a list that the reference makes anew.
            ids.filter_map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
                .collect()
        };
        let mut languages = BTreeMap::new();
        for id in list("lang_ids") {
            let text = vocabulary.text(Some(id)).unwrap_or_default();
            let code = text
                .strip_prefix("<|")
                .and_then(|text| text.strip_suffix("|>"));
            let code = code.with_context(|| format!("lang_ids has {id}, which is {text:?}"))?;
            languages.insert(code.to_owned(), id);
        }
        ensure!(!languages.is_empty(), "config.json has no lang_ids");
        Ok(Self {
            start: token("<|startoftranscript|>")?,
            end: token("<|endoftext|>")?,
            transcribe: token("<|transcribe|>")?,
            translate: token("<|translate|>")?,
            no_timestamps: token("<|notimestamps|>")?,
            no_speech: find("<|nospeech|>").or_else(|| find("<|nocaptions|>")),
            suppress: list("suppress_ids"),
            suppress_first: list("suppress_ids_begin"),
            languages,
        })
    }

    /// The language that the model believes to hear.
    ///
    /// # Errors
    /// What the session refuses.
    pub fn language<E: Executor>(&self, session: &mut Session<'_, E>) -> Result<(&str, f32)> {
        session
            .prompt_tokens(&[self.start])
            .map_err(|error| anyhow!("{error}"))?;
        let logits = session.logits();
        let logit = |id: u32| {
            logits
                .get(id as usize)
                .copied()
                .unwrap_or(f32::NEG_INFINITY)
        };
        let best = self
            .languages
            .iter()
            .max_by(|a, b| logit(*a.1).total_cmp(&logit(*b.1)));
        let (code, id) = best.context("the model knows no language")?;
        let sum: f32 = self
            .languages
            .values()
            .map(|other| (logit(*other) - logit(*id)).exp())
            .sum();
        session.reset();
        Ok((code, 1.0 / sum))
    }

    /// Writes down what the session has read: always the most probable token of those that may stand there, or the most
    /// probable of several texts that are pursued at once.
    ///
    /// # Errors
    /// What the session refuses.
    pub fn write<E: Executor>(
        &self,
        session: &mut Session<'_, E>,
        language: u32,
        task: u32,
        beams: usize,
    ) -> Result<Written> {
        let prompt = [self.start, language, task, self.no_timestamps];
        let mut silence = 0.0;
        session
            .score(&prompt, |index, logits| {
                if let (0, Some(id)) = (index, self.no_speech) {
                    silence = log_share(logits, id, |_| true).exp();
                }
            })
            .map_err(|error| anyhow!("{error}"))?;
        // As many as Whisper's own decoding takes (Radford et al. 2022): what is longer repeats itself.
        let most = session.context_len() / 2;
        if beams > 1 {
            let may_stand = |at: usize, id: u32| {
                let first = at == 0 && self.suppress_first.contains(&id);
                !(first || id > self.end || self.suppress.contains(&id))
            };
            let found = session.search_among(&BeamOptions::new(most), may_stand);
            let found = found.map_err(|error| anyhow!("{error}"))?;
            // The score is divided by (5 + n) / 6, n tokens with the end if there is one.
            let len = found.tokens.len();
            let n = (len + usize::from(found.is_complete)) as f64;
            return Ok(Written {
                ids: found.tokens.to_vec(),
                mean: f64::from(found.score) * (5.0 + n) / 6.0 / (len + 1) as f64,
                silence,
            });
        }
        let mut ids: Vec<u32> = Vec::new();
        let mut total = 0.0;
        while ids.len() < most {
            let may_stand = |id: u32| {
                let first = ids.is_empty() && self.suppress_first.contains(&id);
                // Behind the token that ends a text follow those that steer, then times.
                !(first || id > self.end || self.suppress.contains(&id))
            };
            let mut best: Option<(u32, f32)> = None;
            for (id, &logit) in (0u32..).zip(session.logits()) {
                if best.is_none_or(|(_, most)| logit > most) && may_stand(id) {
                    best = Some((id, logit));
                }
            }
            let (id, _) = best.context("no token may stand there")?;
            total += log_share(session.logits(), id, may_stand);
            if id == self.end {
                break;
            }
            ids.push(id);
            session
                .prompt_tokens(&[id])
                .map_err(|error| anyhow!("{error}"))?;
        }
        let mean = total / (ids.len() + 1) as f64;
        Ok(Written { ids, mean, silence })
    }
}

/// What was written down of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The tokens, without the one that ends them.
    pub ids: Vec<u32>,
    /// Their mean logarithmic probability, with that of the end.
    pub mean: f64,
    /// The probability that nobody speaks.
    pub silence: f64,
}

impl Written {
    /// Whether the model believes that nobody speaks, and not in what it wrote: the bounds are Whisper's own.
    pub fn is_silence(&self) -> bool {
        self.silence > 0.6 && self.mean < -1.0
    }
}

/// The logarithm of a token's share among those that count.
fn log_share(logits: &[f32], id: u32, counts: impl Fn(u32) -> bool) -> f64 {
    let all = || (0u32..).zip(logits).filter(|(id, _)| counts(*id));
    let highest = all()
        .map(|(_, logit)| *logit)
        .fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = all()
        .map(|(_, logit)| f64::from(logit - highest).exp())
        .sum();
    let logit = logits
        .get(id as usize)
        .copied()
        .unwrap_or(f32::NEG_INFINITY);
    f64::from(logit - highest) - sum.ln()
}

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

/// The frames of a whole recording, as the reference makes them, in windows of [`FRAMES`], the last filled up with
/// zeros.
///
/// # Errors
/// A recording that is too short.
pub fn windows(samples: &[f32]) -> Result<Vec<Vec<f32>>> {
    let spec = MelSpec::WHISPER;
    let mut memory = vec![0.0; spec.floats()];
    let mut mel = Mel::new(spec, &mut memory).map_err(|error| anyhow!("{error:?}"))?;
    let mut samples = samples.to_vec();
    samples.resize(samples.len() + SILENCE, 0.0);
    let mut frames = vec![0.0; spec.frames(samples.len()) * spec.bins];
    mel.whisper(&samples, &mut frames)
        .map_err(|_| anyhow!("the recording is shorter than a window of 25 ms"))?;
    let window = |frames: &[f32]| {
        let mut window = frames.to_vec();
        window.resize(FRAMES * spec.bins, 0.0);
        window
    };
    // The reference leaves out the last frame, which is half silence.
    let len = frames.len().saturating_sub(spec.bins).max(spec.bins);
    Ok(frames[..len]
        .chunks(FRAMES * spec.bins)
        .map(window)
        .collect())
}
