//! Other ways to do a task, so that a figure says something: simple ones, and recurrent networks with as many parameters,
//! trained on the same batches for as many steps.

mod alike;
mod examples;
mod linear;
mod ngrams;
mod pairs;
mod questions;
mod recurrent;
mod rival;
mod tags;
mod texts;
mod words;

use crate::ops::Cell;
use crate::package::Formats;
use crate::prepared::{Corpus, Prepared};
use crate::produce::{INT4, INT8, Source};
use crate::train::Run;
use anyhow::Result;
use attentive::Block;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

pub use recurrent::Recurrent;

/// A comparison.
#[derive(Clone, Debug)]
pub struct Table {
    /// What is compared, on how much.
    pub about: String,
    /// What the figures are.
    pub unit: &'static str,
    /// What [`Row::also`] is.
    pub also: Option<&'static str>,
    /// What the three parts of the test are.
    pub thirds: Option<[String; 3]>,
    /// Simple ways first, the model last.
    pub rows: Vec<Row>,
}

/// A line of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// Trained numbers, or entries of a table.
    pub parameters: u64,
    /// Seconds of an epoch, measuring included; `None` for what is not trained by epochs.
    pub seconds_per_epoch: Option<f64>,
    /// On the test part.
    pub figure: f64,
    /// Another measure on the test part.
    pub also: Option<f64>,
    /// On its thirds.
    pub thirds: Option<[f64; 3]>,
}

impl Row {
    fn new(name: impl Into<String>, parameters: u64) -> Self {
        Self {
            name: name.into(),
            parameters,
            seconds_per_epoch: None,
            figure: 0.0,
            also: None,
            thirds: None,
        }
    }
}

/// Compares a run's best weights, as floats and as integers, with simpler ways and with recurrent networks.
///
/// # Errors
/// Those of the forward pass, when a loss is no longer a number, and when `stop` is set.
pub fn table(run: Run, stop: &AtomicBool) -> Result<Table> {
    let subject = Subject {
        out: run.out.clone(),
        steps: run.state.position.step,
        seconds: run.state.position.seconds,
        source: Source::of_run(run)?,
    };
    match &subject.source.corpus {
        Corpus::Labelled(examples) => examples::table(&subject, examples, stop),
        Corpus::Pairs(pairs) => pairs::table(&subject, pairs, stop),
        Corpus::Alike(pairs) => alike::table(&subject, pairs, stop),
        Corpus::Questions(questions) => questions::table(&subject, questions, stop),
        Corpus::Tagged(tagged) => tags::table(&subject, tagged, stop),
        Corpus::Text(parts) => texts::table(&subject, parts, stop),
    }
}

/// What is compared with the others.
struct Subject {
    /// Directory of its run, where the others' checkpoints lie too.
    out: PathBuf,
    steps: u64,
    seconds: f64,
    source: Source,
}

impl Subject {
    /// The model as floats and as integers: names, files, and what is known of them already.
    fn files(&self) -> Result<Vec<(Row, Vec<Block>)>> {
        let source = &self.source;
        let prepared = source.prepared()?;
        let importance = source.importance(&prepared)?;
        let parameters = source.params.config.parameters();
        let per_epoch = prepared.samples(&source.task.training, 0)?.per_epoch();
        let sequences = self.steps as f64 * source.task.training.batch as f64;
        let mut out = Vec::new();
        for (name, formats) in [("f32", Formats::F32), ("int8", INT8), ("int4", INT4)] {
            let mut row = Row::new(format!("attention, {name}"), parameters);
            if name == "f32" {
                row.seconds_per_epoch = Some(self.seconds * per_epoch as f64 / sequences.max(1.0));
            }
            out.push((row, source.draft(formats, &importance)?));
        }
        Ok(out)
    }

    /// Recurrent networks with as many parameters, trained as the model was: names, and they.
    fn rivals(&self, prepared: &Prepared, stop: &AtomicBool) -> Result<Vec<(Row, Recurrent)>> {
        let train = |cell| {
            let rival = rival::train(&self.source.task, cell, prepared, &self.out, stop)?;
            let row = Row {
                seconds_per_epoch: Some(rival.seconds_per_epoch),
                ..Row::new(rival.model.name(), rival.model.parameters())
            };
            Ok((row, rival.model))
        };
        [Cell::Gru, Cell::Lstm].into_iter().map(train).collect()
    }
}

/// Indices of the shortest third, the middle one, the longest.
fn thirds(lens: &[usize]) -> [Vec<usize>; 3] {
    let mut order: Vec<usize> = (0..lens.len()).collect();
    order.sort_by_key(|index| lens[*index]);
    let third = lens.len().div_ceil(3).max(1);
    let mut parts = order.chunks(third).map(<[usize]>::to_vec);
    [0, 1, 2].map(|_| parts.next().unwrap_or_default())
}

/// Their headings: up to how many tokens the first have, from how many on the last.
fn headings(lens: &[usize], thirds: &[Vec<usize>; 3]) -> [String; 3] {
    let most = |part: &Vec<usize>| part.iter().map(|index| lens[*index]).max().unwrap_or(0);
    let [short, middle, long] = [&thirds[0], &thirds[1], &thirds[2]].map(most);
    [
        format!("up to {short} tokens"),
        format!("up to {middle}"),
        format!("up to {long}"),
    ]
}
