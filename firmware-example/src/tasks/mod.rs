//! What the small models are asked, each a real input, and the right answers: the repository's tests compile this very
//! file and ask the same on a PC.

mod digits;
mod fashion;
mod keywords;
mod languages;
mod stories;
mod translation;
mod writing;

pub use digits::Digits;
pub use fashion::Fashion;
pub use keywords::Keywords;
pub use languages::Languages;
pub use stories::Stories;
pub use translation::Translation;
pub use writing::Writing;

use attentive::frontend::PatchSpec;
use attentive::{Encoder, EncoderOptions, Fit, Sequential, SessionError, integer};

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

    /// Hands it to a model of the integer profile, which is then run in pieces. `levels` are those of the pixels
    /// ([`PatchSpec::levels`]).
    ///
    /// # Errors
    /// What the encoder refuses.
    fn begin(
        index: usize,
        levels: &[i8; 256],
        encoder: &mut integer::Encoder<'_>,
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
