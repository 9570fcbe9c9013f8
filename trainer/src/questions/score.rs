//! How well answers agree with those of people: exact match and F1 over words, as SQuAD has them (Rajpurkar et al. 2016).

use super::Question;
use std::collections::HashMap;

/// Agreement over some questions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Share of the answers that are, as words, one of those that people gave.
    pub exact: f64,
    /// Mean of the greatest F1 over words with one of them.
    pub f1: f64,
    /// Questions.
    pub questions: usize,
}

impl Agreement {
    /// Of an answer to each question.
    pub fn of(given: &[String], questions: &[Question]) -> Self {
        let count = questions.len().max(1) as f64;
        let both = || given.iter().zip(questions);
        let exact = both().filter(|(given, question)| {
            let same = |answer: &String| is_exact(given, answer);
            question.answers.iter().any(same)
        });
        let f1 = both().map(|(given, question)| {
            let of = question.answers.iter().map(|answer| f1(given, answer));
            of.fold(0.0, f64::max)
        });
        Self {
            exact: exact.count() as f64 / count,
            f1: f1.sum::<f64>() / count,
            questions: questions.len(),
        }
    }
}

/// Words without case, punctuation and articles.
fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let kept: String = lower
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    let words = kept.split_whitespace();
    words
        .filter(|word| !["a", "an", "the"].contains(word))
        .map(str::to_owned)
        .collect()
}

/// Whether both have the same words.
pub fn is_exact(given: &str, answer: &str) -> bool {
    words(given) == words(answer)
}

/// The harmonic mean of the shares of words that are in both.
pub fn f1(given: &str, answer: &str) -> f64 {
    let (given, answer) = (words(given), words(answer));
    if given.is_empty() || answer.is_empty() {
        return f64::from(u8::from(given == answer));
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in &answer {
        *left.entry(word).or_default() += 1;
    }
    let mut common = 0;
    for word in &given {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    2.0 * f64::from(common) / (given.len() + answer.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_whatever_their_case() {
        assert!(is_exact("The Ring.", "ring"));
        assert!(!is_exact("ring of gold", "ring"));
        // One of one, one of three: 2 · 1 / 4.
        assert_eq!(f1("ring", "a ring of gold"), 0.5);
        assert_eq!(f1("the", "an"), 1.0, "nothing is left of both");
        assert_eq!(f1("", "gold"), 0.0);
        assert_eq!(f1("so so", "so"), 2.0 / 3.0, "each word counts once");
    }
}
