//! chrF and BLEU of a corpus, as sacreBLEU counts them by default (Post 2018).

use regex::Regex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::LazyLock;

/// chrF2 (Popović 2015): character n-grams of up to six, spaces left out, recall twice as important as precision; 0 to
/// 100, of (translation, reference).
pub fn chrf<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> f64 {
    let mut sum = ChrF::default();
    for (translation, reference) in pairs {
        sum.add(translation, reference);
    }
    sum.score()
}

/// BLEU (Papineni et al. 2002): n-grams of up to four tokens by the rules of mteval-v13a, an order without a match
/// counted as half of the one before it; 0 to 100, of (translation, reference).
pub fn bleu<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> f64 {
    let mut sum = Bleu::default();
    for (translation, reference) in pairs {
        sum.add(translation, reference);
    }
    sum.score()
}

/// N-grams of one order.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    translation: u64,
    reference: u64,
    matches: u64,
}

/// The counts of chrF.
#[derive(Clone, Debug, Default)]
pub struct ChrF {
    orders: [Counts; 6],
}

impl ChrF {
    /// Counts a translation.
    pub fn add(&mut self, translation: &str, reference: &str) {
        let letters = |text: &str| -> Vec<char> {
            text.chars()
                .filter(|letter| !letter.is_whitespace())
                .collect()
        };
        let (translation, reference) = (letters(translation), letters(reference));
        for (counts, n) in self.orders.iter_mut().zip(1..) {
            let (have, want) = (grams(&translation, n), grams(&reference, n));
            // Without an n-gram in the reference, those of the translation say nothing.
            if !want.is_empty() {
                counts.translation += have.values().sum::<u64>();
            }
            counts.reference += want.values().sum::<u64>();
            counts.matches += matches(&have, &want);
        }
    }

    /// Of all that was counted.
    pub fn score(&self) -> f64 {
        let counted = |counts: &&Counts| counts.translation > 0 && counts.reference > 0;
        let orders = self.orders.iter().filter(counted);
        let (mut precision, mut recall, mut n) = (0.0, 0.0, 0.0);
        for counts in orders {
            precision += counts.matches as f64 / counts.translation as f64;
            recall += counts.matches as f64 / counts.reference as f64;
            n += 1.0;
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / n, recall / n);
        100.0 * 5.0 * precision * recall / (4.0 * precision + recall)
    }
}

/// The counts of BLEU.
#[derive(Clone, Debug, Default)]
pub struct Bleu {
    orders: [Counts; 4],
    tokens: [u64; 2],
}

impl Bleu {
    /// Counts a translation.
    pub fn add(&mut self, translation: &str, reference: &str) {
        let (translation, reference) = (words(translation), words(reference));
        self.tokens[0] += translation.len() as u64;
        self.tokens[1] += reference.len() as u64;
        for (counts, n) in self.orders.iter_mut().zip(1..) {
            let (have, want) = (grams(&translation, n), grams(&reference, n));
            counts.translation += have.values().sum::<u64>();
            counts.reference += want.values().sum::<u64>();
            counts.matches += matches(&have, &want);
        }
    }

    /// Of all that was counted.
    pub fn score(&self) -> f64 {
        let mut half = 1.0;
        let mut sum = 0.0;
        for counts in &self.orders {
            if counts.translation == 0 || self.orders[0].matches == 0 {
                return 0.0;
            }
            let matches = if counts.matches > 0 {
                counts.matches as f64
            } else {
                half /= 2.0;
                half
            };
            sum += (matches / counts.translation as f64).ln();
        }
        let [have, want] = self.tokens.map(|tokens| tokens as f64);
        let brevity = (1.0 - want / have).min(0.0);
        100.0 * (sum / self.orders.len() as f64 + brevity).exp()
    }
}

fn grams<T: Eq + Hash>(items: &[T], n: usize) -> HashMap<&[T], u64> {
    let mut counts = HashMap::new();
    for gram in items.windows(n) {
        *counts.entry(gram).or_default() += 1;
    }
    counts
}

fn matches<K: Eq + Hash>(have: &HashMap<K, u64>, want: &HashMap<K, u64>) -> u64 {
    let common = |(gram, count): (&K, &u64)| want.get(gram).map_or(0, |want| *want.min(count));
    have.iter().map(common).sum()
}

/// Tokens by the rules of mteval-v13a.
fn words(text: &str) -> Vec<String> {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let rule = |(pattern, by)| Some((Regex::new(pattern).ok()?, by));
        [
            // Punctuation of ASCII but the apostrophe, comma, hyphen and full stop.
            (r"([\{-~\[-` -&\(-\+:-@/])", " $1 "),
            // A full stop or comma, unless a digit stands before it, or behind it.
            (r"([^0-9])([\.,])", "$1 $2 "),
            (r"([\.,])([^0-9])", " $1 $2"),
            // A hyphen behind a digit.
            (r"([0-9])(-)", "$1 $2 "),
        ]
        .into_iter()
        .filter_map(rule)
        .collect()
    });
    let mut text = format!(" {} ", text.replace("<skipped>", ""));
    for (entity, letter) in [
        ("&quot;", "\""),
        ("&amp;", "&"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ] {
        text = text.replace(entity, letter);
    }
    for (rule, by) in &*RULES {
        text = rule.replace_all(&text, *by).into_owned();
    }
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Translation, reference, and what sacreBLEU 2.6 gives as chrF and BLEU.
    const ORACLE: [(&str, &str, f64, f64); 6] = [
        (
            "El gato está en la estera.",
            "El gato está sobre la estera.",
            66.80090523396535,
            41.11336169005196,
        ),
        (
            "La casa, que costó 1.500,25 euros-dólar, es «roja» y grande…",
            "La casa que costó 1.500,25 euros-dólares es «roja» y muy grande.",
            75.94400006990377,
            24.08856270485351,
        ),
        (
            "Y dijo: «Ven».",
            "Y les dijo: «Venid».",
            51.55564455523859,
            20.80119537801062,
        ),
        ("", "Nada.", 0.0, 0.0),
        (
            "¿Dónde está la biblioteca?",
            "¿Dónde está la biblioteca?",
            100.0,
            100.0,
        ),
        (
            "2-3 &quot;días&quot; después/antes (a+b)",
            "2-3 \"días\" antes/después (a+b)",
            48.62329013374223,
            65.45582749064344,
        ),
    ];

    #[test]
    fn scores_are_those_of_sacrebleu() {
        let all = || ORACLE.iter().map(|(have, want, ..)| (*have, *want));
        assert!((chrf(all()) - 69.14345870258116).abs() < 1e-9);
        assert!((bleu(all()) - 45.2124756709337).abs() < 1e-9);
        for (have, want, letters, words) in ORACLE {
            let one = || std::iter::once((have, want));
            assert!((chrf(one()) - letters).abs() < 1e-9, "chrF of {have:?}");
            assert!((bleu(one()) - words).abs() < 1e-9, "BLEU of {have:?}");
        }
    }
}
