//! Tagging words: always the most frequent tag, a table of words and their neighbours, recurrent networks.

use super::{Row, Subject, Table, rival};
use crate::loss::highest;
use crate::parallel;
use crate::tagging::{EncodedTags, Sentence, Tagged, Tagging, tags};
use anyhow::{Context, Result, anyhow};
use attentive::kernels::Backend;
use attentive::{Block, EncoderOptions, Model};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::AtomicBool;

pub(super) fn table(subject: &Subject, tagged: &Tagged, stop: &AtomicBool) -> Result<Table> {
    let source = &subject.source;
    let (task, test) = (&source.task, &tagged.test);
    let prepared = source.prepared()?;
    let vocabulary = source.vocabulary.as_ref();
    let vocabulary = vocabulary.context("words need a tokenizer")?;
    let measured = |row: Row, found: &[Vec<u32>]| {
        let tagging = Tagging::of(found, test, &tagged.labels);
        Row {
            figure: 100.0 * tagging.f1,
            also: Some(100.0 * tagging.accuracy),
            ..row
        }
    };
    let around = Around::new(&tagged.train);
    let always = |sentence: &Sentence| vec![around.always; sentence.tags.len()];
    let mut rows = vec![measured(
        Row::new("most frequent tag", 0),
        &test.iter().map(always).collect::<Vec<_>>(),
    )];
    rows.push(measured(
        Row::new("table of a word and its neighbours", around.len()),
        &test
            .iter()
            .map(|sentence| around.tags(sentence))
            .collect::<Vec<_>>(),
    ));
    let batches = EncodedTags::new(task, test, vocabulary)?.batches(task.training.micro_batch);
    for (row, rival) in subject.rivals(&prepared, stop)? {
        let found = rival::rows(&rival, &batches)?;
        let mut found = found.iter().flatten().map(|row| highest(row) as u32);
        let of = |sentence: &Sentence| found.by_ref().take(sentence.tags.len()).collect();
        let found: Vec<Vec<u32>> = test.iter().map(of).collect();
        rows.push(measured(row, &found));
    }
    for (row, file) in subject.files()? {
        let model = Model::parse(Block::bytes(&file)).map_err(|error| anyhow!("{error}"))?;
        let options = EncoderOptions::new(source.context());
        let (backend, threads) = (Backend::detect(), parallel::threads());
        rows.push(measured(
            row,
            &tags(&model, test, &options, backend, threads)?,
        ));
    }
    let words = |sentences: &[Sentence]| -> usize {
        sentences.iter().map(|sentence| sentence.tags.len()).sum()
    };
    Ok(Table {
        about: format!(
            "{} training words, {} test words, {} tags",
            words(&tagged.train),
            words(test),
            tagged.labels.len()
        ),
        unit: "F1, %",
        also: Some("words right, %"),
        thirds: None,
        rows,
    })
}

/// How often a tag was seen with what.
type Seen<K> = HashMap<K, HashMap<u32, u32>>;

/// The tag that a word had most often between the same neighbours; where these were not seen, before the same word; else
/// alone; else the most frequent one.
struct Around<'a> {
    both: Seen<[&'a str; 3]>,
    after: Seen<[&'a str; 2]>,
    alone: Seen<&'a str>,
    always: u32,
}

impl<'a> Around<'a> {
    fn new(sentences: &'a [Sentence]) -> Self {
        let mut all = HashMap::new();
        let mut table = Self {
            both: HashMap::new(),
            after: HashMap::new(),
            alone: HashMap::new(),
            always: 0,
        };
        for sentence in sentences {
            for ([before, word, next], tag) in neighbours(&sentence.text).zip(&sentence.tags) {
                count(&mut table.both, [before, word, next], *tag);
                count(&mut table.after, [word, next], *tag);
                count(&mut table.alone, word, *tag);
                count(&mut all, (), *tag);
            }
        }
        table.always = most(&all, &()).unwrap_or(0);
        table
    }

    /// Entries.
    fn len(&self) -> u64 {
        fn of<K>(seen: &Seen<K>) -> u64 {
            seen.values().map(|tags| tags.len() as u64).sum()
        }
        of(&self.both) + of(&self.after) + of(&self.alone)
    }

    fn tags(&self, sentence: &Sentence) -> Vec<u32> {
        let tag = |[before, word, next]: [&str; 3]| {
            most(&self.both, &[before, word, next])
                .or_else(|| most(&self.after, &[word, next]))
                .or_else(|| most(&self.alone, &word))
                .unwrap_or(self.always)
        };
        neighbours(&sentence.text).map(tag).collect()
    }
}

fn count<K: Hash + Eq>(seen: &mut Seen<K>, key: K, tag: u32) {
    *seen.entry(key).or_default().entry(tag).or_default() += 1;
}

/// The most frequent tag, of equals the first.
fn most<K: Hash + Eq>(seen: &Seen<K>, key: &K) -> Option<u32> {
    let tags = seen.get(key)?.iter();
    tags.max_by_key(|(tag, count)| (**count, u32::MAX - **tag))
        .map(|(tag, _)| *tag)
}

/// Each word between the one before and the one after; nothing at the ends.
fn neighbours(text: &str) -> impl Iterator<Item = [&str; 3]> {
    let mut before = "";
    let mut words = text.split(' ').peekable();
    std::iter::from_fn(move || {
        let word = words.next()?;
        let next = words.peek().copied().unwrap_or_default();
        Some([std::mem::replace(&mut before, word), word, next])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_neighbours_decide() {
        let sentence = |text: &str, tags: &[u32]| Sentence {
            text: text.into(),
            tags: tags.to_vec(),
        };
        let seen = [
            sentence("a b c", &[0, 1, 0]),
            sentence("d b c", &[0, 2, 0]),
            sentence("e b c", &[0, 2, 0]),
            sentence("f b g", &[0, 3, 0]),
            sentence("h b i", &[0, 3, 0]),
            sentence("j b k", &[0, 3, 0]),
        ];
        let around = Around::new(&seen);
        let tag = |text: &str| around.tags(&sentence(text, &[0; 3]))[1];
        assert_eq!(tag("a b c"), 1, "both");
        assert_eq!(tag("x b c"), 2, "the one after");
        assert_eq!(tag("x b x"), 3, "alone");
        assert_eq!(tag("x x x"), 0, "the most frequent of all");
        assert_eq!(around.len(), 16 + 15 + 13, "of three words, of two, of one");
    }
}
