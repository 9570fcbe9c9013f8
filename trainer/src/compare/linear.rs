//! Multinomial logistic regression by AdaGrad (Duchi et al. 2011), which suits features that are rare.

use super::Row;
use crate::examples::{Example, Examples, Thing};
use crate::frontend::Frontend;
use crate::loss::highest;
use crate::random::Random;
use anyhow::{Context, Result};
use std::time::Instant;

/// Buckets that the n-grams of texts are hashed to.
const BUCKETS: usize = 1 << 16;
/// Most characters of an n-gram.
const CHARS: usize = 4;
/// Passes over the training part; the one that is best on the validation part counts.
const EPOCHS: usize = 20;
const LEARNING_RATE: f32 = 0.3;

/// Places and values; a text's are of length 1 together.
type Features = Vec<(usize, f32)>;

struct Model {
    features: usize,
    /// `(classes, features + 1)`, the bias last.
    weights: Vec<f32>,
    squares: Vec<f32>,
}

/// What was fitted, and the classes that it finds for the test part; `frontend` cuts clips.
///
/// # Errors
/// When a clip has another length.
pub(super) fn fit(
    examples: &Examples,
    frontend: Option<Frontend>,
    seed: u64,
) -> Result<(Row, Vec<u32>)> {
    let classes = examples.labels.len();
    let first = examples.train.first().map(|example| &example.thing);
    let (features, name) = match (first, frontend) {
        (Some(Thing::Picture(pixels)), _) => (pixels.len(), "pixels"),
        (Some(Thing::Sound(_)), Some(frontend)) => {
            (frontend.patches() * frontend.patch_len(), "mel bands")
        }
        _ => (BUCKETS, "n-grams"),
    };
    let len = classes * (features + 1);
    let mut model = Model {
        features,
        weights: vec![0.0; len],
        squares: vec![1e-4; len],
    };
    let of = |examples: &[Example]| -> Result<Vec<(Features, usize)>> {
        let of = |example: &Example| Ok((of(&example.thing, frontend)?, example.class as usize));
        examples.iter().map(of).collect()
    };
    let (train, validation) = (of(&examples.train)?, of(&examples.validation)?);
    let mut best = (0, model.weights.clone());
    let start = Instant::now();
    let mut order: Vec<usize> = (0..train.len()).collect();
    for epoch in 0..EPOCHS {
        Random::new(seed ^ epoch as u64).shuffle(&mut order);
        for (features, class) in order.iter().filter_map(|index| train.get(*index)) {
            model.learn(features, *class);
        }
        let right = model.right(&validation);
        if right > best.0 {
            best = (right, model.weights.clone());
        }
    }
    let seconds_per_epoch = Some(start.elapsed().as_secs_f64() / EPOCHS as f64);
    model.weights = best.1;
    let test = of(&examples.test)?;
    let found = |(features, _): &(Features, usize)| highest(&model.logits(features)) as u32;
    let row = Row {
        seconds_per_epoch,
        ..Row::new(format!("logistic regression of {name}"), len as u64)
    };
    Ok((row, test.iter().map(found).collect()))
}

impl Model {
    fn logits(&self, features: &Features) -> Vec<f32> {
        let rows = self.weights.chunks_exact(self.features + 1);
        let dot = |row: &[f32]| {
            let sum: f32 = features.iter().map(|(place, x)| row[*place] * x).sum();
            sum + row[self.features]
        };
        rows.map(dot).collect()
    }

    fn learn(&mut self, features: &Features, class: usize) {
        let mut shares = self.logits(features);
        let most = shares.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        shares.iter_mut().for_each(|x| *x = (*x - most).exp());
        let sum: f32 = shares.iter().sum();
        let bias = [(self.features, 1.0)];
        for (index, share) in shares.iter().enumerate() {
            let error = share / sum - f32::from(u8::from(index == class));
            let row = index * (self.features + 1);
            for (place, x) in features.iter().chain(&bias) {
                let gradient = error * x;
                let square = &mut self.squares[row + place];
                *square += gradient * gradient;
                self.weights[row + place] -= LEARNING_RATE * gradient / square.sqrt();
            }
        }
    }

    fn right(&self, examples: &[(Features, usize)]) -> usize {
        let right =
            |(features, class): &&(Features, usize)| highest(&self.logits(features)) == *class;
        examples.iter().filter(right).count()
    }
}

/// Pixels; of a clip its frames; of a text its n-grams of 1 to [`CHARS`] characters, its words and its pairs of words, in
/// small letters.
fn of(thing: &Thing, frontend: Option<Frontend>) -> Result<Features> {
    let mut features: Features = match thing {
        Thing::Sound(_) => {
            let frontend = frontend.context("clips need to be cut")?;
            frontend.cut(thing)?.into_iter().enumerate().collect()
        }
        Thing::Picture(pixels) => pixels
            .iter()
            .map(|x| f32::from(*x) / 255.0)
            .enumerate()
            .collect(),
        Thing::Text(text) => {
            let text = format!(" {} ", text.to_lowercase());
            let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let mut places = Vec::new();
            for (index, start) in starts.iter().enumerate() {
                for count in 1..=CHARS {
                    let end = starts.get(index + count).copied().unwrap_or(text.len());
                    places.push(bucket(b'c', &text[*start..end]));
                }
            }
            let letters = |c: char| !c.is_alphanumeric() && c != '\'';
            let words: Vec<&str> = text
                .split(letters)
                .filter(|word| !word.is_empty())
                .collect();
            places.extend(words.iter().map(|word| bucket(b'w', word)));
            places.extend(words.windows(2).map(|pair| bucket(b'p', &pair.join(" "))));
            places.sort_unstable();
            places.dedup();
            places.into_iter().map(|place| (place, 1.0)).collect()
        }
    };
    let length = features.iter().map(|(_, x)| x * x).sum::<f32>().sqrt();
    if matches!(thing, Thing::Text(_)) && length > 0.0 {
        features.iter_mut().for_each(|(_, x)| *x /= length);
    }
    Ok(features)
}

/// FNV-1a.
fn bucket(kind: u8, text: &str) -> usize {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = std::iter::once(kind)
        .chain(text.bytes())
        .fold(0xcbf2_9ce4_8422_2325, step);
    (hash ^ (hash >> 32)) as usize % BUCKETS
}
