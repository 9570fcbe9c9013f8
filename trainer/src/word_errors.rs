//! How many words of a text were heard wrong.

use std::iter::Sum;

/// Words that were said, and what it takes to make them of those that were heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WordErrors {
    /// Words exchanged, left out and put in, of the shortest way.
    pub errors: usize,
    /// Words that were said.
    pub words: usize,
}

impl WordErrors {
    /// Of one text; case and punctuation count for nothing.
    pub fn of(heard: &str, said: &str) -> Self {
        let (heard, said) = (words(heard), words(said));
        Self {
            errors: strsim::generic_levenshtein(&heard, &said),
            words: said.len(),
        }
    }

    /// The word error rate, which is more than 1 where more is heard than said.
    pub fn rate(&self) -> f64 {
        self.errors as f64 / self.words.max(1) as f64
    }
}

impl Sum for WordErrors {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, each| Self {
            errors: sum.errors + each.errors,
            words: sum.words + each.words,
        })
    }
}

/// Of letters, digits and apostrophes, in lower case.
fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace('\u{2019}', "'");
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
    let words = words.map(|word| word.trim_matches('\''));
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::WordErrors;

    #[test]
    fn words_are_compared() {
        let of = |heard, said| {
            let errors = WordErrors::of(heard, said);
            (errors.errors, errors.words)
        };
        assert_eq!(of("It's  HERE, now.", "it\u{2019}s here now"), (0, 3));
        assert_eq!(of("one two four", "one two three four"), (1, 4));
        assert_eq!(of("one too three and four", "one two three four"), (2, 4));
        assert_eq!(of("", "one two"), (2, 2));
        assert_eq!(of("one", ""), (1, 0));
        assert_eq!(of("'quoted' 1813", "quoted 1813"), (0, 2));
        let all: WordErrors = [WordErrors::of("a", "b"), WordErrors::of("a b c", "a b c")]
            .into_iter()
            .sum();
        assert_eq!(all.rate(), 0.25);
    }
}
