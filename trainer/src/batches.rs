//! Sequences to train on: those of a stream of tokens in random order, each epoch cut at another place.
//!
//! Which sequences a step sees follows from the seed and the step's number alone, so that a resumed run needs no more
//! than that number.

use crate::random::Random;
use crate::shares::shares;
use anyhow::{Result, ensure};

/// A token stream as sequences.
pub struct Batches<'a> {
    tokens: &'a [u32],
    seq_len: usize,
    seed: u64,
    /// The epoch whose order is at hand.
    epoch: Option<usize>,
    starts: Vec<usize>,
}

/// Several sequences, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Tokens; of a model of patches, its only token for each place.
    pub inputs: Vec<u32>,
    /// A type for each token, of a model that has types; of none, all have the first.
    pub types: Vec<u32>,
    /// A decoder's: the token after each. An encoder's: the class of each sequence, or the tag of each word, or the
    /// places in a sequence of an answer's first token and its last, or the number of the pair that the sequence belongs to.
    pub targets: Vec<u32>,
    /// The token of each target, counted over all sequences, of an encoder that tags words; else none.
    pub places: Vec<u32>,
    /// Tokens of each sequence.
    pub lens: Vec<usize>,
    /// Of all tokens but the first of each sequence, (n, elements), for a model of patches.
    pub patches: Vec<f32>,
    /// Tokens of an encoder–decoder's sources.
    pub sources: Vec<u32>,
    /// Tokens of each source, as many as there are sequences.
    pub source_lens: Vec<usize>,
    /// What is dropped; nothing where the batch is only measured.
    pub dropout: Option<Dropout>,
}

/// Dropout of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of the elements.
    pub rate: f32,
    /// Decides which.
    pub seed: u64,
}

impl Batch {
    /// Whole sequences of `seq_len` tokens, without targets.
    ///
    /// # Errors
    /// When they are not whole.
    pub fn of(tokens: &[u32], seq_len: usize) -> Result<Self> {
        ensure!(
            seq_len > 0 && tokens.len().is_multiple_of(seq_len),
            "{} tokens are not whole sequences of {seq_len}",
            tokens.len()
        );
        Ok(Self {
            inputs: tokens.to_vec(),
            lens: vec![seq_len; tokens.len() / seq_len],
            ..Self::default()
        })
    }
}

/// What a step of the training sees.
pub trait Samples {
    /// Sequences of an epoch.
    fn per_epoch(&self) -> usize;

    /// The `count` sequences of step `step` (from 0), in micro-batches of `micro`.
    ///
    /// # Errors
    /// When a sequence is not what the model reads.
    fn step(&mut self, step: u64, count: usize, micro: usize) -> Result<Vec<Batch>>;
}

impl<'a> Batches<'a> {
    /// Sequences of `seq_len` tokens, not counting the last target.
    ///
    /// # Errors
    /// When there are too few tokens for two sequences.
    pub fn new(tokens: &'a [u32], seq_len: usize, seed: u64) -> Result<Self> {
        let need = 2 * seq_len + 1;
        ensure!(
            tokens.len() >= need,
            "the training part has {} tokens, at least {need} are needed",
            tokens.len()
        );
        Ok(Self {
            tokens,
            seq_len,
            seed,
            epoch: None,
            starts: Vec::new(),
        })
    }

    fn start(&mut self, number: usize) -> usize {
        let per_epoch = self.per_epoch();
        let epoch = number / per_epoch;
        if self.epoch != Some(epoch) {
            let mut random = Random::new(self.seed ^ (epoch as u64).wrapping_mul(0x2545_f491));
            let offset = random.below(self.seq_len);
            self.starts = (0..per_epoch).map(|i| offset + i * self.seq_len).collect();
            random.shuffle(&mut self.starts);
            self.epoch = Some(epoch);
        }
        self.starts[number % per_epoch]
    }
}

impl Samples for Batches<'_> {
    fn per_epoch(&self) -> usize {
        // The cut moves by up to a sequence.
        (self.tokens.len() - 1) / self.seq_len - 1
    }

    fn step(&mut self, step: u64, count: usize, micro: usize) -> Result<Vec<Batch>> {
        let mut out = Vec::new();
        for index in 0..count {
            if index % micro == 0 {
                out.push(Batch::default());
            }
            let start = self.start(step as usize * count + index);
            if let Some(batch) = out.last_mut() {
                let end = start + self.seq_len;
                batch.inputs.extend(&self.tokens[start..end]);
                batch.targets.extend(&self.tokens[start + 1..end + 1]);
                batch.lens.push(self.seq_len);
            }
        }
        Ok(out)
    }
}

