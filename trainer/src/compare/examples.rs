//! Telling examples apart: always the most frequent class, logistic regression, recurrent networks.

use super::{Row, Subject, Table, headings, linear, rival, thirds};
use crate::eval::{self, Accuracy};
use crate::examples::{Encoded, Example, Examples, Thing};
use crate::frontend::Frontend;
use crate::loss::highest;
use crate::parallel;
use anyhow::{Result, anyhow};
use attentive::kernels::Backend;
use attentive::{Block, EncoderOptions, Model};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

pub(super) fn table(subject: &Subject, examples: &Examples, stop: &AtomicBool) -> Result<Table> {
    let source = &subject.source;
    let (task, test) = (&source.task, &examples.test);
    let prepared = source.prepared()?;
    let vocabulary = source.vocabulary.as_ref();
    // Only texts differ in length.
    let lens: Option<Result<Vec<usize>>> = vocabulary.map(|vocabulary| {
        let len = |example: &Example| match &example.thing {
            Thing::Text(text) => Ok(vocabulary.encode(text)?.len()),
            _ => Ok(0),
        };
        test.iter().map(len).collect()
    });
    let lens = lens.transpose()?;
    let parts = lens.as_deref().map(thirds);
    let measured = |row: Row, found: &[u32]| {
        let of = |part: &Vec<usize>| {
            let found: Vec<u32> = part.iter().map(|index| found[*index]).collect();
            let examples: Vec<Example> = part.iter().map(|index| test[*index].clone()).collect();
            100.0 * Accuracy::of(&found, &examples).share()
        };
        Row {
            figure: 100.0 * Accuracy::of(found, test).share(),
            thirds: parts
                .as_ref()
                .map(|parts| [0, 1, 2].map(|third| of(&parts[third]))),
            ..row
        }
    };
    let mut rows = vec![measured(
        Row::new("most frequent class", 0),
        &vec![majority(examples); test.len()],
    )];
    let frontend = Frontend::of(task);
    let (row, found) = linear::fit(examples, frontend, task.training.seed)?;
    rows.push(measured(row, &found));
    let encoded = Encoded::new(task, test, vocabulary)?;
    let batches = encoded.batches(task.training.micro_batch)?;
    for (row, rival) in subject.rivals(&prepared, stop)? {
        let found = rival::rows(&rival, &batches)?;
        let found: Vec<u32> = found
            .iter()
            .flatten()
            .map(|row| highest(row) as u32)
            .collect();
        rows.push(measured(row, &found));
    }
    for (row, file) in subject.files()? {
        let model = Model::parse(Block::bytes(&file)).map_err(|error| anyhow!("{error}"))?;
        let options = EncoderOptions::new(source.context());
        let (backend, threads) = (Backend::detect(), parallel::threads());
        let found = eval::classes(&model, test, frontend, &options, backend, threads)?;
        rows.push(measured(row, &found));
    }
    Ok(Table {
        about: format!(
            "{} training examples, {} test examples, {} classes",
            examples.train.len(),
            test.len(),
            examples.labels.len()
        ),
        unit: "right, %",
        also: None,
        thirds: lens
            .as_deref()
            .zip(parts.as_ref())
            .map(|(lens, parts)| headings(lens, parts)),
        rows,
    })
}

/// The class that most training examples have.
fn majority(examples: &Examples) -> u32 {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for example in &examples.train {
        *counts.entry(example.class).or_default() += 1;
    }
    let best = counts
        .iter()
        .max_by_key(|(class, count)| (**count, **class));
    best.map_or(0, |(class, _)| *class)
}
