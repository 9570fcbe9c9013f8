//! Questions about small stories, before which they stand.

use attentive::{Encoder, EncoderOptions, Fit, Sequential, SessionError, integer};

use super::{Classifies, Inputs};

/// The word that answers a question.
pub struct Stories;

const STORIES: [(&str, &str); 6] = [
    (
        "Where is Mary? Mary went to the garden. John moved to the office. Mary travelled to the kitchen.",
        "kitchen",
    ),
    (
        "Where is the milk? Daniel grabbed the milk. Daniel journeyed to the bedroom. John went to the hallway.",
        "bedroom",
    ),
    (
        "Is Sandra in the bathroom? Sandra moved to the bathroom. Mary went to the office.",
        "yes",
    ),
    (
        "Is John in the office? John went to the office. John journeyed to the hallway.",
        "no",
    ),
    (
        "How many things is Mary carrying? Mary picked up the apple. Mary took the book. John went to the garden.",
        "two",
    ),
    (
        "How many things is Daniel carrying? Daniel took the football. Daniel put down the football.",
        "none",
    ),
];

impl Classifies for Stories {
    const OPTIONS: EncoderOptions = EncoderOptions::new(64);
    const LABELS: &'static [&'static str] = &[
        "bathroom", "bedroom", "garden", "hallway", "kitchen", "no", "none", "office", "one",
        "two", "yes",
    ];
    const COUNT: usize = STORIES.len();

    fn name(index: usize) -> &'static str {
        STORIES[index].0
    }

    fn wanted(index: usize) -> &'static str {
        STORIES[index].1
    }

    fn run<F: Fit>(
        index: usize,
        encoder: &mut Encoder<'_, Sequential, F>,
    ) -> Result<(), SessionError> {
        encoder.run_text(STORIES[index].0, None).map(|_| ())
    }

    fn begin<F: integer::Fit>(
        index: usize,
        _: Inputs<'_>,
        encoder: &mut integer::Encoder<'_, F>,
    ) -> Result<(), SessionError> {
        encoder.begin_text(STORIES[index].0).map(|_| ())
    }
}
