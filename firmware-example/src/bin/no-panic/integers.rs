//! The integer profile on a file that the optimiser does not know; here it is one of floats, which is refused.

use core::hint::black_box;

use attentive::frontend::{IntegerListener, MelSpec, MelTables, PatchSpec};
use attentive::integer::{
    Bits, Encoder, Model, Options, Progress, Sampler, SamplerOptions, Session, quantize_input,
};
use attentive::kernels::Backend;
use attentive::{SessionError, WeightsError, WhenFull};

/// All that a model of this profile can be asked.
pub(crate) fn run(bytes: &[u8], memory: &mut [u8], backend: Backend) -> Result<(), SessionError> {
    let model = Model::parse(bytes)?;
    look_around(&model)?;
    write(&model, memory, backend)?;
    read(&model, memory, backend)
}

fn look_around(model: &Model<'_>) -> Result<(), WeightsError> {
    model.verify()?;
    model.check_aligned()?;
    black_box((model.provenance(), model.bytes(), model.config()));
    black_box((
        model.logit_bits(),
        model.stream_scale(),
        model.largest_piece(),
    ));
    for tensor in model.tensors() {
        black_box(tensor);
    }
    Ok(())
}

fn write(model: &Model<'_>, memory: &mut [u8], backend: Backend) -> Result<(), SessionError> {
    let options = Options::new(black_box(16))
        .with_source_len(black_box(8))
        .with_when_full(black_box(WhenFull::Ring))
        .with_kv(black_box(Bits::Four));
    black_box(model.session_bytes(&options));
    let mut session = Session::new(model, &options, memory, backend)?;
    black_box(session.read(black_box("a source")).is_ok());
    black_box(session.read_tokens(black_box(&[1, 2])).is_ok());
    session.prompt(black_box("It is"))?;
    session.prompt_tokens(black_box(&[1, 2]))?;
    let mut row = [0.0; 16];
    session.watch(black_box(&mut row), |row| {
        black_box(row);
    })?;
    while session.advance(black_box(1000))? == Progress::Busy {}
    let mut sampler = Sampler::new(SamplerOptions {
        repetition_penalty_thousandths: black_box(1100),
        temperature_thousandths: black_box(700),
        top_k: black_box(40),
        top_p_thousandths: black_box(900),
        seed: black_box(7),
    });
    black_box(session.draw(&mut sampler)?);
    black_box(session.step(&mut sampler)?);
    black_box((session.tokens(), session.logits(), session.position()));
    session.truncate(black_box(2));
    let mut snapshot = [0; 64];
    black_box(session.snapshot(black_box(&mut snapshot)).is_ok());
    black_box(session.restore(black_box(&snapshot)).is_ok());
    black_box((
        session.snapshot_len(),
        model.snapshot_bytes(&options, black_box(2), 0),
    ));
    session.reset();
    Ok(())
}

fn read(model: &Model<'_>, memory: &mut [u8], backend: Backend) -> Result<(), SessionError> {
    let len = black_box(16);
    black_box(model.encoder_bytes(len));
    let mut encoder = Encoder::new(model, len, memory, backend)?;
    let input = quantize_input(black_box(0.5), model.input_scale());
    black_box(encoder.begin_text(black_box("a text")).is_ok());
    black_box(encoder.begin_tokens(black_box(&[1, 2])).is_ok());
    black_box(encoder.begin_patches(black_box(&[input; 16])).is_ok());
    while encoder.advance(black_box(1000))? == Progress::Busy {}
    encoder.run()?;
    let mut row = [0.0; 16];
    encoder.watch(black_box(&mut row), |row| {
        black_box(row);
    })?;
    black_box((encoder.classes().is_ok(), encoder.class().is_ok()));
    black_box((encoder.tags().is_ok(), encoder.span_logits().is_ok()));
    black_box(encoder.span(black_box(0..9), black_box(5)).is_ok());
    black_box((encoder.len(), encoder.is_empty()));
    Ok(())
}

/// Sound without a float.
pub(crate) fn listen(words: &[i32], memory: &mut [i32]) {
    let spec = MelSpec {
        bins: black_box(40),
        ..MelSpec::WHISPER
    };
    let Ok(tables) = MelTables::new(&spec, words) else {
        return;
    };
    if let Ok(mut listener) = IntegerListener::new(&tables, memory) {
        listener.hear(black_box(&[7; 16]), |level| {
            black_box(level);
        });
        listener.forget();
    }
}

/// Pictures by levels.
pub(crate) fn patches(spec: &PatchSpec) {
    let levels = spec.levels(black_box(0), black_box(0.02));
    let mut out = [0; 16];
    let cut = spec.cut_levels(&[levels], black_box(&[7; 16]), black_box(&mut out));
    black_box(cut.is_ok());
}
