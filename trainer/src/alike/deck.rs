//! Pairs of texts as the model learns from them.

use crate::batches::{Batch, Deck};
use crate::pairs::Pair;
use crate::random::Random;
use crate::task::Task;
use crate::texts::wrap;
use crate::vocabulary::Vocabulary;
use anyhow::Result;

/// Pairs as the model reads them, long texts cut.
#[derive(Clone, Debug)]
pub struct EncodedAlike {
    pairs: Vec<[Vec<u32>; 2]>,
    /// Tokens of the longest text.
    pub longest: usize,
    /// Texts that were cut.
    pub cut: usize,
}

impl EncodedAlike {
    /// Encodes some pairs.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn new(task: &Task, pairs: &[Pair], vocabulary: &Vocabulary) -> Result<Self> {
        let template = vocabulary.template()?;
        let mut out = Self {
            pairs: Vec::new(),
            longest: 0,
            cut: 0,
        };
        for Pair { source, target, .. } in pairs {
            let mut tokens = [Vec::new(), Vec::new()];
            for (to, text) in tokens.iter_mut().zip([source, target]) {
                let ids = vocabulary.encode(text)?;
                let (ids, is_cut) = wrap(&template, ids, task.model.context_len);
                out.cut += usize::from(is_cut);
                out.longest = out.longest.max(ids.len());
                *to = ids;
            }
            out.pairs.push(tokens);
        }
        Ok(out)
    }

    /// All of them in order, `micro` a batch.
    pub fn batches(&self, micro: usize) -> Vec<Batch> {
        let of = |pairs: &[[Vec<u32>; 2]]| {
            let mut batch = Batch::default();
            pairs.iter().for_each(|pair| add(pair, &mut batch));
            batch
        };
        self.pairs.chunks(micro).map(of).collect()
    }
}

/// Two sequences, each of which has to find the other among those of the batch: both have the pair's number as target.
fn add(pair: &[Vec<u32>; 2], batch: &mut Batch) {
    let number = (batch.lens.len() / 2) as u32;
    for tokens in pair {
        batch.inputs.extend(tokens);
        batch.lens.push(tokens.len());
        batch.targets.push(number);
    }
}

impl Deck for EncodedAlike {
    fn len(&self) -> usize {
        self.pairs.len()
    }

    fn deal(&self, index: usize, _: &mut Random, batch: &mut Batch) -> Result<()> {
        add(&self.pairs[index], batch);
        Ok(())
    }
}
