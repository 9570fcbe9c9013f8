//! An encoder on a model that the optimiser does not know; here it is a decoder's, which is an error.

use core::hint::black_box;

use attentive::kernels::Backend;
use attentive::kernels::layout::KvDtype;
use attentive::{Encoder, EncoderOptions, Model, SessionError};

/// All that an encoder can be asked.
pub(crate) fn read(
    model: &Model<'_>,
    memory: &mut [u8],
    backend: Backend,
) -> Result<(), SessionError> {
    let options = EncoderOptions::new(black_box(8)).with_kv(black_box(KvDtype::I8));
    black_box(model.encoder_bytes(&options));
    let mut encoder = Encoder::new(model, &options, memory, backend)?;
    black_box(encoder.run_text(black_box("a text"), black_box(Some("another")))?);
    encoder.run_tokens(black_box(&[1, 2]), black_box(&[0, 1]))?;
    let (ids, types) = (black_box(&[1, 2]), black_box(&[0, 1]));
    encoder.watch(ids, types, black_box(&mut [0.0; 8]), |row| {
        black_box(row);
    })?;
    encoder.run_patches(black_box(&[0.5; 8]))?;
    encoder.watch_patches(black_box(&[0.5; 8]), black_box(&mut [0.0; 8]), |row| {
        black_box(row);
    })?;
    black_box((encoder.len(), encoder.is_empty(), encoder.hidden()));
    black_box(encoder.embedding().is_ok());
    black_box(encoder.classes().is_ok());
    black_box(encoder.tags().is_ok());
    black_box(encoder.span_logits().is_ok());
    black_box(encoder.span(black_box(1..4), black_box(30)).is_ok());
    Ok(())
}
