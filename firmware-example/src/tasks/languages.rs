//! Sentences, each in another language.

use attentive::{Encoder, EncoderOptions, Fit, Sequential, SessionError, integer};

use super::{Classifies, Inputs};

/// Which of twenty languages a sentence is in.
pub struct Languages;

const SENTENCES: [(&str, &str); 8] = [
    ("Wo hast du die Schlüssel gelassen?", "german"),
    ("The train to the coast leaves at nine.", "english"),
    ("Onde fica a biblioteca da universidade?", "portuguese"),
    ("¿Por qué no me lo dijiste antes?", "spanish"),
    ("Где находится ближайшая аптека?", "russian"),
    ("Wczoraj padał deszcz przez cały dzień.", "polish"),
    ("Huomenna menemme mökille järven rannalle.", "finnish"),
    ("Le vent se lève, il faut rentrer le linge.", "french"),
];

impl Classifies for Languages {
    const OPTIONS: EncoderOptions = EncoderOptions::new(64);
    const LABELS: &'static [&'static str] = &[
        "czech",
        "danish",
        "dutch",
        "english",
        "finnish",
        "french",
        "german",
        "greek",
        "hungarian",
        "italian",
        "norwegian",
        "polish",
        "portuguese",
        "romanian",
        "russian",
        "spanish",
        "swedish",
        "turkish",
        "ukrainian",
        "vietnamese",
    ];
    const COUNT: usize = SENTENCES.len();

    fn name(index: usize) -> &'static str {
        SENTENCES[index].0
    }

    fn wanted(index: usize) -> &'static str {
        SENTENCES[index].1
    }

    fn run<F: Fit>(
        index: usize,
        encoder: &mut Encoder<'_, Sequential, F>,
    ) -> Result<(), SessionError> {
        encoder.run_text(SENTENCES[index].0, None).map(|_| ())
    }

    fn begin<F: integer::Fit>(
        index: usize,
        _: Inputs<'_>,
        encoder: &mut integer::Encoder<'_, F>,
    ) -> Result<(), SessionError> {
        encoder.begin_text(SENTENCES[index].0).map(|_| ())
    }
}
