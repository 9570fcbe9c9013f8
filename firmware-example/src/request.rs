//! What `generate` does, in one place: the PC's example is compiled with this very file, so that both do the same.

use attentive::kernels::layout::KvDtype;
use attentive::{SamplerOptions, SessionOptions};

/// 256 positions, keys and values as bytes, prompts in batches of 16 tokens.
pub const SESSION: SessionOptions = SessionOptions::new(256).with_kv(KvDtype::I8);

/// A request that names nothing.
pub const PROMPT: &str = "It is a truth universally acknowledged, that";
/// Tokens of such a request.
pub const TOKENS: u32 = 32;
/// Temperature of such a request.
pub const TEMPERATURE_THOUSANDTHS: u32 = 700;
/// Seed of such a request.
pub const SEED: u64 = 1813;

/// How tokens are drawn. Thousandths, because reading decimals takes 15 kB of flash.
pub const fn sampler(temperature_thousandths: u32, seed: u64) -> SamplerOptions {
    SamplerOptions {
        temperature: temperature_thousandths as f32 / 1000.0,
        seed,
        ..SamplerOptions::DEFAULT
    }
}

/// Hash of all logits that were sampled from: equal hashes are equal bits (FNV-1a, 64 bits).
#[derive(Clone, Copy, Debug)]
pub struct LogitsHash(pub u64);

impl LogitsHash {
    /// Of no logits.
    pub const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    /// Adds the logits of one position.
    pub fn add(&mut self, logits: &[f32]) {
        self.add_words(logits.iter().map(|x| x.to_bits()));
    }

    /// The same of any words: those of integer logits.
    pub fn add_words(&mut self, words: impl Iterator<Item = u32>) {
        for byte in words.flat_map(u32::to_le_bytes) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
