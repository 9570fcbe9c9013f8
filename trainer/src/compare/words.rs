//! Translating word by word: each word by the one that most often stands for it (IBM's model 1, Brown et al. 1993), in
//! the order of the source.

use crate::pairs::Pair;
use std::collections::HashMap;

/// Rounds of expectation and maximization.
const ROUNDS: usize = 6;

/// The likeliest translation of each word.
pub(super) struct Words {
    best: HashMap<String, String>,
}

/// Words and marks; spaces are left out.
fn split(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut in_word = false;
    for letter in text.chars() {
        let is_word = letter.is_alphanumeric() || letter == '\'' || letter == '\u{2019}';
        match out.last_mut() {
            Some(word) if is_word && in_word => word.push(letter),
            _ if letter.is_whitespace() => {}
            _ => out.push(letter.to_string()),
        }
        in_word = is_word;
    }
    out
}

impl Words {
    pub(super) fn new(pairs: &[Pair]) -> Self {
        let mut names: [HashMap<String, u32>; 2] = Default::default();
        let mut number = |side: usize, word: String| {
            let next = names[side].len() as u32;
            *names[side].entry(word).or_insert(next)
        };
        let mut numbered = |side: usize, text: &str| -> Vec<u32> {
            split(text)
                .into_iter()
                .map(|word| number(side, word))
                .collect()
        };
        let texts: Vec<[Vec<u32>; 2]> = pairs
            .iter()
            .map(|pair| [numbered(0, &pair.source), numbered(1, &pair.target)])
            .collect();
        let mut share: HashMap<(u32, u32), f64> = HashMap::new();
        for round in 0..ROUNDS {
            let mut counts: HashMap<(u32, u32), f64> = HashMap::new();
            let mut sums: HashMap<u32, f64> = HashMap::new();
            for [source, target] in &texts {
                for to in target {
                    let of = |from: &u32| match round {
                        0 => 1.0,
                        _ => share.get(&(*from, *to)).copied().unwrap_or(0.0),
                    };
                    let all: f64 = source.iter().map(of).sum();
                    for from in source {
                        let part = of(from) / all.max(1e-12);
                        *counts.entry((*from, *to)).or_default() += part;
                        *sums.entry(*from).or_default() += part;
                    }
                }
            }
            share = counts
                .into_iter()
                .map(|((from, to), count)| ((from, to), count / sums[&from]))
                .collect();
        }
        let mut best: HashMap<u32, (f64, u32)> = HashMap::new();
        for ((from, to), share) in share {
            let entry = best.entry(from).or_insert((share, to));
            // Of equals the one that was seen first, whatever the order of the table.
            if share > entry.0 || share == entry.0 && to < entry.1 {
                *entry = (share, to);
            }
        }
        let names = names.map(|names| {
            let mut words: Vec<(u32, String)> = names
                .into_iter()
                .map(|(word, number)| (number, word))
                .collect();
            words.sort();
            words
        });
        let word = |side: usize, number: u32| names[side][number as usize].1.clone();
        Self {
            best: best
                .into_iter()
                .map(|(from, (_, to))| (word(0, from), word(1, to)))
                .collect(),
        }
    }

    /// Entries.
    pub(super) fn len(&self) -> u64 {
        self.best.len() as u64
    }

    /// Word by word; one that is not known stays.
    pub(super) fn translate(&self, text: &str) -> String {
        let mut out = String::new();
        for word in split(text) {
            let known = self.best.get(&word).map_or(word.as_str(), String::as_str);
            if !out.is_empty() && known.chars().next().is_some_and(char::is_alphanumeric) {
                out.push(' ');
            }
            out.push_str(known);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_by_what_stands_beside_them() {
        let pair = |source: &str, target: &str| Pair {
            source: source.into(),
            target: target.into(),
            file: 0,
        };
        let words = Words::new(&[
            pair("the house.", "la casa."),
            pair("the book.", "la obra."),
            pair("a house.", "una casa."),
            pair("a book, a house.", "una obra, una casa."),
            pair("the moon.", "la luna."),
        ]);
        assert_eq!(words.translate("the house, a moon!"), "la casa, una luna!");
        assert_eq!(words.translate("the sheep."), "la sheep.");
    }
}
