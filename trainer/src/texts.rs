//! Texts as an encoder's tokens, and the names of what it tells apart.

use anyhow::{Result, anyhow};
use attentive::tokenizer::Tokenizer;
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
        let one = u32::from(tokenizer.template().types);
        let second_at = wrapped.second_at;
        let kind = |index| if index < second_at { 0 } else { one };
        Ok(Self {
            ids,
            types: (0..wrapped.len).map(kind).collect(),
            second_at,
        })
    }
}

/// The part of a record that this module reads.
#[derive(Deserialize)]
struct Record {
    labels: Option<Vec<String>>,
}

/// Names of a model's classes or tags, if its record has them.
pub fn labels(provenance: &str) -> Option<Vec<String>> {
    let record: Record = toml::from_str(provenance).ok()?;
    record.labels
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
