//! Questions as a model learns from them: each with a part of its passage.

use super::{Passage, Question, search::room};
use crate::batches::{Batch, Deck};
use crate::random::Random;
use crate::task::Task;
use crate::texts::Wrapped;
use crate::vocabulary::Vocabulary;
use anyhow::{Result, ensure};
use attentive::tokenizer::Template;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A question, its passage, and the tokens of it that are the answer.
#[derive(Clone, Debug)]
struct Asked {
    question: Vec<u32>,
    passage: Arc<Passage>,
    answer: Range<usize>,
    /// Tokens of the passage that are read at once.
    room: usize,
}

/// Questions as the model reads them.
#[derive(Clone, Debug)]
pub struct EncodedQuestions {
    asked: Vec<Asked>,
    template: Template,
    /// Tokens of the longest passage.
    pub longest: usize,
}

/// Of so many times that a question is learned from, it is once without the part of the passage that answers it.
const WITHOUT: usize = 4;
/// Tries to find such a part.
const TRIES: usize = 8;

impl EncodedQuestions {
    /// Encodes some questions; without those whose answer does not fit into half of what is read at once.
    ///
    /// # Errors
    /// When the tokenizer fails or is not that of a weights file, or no question is left.
    pub fn new(task: &Task, questions: &[Question], vocabulary: &Vocabulary) -> Result<Self> {
        let tokenizer = vocabulary.of_core()?;
        let template = *tokenizer.template();
        let mut passages: HashMap<*const u8, Arc<Passage>> = HashMap::new();
        let mut asked = Vec::new();
        for question in questions {
            let text = &question.passage;
            let passage = match passages.get(&text.as_ptr()) {
                Some(passage) => Arc::clone(passage),
                None => {
                    let passage = Arc::new(Passage::new(&tokenizer, text)?);
                    passages.insert(text.as_ptr(), Arc::clone(&passage));
                    passage
                }
            };
            let ids = vocabulary.encode(&question.text)?;
            let room = room(&template, ids.len(), task.training.seq_len)?;
            let answer = passage.tokens(&question.at);
            if let Some(answer) = answer.filter(|answer| answer.len() <= room / 2) {
                asked.push(Asked {
                    question: ids,
                    passage,
                    answer,
                    room,
                });
            }
        }
        ensure!(!asked.is_empty(), "no question has an answer that fits");
        let longest = asked.iter().map(|asked| asked.passage.ids.len()).max();
        Ok(Self {
            asked,
            template,
            longest: longest.unwrap_or(0),
        })
    }

    /// All of them in order, `micro` a batch, the answer in the middle of what is read where it can be.
    pub fn batches(&self, micro: usize) -> Vec<Batch> {
        let of = |asked: &[Asked]| {
            let mut batch = Batch::default();
            for asked in asked {
                let middle = (asked.answer.start + asked.answer.end) / 2;
                let start = middle.saturating_sub(asked.room / 2);
                self.put(asked, start.min(asked.last_start()), &mut batch);
            }
            batch
        };
        self.asked.chunks(micro).map(of).collect()
    }

    /// Appends a question with the part of its passage from `start` on. Its targets are the answer's first token and its last,
    /// or twice the first of all where the answer is not in that part.
    fn put(&self, asked: &Asked, start: usize, batch: &mut Batch) {
        let ids = &asked.passage.ids;
        let window = start..(start + asked.room).min(ids.len());
        let tokens = ids.get(window.clone()).unwrap_or_default();
        let wrapped = Wrapped::of_tokens(&self.template, &asked.question, tokens);
        let answer = &asked.answer;
        let place = |token: usize| (wrapped.second_at + token - start) as u32;
        let targets = match window.start <= answer.start && answer.end <= window.end {
            true => [place(answer.start), place(answer.end - 1)],
            false => [0; 2],
        };
        batch.targets.extend(targets);
        batch.lens.push(wrapped.ids.len());
        batch.inputs.extend(wrapped.ids);
        batch.types.extend(wrapped.types);
    }
}

impl Asked {
    /// Where the last part of the passage begins.
    fn last_start(&self) -> usize {
        self.passage.ids.len().saturating_sub(self.room)
    }
}

impl Deck for EncodedQuestions {
    fn len(&self) -> usize {
        self.asked.len()
    }

    fn deal(&self, index: usize, random: &mut Random, batch: &mut Batch) -> Result<()> {
        let asked = &self.asked[index];
        let (answer, last) = (&asked.answer, asked.last_start());
        if random.below(WITHOUT) == 0 {
            for _ in 0..TRIES {
                let start = random.below(last + 1);
                if start + asked.room <= answer.start || answer.end <= start {
                    self.put(asked, start, batch);
                    return Ok(());
                }
            }
        }
        // Any part that has all of the answer.
        let least = (answer.end.saturating_sub(asked.room)).min(last);
        let most = answer.start.min(last);
        self.put(asked, least + random.below(most - least + 1), batch);
        Ok(())
    }
}
