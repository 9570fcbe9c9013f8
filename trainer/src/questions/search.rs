//! How a model finds an answer in a passage that may be longer than it reads at once.

use super::{Passage, Question};
use crate::shares::shares;
use crate::texts::Wrapped;
use anyhow::{Result, anyhow, ensure};
use attentive::kernels::Backend;
use attentive::tokenizer::Template;
use attentive::{Block, Encoder, EncoderOptions, Model};
use std::ops::Range;

/// Most tokens of an answer, where nothing else is said.
pub const ANSWER_TOKENS: usize = 30;

/// An answer: tokens of the passage, both included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
    /// The sum of their logits.
    pub score: f32,
}

/// Tokens of a passage that are read beside a question, of `context` tokens in all.
///
/// # Errors
/// When the question leaves too few.
pub(super) fn room(template: &Template, question: usize, context: usize) -> Result<usize> {
    let around = Wrapped::of_tokens(template, &[], &[]).ids.len();
    let room = context.saturating_sub(question + around);
    ensure!(
        room >= 2,
        "a question of {question} tokens leaves {room} of {context} for the passage; shorten it"
    );
    Ok(room)
}

/// Windows of `room` tokens, each half over the one before, the last up to the end.
fn windows(len: usize, room: usize) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = 0;
    while start + room < len {
        out.push(start..start + room);
        start += (room / 2).max(1);
    }
    out.push(len.saturating_sub(room)..len);
    out
}

/// Finds answers with an encoder.
#[derive(Debug)]
pub struct Reader<'e, 'm> {
    /// The encoder.
    pub encoder: &'e mut Encoder<'m>,
    /// What its model expects around two texts.
    pub template: Template,
    /// Tokens that it reads at once.
    pub context: usize,
    /// Most tokens of an answer.
    pub most: usize,
}

impl Reader<'_, '_> {
    /// The answer; `None` in a passage without tokens. A longer passage is read in windows: of their answers that counts whose
    /// logits are the furthest above those of the first token, to which windows without an answer point in training (Devlin
    /// et al. 2018, section 4.3).
    ///
    /// # Errors
    /// When the question leaves no room for a passage, or the encoder fails.
    pub fn answer(&mut self, question: &[u32], passage: &Passage) -> Result<Option<Found>> {
        let room = room(&self.template, question.len(), self.context)?;
        let mut best: Option<(f32, Found)> = None;
        for window in windows(passage.ids.len(), room) {
            let tokens = &passage.ids[window.clone()];
            let wrapped = Wrapped::of_tokens(&self.template, question, tokens);
            let encoder = &mut *self.encoder;
            let run = encoder.run_tokens(&wrapped.ids, &wrapped.types);
            run.map_err(|error| anyhow!("{error}"))?;
            let at = wrapped.second_at;
            let found = encoder.span(at..at + tokens.len(), self.most.max(1));
            let Some(found) = found.map_err(|error| anyhow!("{error}"))? else {
                continue;
            };
            let logits = encoder.span_logits().map_err(|error| anyhow!("{error}"))?;
            let none: f32 = logits.iter().take(2).sum();
            let above = found.score - none;
            if best.is_none_or(|(other, _)| above > other) {
                let place = |token: usize| window.start + token - at;
                let found = Found {
                    first: place(found.first),
                    last: place(found.last),
                    score: found.score,
                };
                best = Some((above, found));
            }
        }
        Ok(best.map(|(_, found)| found))
    }
}

/// A model's answers to questions, as their passages have them, side by side on `threads` threads.
///
/// # Errors
/// When the model finds no answers, or a question is too long.
pub fn answers(
    model: &Model<'_>,
    questions: &[Question],
    options: &EncoderOptions,
    backend: Backend,
    threads: usize,
) -> Result<Vec<String>> {
    shares(questions, threads, |questions| {
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(options))];
        let encoder = Encoder::new(model, options, Block::bytes_mut(&mut memory), backend);
        let mut encoder = encoder.map_err(|error| anyhow!("{error}"))?;
        let tokenizer = model.tokenizer();
        let mut reader = Reader {
            encoder: &mut encoder,
            template: *tokenizer.template(),
            context: options.len,
            most: ANSWER_TOKENS,
        };
        let mut out = Vec::new();
        for question in questions {
            let passage = Passage::new(tokenizer, &question.passage)?;
            let asked = crate::eval::encode(tokenizer, &question.text)?;
            let found = reader.answer(&asked, &passage)?;
            let bytes = found.map(|found| passage.bytes(found.first, found.last));
            let text = bytes.and_then(|bytes| question.passage.get(bytes));
            out.push(text.unwrap_or_default().to_owned());
        }
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_leave_nothing_out() {
        let one = |window: Range<usize>| window;
        assert_eq!(windows(5, 8), vec![one(0..5)]);
        assert_eq!(windows(8, 8), vec![one(0..8)]);
        assert_eq!(windows(9, 8), [0..8, 1..9]);
        assert_eq!(windows(20, 8), [0..8, 4..12, 8..16, 12..20]);
        assert_eq!(windows(0, 8), vec![one(0..0)]);
        // Whatever is no longer than half a window stands whole in one of them.
        for len in 1..60 {
            for first in 0..len {
                let last = (first + 3).min(len - 1);
                let whole = |window: &Range<usize>| window.start <= first && last < window.end;
                assert!(
                    windows(len, 8).iter().any(whole),
                    "{first}..={last} of {len}"
                );
            }
        }
    }
}
