//! The front ends on inputs that the optimiser does not know, and some that do not fit.

use core::hint::black_box;

use attentive::frontend::{Listener, Mel, MelError, MelSpec, PatchSpec};

/// Small enough for this board.
const SPEC: MelSpec = MelSpec {
    window: 40,
    hop: 16,
    bins: 8,
    ..MelSpec::WHISPER
};

/// Each once.
pub(crate) fn all() {
    black_box(sound().is_ok());
    let spec = black_box(PatchSpec {
        height: 4,
        width: 4,
        channels: 1,
        patch: 2,
        mean: [0.5; 4],
        deviation: [0.5; 4],
    });
    black_box((spec.patches(), spec.patch_len()));
    black_box(
        spec.cut(black_box(&[1; 16]), black_box(&mut [0.0; 16]))
            .is_ok(),
    );
    crate::integers::patches(&spec);
    crate::integers::listen(black_box(&[1; 600]), black_box(&mut [0; 900]));
}

fn sound() -> Result<(), MelError> {
    let mut memory = [0.0; SPEC.listener_floats()];
    let spec = black_box(SPEC);
    let samples = black_box(&[0.5; 64]);
    let mut listener = Listener::new(spec, black_box(&mut memory))?;
    let mut frames = 0;
    listener.hear(samples, |frame| frames += frame.len());
    listener.hear_i16(black_box(&[7; 64]), |frame| frames += frame.len());
    listener.forget();
    black_box(frames);
    let mut memory = [0.0; SPEC.floats()];
    let mut mel = Mel::new(spec, black_box(&mut memory))?;
    let mut frames = [0.0; 32];
    let frames = black_box(&mut frames);
    mel.whisper(samples, frames)?;
    black_box(mel.spec().frames(black_box(64)));
    mel.energies(samples, frames)
}
