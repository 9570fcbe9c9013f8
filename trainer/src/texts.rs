//! Texts as an encoder's tokens, and the names of what it tells apart.

use crate::tagging::Words;
use anyhow::{Result, anyhow};
use attentive::tokenizer::{Template, Tokenizer};
use serde::Deserialize;

/// One text or two as tokens.
pub struct Wrapped {
    /// With those around them.
    pub ids: Vec<u32>,
    /// A type for each.
    pub types: Vec<u32>,
    /// Where the second text begins; behind the last token without one.
    pub second_at: usize,
}

impl Wrapped {
    /// Of up to `most` tokens.
    ///
    /// # Errors
    /// A text that is longer, or that the tokenizer refuses.
    pub fn new(
        tokenizer: &Tokenizer<'_>,
        text: &str,
        second: Option<&str>,
        most: usize,
    ) -> Result<Self> {
        let mut scratch = [0; attentive::tokenizer::ENCODE_SCRATCH_LEN];
        let mut ids = vec![0; most];
        let wrapped = tokenizer.encode_wrapped(text, second, &mut scratch, &mut ids);
        let wrapped = wrapped.map_err(|error| anyhow!("{error}"))?;
        ids.truncate(wrapped.len);
        Ok(Self::with_types(
            tokenizer.template(),
            ids,
            wrapped.second_at,
        ))
    }

    /// Of two texts that are tokens already.
    pub fn of_tokens(template: &Template, first: &[u32], second: &[u32]) -> Self {
        let twice = usize::from(template.between_twice) + 1;
        let mut ids: Vec<u32> = template.first.into_iter().collect();
        ids.extend(first);
        for _ in 0..twice {
            ids.extend(template.between);
        }
        let second_at = ids.len();
        ids.extend(second);
        ids.extend(template.last);
        Self::with_types(template, ids, second_at)
    }

    fn with_types(template: &Template, ids: Vec<u32>, second_at: usize) -> Self {
        let one = u32::from(template.types);
        let kind = |index| if index < second_at { 0 } else { one };
        Self {
            types: (0..ids.len()).map(kind).collect(),
            ids,
            second_at,
        }
    }
}

/// One text's tokens with those around them, cut to `most` in all; whether it was.
pub fn wrap(template: &Template, mut tokens: Vec<u32>, most: usize) -> (Vec<u32>, bool) {
    let around = usize::from(template.first.is_some()) + usize::from(template.last.is_some());
    let room = most.saturating_sub(around);
    let is_cut = tokens.len() > room;
    tokens.truncate(room);
    let ids = template.first.into_iter().chain(tokens);
    (ids.chain(template.last).collect(), is_cut)
}

/// The part of a record that this module reads.
#[derive(Deserialize)]
struct Record {
    labels: Option<Vec<String>>,
    words: Option<Words>,
}

/// Names of a model's classes or tags, if its record has them.
pub fn labels(provenance: &str) -> Option<Vec<String>> {
    let record: Record = toml::from_str(provenance).ok()?;
    record.labels
}

/// What the words are that a model tags, if it tags words and not tokens.
pub fn words(provenance: &str) -> Option<Words> {
    let record: Record = toml::from_str(provenance).ok()?;
    record.words
}

/// Probabilities of logits.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits
        .iter()
        .map(|x| f64::from(x - highest).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}
