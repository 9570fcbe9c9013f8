//! Bits per byte of a weights file on a text, and its right answers on examples, as the core computes them.

use crate::examples::{Example, Thing};
use crate::network::highest;
use crate::package::session_memory;
use crate::task::Pictures;
use anyhow::{Context, Result, anyhow, ensure};
use attentive::kernels::Backend;
use attentive::tokenizer::ENCODE_SCRATCH_LEN;
use attentive::{Block, Encoder, EncoderOptions, Model, Session, SessionOptions};
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

    fn add(self, other: Self) -> Self {
        Self {
            nats: self.nats + other.nats,
            tokens: self.tokens + other.tokens,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Tokens of a text by the model's own tokenizer.
///
/// # Errors
/// When the model has none.
pub fn encode(model: &Model<'_>, text: &str) -> Result<Vec<u32>> {
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let ids = model
        .tokenizer()
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
    let mut sum = Score::default();
    for (_, score) in results {
        sum = sum.add(score?);
    }
    Ok(sum)
}

/// Scores one text.
fn text(
    model: &Model<'_>,
    text: &str,
    windows: Windows,
    options: &SessionOptions,
    backend: Backend,
) -> Result<Score> {
    let mut tokens: Vec<u32> = model.config().end_of_text.into_iter().collect();
    tokens.extend(encode(model, text)?);
    let mut memory = session_memory(model, options)?;
    let mut session = Session::new(model, options, Block::bytes_mut(&mut memory), backend)
        .map_err(|error| anyhow!("the session: {error}"))?;
    let mut score = Score::default();
    let mut scored = 1;
    let mut start = 0;
    while scored < tokens.len() {
        let end = (start + windows.context).min(tokens.len() - 1);
        let ids = tokens.get(start..end).context("a window inside the text")?;
        session.reset();
        session
            .score(ids, |index, logits| {
                let target = start + index + 1;
                if target >= scored {
                    let id = tokens[target];
                    score.nats += loss(logits, id as usize);
                    score.tokens += 1;
                    score.bytes += model.tokenizer().piece(id).len();
                }
            })
            .map_err(|error| anyhow!("scoring: {error}"))?;
        scored = end + 1;
        start += windows.stride;
    }
    Ok(score)
}

/// −ln softmax(logits)[target].
fn loss(logits: &[f32], target: usize) -> f64 {
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
    /// Share of the examples.
    pub fn share(&self) -> f64 {
        self.right as f64 / self.examples.max(1) as f64
    }
}

/// Runs an encoder on examples, side by side on `threads` threads. Texts are cut to [`EncoderOptions::len`] tokens.
///
/// # Errors
/// When the model gives no classes, or an example is not what it reads.
pub fn classes(
    model: &Model<'_>,
    examples: &[Example],
    pictures: Option<&Pictures>,
    options: &EncoderOptions,
    backend: Backend,
    threads: usize,
) -> Result<Accuracy> {
    let share = examples.len().div_ceil(threads.max(1)).max(1);
    let work = |examples: &[Example]| -> Result<usize> {
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(options))];
        let encoder = Encoder::new(model, options, Block::bytes_mut(&mut memory), backend);
        let mut encoder = encoder.map_err(|error| anyhow!("{error}"))?;
        let mut right = 0;
        for example in examples {
            let run = match (&example.thing, pictures) {
                (Thing::Text(text), _) => {
                    let mut tokens = encode(model, text)?;
                    tokens.truncate(options.len);
                    encoder.run_tokens(&tokens, &[])
                }
                (Thing::Picture(pixels), Some(pictures)) => {
                    let spec = pictures.spec();
                    let mut patches = vec![0.0; spec.patches() * spec.patch_len()];
                    spec.cut(pixels, &mut patches)?;
                    encoder.run_patches(&patches)
                }
                (Thing::Picture(_), None) => anyhow::bail!("pictures need to be cut"),
            };
            run.map_err(|error| anyhow!("{error}"))?;
            let logits = encoder.classes().map_err(|error| anyhow!("{error}"))?;
            right += usize::from(highest(logits) == example.class as usize);
        }
        Ok(right)
    };
    let right: Result<Vec<usize>> = std::thread::scope(|scope| {
        let threads: Vec<_> = examples
            .chunks(share)
            .map(|examples| scope.spawn(move || work(examples)))
            .collect();
        let stopped = || anyhow!("a thread of the test stopped");
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().map_err(|_| stopped()).and_then(|right| right)
        };
        threads.into_iter().map(join).collect()
    });
    Ok(Accuracy {
        right: right?.into_iter().sum(),
        examples: examples.len(),
    })
}
