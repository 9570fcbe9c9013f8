//! Speech to text: sound of any file and rate, half a minute at a time, through a model that hears.

mod sound;
mod times;
mod transcript;

pub use sound::{FRAMES, FRAMES_A_SECOND, Frames, RATE, read_wav, resampled};
pub use times::Segment;
pub use transcript::{Listening, Transcript, transcribe};

use crate::import::vocabulary::Vocabulary;
use anyhow::{Context, Result, anyhow, ensure};
use attentive::{BeamOptions, Executor, Model, Session};
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
    /// What the session refuses.
    pub fn write<E: Executor>(
        &self,
        session: &mut Session<'_, E>,
        language: u32,
        task: u32,
        beams: usize,
    ) -> Result<Written> {
        let prompt = [self.start, language, task, self.no_timestamps];
        let silence = self.begin(session, &prompt)?;
        // Behind the token that ends a text follow those that steer, then times.
        let may_stand = |at: usize, id: u32| {
            let first = at == 0 && self.suppress_first.contains(&id);
            !(first || id > self.end || self.suppress.contains(&id))
        };
        if beams > 1 {
            let most = session.context_len() / 2;
            let found = session.search_among(&BeamOptions::new(most), may_stand);
            let found = found.map_err(|error| anyhow!("{error}"))?;
            // The score is divided by (5 + n) / 6, n tokens with the end if there is one.
            let len = found.tokens.len();
            let n = (len + usize::from(found.is_complete)) as f64;
            return Ok(Written {
                ids: found.tokens.to_vec(),
                is_complete: found.is_complete,
                mean: f64::from(found.score) * (5.0 + n) / 6.0 / (len + 1) as f64,
                silence,
            });
        }
        let choose = |ids: &[u32], logits: &[f32]| {
            let may_stand = |id| may_stand(ids.len(), id);
            let id = likeliest(logits, may_stand)?;
            Some((id, log_share(logits, id, may_stand)))
        };
        self.greedily(session, silence, choose)
    }

    /// Begins a text with these tokens, and returns the probability that nobody speaks.
    fn begin<E: Executor>(&self, session: &mut Session<'_, E>, prompt: &[u32]) -> Result<f64> {
        let mut silence = 0.0;
        session
            .score(prompt, |index, logits| {
                if let (0, Some(id)) = (index, self.no_speech) {
                    silence = log_share(logits, id, |_| true).exp();
                }
            })
            .map_err(|error| anyhow!("{error}"))?;
        Ok(silence)
    }

    /// One token after the other as `choose` says, which is given those before and the logits, and returns a token and its
    /// logarithmic probability.
    fn greedily<E: Executor>(
        &self,
        session: &mut Session<'_, E>,
        silence: f64,
        choose: impl Fn(&[u32], &[f32]) -> Option<(u32, f64)>,
    ) -> Result<Written> {
        // As many as Whisper's own decoding takes (Radford et al. 2022): what is longer repeats itself.
        let most = session.context_len() / 2;
        let mut ids: Vec<u32> = Vec::new();
        let mut total = 0.0;
        let mut is_complete = false;
        while ids.len() < most {
            let chosen = choose(&ids, session.logits());
            let (id, share) = chosen.context("no token may stand there")?;
            total += share;
            if id == self.end {
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

/// The token of the highest logit among those that may stand there, of equals the first.
fn likeliest(logits: &[f32], may_stand: impl Fn(u32) -> bool) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (id, &logit) in (0u32..).zip(logits) {
        if best.is_none_or(|(_, most)| logit > most) && may_stand(id) {
            best = Some((id, logit));
        }
    }
    best.map(|(id, _)| id)
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
