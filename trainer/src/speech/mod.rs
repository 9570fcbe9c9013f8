//! Speech to text: sound of any file and rate, half a minute at a time, through a model that hears.

mod sound;
mod times;
mod transcript;

pub use sound::{FRAMES, FRAMES_A_SECOND, Frames, RATE, read_wav, resampled};
pub use times::Segment;
pub use transcript::{Listening, Transcript, transcribe};

use crate::import::vocabulary::Vocabulary;
use crate::loss::highest;
use anyhow::{Context, Result, anyhow, ensure};
use attentive::{BeamOptions, Executor, LengthPenalty, Model, Session};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

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
    /// What the session refuses, and times that the model has no tokens of.
    pub fn write<E: Executor>(
        &self,
        session: &mut Session<'_, E>,
        how: &Writing,
    ) -> Result<Written> {
        let mut prompt = vec![self.start, how.language, how.task];
        if how.times {
            self.check_times(session.logits().len())?;
        } else {
            prompt.push(self.no_timestamps);
        }
        let silence = self.begin(session, &prompt)?;
        let process = |ids: &[u32], logits: &mut [f32]| match how.times {
            true => self.leave_timed(ids, logits),
            false => self.leave_text(ids, logits),
        };
        // As many as Whisper's own decoding takes (Radford et al. 2022): what is longer repeats itself.
        let most = session.context_len() / 2;
        if how.beams <= 1 {
            return greedily(session, self.end, most, silence, process);
        }
        let options = BeamOptions {
            length_penalty: LengthPenalty::Mean,
            ..BeamOptions::new(most)
        };
        let found = session.search_with(&options, process);
        let found = found.map_err(|error| anyhow!("{error}"))?;
        let len = found.tokens.len();
        Ok(Written {
            ids: found.tokens.to_vec(),
            is_complete: found.is_complete,
            mean: f64::from(found.score) * len.max(1) as f64 / (len + 1) as f64,
            silence,
        })
    }

    /// Leaves the tokens that may stand behind these in a text without times; all others get −∞.
    fn leave_text(&self, ids: &[u32], logits: &mut [f32]) {
        // Behind the token that ends a text follow those that steer, then times.
        leave(logits, |id| {
            let first = ids.is_empty() && self.suppress_first.contains(&id);
            !(first || id > self.end || self.suppress.contains(&id))
        });
    }

    /// Begins a text with these tokens, and returns the probability that nobody speaks.
    fn begin<E: Executor>(&self, session: &mut Session<'_, E>, prompt: &[u32]) -> Result<f64> {
        let mut silence = 0.0;
        session
            .score(prompt, |index, logits| {
                let id = self.no_speech.map(|id| id as usize);
                if let (0, Some(id)) = (index, id.filter(|id| *id < logits.len())) {
                    silence = log_share(logits, id).exp();
                }
            })
            .map_err(|error| anyhow!("{error}"))?;
        Ok(silence)
    }
}

/// One token after the other, always the likeliest of those that `process` leaves behind the others, up to `end`.
fn greedily<E: Executor>(
    session: &mut Session<'_, E>,
    end: u32,
    most: usize,
    silence: f64,
    process: impl Fn(&[u32], &mut [f32]),
) -> Result<Written> {
    let mut ids: Vec<u32> = Vec::new();
    let mut total = 0.0;
    let mut is_complete = false;
    while ids.len() < most {
        let mut logits = session.logits().to_vec();
        process(&ids, &mut logits);
        let id = highest(&logits);
        ensure!(logits[id] > f32::NEG_INFINITY, "no token may stand there");
        total += log_share(&logits, id);
        let id = id as u32;
        if id == end {
            is_complete = true;
            break;
        }
        ids.push(id);
        session
            .prompt_tokens(&[id])
            .map_err(|error| anyhow!("{error}"))?;
    }
    let mean = total / (ids.len() + 1) as f64;
    Ok(Written {
        ids,
        is_complete,
        mean,
        silence,
    })
}

/// How a window is written down.
#[derive(Clone, Copy, Debug)]
pub struct Writing {
    /// The token of the language that is spoken.
    pub language: u32,
    /// [`Speech::transcribe`] or [`Speech::translate`].
    pub task: u32,
    /// Texts that are pursued at once.
    pub beams: usize,
    /// Whether tokens of times stand among the others.
    pub times: bool,
}

/// What was written down of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The tokens, without the one that ends them.
    pub ids: Vec<u32>,
    /// Whether that one came, and not too many others.
    pub is_complete: bool,
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

/// Gives −∞ to tokens that may not stand.
fn leave(logits: &mut [f32], may_stand: impl Fn(u32) -> bool) {
    for (logit, id) in logits.iter_mut().zip(0..) {
        if !may_stand(id) {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// The logarithm of a token's share.
fn log_share(logits: &[f32], id: usize) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers = logits.iter().map(|logit| f64::from(logit - highest).exp());
    f64::from(logits[id] - highest) - powers.sum::<f64>().ln()
}
