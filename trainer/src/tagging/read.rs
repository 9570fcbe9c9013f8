//! A text's words as a model reads them, window by window, and the tags that it finds.

use super::{Sentence, Words, marks};
use crate::eval::encode;
use crate::integer::measure::nats;
use crate::loss::highest;
use crate::shares::shares;
use crate::texts::wrap;
use anyhow::{Result, anyhow, ensure};
use attentive::kernels::Backend;
use attentive::tokenizer::{Template, Tokenizer};
use attentive::{Block, Encoder, EncoderOptions, Model, integer};
use std::collections::HashMap;
use std::ops::Range;

/// The tokens of each word.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    words: Vec<Vec<u32>>,
}

/// Words that are read at once, and those of them whose tags count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    read: Range<usize>,
    kept: Range<usize>,
}

/// A window's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Input {
    /// With those around them.
    pub(super) ids: Vec<u32>,
    /// The first token of each word that is kept.
    pub(super) places: Vec<u32>,
    /// The words that are kept.
    pub(super) kept: Range<usize>,
}

impl Tokens {
    /// Encodes words with a space between two; `known` keeps the tokens of words, all with a space before them.
    pub(super) fn new(
        text: &str,
        known: &mut HashMap<String, Vec<u32>>,
        encode: impl Fn(&str) -> Result<Vec<u32>>,
    ) -> Result<Self> {
        let mut words = Vec::new();
        for (index, word) in text.split(' ').enumerate() {
            let ids = match (index, known.get(word)) {
                (0, _) => encode(word)?,
                (_, Some(ids)) => ids.clone(),
                (_, None) => {
                    let ids = encode(&format!(" {word}"))?;
                    known.insert(word.to_owned(), ids.clone());
                    ids
                }
            };
            ensure!(!ids.is_empty(), "the word {word:?} has no token");
            words.push(ids);
        }
        Ok(Self { words })
    }

    /// Windows of up to `room` tokens, each of which begins in the middle of the one before; a word's tag is taken from
    /// where more of its neighbours are read.
    fn windows(&self, room: usize) -> Result<Vec<Window>> {
        let len = self.words.len();
        let mut out: Vec<Window> = Vec::new();
        let mut first = 0;
        loop {
            let mut tokens = 0;
            let fits = |ids: &&Vec<u32>| {
                tokens += ids.len();
                tokens <= room
            };
            let end = first + self.words[first..].iter().take_while(fits).count();
            ensure!(
                end > first,
                "a word has {} tokens, the model reads {room} at once",
                self.words[first].len()
            );
            let from = match out.last_mut() {
                Some(before) => {
                    before.kept.end = before.read.end.midpoint(first);
                    before.kept.end
                }
                None => 0,
            };
            out.push(Window {
                read: first..end,
                kept: from..end,
            });
            if end == len {
                return Ok(out);
            }
            first = first.midpoint(end).max(first + 1);
        }
    }

    /// The windows' tokens, of `most` with those around them.
    pub(super) fn inputs(&self, template: &Template, most: usize) -> Result<Vec<Input>> {
        let before = usize::from(template.first.is_some());
        let around = before + usize::from(template.last.is_some());
        let windows = self.windows(most.saturating_sub(around))?;
        let input = |Window { read, kept }: Window| {
            let (mut ids, mut places) = (Vec::new(), Vec::new());
            for word in read {
                if kept.contains(&word) {
                    places.push((before + ids.len()) as u32);
                }
                ids.extend(&self.words[word]);
            }
            let (ids, _) = wrap(template, ids, most);
            Input { ids, places, kept }
        };
        Ok(windows.into_iter().map(input).collect())
    }
}

/// An encoder that tags words.
pub struct Tagger<'e, 'm> {
    /// From tokens to the logits of each one's tags.
    pub logits: &'e mut dyn FnMut(&[u32]) -> Result<Vec<f32>>,
    /// Its tokenizer.
    pub tokenizer: &'e Tokenizer<'m>,
    /// What its words are.
    pub words: Words,
    /// Tokens that it reads at once.
    pub context: usize,
}

impl Tagger<'_, '_> {
    /// A text's words as the model reads them, and the logits of each one's tags.
    ///
    /// # Errors
    /// When the text has no word, or one that the tokenizer or the encoder refuses.
    pub fn tag(&mut self, text: &str) -> Result<Vec<(String, Vec<f32>)>> {
        let text = match self.words {
            Words::Plain => text.split_whitespace().collect::<Vec<_>>().join(" "),
            Words::Marks => marks::plain(text),
        };
        ensure!(!text.is_empty(), "there is no word in it");
        let tokens = Tokens::new(&text, &mut HashMap::new(), |word| {
            encode(self.tokenizer, word)
        })?;
        let mut words = text.split(' ');
        let mut out = Vec::new();
        for input in tokens.inputs(self.tokenizer.template(), self.context)? {
            let logits = (self.logits)(&input.ids)?;
            let width = logits.len() / input.ids.len();
            for (place, word) in input.places.iter().zip(&mut words) {
                let of_word = &logits[*place as usize * width..][..width];
                out.push((word.to_owned(), of_word.to_vec()));
            }
        }
        Ok(out)
    }
}

