//! Sentences to translate.

use attentive::kernels::layout::KvDtype;
use attentive::{
    Fit, Sampler, SamplerOptions, Sequential, Session, SessionError, SessionOptions, integer,
};

/// From English into Spanish.
pub struct Translation;

impl Translation {
    /// Sources and translations of up to 48 tokens, keys and values as bytes.
    pub const OPTIONS: SessionOptions = SessionOptions::new(48)
        .with_source_len(48)
        .with_kv(KvDtype::I8);

    /// What is translated.
    pub const SENTENCES: [&str; 4] = [
        "He went up to Jerusalem.",
        "The Lord is my light and my salvation.",
        "Select the device you want to add.",
        "The battery is low.",
    ];

    /// Translates a sentence, always by the likeliest next token: hands each token's bytes and the logits that it was
    /// taken from to `each`.
    ///
    /// # Errors
    /// What the session refuses.
    pub fn run<F: Fit>(
        index: usize,
        session: &mut Session<'_, Sequential, F>,
        mut each: impl FnMut(&[u8], &[f32]),
    ) -> Result<(), SessionError> {
        session.read(Self::SENTENCES[index])?;
        session.prompt("")?;
        let mut sampler = Sampler::new(SamplerOptions::GREEDY);
        while session.tokens().len() < session.context_len() {
            let Some(piece) = session.step(&mut sampler)? else {
                break;
            };
            each(piece, session.logits());
        }
        Ok(())
    }

    /// The same of the integer profile.
    pub const INTEGER_OPTIONS: integer::Options = integer::Options::new(48).with_source_len(48);

    /// As [`Translation::run`], in pieces of `budget` multiply-adds.
    ///
    /// # Errors
    /// What the session refuses.
    pub fn run_integers<F: integer::Fit>(
        index: usize,
        session: &mut integer::Session<'_, F>,
        budget: u32,
        mut each: impl FnMut(&[u8], &[i32]),
    ) -> Result<(), SessionError> {
        session.read(Self::SENTENCES[index])?;
        session.prompt("")?;
        let mut sampler = integer::Sampler::new(integer::SamplerOptions::GREEDY);
        while session.tokens().len() < Self::INTEGER_OPTIONS.context_len {
            while session.advance(budget)? == integer::Progress::Busy {}
            let Some(piece) = session.step(&mut sampler)? else {
                break;
            };
            each(piece, session.logits().unwrap_or_default());
        }
        Ok(())
    }
}
