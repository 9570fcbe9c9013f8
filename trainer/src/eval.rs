//! Bits per byte of a weights file on a text, and its right answers on examples, as the core computes them.

use crate::examples::{Example, Thing};
use crate::frontend::Frontend;
use crate::loss::highest;
use crate::package::session_memory;
use crate::shares::shares;
use crate::texts::wrap;
use anyhow::{Context, Result, anyhow, ensure};
use attentive::kernels::Backend;
use attentive::tokenizer::ENCODE_SCRATCH_LEN;
use attentive::{Block, Encoder, EncoderOptions, Model, Session, SessionOptions, Tokenizer};
use std::ops::Range;
use std::sync::Mutex;

/// How a text is scored.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Tokens of a window.
    pub context: usize,
    /// Tokens between the beginnings of two windows. In each, the first `context − stride` tokens are context only, but
    /// in the first all are scored.
    pub stride: usize,
}

impl Windows {
    /// Half of each window is new.
    pub fn halves(context: usize) -> Self {
        Self {
            context,
            stride: (context / 2).max(1),
        }
    }

    /// Windows side by side.
    pub fn whole(context: usize) -> Self {
        Self {
            context,
            stride: context,
        }
    }

    /// The windows over so many tokens: their inputs, and the first target that is scored in each.
    pub fn of(&self, tokens: usize) -> Vec<(Range<usize>, usize)> {
        let mut out = Vec::new();
        let (mut start, mut scored) = (0, 1);
        while scored < tokens {
            let end = (start + self.context).min(tokens - 1);
            out.push((start..end, scored));
            scored = end + 1;
            start += self.stride;
        }
        out
    }

    /// The third of a window that a place in it lies in.
    pub fn third(&self, place: usize) -> usize {
        (place * 3 / self.context.max(1)).min(2)
    }
}

/// A sum over texts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// −Σ ln p.
    pub nats: f64,
    /// Scored tokens.
    pub tokens: usize,
    /// Bytes of those tokens.
    pub bytes: usize,
}

impl Score {
    /// Bits per byte.
    pub fn bits_per_byte(&self) -> f64 {
        crate::train::bits_per_byte(self.nats, self.bytes)
    }

    /// e to the mean loss of a token.
    pub fn perplexity(&self) -> f64 {
        (self.nats / self.tokens as f64).exp()
    }
}