/// The logits of an encoder's tags of tokens.
///
/// # Errors
/// When it gives no tags, or refuses a token.
pub fn logits(encoder: &mut Encoder<'_>, ids: &[u32]) -> Result<Vec<f32>> {
    let run = encoder.run_tokens(ids, &[]);
    run.map_err(|error| anyhow!("{error}"))?;
    let logits = encoder.tags().map_err(|error| anyhow!("{error}"))?;
    Ok(logits.to_vec())
}

/// The same of the integer profile, in nats.
///
/// # Errors
/// As [`logits`].
pub fn integer_logits(
    model: &integer::Model<'_>,
    encoder: &mut integer::Encoder<'_>,
    ids: &[u32],
) -> Result<Vec<f32>> {
    let begun = encoder.begin_tokens(ids);
    begun.map_err(|error| anyhow!("{error}"))?;
    encoder.run().map_err(|error| anyhow!("{error}"))?;
    let logits = encoder.tags().map_err(|error| anyhow!("{error}"))?;
    Ok(nats(logits, model.logit_bits()))
}

/// The tags that an encoder finds for the words of each sentence, side by side on `threads` threads.
///
/// # Errors
/// When the model gives no tags, or a word is not what it reads.
pub fn tags(
    model: &Model<'_>,
    sentences: &[Sentence],
    options: &EncoderOptions,
    backend: Backend,
    threads: usize,
) -> Result<Vec<Vec<u32>>> {
    shares(sentences, threads, |sentences| {
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(options))];
        let encoder = Encoder::new(model, options, Block::bytes_mut(&mut memory), backend);
        let mut encoder = encoder.map_err(|error| anyhow!("{error}"))?;
        let mut logits = |ids: &[u32]| logits(&mut encoder, ids);
        of_sentences(sentences, model.tokenizer(), options.len, &mut logits)
    })
}

/// The same of the integer profile, up to `context` tokens at once.
///
/// # Errors
/// As [`tags`].
pub fn integer_tags(
    model: &integer::Model<'_>,
    sentences: &[Sentence],
    context: usize,
    backend: Backend,
    threads: usize,
) -> Result<Vec<Vec<u32>>> {
    shares(sentences, threads, |sentences| {
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(context))];
        let memory = Block::bytes_mut(&mut memory);
        let encoder = integer::Encoder::new(model, context, memory, backend);
        let mut encoder = encoder.map_err(|error| anyhow!("{error}"))?;
        let mut logits = |ids: &[u32]| integer_logits(model, &mut encoder, ids);
        of_sentences(sentences, model.tokenizer(), context, &mut logits)
    })
}

/// The likeliest tag of each word of some sentences, which are as the model reads them.
fn of_sentences(
    sentences: &[Sentence],
    tokenizer: &Tokenizer<'_>,
    context: usize,
    logits: &mut dyn FnMut(&[u32]) -> Result<Vec<f32>>,
) -> Result<Vec<Vec<u32>>> {
    let mut tagger = Tagger {
        logits,
        tokenizer,
        words: Words::Plain,
        context,
    };
    let tags = |sentence: &Sentence| {
        let words = tagger.tag(&sentence.text)?;
        let likeliest = |(_, logits): &(String, Vec<f32>)| highest(logits) as u32;
        Ok(words.iter().map(likeliest).collect())
    };
    sentences.iter().map(tags).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_kept_once_in_the_middle() {
        let of = |lens: &[usize]| Tokens {
            words: lens.iter().map(|len| vec![7; *len]).collect(),
        };
        let tokens = of(&[1, 2, 1, 1, 3, 1, 1, 1, 2, 1]);
        for room in 3..=14 {
            let windows = tokens.windows(room).unwrap();
            let mut next = 0;
            for window in &windows {
                assert_eq!(window.kept.start, next, "{windows:?}");
                assert!(
                    window.read.start <= window.kept.start && window.kept.end <= window.read.end
                );
                let len: usize = tokens.words[window.read.clone()].iter().map(Vec::len).sum();
                assert!(len <= room);
                next = window.kept.end;
            }
            assert_eq!(next, 10, "{windows:?}");
        }
        assert_eq!(tokens.windows(14).unwrap().len(), 1);
        let error = tokens.windows(2).unwrap_err().to_string();
        assert!(error.contains("3 tokens"), "{error}");
        let template = Template {
            first: Some(1),
            last: Some(2),
            ..Template::NONE
        };
        let inputs = of(&[2, 1]).inputs(&template, 5).unwrap();
        let want = Input {
            ids: vec![1, 7, 7, 7, 2],
            places: vec![1, 3],
            kept: 0..2,
        };
        assert_eq!(inputs, [want]);
    }
}
