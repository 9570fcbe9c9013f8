//! Texts without marks and capitals, which are put back.

use attentive::tokenizer::{ENCODE_SCRATCH_LEN, Tokenizer};
use attentive::{Encoder, EncoderOptions, Fit, Sequential, SessionError, integer};

/// Commas, full stops and capitals for a text that comes from speech.
pub struct Marks;

/// Tokens of the longest text.
const LEN: usize = 64;

impl Marks {
    /// Memory for the longest text.
    pub const OPTIONS: EncoderOptions = EncoderOptions::new(LEN);

    /// The tags in the order of the model's logits: a capital, then the mark behind the word.
    pub const LABELS: [&str; 16] = [
        "!", ",", ".", ":", ";", "?", "A", "A!", "A,", "A.", "A:", "A;", "A?", "A—", "O", "—",
    ];

    /// What is read.
    pub const TEXTS: [&str; 4] = [
        "my dear mr knightley said emma you are quite mistaken",
        "where is she now cried elizabeth i must speak to her directly",
        "he had been in london for a week but nobody had seen him",
        "the battery is low please charge the device before you go",
    ];

    /// Runs the model on a text, hands over all logits, `(tokens, tags)`, and then the text with its marks in pieces.
    ///
    /// # Errors
    /// What the encoder refuses.
    pub fn run<F: Fit>(
        index: usize,
        encoder: &mut Encoder<'_, Sequential, F>,
        logits: impl FnOnce(&[f32]),
        each: impl FnMut(&str),
    ) -> Result<(), SessionError> {
        let tokenizer = encoder.model().tokenizer();
        let mut ids = [0; LEN];
        let ids = tokens(tokenizer, Self::TEXTS[index], &mut ids)?;
        encoder.run_tokens(ids, &[])?;
        let tags = encoder.tags()?;
        logits(tags);
        put_back(tokenizer, ids, tags, each);
        Ok(())
    }

    /// The same of the integer profile, in pieces of `budget` multiply-adds.
    ///
    /// # Errors
    /// What the encoder refuses.
    pub fn run_integers<F: integer::Fit>(
        index: usize,
        encoder: &mut integer::Encoder<'_, F>,
        budget: u32,
        logits: impl FnOnce(&[i32]),
        each: impl FnMut(&str),
    ) -> Result<(), SessionError> {
        let tokenizer = encoder.model().tokenizer();
        let mut ids = [0; LEN];
        let ids = tokens(tokenizer, Self::TEXTS[index], &mut ids)?;
        encoder.begin_tokens(ids)?;
        while encoder.advance(budget)? == integer::Progress::Busy {}
        let tags = encoder.tags()?;
        logits(tags);
        put_back(tokenizer, ids, tags, each);
        Ok(())
    }
}

fn tokens<'a>(
    tokenizer: &Tokenizer<'_>,
    text: &str,
    ids: &'a mut [u32; LEN],
) -> Result<&'a [u32], SessionError> {
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let wrapped = tokenizer.encode_wrapped(text, None, &mut scratch, ids)?;
    Ok(ids.get(..wrapped.len).unwrap_or_default())
}

/// The words with what the likeliest tags of their first tokens say.
fn put_back<T: PartialOrd>(
    tokenizer: &Tokenizer<'_>,
    ids: &[u32],
    logits: &[T],
    mut each: impl FnMut(&str),
) {
    let mut mark = "";
    for (index, (id, logits)) in ids
        .iter()
        .zip(logits.chunks_exact(Marks::LABELS.len()))
        .enumerate()
    {
        let piece = tokenizer.piece(*id);
        let piece = core::str::from_utf8(piece).unwrap_or("\u{fffd}");
        let word = piece.strip_prefix(' ');
        if word.is_none() && index > 0 {
            each(piece);
            continue;
        }
        each(mark);
        if index > 0 && mark != "—" {
            each(" ");
        }
        let mut best = 0;
        for (place, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = place;
            }
        }
        let tag = Marks::LABELS[best];
        let rest = tag.strip_prefix('A');
        mark = match tag {
            "O" => "",
            _ => rest.unwrap_or(tag),
        };
        let word = word.unwrap_or(piece);
        let mut letters = word.chars();
        match (rest, letters.next()) {
            (Some(_), Some(first)) => {
                // The words of the texts have no other letters.
                each(first.to_ascii_uppercase().encode_utf8(&mut [0; 4]));
                each(letters.as_str());
            }
            _ => each(word),
        }
    }
    each(mark);
}