/// What a step takes some of, each a sequence.
pub trait Deck: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it takes long to deal one, so that threads are worth it.
    fn is_slow(&self) -> bool {
        false
    }

    /// Appends one to a batch; what is random about it is drawn.
    ///
    /// # Errors
    /// When it is not what the model reads.
    fn deal(&self, index: usize, random: &mut Random, batch: &mut Batch) -> Result<()>;
}

/// A deck in random order, each epoch in another.
///
/// Which of it a step sees, what is random about these and what is dropped follow from the seed and the step alone.
pub struct Shuffled<'a, D> {
    deck: &'a D,
    seed: u64,
    dropout: f32,
    epoch: Option<usize>,
    order: Vec<usize>,
}

impl<'a, D: Deck> Shuffled<'a, D> {
    /// In the order of that seed.
    pub fn new(deck: &'a D, dropout: f32, seed: u64) -> Self {
        Self {
            deck,
            seed,
            dropout,
            epoch: None,
            order: Vec::new(),
        }
    }

    fn place(&mut self, number: usize) -> usize {
        let len = self.deck.len();
        let epoch = number / len;
        if self.epoch != Some(epoch) {
            self.order = (0..len).collect();
            let seed = self.seed ^ (epoch as u64).wrapping_mul(0x2545_f491);
            Random::new(seed).shuffle(&mut self.order);
            self.epoch = Some(epoch);
        }
        self.order[number % len]
    }
}

impl<D: Deck> Samples for Shuffled<'_, D> {
    fn per_epoch(&self) -> usize {
        self.deck.len()
    }

    fn step(&mut self, step: u64, count: usize, micro: usize) -> Result<Vec<Batch>> {
        // Sound takes as long to cut as to learn from: each micro-batch is dealt on a thread of its own.
        let numbers: Vec<(u64, usize)> = (0..count)
            .map(|index| step as usize * count + index)
            .map(|number| (number as u64, self.place(number)))
            .collect();
        let deal = |numbers: &[(u64, usize)]| -> Result<Batch> {
            let mut batch = Batch::default();
            for (index, (number, place)) in numbers.iter().enumerate() {
                let mut random =
                    Random::new(self.seed ^ number.wrapping_mul(0xda94_2042_e4dd_58b5));
                if index == 0 && self.dropout > 0.0 {
                    batch.dropout = Some(Dropout {
                        rate: self.dropout,
                        seed: random.bits(),
                    });
                }
                self.deck.deal(*place, &mut random, &mut batch)?;
            }
            Ok(batch)
        };
        let micros: Vec<&[(u64, usize)]> = numbers.chunks(micro).collect();
        let threads = if self.deck.is_slow() { micros.len() } else { 1 };
        shares(&micros, threads, |micros| {
            micros.iter().map(|micro| deal(micro)).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_function_of_its_number() {
        let tokens: Vec<u32> = (0..1000).collect();
        let mut batches = Batches::new(&tokens, 10, 7).unwrap();
        let third = batches.step(3, 8, 4).unwrap();
        let last = batches.step(40, 8, 4).unwrap();
        let mut again = Batches::new(&tokens, 10, 7).unwrap();
        assert_eq!(again.step(40, 8, 4).unwrap(), last);
        assert_eq!(again.step(3, 8, 4).unwrap(), third);
        assert_eq!(third.len(), 2);
        for batch in third {
            let next: Vec<u32> = batch.inputs.iter().map(|token| token + 1).collect();
            assert_eq!(batch.targets, next);
        }
    }

    #[test]
    fn an_epoch_sees_everything_once() {
        let tokens: Vec<u32> = (0..1001).collect();
        let mut batches = Batches::new(&tokens, 10, 7).unwrap();
        let per_epoch = batches.per_epoch();
        let mut seen: Vec<u32> = batches.step(0, per_epoch, 1).unwrap().concat_inputs();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), per_epoch * 10);
    }

    trait ConcatInputs {
        fn concat_inputs(self) -> Vec<u32>;
    }

    impl ConcatInputs for Vec<Batch> {
        fn concat_inputs(self) -> Vec<u32> {
            self.into_iter().flat_map(|batch| batch.inputs).collect()
        }
    }
}
