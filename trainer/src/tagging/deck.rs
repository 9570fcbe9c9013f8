//! Tagged words as a model learns from them.

use super::Sentence;
use super::read::{Input, Tokens};
use crate::batches::{Batch, Deck};
use crate::random::Random;
use crate::task::Task;
use crate::vocabulary::Vocabulary;
use anyhow::Result;
use std::collections::HashMap;

/// Sentences as the model reads them, long ones in windows.
#[derive(Clone, Debug)]
pub struct EncodedTags {
    windows: Vec<(Input, Vec<u32>)>,
    /// Tokens of the longest.
    pub longest: usize,
}

impl EncodedTags {
    /// Encodes some sentences.
    ///
    /// # Errors
    /// When the tokenizer fails, or a word has more tokens than the model reads.
    pub fn new(task: &Task, sentences: &[Sentence], vocabulary: &Vocabulary) -> Result<Self> {
        let template = vocabulary.template()?;
        let mut known = HashMap::new();
        let mut windows = Vec::new();
        for Sentence { text, tags } in sentences {
            let tokens = Tokens::new(text, &mut known, |word| vocabulary.encode(word))?;
            for input in tokens.inputs(&template, task.model.context_len)? {
                let tags = tags[input.kept.clone()].to_vec();
                windows.push((input, tags));
            }
        }
        let longest = windows.iter().map(|(input, _)| input.ids.len()).max();
        Ok(Self {
            longest: longest.unwrap_or(0),
            windows,
        })
    }

    /// All of them in order, `micro` a batch.
    pub fn batches(&self, micro: usize) -> Vec<Batch> {
        let of = |windows: &[(Input, Vec<u32>)]| {
            let mut batch = Batch::default();
            windows.iter().for_each(|window| add(window, &mut batch));
            batch
        };
        self.windows.chunks(micro).map(of).collect()
    }
}

fn add((input, tags): &(Input, Vec<u32>), batch: &mut Batch) {
    let before = batch.inputs.len() as u32;
    batch
        .places
        .extend(input.places.iter().map(|place| before + place));
    batch.inputs.extend(&input.ids);
    batch.lens.push(input.ids.len());
    batch.targets.extend(tags);
}

impl Deck for EncodedTags {
    fn len(&self) -> usize {
        self.windows.len()
    }

    fn deal(&self, index: usize, _: &mut Random, batch: &mut Batch) -> Result<()> {
        add(&self.windows[index], batch);
        Ok(())
    }
}
