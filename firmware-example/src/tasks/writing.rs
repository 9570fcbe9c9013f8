//! A text to go on with, of the integer profile.

use attentive::SessionError;
use attentive::integer::{Fit, Options, Progress, Sampler, SamplerOptions, Session};

/// In the manner of Jane Austen.
pub struct Writing;

impl Writing {
    /// 128 positions.
    pub const OPTIONS: Options = Options::new(128);

    /// What the text begins with.
    pub const PROMPT: &str = "It is a truth universally acknowledged, that";

    const TOKENS: usize = 32;

    const SAMPLER: SamplerOptions = SamplerOptions {
        temperature_thousandths: 700,
        top_k: 40,
        top_p_thousandths: 950,
        seed: 1813,
        ..SamplerOptions::DEFAULT
    };

    /// Reads the prompt, in pieces of `budget` multiply-adds.
    ///
    /// # Errors
    /// What the session refuses.
    pub fn begin<F: Fit>(session: &mut Session<'_, F>, budget: u32) -> Result<(), SessionError> {
        session.prompt(Self::PROMPT)?;
        while session.advance(budget)? == Progress::Busy {}
        Ok(())
    }

    /// Writes 32 tokens behind it, and hands each token's bytes and the logits that it was drawn from to `each`.
    ///
    /// # Errors
    /// What the session refuses.
    pub fn run<F: Fit>(
        session: &mut Session<'_, F>,
        budget: u32,
        mut each: impl FnMut(&[u8], &[i32]),
    ) -> Result<(), SessionError> {
        let mut sampler = Sampler::new(Self::SAMPLER);
        for _ in 0..Self::TOKENS {
            while session.advance(budget)? == Progress::Busy {}
            let Some(bytes) = session.step(&mut sampler)? else {
                break;
            };
            each(bytes, session.logits().unwrap_or_default());
        }
        Ok(())
    }
}
