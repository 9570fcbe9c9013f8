//! Translating: the source as it is, word by word, recurrent networks.

use super::recurrent::{Recurrent, Writer};
use super::words::Words;
use super::{Row, Subject, Table, headings, thirds};
use crate::pairs::{Pair, Pairs};
use crate::parallel;
use crate::translation::{Search, bleu, chrf, translations};
use crate::vocabulary::Vocabulary;
use anyhow::{Context, Result, anyhow};
use attentive::kernels::Backend;
use attentive::{Block, Model};
use std::sync::atomic::AtomicBool;

pub(super) fn table(subject: &Subject, pairs: &Pairs, stop: &AtomicBool) -> Result<Table> {
    let source = &subject.source;
    let (task, test) = (&source.task, &pairs.test);
    let prepared = source.prepared()?;
    let vocabulary = source.vocabulary.as_ref();
    let vocabulary = vocabulary.context("pairs have a tokenizer")?;
    let sources: Result<Vec<Vec<u32>>> = test
        .iter()
        .map(|pair| vocabulary.encode(&pair.source))
        .collect();
    let sources = sources?;
    let lens: Vec<usize> = sources.iter().map(Vec::len).collect();
    let parts = thirds(&lens);
    let measured = |row: Row, made: &[String]| {
        let both = |index: &usize| (made[*index].as_str(), test[*index].target.as_str());
        let of = |part: &Vec<usize>| chrf(part.iter().map(both));
        let all = (0..test.len()).collect();
        Row {
            figure: of(&all),
            also: Some(bleu(all.iter().map(both))),
            thirds: Some([0, 1, 2].map(|third| of(&parts[third]))),
            ..row
        }
    };
    let each = |translate: &dyn Fn(&Pair) -> String| -> Vec<String> {
        test.iter().map(translate).collect()
    };
    let mut rows = vec![measured(
        Row::new("the source as it is", 0),
        &each(&|pair| pair.source.clone()),
    )];
    let words = Words::new(&pairs.train);
    rows.push(measured(
        Row::new("word by word (IBM model 1)", words.len()),
        &each(&|pair| words.translate(&pair.source)),
    ));
    for (row, rival) in subject.rivals(&prepared, stop)? {
        let most = task.model.context_len;
        let made = write(&rival, &sources, vocabulary, most)?;
        rows.push(measured(row, &made));
    }
    for (row, file) in subject.files()? {
        let model = Model::parse(Block::bytes(&file)).map_err(|error| anyhow!("{error}"))?;
        let (backend, threads) = (Backend::detect(), parallel::threads());
        let made = translations(&model, test, Search::GREEDY, backend, threads)?;
        rows.push(measured(row, &made));
    }
    Ok(Table {
        about: format!(
            "{} training pairs, {} test pairs",
            pairs.train.len(),
            test.len()
        ),
        unit: "chrF",
        also: Some("BLEU"),
        thirds: Some(headings(&lens, &parts)),
        rows,
    })
}

fn write(
    model: &Recurrent,
    sources: &[Vec<u32>],
    vocabulary: &Vocabulary,
    most: usize,
) -> Result<Vec<String>> {
    let mut writer = Writer::new(model).context("a network that writes")?;
    let mut out = Vec::new();
    for source in sources {
        let tokens = writer.write(source, vocabulary.need_end_of_text()?, most);
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|token| &vocabulary.pieces()[*token as usize])
            .copied()
            .collect();
        out.push(String::from_utf8_lossy(&bytes).trim().to_owned());
    }
    Ok(out)
}
