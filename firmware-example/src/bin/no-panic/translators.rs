//! A source and a search on a model that the optimiser does not know; here it is a decoder's, which has no source.

use core::hint::black_box;

use attentive::kernels::Backend;
use attentive::kernels::layout::KvDtype;
use attentive::{BeamOptions, LengthPenalty, Model, Session, SessionError, SessionOptions};

/// All that an encoder–decoder can be asked, and a decoder's search.
pub(crate) fn translate(
    model: &Model<'_>,
    memory: &mut [u8],
    backend: Backend,
) -> Result<(), SessionError> {
    let options = SessionOptions::new(black_box(16))
        .with_kv(black_box(KvDtype::I8))
        .with_source_len(black_box(0))
        .with_beams(black_box(2));
    black_box(model.session_bytes(&options));
    let mut session = Session::new(model, &options, memory, backend)?;
    black_box(session.read(black_box("a source")).is_ok());
    black_box(session.read_tokens(black_box(&[1, 2])).is_ok());
    black_box(session.read_frames(black_box(&[0.5; 20])).is_ok());
    session.prompt(black_box("It"))?;
    let options = BeamOptions {
        tokens: black_box(3),
        length_penalty: black_box(LengthPenalty::Wu(0.5)),
    };
    black_box(session.search(&options)?);
    let mut row = [0.0; 16];
    let row = black_box(&mut row);
    session.watch(black_box(&[1, 2]), row, |row| {
        black_box(row);
    })?;
    let source = session.watch_source(black_box(&[1, 2]), row, |row| {
        black_box(row);
    });
    black_box(source.is_ok());
    Ok(())
}
