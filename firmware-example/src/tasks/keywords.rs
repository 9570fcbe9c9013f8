//! Spoken words, a hop of samples at a time as from a microphone.

use attentive::frontend::{IntegerListener, Listener, MelSpec, MelTables};
use attentive::{Encoder, EncoderOptions, Fit, Sequential, SessionError, integer};

use super::{Classifies, Inputs, Sound};

/// As `trainer/tasks/keywords.toml` has it.
const SOUND: MelSpec = MelSpec {
    bins: 40,
    ..MelSpec::WHISPER
};
/// Samples of a clip: a second.
const SAMPLES: usize = 16_000;
/// Frames of a patch.
const FRAMES: usize = 2;
const PATCH: usize = FRAMES * SOUND.bins;
const PATCHES: usize = (1 + (SAMPLES - SOUND.window) / SOUND.hop) / FRAMES;
const MEAN: f32 = -0.2;
const DEVIATION: f32 = 0.6;

/// Which of twenty words is said, if one of these is.
pub struct Keywords;

/// Bytes before the samples of a WAV file of one channel.
const HEADER: usize = 44;

/// By voices that the training did not hear.
const CLIPS: [(&[u8; HEADER + 2 * SAMPLES], &str); 5] = [
    (include_bytes!("../../inputs/keyword-seven.wav"), "seven"),
    (include_bytes!("../../inputs/keyword-stop.wav"), "stop"),
    (include_bytes!("../../inputs/keyword-yes.wav"), "yes"),
    (include_bytes!("../../inputs/keyword-left.wav"), "left"),
    (include_bytes!("../../inputs/keyword-other.wav"), "_other_"),
];

impl Classifies for Keywords {
    /// The patches and the model's one token.
    const OPTIONS: EncoderOptions = EncoderOptions::new(PATCHES + 1);
    const LABELS: &'static [&'static str] = &[
        "_other_",
        "_silence_",
        "down",
        "eight",
        "five",
        "four",
        "go",
        "left",
        "nine",
        "no",
        "off",
        "on",
        "one",
        "right",
        "seven",
        "six",
        "stop",
        "three",
        "two",
        "up",
        "yes",
        "zero",
    ];
    const COUNT: usize = CLIPS.len();
    const SOUND: Option<Sound> = Some(Sound {
        spec: SOUND,
        mean: MEAN,
        deviation: DEVIATION,
    });

    fn name(_: usize) -> &'static str {
        "clip"
    }

    fn wanted(index: usize) -> &'static str {
        CLIPS[index].1
    }

    fn run<F: Fit>(
        index: usize,
        encoder: &mut Encoder<'_, Sequential, F>,
    ) -> Result<(), SessionError> {
        encoder.run_patches(&patches(index))
    }

    fn begin<F: integer::Fit>(
        index: usize,
        inputs: Inputs<'_>,
        encoder: &mut integer::Encoder<'_, F>,
    ) -> Result<(), SessionError> {
        encoder.begin_patches(&levels(index, inputs.mel))
    }
}

/// What the model reads of a clip.
fn patches(index: usize) -> [f32; PATCHES * PATCH] {
    let mut memory = [0.0; SOUND.listener_floats()];
    let mut patches = [0.0; PATCHES * PATCH];
    let mut free = patches.iter_mut();
    // The specification is possible and the memory its own.
    if let Ok(mut listener) = Listener::new(SOUND, &mut memory) {
        for hop in hops(index) {
            listener.hear_i16(&hop, |frame| {
                for (x, to) in frame.iter().zip(free.by_ref()) {
                    *to = (x - MEAN) / DEVIATION;
                }
            });
        }
    }
    patches
}

/// The same as levels of an integer model's input, without a float.
fn levels(index: usize, words: &[i32]) -> [i8; PATCHES * PATCH] {
    let mut memory = [0; SOUND.integer_listener_words()];
    let mut levels = [0; PATCHES * PATCH];
    let mut free = levels.iter_mut();
    // The words are the specification's and the memory its own.
    if let Ok(tables) = MelTables::new(&SOUND, words)
        && let Ok(mut listener) = IntegerListener::new(&tables, &mut memory)
    {
        for hop in hops(index) {
            listener.hear(&hop, |level| {
                if let Some(to) = free.next() {
                    *to = level;
                }
            });
        }
    }
    levels
}

/// The samples of a clip.
fn hops(index: usize) -> impl Iterator<Item = [i16; SOUND.hop]> {
    CLIPS[index].0[HEADER..].chunks(2 * SOUND.hop).map(|hop| {
        let mut samples = [0; SOUND.hop];
        for (sample, bytes) in samples.iter_mut().zip(hop.as_chunks().0) {
            *sample = i16::from_le_bytes(*bytes);
        }
        samples
    })
}
