//! Texts that mean the same: an encoder learns to give them like vectors, by which one is found for the other.

mod deck;
mod score;

use crate::eval::encode;
use crate::shares::shares;
use crate::texts::wrap;
use anyhow::{Result, anyhow};
use attentive::kernels::Backend;
use attentive::{Block, Encoder, EncoderOptions, Model};

pub use deck::EncodedAlike;
pub use score::Retrieval;

/// The vectors that an encoder gives texts, side by side on `threads` threads. Texts are cut to [`EncoderOptions::len`] tokens.
///
/// # Errors
/// When the model gives no vectors, or a text is not what it reads.
pub fn embeddings(
    model: &Model<'_>,
    texts: &[&str],
    options: &EncoderOptions,
    backend: Backend,
    threads: usize,
) -> Result<Vec<Vec<f32>>> {
    shares(texts, threads, |texts| {
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(options))];
        let encoder = Encoder::new(model, options, Block::bytes_mut(&mut memory), backend);
        let mut encoder = encoder.map_err(|error| anyhow!("{error}"))?;
        let mut vectors = Vec::new();
        for text in texts {
            let tokenizer = model.tokenizer();
            let tokens = encode(tokenizer, text)?;
            let (tokens, _) = wrap(tokenizer.template(), tokens, options.len);
            let run = encoder.run_tokens(&tokens, &[]);
            run.map_err(|error| anyhow!("{error}"))?;
            let vector = encoder.embedding().map_err(|error| anyhow!("{error}"))?;
            vectors.push(vector.to_vec());
        }
        Ok(vectors)
    })
}
