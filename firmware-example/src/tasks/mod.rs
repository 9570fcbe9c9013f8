//! What the small models are asked, each a real input, and the right answers: the repository's tests compile this very
//! file and ask the same on a PC.

mod digits;
mod fashion;
mod keywords;
mod languages;
mod marks;
mod stories;
mod translation;
mod writing;

pub use digits::Digits;
pub use fashion::Fashion;
pub use keywords::Keywords;
pub use languages::Languages;
pub use marks::Marks;
pub use stories::Stories;
pub use translation::Translation;
pub use writing::Writing;

use attentive::frontend::{Levels, MelSpec, MelTables, PatchSpec};
use attentive::{Encoder, EncoderOptions, Fit, Sequential, SessionError, integer};

/// How sounds become patches, of a model of sounds.
#[derive(Clone, Copy)]
pub struct Sound {
    /// The frames.
    pub spec: MelSpec,
    /// Subtracted from their values.
    pub mean: f32,
    /// What these are then divided by.
    pub deviation: f32,
}

/// What inputs of an integer model are made with, computed by the compiler.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The levels of a pixel ([`PatchSpec::levels`]).
    pub pixels: &'a [i8; 256],
    /// Of sounds ([`MelTables::words`]).
    pub mel: &'a [i32],
}

/// The levels of a pixel of a model of pictures whose input has that scale.
pub const fn pixels<T: Classifies>(scale: f32) -> [i8; 256] {
    match T::PICTURE {
        Some(picture) => picture.levels(0, scale),
        None => [0; 256],
    }
}

/// The number of words of its tables, of a model of sounds.
pub const fn mel_len<T: Classifies>() -> usize {
    match T::SOUND {
        Some(sound) => sound.spec.table_words(),
        None => 0,
    }
}

/// Fills them, for an input of that scale.
pub const fn fill_mel<T: Classifies>(scale: f32, words: &mut [i32]) {
    if let Some(sound) = T::SOUND {
        let levels = Levels {
            mean: sound.mean,
            deviation: sound.deviation,
            scale,
        };
        assert!(MelTables::fill(&sound.spec, &levels, words).is_ok());
    }
}

/// What a classifier is asked.
pub trait Classifies {
    /// Memory for the longest input.
    const OPTIONS: EncoderOptions;

    /// The classes in the order of the model's logits.
    const LABELS: &'static [&'static str];

    /// Number of questions.
    const COUNT: usize;

    /// How pictures are cut, of a model of pictures.
    const PICTURE: Option<PatchSpec> = None;

    /// How sounds are heard, of a model of sounds.
    const SOUND: Option<Sound> = None;

    /// What the question is, in a word.
    fn name(index: usize) -> &'static str;

    /// The right answer.
    fn wanted(index: usize) -> &'static str;

    /// Runs the model on it.
    ///
    /// # Errors
    /// What the encoder refuses.
    fn run<F: Fit>(
        index: usize,
        encoder: &mut Encoder<'_, Sequential, F>,
    ) -> Result<(), SessionError>;

    /// Hands it to a model of the integer profile, which is then run in pieces.
    ///
    /// # Errors
    /// What the encoder refuses.
    fn begin<F: integer::Fit>(
        index: usize,
        inputs: Inputs<'_>,
        encoder: &mut integer::Encoder<'_, F>,
    ) -> Result<(), SessionError>;
}

/// The label of the highest logit, of equals the first.
pub fn label<T: Classifies>(logits: &[f32]) -> &'static str {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (index, logit);
        }
    }
    T::LABELS.get(best.0).copied().unwrap_or("?")
}
