//! Pre-tokenization: where one word ends and the next begins.

use crate::tokenizer::letters::is_letter;

/// How a text is cut into words before each is encoded by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Split {
    /// GPT-2's expression (Radford et al. 2019), the default of Hugging Face's `ByteLevel`:
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Gpt2,
    /// Each number (`\p{N}`) by itself, then the expression of GPT-2 on what lies between them: SmolLM, StarCoder,
    /// Command R.
    Gpt2Digits,
}

impl Split {
    pub(crate) const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Gpt2),
            2 => Some(Self::Gpt2Digits),
            _ => None,
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Gpt2 => 1,
            Self::Gpt2Digits => 2,
        }
    }

    /// Length in bytes of the word that `text` begins with; at least one character unless `text` is empty.
    pub fn word_bytes(self, text: &str) -> usize {
        match self {
            Self::Gpt2 => gpt2(text, Numbers::InRuns),
            Self::Gpt2Digits => gpt2(text, Numbers::Single),
        }
    }
}

/// How numbers are cut out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// As words, like letters.
    InRuns,
    /// One by one, before anything else is looked at: for the rest, the text ends where a number begins.
    Single,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Letter,
    Number,
    Symbol,
}

fn class(c: char) -> Class {
    if c.is_whitespace() {
        Class::Space
    } else if c.is_numeric() {
        Class::Number
    } else if is_letter(c) {
        Class::Letter
    } else {
        Class::Symbol
    }
}

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

fn gpt2(text: &str, numbers: Numbers) -> usize {
    for contraction in CONTRACTIONS {
        if text.starts_with(contraction) {
            return contraction.len();
        }
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let ends_text = |c: char| numbers == Numbers::Single && class(c) == Class::Number;
    if ends_text(first) {
        return first.len_utf8();
    }
    let run = |class_of_run: Class, from: usize| {
        let tail = text.get(from..).unwrap_or("");
        let len: usize = tail
            .chars()
            .take_while(|&c| class(c) == class_of_run)
            .map(char::len_utf8)
            .sum();
        from + len
    };
    if class(first) != Class::Space {
        return run(class(first), 0);
    }
    // One space belongs to the word after it.
    if first == ' '
        && let Some(second) = chars.next()
        && class(second) != Class::Space
        && !ends_text(second)
    {
        return run(class(second), 1);
    }
    let end = run(Class::Space, 0);
    let (spaces, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    if rest.chars().next().is_none_or(ends_text) {
        return end;
    }
    // Of several spaces before a word, the last is left for that word, whatever kind of space it is.
    let last = spaces.chars().next_back();
    match last.map(char::len_utf8) {
        Some(last_len) if last_len < end => end - last_len,
        _ => end,
    }
}