impl std::ops::Add for Score {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            nats: self.nats + other.nats,
            tokens: self.tokens + other.tokens,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl std::iter::Sum for Score {
    fn sum<I: Iterator<Item = Self>>(scores: I) -> Self {
        scores.fold(Self::default(), |sum, score| sum + score)
    }
}

/// Tokens of a text by a model's own tokenizer.
///
/// # Errors
/// When the model has none.
pub fn encode(tokenizer: &Tokenizer<'_>, text: &str) -> Result<Vec<u32>> {
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let ids = tokenizer
        .encode(text, &mut scratch)
        .map_err(|error| anyhow!("encoding: {error}"))?;
    let ids: Result<Vec<u32>, _> = ids.collect();
    ids.map_err(|error| anyhow!("encoding: {error}"))
}

/// Scores each document, every one after the token that ends a text. Documents run side by side on
/// `threads` threads; the result does not depend on how many.
///
/// # Errors
/// When the model has no tokenizer or a window does not fit.
pub fn test(
    model: &Model<'_>,
    texts: &[impl AsRef<str> + Sync],
    windows: Windows,
    options: &SessionOptions,
    backend: Backend,
    threads: usize,
) -> Result<Score> {
    let thirds = thirds(model, texts, windows, options, backend, threads)?;
    Ok(thirds.into_iter().sum())
}

/// The same by the place of a token in its window: in its first third, its second, its last.
///
/// # Errors
/// As [`test()`].
pub fn thirds(
    model: &Model<'_>,
    texts: &[impl AsRef<str> + Sync],
    windows: Windows,
    options: &SessionOptions,
    backend: Backend,
    threads: usize,
) -> Result<[Score; 3]> {
    let queue = Mutex::new(texts.iter().enumerate());
    let results = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = queue.lock().ok().and_then(|mut queue| queue.next());
            let Some((index, document)) = next else {
                break;
            };
            let score = text(model, document.as_ref(), windows, options, backend);
            if let Ok(mut results) = results.lock() {
                results.push((index, score));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(texts.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut results = results.into_inner().unwrap_or_default();
    ensure!(results.len() == texts.len(), "a thread of the test stopped");
    results.sort_by_key(|(index, _)| *index);
    let mut sums = [Score::default(); 3];
    for (_, score) in results {
        for (sum, score) in sums.iter_mut().zip(score?) {
            *sum = *sum + score;
        }
    }
    Ok(sums)
}

/// Scores one text.
fn text(
    model: &Model<'_>,
    text: &str,
    windows: Windows,
    options: &SessionOptions,
    backend: Backend,
) -> Result<[Score; 3]> {
    let mut tokens: Vec<u32> = model.config().end_of_text.into_iter().collect();
    tokens.extend(encode(model.tokenizer(), text)?);
    let mut memory = session_memory(model, options)?;
    let mut session = Session::new(model, options, Block::bytes_mut(&mut memory), backend)
        .map_err(|error| anyhow!("the session: {error}"))?;
    let mut scores = [Score::default(); 3];
    for (window, scored) in windows.of(tokens.len()) {
        let start = window.start;
        let ids = tokens.get(window).context("a window inside the text")?;
        session.reset();
        session
            .score(ids, |index, logits| {
                let target = start + index + 1;
                if target >= scored {
                    let id = tokens[target];
                    let score = &mut scores[windows.third(index)];
                    score.nats += loss(logits, id as usize);
                    score.tokens += 1;
                    score.bytes += model.tokenizer().piece(id).len();
                }
            })
            .map_err(|error| anyhow!("scoring: {error}"))?;
    }
    Ok(scores)
}

/// `−ln softmax(logits)[target]`.
pub fn loss(logits: &[f32], target: usize) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - most).exp()).sum();
    sum.ln() - f64::from(logits[target] - most)
}

/// Right answers on examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Examples whose class has the highest logit.
    pub right: usize,
    /// All.
    pub examples: usize,
}

impl Accuracy {
    /// Of what was found for the examples, as many.
    pub fn of(found: &[u32], examples: &[Example]) -> Self {
        let right = |(found, example): &(&u32, &Example)| **found == example.class;
        Self {
            right: found.iter().zip(examples).filter(right).count(),
            examples: examples.len(),
        }
    }

    /// Share of the examples.
    pub fn share(&self) -> f64 {
        self.right as f64 / self.examples.max(1) as f64
    }
}

/// The classes that an encoder finds for examples, side by side on `threads` threads. Texts are cut to [`EncoderOptions::len`] tokens.
///
/// # Errors
/// When the model gives no classes, or an example is not what it reads.
pub fn classes(
    model: &Model<'_>,
    examples: &[Example],
    frontend: Option<Frontend>,
    options: &EncoderOptions,
    backend: Backend,
    threads: usize,
) -> Result<Vec<u32>> {
    shares(examples, threads, |examples| {
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(options))];
        let encoder = Encoder::new(model, options, Block::bytes_mut(&mut memory), backend);
        let mut encoder = encoder.map_err(|error| anyhow!("{error}"))?;
        let mut found = Vec::new();
        for example in examples {
            let run = match (&example.thing, &frontend) {
                (Thing::Text(text), _) => {
                    let tokenizer = model.tokenizer();
                    let tokens = encode(tokenizer, text)?;
                    let (tokens, _) = wrap(tokenizer.template(), tokens, options.len);
                    encoder.run_tokens(&tokens, &[])
                }
                (thing, Some(frontend)) => encoder.run_patches(&frontend.cut(thing)?),
                (_, None) => anyhow::bail!("pictures and sounds need to be cut"),
            };
            run.map_err(|error| anyhow!("{error}"))?;
            let logits = encoder.classes().map_err(|error| anyhow!("{error}"))?;
            found.push(highest(logits) as u32);
        }
        Ok(found)
    })
}
