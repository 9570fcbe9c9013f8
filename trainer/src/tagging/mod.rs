//! Words and a tag for each: loading them, what is held out, and how a model tags a text.

mod deck;
pub mod marks;
mod read;
mod score;

use crate::corpus;
use crate::examples::split;
use crate::task::Data;
use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub use deck::EncodedTags;
pub use read::{Tagger, integer_logits, integer_tags, logits, tags};
pub use score::Tagging;

/// The tag of a word that has none.
pub const OUTSIDE: &str = "O";

/// Texts whose marks and capitals are taken off, for an encoder to put them back.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// Directory of `.txt` files, one document each.
    pub texts: PathBuf,
    /// Words that are read at once.
    pub words: usize,
}

/// What a weights file says of the words that its model tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Words {
    /// As they stand between spaces.
    Plain,
    /// Without marks and capitals, which the tags are.
    Marks,
}

/// Words, and the tag of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// The words, with a space between two.
    pub text: String,
    /// Places of the tags' names.
    pub tags: Vec<u32>,
}

/// Sentences in three parts.
#[derive(Clone, Debug)]
pub struct Tagged {
    /// Names of the tags.
    pub labels: Vec<String>,
    /// What the model learns from.
    pub train: Vec<Sentence>,
    /// What decides when to stop.
    pub validation: Vec<Sentence>,
    /// What no training sees.
    pub test: Vec<Sentence>,
}

/// Words with the names of their tags.
type Named = Vec<(String, String)>;

impl Tagged {
    /// Reads a file of words and tags, after CoNLL: a word first in each line, its tag last, an empty line between sentences.
    /// Of equal sentences the first counts.
    ///
    /// # Errors
    /// When it cannot be read or holds something else, or its tags are not as many as the model's.
    pub fn load(path: &Path, data: &Data, tags: usize) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading the tagged words in {}", path.display()))?;
        let sentences = conll(&text).with_context(|| path.display().to_string())?;
        let mut seen = HashSet::new();
        let words = |sentence: &Named| -> Vec<String> {
            sentence.iter().map(|(word, _)| word.clone()).collect()
        };
        let distinct = sentences.into_iter();
        let distinct = distinct.filter(|sentence| seen.insert(words(sentence)));
        let parts = split(distinct.collect(), data)?;
        Self::new(parts, tags).with_context(|| path.display().to_string())
    }

    /// Takes marks and capitals off a task's texts, of which whole chapters are held out.
    ///
    /// # Errors
    /// When they cannot be read or are too short to be split, or the tags are not as many as the model's.
    pub fn of_marks(marks: &Marks, data: &Data, tags: usize) -> Result<Self> {
        let mut parts: [Vec<Named>; 3] = Default::default();
        for document in corpus::load(&marks.texts)? {
            let of = document.split(data.validation_share, data.test_share)?;
            for (part, text) in parts.iter_mut().zip([of.train, of.validation, of.test]) {
                let words = marks::taken(&text);
                part.extend(words.chunks(marks.words).map(<[_]>::to_vec));
            }
        }
        Self::new(parts, tags).with_context(|| marks.texts.display().to_string())
    }

    fn new(parts: [Vec<Named>; 3], tags: usize) -> Result<Self> {
        let words = || parts.iter().flatten().flatten();
        let mut labels: Vec<String> = words().map(|(_, tag)| tag.clone()).collect();
        labels.sort();
        labels.dedup();
        ensure!(
            labels.len() == tags,
            "the words have {} tags, the model has {tags}: {}",
            labels.len(),
            labels.join(" ")
        );
        let place = |tag: &String| {
            let place = labels.binary_search(tag);
            place.map_or(0, |place| place as u32)
        };
        let sentence = |words: Named| Sentence {
            tags: words.iter().map(|(_, tag)| place(tag)).collect(),
            text: words
                .into_iter()
                .map(|(word, _)| word)
                .collect::<Vec<_>>()
                .join(" "),
        };
        let [train, validation, test] =
            parts.map(|part| part.into_iter().map(sentence).collect::<Vec<_>>());
        Ok(Self {
            train,
            validation,
            test,
            labels,
        })
    }
}

/// Sentences of a file after CoNLL.
fn conll(text: &str) -> Result<Vec<Named>> {
    let mut sentences = vec![Named::new()];
    for (index, line) in text.lines().enumerate() {
        let mut columns = line.split_whitespace();
        let Some(word) = columns.next() else {
            sentences.push(Named::new());
            continue;
        };
        if word == "-DOCSTART-" {
            continue;
        }
        let tag = columns.next_back().ok_or_else(|| {
            anyhow!(
                "line {}: a word and its tag should stand here, with a space between them, not only {word:?}",
                index + 1
            )
        })?;
        if let Some(sentence) = sentences.last_mut() {
            sentence.push((word.to_owned(), tag.to_owned()));
        }
    }
    sentences.retain(|sentence| !sentence.is_empty());
    ensure!(!sentences.is_empty(), "there is no tagged word in it");
    Ok(sentences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_word_and_a_tag_in_each_line() {
        let text = "-DOCSTART- -X- O\n\nAnna NNP B-PER\nsings VBZ O\n\n\nno\tO\n";
        let named = |words: &[(&str, &str)]| -> Named {
            let words = words.iter();
            words
                .map(|(word, tag)| ((*word).into(), (*tag).into()))
                .collect()
        };
        let want = [
            named(&[("Anna", "B-PER"), ("sings", "O")]),
            named(&[("no", "O")]),
        ];
        assert_eq!(conll(text).unwrap(), want);
        let error = format!("{:#}", conll("Anna O\nsings\n").unwrap_err());
        assert!(
            error.contains("line 2") && error.contains("\"sings\""),
            "{error}"
        );
        assert!(conll("\n\n").is_err());
    }
}
