//! Training sequences in random order, each epoch cut at another place.
//!
//! Which sequences a step sees follows from the seed and the step's number alone, so that a resumed run needs no more
//! than that number.

use crate::random::Random;
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

/// Inputs and their successors, several sequences one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Tokens.
    pub inputs: Vec<u32>,
    /// The token after each.
    pub targets: Vec<u32>,
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

    /// Sequences of an epoch.
    pub fn per_epoch(&self) -> usize {
        // The cut moves by up to a sequence.
        (self.tokens.len() - 1) / self.seq_len - 1
    }

    /// The `count` sequences of step `step` (from 0), in micro-batches of `micro`.
    pub fn step(&mut self, step: u64, count: usize, micro: usize) -> Vec<Batch> {
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
            }
        }
        out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_function_of_its_number() {
        let tokens: Vec<u32> = (0..1000).collect();
        let mut batches = Batches::new(&tokens, 10, 7).unwrap();
        let third = batches.step(3, 8, 4);
        let last = batches.step(40, 8, 4);
        let mut again = Batches::new(&tokens, 10, 7).unwrap();
        assert_eq!(again.step(40, 8, 4), last);
        assert_eq!(again.step(3, 8, 4), third);
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
        let mut seen: Vec<u32> = batches.step(0, per_epoch, 1).concat_inputs();
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
