//! Finding texts that mean the same: by the words that both have, as they are and behind a translation word by word, and by
//! the vectors of recurrent networks.

use super::words::Words;
use super::{Row, Subject, Table, rival};
use crate::alike::{EncodedAlike, Retrieval};
use crate::pairs::{Pair, Pairs};
use crate::produce::retrieval;
use anyhow::{Context, Result, anyhow};
use attentive::kernels::Backend;
use attentive::{Block, EncoderOptions, Model};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

pub(super) fn table(subject: &Subject, pairs: &Pairs, stop: &AtomicBool) -> Result<Table> {
    let source = &subject.source;
    let (task, test) = (&source.task, &pairs.test);
    let measured = |row: Row, found: Retrieval| Row {
        figure: 100.0 * found.nearest,
        also: Some(found.reciprocal_rank),
        ..row
    };
    let count = test.len() as f64;
    let mut rows = vec![Row {
        figure: 100.0 / count,
        also: Some(
            (1..=test.len())
                .map(|place| 1.0 / place as f64)
                .sum::<f64>()
                / count,
        ),
        ..Row::new("by chance", 0)
    }];
    let common = Common::new(&pairs.train);
    let of = |source: &dyn Fn(&Pair) -> String| {
        let sources: Vec<_> = test
            .iter()
            .map(|pair| common.vector(&source(pair)))
            .collect();
        let targets: Vec<_> = test
            .iter()
            .map(|pair| common.vector(&pair.target))
            .collect();
        Retrieval::of(&sources, &targets)
    };
    rows.push(measured(
        Row::new("words that both have (tf-idf)", common.len()),
        of(&|pair| pair.source.clone()),
    ));
    let words = Words::new(&pairs.train);
    rows.push(measured(
        Row::new(
            "the same, translated word by word (IBM model 1)",
            common.len() + words.len(),
        ),
        of(&|pair| words.translate(&pair.source)),
    ));
    let vocabulary = source.vocabulary.as_ref();
    let vocabulary = vocabulary.context("texts have a tokenizer")?;
    let batches = EncodedAlike::new(task, test, vocabulary)?.batches(task.training.micro_batch);
    for (row, rival) in subject.rivals(&source.prepared()?, stop)? {
        let vectors = rival::rows(&rival, &batches)?;
        let mut sides = [Vec::new(), Vec::new()];
        for (place, vector) in vectors.into_iter().flatten().enumerate() {
            sides[place % 2].push(vector);
        }
        let [sources, targets] = sides;
        rows.push(measured(row, Retrieval::of(&sources, &targets)));
    }
    for (row, file) in subject.files()? {
        let model = Model::parse(Block::bytes(&file)).map_err(|error| anyhow!("{error}"))?;
        let options = EncoderOptions::new(source.context());
        rows.push(measured(
            row,
            retrieval(&model, test, &options, Backend::detect())?,
        ));
    }
    Ok(Table {
        about: format!(
            "{} training pairs, {} test pairs, of which each source looks for its target",
            pairs.train.len(),
            test.len()
        ),
        unit: "nearest, %",
        also: Some("mean reciprocal rank"),
        thirds: None,
        rows,
    })
}

/// Words of the training part's targets, and how much one tells: the logarithm of one over the share of texts that have it.
struct Common {
    words: HashMap<String, (usize, f32)>,
}

impl Common {
    fn new(pairs: &[Pair]) -> Self {
        let mut texts: HashMap<String, usize> = HashMap::new();
        for pair in pairs {
            let mut words = words(&pair.target);
            words.sort();
            words.dedup();
            for word in words {
                *texts.entry(word).or_default() += 1;
            }
        }
        let weight = |texts: usize| (pairs.len() as f32 / texts as f32).ln();
        let mut all: Vec<(String, usize)> = texts.into_iter().collect();
        all.sort();
        let entry =
            |(place, (word, texts)): (usize, (String, usize))| (word, (place, weight(texts)));
        Self {
            words: all.into_iter().enumerate().map(entry).collect(),
        }
    }

    fn len(&self) -> u64 {
        self.words.len() as u64
    }

    /// A text's words, each by its weight.
    fn vector(&self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.0; self.words.len()];
        for word in words(text) {
            if let Some((place, weight)) = self.words.get(&word) {
                vector[*place] += weight;
            }
        }
        vector
    }
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}
