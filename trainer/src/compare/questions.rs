//! Finding answers: recurrent networks, and words alone, the sentence that shares most with the question and of it what
//! stands nearest to the shared words (the sliding window with distance of Richardson et al. 2013, over spans as Rajpurkar
//! et al. 2016).

use super::{Recurrent, Row, Subject, Table, headings, thirds};
use crate::batches::Batch;
use crate::parallel;
use crate::questions::{ANSWER_TOKENS, Agreement, Question, Questions, Reader, answers};
use crate::shares::shares;
use crate::texts::Wrapped;
use crate::vocabulary::Vocabulary;
use anyhow::{Context, Result, anyhow};
use attentive::kernels::Backend;
use attentive::{Block, EncoderOptions, Model};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;

pub(super) fn table(subject: &Subject, questions: &Questions, stop: &AtomicBool) -> Result<Table> {
    let source = &subject.source;
    let test = &questions.test;
    let vocabulary = source.vocabulary.as_ref().context("a tokenizer")?;
    let lens: Result<Vec<usize>> = test
        .iter()
        .map(|question| Ok(vocabulary.encode(&question.passage)?.len()))
        .collect();
    let lens = lens?;
    let parts = thirds(&lens);
    let measured = |row: Row, given: &[String]| {
        let of = |part: &Vec<usize>| {
            let given: Vec<String> = part.iter().map(|index| given[*index].clone()).collect();
            let asked: Vec<Question> = part.iter().map(|index| test[*index].clone()).collect();
            100.0 * Agreement::of(&given, &asked).f1
        };
        let all = Agreement::of(given, test);
        Row {
            figure: 100.0 * all.f1,
            also: Some(100.0 * all.exact),
            thirds: Some([0, 1, 2].map(|third| of(&parts[third]))),
            ..row
        }
    };
    let nearest: Vec<String> = test.iter().map(nearest).collect();
    let mut rows = vec![measured(
        Row::new("nearest to the question's words", 0),
        &nearest,
    )];
    for (row, rival) in subject.rivals(&source.prepared()?, stop)? {
        let given = read(&rival, test, vocabulary, source.context())?;
        rows.push(measured(row, &given));
    }
    for (row, file) in subject.files()? {
        let model = Model::parse(Block::bytes(&file)).map_err(|error| anyhow!("{error}"))?;
        let options = EncoderOptions::new(source.context());
        let (backend, threads) = (Backend::detect(), parallel::threads());
        let given = answers(&model, test, &options, backend, threads)?;
        rows.push(measured(row, &given));
    }
    Ok(Table {
        about: format!(
            "{} training questions, {} test questions about other passages",
            questions.train.len(),
            test.len()
        ),
        unit: "F1 over words, %",
        also: Some("exact match, %"),
        thirds: Some(headings(&lens, &parts)),
        rows,
    })
}

/// A recurrent network's answers.
fn read(
    model: &Recurrent,
    questions: &[Question],
    vocabulary: &Vocabulary,
    context: usize,
) -> Result<Vec<String>> {
    let tokenizer = vocabulary.of_core()?;
    let reader = Reader {
        template: *tokenizer.template(),
        context,
        most: ANSWER_TOKENS,
    };
    shares(questions, parallel::threads(), |questions| {
        let network = model.network(Backend::detect(), false);
        let logits = |wrapped: &Wrapped| {
            let rows = network.rows(&Batch::of(&wrapped.ids, wrapped.ids.len())?)?;
            let both = |row: &Vec<f32>| row.first_chunk().copied();
            let logits: Option<_> = rows.iter().map(both).collect();
            logits.context("a network that finds answers")
        };
        let answer = |question: &Question| {
            let text = reader.text(&tokenizer, question, logits);
            text.map(str::to_owned)
        };
        questions.iter().map(answer).collect()
    })
}

/// Words of the longest answer.
const WORDS_MAX: usize = 4;

/// Words that tell nothing about what a text is about.
const COMMON: [&str; 46] = [
    "a", "an", "the", "of", "to", "in", "on", "at", "by", "for", "with", "from", "and", "or",
    "but", "as", "that", "which", "who", "whom", "whose", "what", "when", "where", "why", "how",
    "is", "are", "was", "were", "be", "been", "do", "does", "did", "has", "have", "had", "he",
    "she", "it", "his", "her", "their", "its", "they",
];

/// The span of some words that stands nearest to those of the question, of the sentence that shares most with it.
fn nearest(question: &Question) -> String {
    let sentences: Vec<Vec<&str>> = question
        .passage
        .split_inclusive(['.', '!', '?', '\n'])
        .map(|sentence| sentence.split_whitespace().collect())
        .collect();
    // A word is worth the more, the fewer sentences have it.
    let mut having: HashMap<String, f64> = HashMap::new();
    for sentence in &sentences {
        let words: HashSet<String> = sentence.iter().map(|word| plain(word)).collect();
        for word in words {
            *having.entry(word).or_default() += 1.0;
        }
    }
    let asked: HashSet<String> = question.text.split_whitespace().map(plain).collect();
    let worth = |word: &str| {
        let word = plain(word);
        let counts = asked.contains(&word) && !COMMON.contains(&word.as_str());
        let having = having.get(&word).filter(|_| counts);
        having.map_or(0.0, |count| (1.0 + 1.0 / count).ln())
    };
    let shared = |sentence: &[&str]| sentence.iter().map(|word| worth(word)).sum::<f64>();
    let mut best = (0.0, String::new());
    let mut most: Option<(f64, &Vec<&str>)> = None;
    for sentence in &sentences {
        let shared = shared(sentence);
        if most.is_none_or(|(other, _)| shared > other) {
            most = Some((shared, sentence));
        }
    }
    let sentence = most.map_or(&[][..], |(_, sentence)| sentence);
    let is_end = |word: &str| COMMON.contains(&plain(word).as_str());
    for first in 0..sentence.len() {
        for len in 1..=WORDS_MAX.min(sentence.len() - first) {
            let span = &sentence[first..first + len];
            let asked = span.iter().any(|word| worth(word) > 0.0);
            if asked || is_end(span[0]) || is_end(span[len - 1]) {
                continue;
            }
            let near = sentence.iter().enumerate().map(|(at, word)| {
                let from = first
                    .saturating_sub(at)
                    .max((at + 1).saturating_sub(first + len));
                worth(word) / (1.0 + from as f64)
            });
            let near: f64 = near.sum();
            if best.1.is_empty() || near > best.0 {
                best = (near, span.join(" "));
            }
        }
    }
    best.1
}

/// Without case and marks.
fn plain(word: &str) -> String {
    let letters = word.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_words_are_taken() {
        let ask = |text: &str| {
            nearest(&Question {
                text: text.into(),
                answers: Vec::new(),
                passage: "Anna lived by the sea. The horse of Karl was stolen by Peter. Rain fell."
                    .into(),
                at: 0..0,
            })
        };
        assert_eq!(ask("Who had stolen the horse?"), "Karl");
        assert_eq!(ask("Where was it that Anna lived?"), "sea.");
    }
}
