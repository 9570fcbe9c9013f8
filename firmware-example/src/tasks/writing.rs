//! A text to go on with, of the integer profile.

use attentive::integer::{Bits, Fit, Options, Progress, Sampler, SamplerOptions, Session};
use attentive::{SessionError, WhenFull};

/// In the manner of Jane Austen.
pub struct Writing {
    /// Of the session.
    pub options: Options,
    tokens: usize,
    repetition_penalty_thousandths: u32,
}

impl Writing {
    /// 32 tokens, in 128 positions.
    pub const SHORT: Self = Self {
        options: Options::new(128),
        tokens: 32,
        repetition_penalty_thousandths: 1000,
    };

    /// 120 tokens, of which each sees 61, with keys and values of four bits: the least memory, and texts without end.
    pub const LONG: Self = Self {
        options: Options::new(61)
            .with_when_full(WhenFull::Ring)
            .with_kv(Bits::Four),
        tokens: 120,
        repetition_penalty_thousandths: 1100,
    };

    /// What the text begins with.
    pub const PROMPT: &str = "It is a truth universally acknowledged, that";

    fn sampler(&self) -> Sampler {
        Sampler::new(SamplerOptions {
            repetition_penalty_thousandths: self.repetition_penalty_thousandths,
            temperature_thousandths: 700,
            top_k: 40,
            top_p_thousandths: 950,
            seed: 1813,
        })
    }

    /// Reads the prompt, in pieces of `budget` multiply-adds.
    ///
    /// # Errors
    /// What the session refuses.
    pub fn begin<F: Fit>(
        &self,
        session: &mut Session<'_, F>,
        budget: u32,
    ) -> Result<(), SessionError> {
        session.prompt(Self::PROMPT)?;
        while session.advance(budget)? == Progress::Busy {}
        Ok(())
    }

    /// Writes behind it, and hands each token's bytes and the logits that it was drawn from to `each`.
    ///
    /// # Errors
    /// What the session refuses.
    pub fn run<F: Fit>(
        &self,
        session: &mut Session<'_, F>,
        budget: u32,
        mut each: impl FnMut(&[u8], &[i32]),
    ) -> Result<(), SessionError> {
        let mut sampler = self.sampler();
        for _ in 0..self.tokens {
            while session.advance(budget)? == Progress::Busy {}
            let Some(bytes) = session.step(&mut sampler)? else {
                break;
            };
            each(bytes, session.logits().unwrap_or_default());
        }
        Ok(())
    }
}
