//! Questions whose answers stand in a passage: loading them, what is held out, and how a model answers.

mod deck;
mod passage;
mod score;
mod search;

use crate::examples::split;
use crate::task::Data;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub use deck::EncodedQuestions;
pub use passage::Passage;
pub use score::{Agreement, f1, is_exact};
pub use search::{ANSWER_TOKENS, Reader, answers, span_logits};

/// A question, what people answered, and where the passage says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The question.
    pub text: String,
    /// What people answered, each in their words; one of them at least stands in the passage.
    pub answers: Vec<String>,
    /// The text that holds the answer.
    pub passage: Arc<str>,
    /// Bytes of it that are the answer.
    pub at: Range<usize>,
}

/// Questions in three parts, none of which shares a passage with another.
#[derive(Clone, Debug)]
pub struct Questions {
    /// What the model learns from.
    pub train: Vec<Question>,
    /// What decides when to stop.
    pub validation: Vec<Question>,
    /// What no training sees.
    pub test: Vec<Question>,
    /// Questions of the file whose answers stand nowhere in their passages; they are left out.
    pub unanswered: usize,
}

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    question: String,
    answer: Answers,
    passage: String,
}

/// One answer or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answers {
    One(String),
    Several(Vec<String>),
}

impl Questions {
    /// Reads lines of JSON, each with a `question`, an `answer` (a text, or a list of them) and a `passage`, and splits them
    /// by passages. Of equal questions about a passage the first counts.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else, or no answer stands in a passage.
    pub fn load(path: &Path, data: &Data) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading the questions in {}", path.display()))?;
        let mut unanswered = 0;
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut passages: Vec<Vec<Question>> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line: Line = serde_json::from_str(line).with_context(|| {
                format!(
                    "{}, line {}: an object with a question, an answer and a passage should stand here",
                    path.display(),
                    index + 1
                )
            })?;
            let place = *places.entry(line.passage.clone()).or_insert(passages.len());
            if place == passages.len() {
                passages.push(Vec::new());
            }
            let answers = match line.answer {
                Answers::One(answer) => vec![answer],
                Answers::Several(answers) => answers,
            };
            let of_passage = &mut passages[place];
            let text = line.question.trim().to_owned();
            if of_passage.iter().any(|other| other.text == text) {
                continue;
            }
            let passage = match of_passage.first() {
                Some(other) => Arc::clone(&other.passage),
                None => line.passage.into(),
            };
            let found = answers
                .iter()
                .filter_map(|answer| stands_at(answer, &passage, &text))
                .min_by_key(Range::len);
            match found {
                Some(at) if !text.is_empty() => of_passage.push(Question {
                    text,
                    answers,
                    passage,
                    at,
                }),
                _ => unanswered += 1,
            }
        }
        passages.retain(|questions| !questions.is_empty());
        ensure!(
            !passages.is_empty(),
            "{} has no question whose answer stands in its passage",
            path.display()
        );
        let [train, validation, test] = split(passages, data)?.map(|part| part.concat());
        Ok(Self {
            train,
            validation,
            test,
            unanswered,
        })
    }
}

/// Bytes around an occurrence that tell whether it is what the question asks for.
const NEAR: usize = 150;

/// Where an answer stands in a passage as whole words, whatever their case: of several places the one with the most of the
/// question's words around it.
fn stands_at(answer: &str, passage: &str, question: &str) -> Option<Range<usize>> {
    let answer = answer.trim_matches(|c: char| c.is_whitespace() || c == '.');
    let (answer, text) = (answer.to_ascii_lowercase(), passage.to_ascii_lowercase());
    if answer.is_empty() {
        return None;
    }
    let question = question.to_ascii_lowercase();
    let words: Vec<&str> = question
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 3)
        .collect();
    let is_inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let whole = |at: &Range<usize>| {
        !is_inside(text[..at.start].chars().next_back())
            && !is_inside(text[at.end..].chars().next())
    };
    let near = |at: &Range<usize>| {
        let from = text.floor_char_boundary(at.start.saturating_sub(NEAR));
        let to = text.ceil_char_boundary((at.end + NEAR).min(text.len()));
        let around = &text[from..to];
        words.iter().filter(|word| around.contains(**word)).count()
    };
    let all = text.match_indices(&answer);
    all.map(|(at, _)| at..at + answer.len())
        .filter(whole)
        // Of equals the first counts.
        .min_by_key(|at| std::cmp::Reverse(near(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_where_the_question_points() {
        let passage = "Anna met Karl. Years later, in the old harbour, Karl gave the ring to Anna.";
        let at = |answer, question| {
            stands_at(answer, passage, question).map(|at| (at.start, &passage[at]))
        };
        assert_eq!(at("karl.", "Whom did Anna meet?"), Some((9, "Karl")));
        assert_eq!(at("the RING", "What was given?"), Some((58, "the ring")));
        assert_eq!(at("ring ", ""), Some((62, "ring")));
        assert_eq!(at("arl", "Who?"), None, "part of a word");
        assert_eq!(at(" . ", "Who?"), None);
        // Far enough apart, the words around decide.
        let far = format!(
            "Karl laughed. {} Then Karl stole the horse.",
            "So it went. ".repeat(30)
        );
        let found = stands_at("Karl", &far, "Who stole the horse?").expect("it stands there");
        assert!(found.start > 100);
    }
}
