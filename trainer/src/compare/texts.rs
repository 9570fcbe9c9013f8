//! Continuing texts: how often tokens followed others, recurrent networks.

use super::ngrams::{Ngrams, ORDER};
use super::{Row, Subject, Table, rival};
use crate::batches::Batch;
use crate::corpus::Parts;
use crate::eval::{self, Score, Windows};
use crate::parallel;
use anyhow::{Context, Result, anyhow};
use attentive::kernels::Backend;
use attentive::kernels::layout::KvDtype;
use attentive::{Block, Model, SessionOptions};
use std::sync::atomic::AtomicBool;

/// Bits per byte, and by the third of a window that a token stands in, of windows side by side.
struct Scores {
    all: Score,
    thirds: [Score; 3],
}

impl Scores {
    fn row(&self, row: Row) -> Row {
        Row {
            figure: self.all.bits_per_byte(),
            thirds: Some(self.thirds.map(|score| score.bits_per_byte())),
            ..row
        }
    }
}

/// Of each batch, of each target.
type Losses = Vec<Vec<f64>>;

pub(super) fn table(subject: &Subject, parts: &[Parts], stop: &AtomicBool) -> Result<Table> {
    let source = &subject.source;
    let prepared = source.prepared()?;
    let vocabulary = source.vocabulary.as_ref();
    let vocabulary = vocabulary.context("texts have a tokenizer")?;
    let context = source.context();
    let tokens = |text: &str| -> Result<Vec<u32>> {
        let mut tokens = vec![vocabulary.need_end_of_text()?];
        tokens.extend(vocabulary.encode(text)?);
        Ok(tokens)
    };
    let train: Result<Vec<_>> = parts.iter().map(|part| tokens(&part.train)).collect();
    let test: Result<Vec<_>> = parts.iter().map(|part| tokens(&part.test)).collect();
    let (train, test) = (train?, test?);
    // −ln p of the tokens of every window, whose inputs these are.
    let scores = |losses: &dyn Fn(&[Batch]) -> Result<Losses>| -> Result<Scores> {
        let sum = |windows: Windows| -> Result<[Score; 3]> {
            let mut sums = [Score::default(); 3];
            for document in &test {
                let cut = windows.of(document.len());
                let batches: Vec<Batch> = cut
                    .iter()
                    .map(|(window, _)| Batch {
                        inputs: document[window.clone()].to_vec(),
                        targets: document[window.start + 1..=window.end].to_vec(),
                        lens: vec![window.len()],
                        ..Batch::default()
                    })
                    .collect();
                for ((losses, batch), (window, scored)) in
                    losses(&batches)?.iter().zip(&batches).zip(&cut)
                {
                    for (place, (nats, target)) in losses.iter().zip(&batch.targets).enumerate() {
                        if window.start + place + 1 >= *scored {
                            let sum = &mut sums[windows.third(place)];
                            *sum = *sum
                                + Score {
                                    nats: *nats,
                                    tokens: 1,
                                    bytes: vocabulary.pieces()[*target as usize].len(),
                                };
                        }
                    }
                }
            }
            Ok(sums)
        };
        let all = sum(Windows::halves(context))?;
        Ok(Scores {
            all: all.into_iter().sum(),
            thirds: sum(Windows::whole(context))?,
        })
    };
    let table = Ngrams::new(&train, vocabulary.len());
    let of_table = scores(&|batches| {
        let of = |batch: &Batch| {
            let mut text = batch.inputs.clone();
            text.extend(batch.targets.last());
            (1..text.len())
                .map(|at| -table.probability(&text, at).ln())
                .collect()
        };
        Ok(batches.iter().map(of).collect())
    })?;
    let name = format!("n-grams of up to {ORDER} tokens (Kneser and Ney)");
    let mut rows = vec![of_table.row(Row::new(name, table.len()))];
    for (row, rival) in subject.rivals(&prepared, stop)? {
        let of_rival = scores(&|batches| {
            let rows = rival::rows(&rival, batches)?;
            let of = |(rows, batch): (&Vec<Vec<f32>>, &Batch)| {
                let targets = rows.iter().zip(&batch.targets);
                targets
                    .map(|(row, target)| eval::loss(row, *target as usize))
                    .collect()
            };
            Ok(rows.iter().zip(batches).map(of).collect())
        })?;
        rows.push(of_rival.row(row));
    }
    let texts: Vec<&str> = parts.iter().map(|part| part.test.as_str()).collect();
    let options = SessionOptions::new(context).with_kv(KvDtype::F32);
    let (backend, threads) = (Backend::detect(), parallel::threads());
    for (row, file) in subject.files()? {
        let model = Model::parse(Block::bytes(&file)).map_err(|error| anyhow!("{error}"))?;
        let of = |windows| eval::thirds(&model, &texts, windows, &options, backend, threads);
        let all = of(Windows::halves(context))?;
        let scores = Scores {
            all: all.into_iter().sum(),
            thirds: of(Windows::whole(context))?,
        };
        rows.push(scores.row(row));
    }
    let third = context / 3;
    Ok(Table {
        about: format!(
            "{} training tokens, {} test tokens",
            train.iter().map(Vec::len).sum::<usize>(),
            test.iter().map(Vec::len).sum::<usize>()
        ),
        unit: "bits per byte",
        also: None,
        thirds: Some([
            format!("after up to {third} tokens"),
            format!("up to {}", 2 * third),
            format!("up to {context}"),
        ]),
        rows,
    })
}
