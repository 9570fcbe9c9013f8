//! What `generate` and `chat` have in common: how tokens are drawn, and on what.

use super::{Kv, PREFILL, backend};
use anyhow::{Result, ensure};
use attentive::kernels::Backend;
use attentive::{Sampler, SamplerOptions, SessionOptions, integer};
use clap::Args;

/// How a model speaks.
#[derive(Args)]
pub(crate) struct Speech {
    /// 0 always takes the most probable token [default: generate 0.7, chat 0.2]
    #[arg(long)]
    temperature: Option<f32>,
    /// Keep the k most probable tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Keep the most probable tokens that together reach this probability [default: generate 1, chat 0.9]
    #[arg(long)]
    top_p: Option<f32>,
    /// Above 1, tokens of the text so far become less probable
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// The same seed, the same text
    #[arg(long, default_value_t = 1813)]
    seed: u64,
    /// native, scalar, or another instruction set
    #[arg(long, default_value = "native")]
    backend: String,
    /// Element type of the key-value cache
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    kv: Kv,
}

impl Speech {
    /// The sampler, with those defaults of temperature and top-p.
    pub(crate) fn sampler(&self, temperature: f32, top_p: f32) -> Result<Sampler> {
        let options = SamplerOptions {
            repetition_penalty: self.repetition_penalty,
            temperature: self.temperature.unwrap_or(temperature),
            top_k: self.top_k,
            top_p: self.top_p.unwrap_or(top_p),
            seed: self.seed,
        };
        ensure!(
            options.temperature >= 0.0 && options.top_p > 0.0 && options.repetition_penalty > 0.0,
            "--temperature should be at least 0, --top-p and --repetition-penalty more than 0"
        );
        Ok(Sampler::new(options))
    }

    /// The same of the integer profile.
    pub(crate) fn integer_sampler(&self, temperature: f32, top_p: f32) -> Result<integer::Sampler> {
        // Checks them.
        self.sampler(temperature, top_p)?;
        let thousandths = |x: f32| (x * 1000.0).round() as u32;
        Ok(integer::Sampler::new(integer::SamplerOptions {
            repetition_penalty_thousandths: thousandths(self.repetition_penalty),
            temperature_thousandths: thousandths(self.temperature.unwrap_or(temperature)),
            top_k: self.top_k,
            top_p_thousandths: thousandths(self.top_p.unwrap_or(top_p)),
            seed: self.seed,
        }))
    }

    pub(crate) fn backend(&self) -> Result<Backend> {
        backend(&self.backend)
    }

    /// A session of that many positions.
    pub(crate) fn session(&self, context: usize) -> Result<SessionOptions> {
        let options = SessionOptions::new(context).with_prefill_len(PREFILL.min(context));
        self.kv.with(options)
    }

    /// Bits of a key's or value's number in the integer profile.
    pub(crate) fn integer_kv(&self) -> Result<integer::Bits> {
        self.kv.bits()
    }
}
