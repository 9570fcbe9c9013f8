//! How a model finds an answer in a passage that may be longer than it reads at once.

use super::{Passage, Question};
use crate::shares::shares;
use crate::texts::Wrapped;
use anyhow::{Result, anyhow, ensure};
use attentive::kernels::Backend;
use attentive::tokenizer::{Template, Tokenizer};
use attentive::{Answer, Block, Encoder, EncoderOptions, Model};
use std::ops::Range;

/// Most tokens of an answer, where nothing else is said.
pub const ANSWER_TOKENS: usize = 30;

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

/// Finds answers in passages of any length.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// What the model expects around two texts.
    pub template: Template,
    /// Tokens that it reads at once.
    pub context: usize,
    /// Most tokens of an answer.
    pub most: usize,
}

impl Reader {
    /// The answer, in tokens of the passage; `None` in a passage without any. `logits` gives each token of a question and a
    /// passage the two for being the answer's first and its last. A longer passage is read in windows: of their answers that
    /// counts whose logits are the furthest above those of the first token, to which windows without an answer point in
    /// training (Devlin et al. 2018, section 4.3).
    ///
    /// # Errors
    /// When the question leaves no room for a passage, and those of `logits`.
    pub fn answer(
        &self,
        question: &[u32],
        passage: &Passage,
        mut logits: impl FnMut(&Wrapped) -> Result<Vec<[f32; 2]>>,
    ) -> Result<Option<Answer>> {
        let room = room(&self.template, question.len(), self.context)?;
        let mut best: Option<(f32, Answer)> = None;
        for window in windows(passage.ids.len(), room) {
            let tokens = &passage.ids[window.clone()];
            let wrapped = Wrapped::of_tokens(&self.template, question, tokens);
            let logits = logits(&wrapped)?;
            let at = wrapped.second_at;
            let Some(found) = Answer::best(&logits, at..at + tokens.len(), self.most.max(1)) else {
                continue;
            };
            let none: f32 = logits.first().map_or(0.0, |[first, last]| first + last);
            let above = found.score - none;
            if best.is_none_or(|(other, _)| above > other) {
                let place = |token: usize| window.start + token - at;
                let found = Answer {
                    first: place(found.first),
                    last: place(found.last),
                    ..found
                };
                best = Some((above, found));
            }
        }
        Ok(best.map(|(_, found)| found))
    }

    /// The answer to a question as its passage has it; an empty text where it has none.
    ///
    /// # Errors
    /// As [`Reader::answer`].
    pub fn text<'q>(
        &self,
        tokenizer: &Tokenizer<'_>,
        question: &'q Question,
        logits: impl FnMut(&Wrapped) -> Result<Vec<[f32; 2]>>,
    ) -> Result<&'q str> {
        let passage = Passage::new(tokenizer, &question.passage)?;
        let asked = crate::eval::encode(tokenizer, &question.text)?;
        let found = self.answer(&asked, &passage, logits)?;
        let bytes = found.map(|found| passage.bytes(found.first, found.last));
        let text = bytes.and_then(|bytes| question.passage.get(bytes));
        Ok(text.unwrap_or_default())
    }
}

/// An encoder's logits of each token for being an answer's first and its last.
///
/// # Errors
/// When the encoder finds no answers, or the tokens are not what it reads.
pub fn span_logits(encoder: &mut Encoder<'_>, wrapped: &Wrapped) -> Result<Vec<[f32; 2]>> {
    let run = encoder.run_tokens(&wrapped.ids, &wrapped.types);
    run.map_err(|error| anyhow!("{error}"))?;
    let logits = encoder.span_logits().map_err(|error| anyhow!("{error}"))?;
    Ok(logits.as_chunks().0.to_vec())
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
        let reader = Reader {
            template: *tokenizer.template(),
            context: options.len,
            most: ANSWER_TOKENS,
        };
        let mut answer = |question: &Question| {
            let text = reader.text(tokenizer, question, |wrapped| {
                span_logits(&mut encoder, wrapped)
            });
            text.map(str::to_owned)
        };
        questions.iter().map(&mut answer).collect()
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
