//! The text: loading, cleaning, and what is held out.
//!
//! Cleaning makes of a file that was broken into lines for a printed page a text as it would be typed: lines of a
//! paragraph are joined by a space, runs of spaces become one, paragraphs are separated by an empty line. Bits per byte
//! are always counted on the cleaned text.
//!
//! Whole chapters at the end of every document are held out: the last ones for the test, those before them for
//! validation. Nothing but the training part is ever shown to the tokenizer's or the model's training.

use anyhow::{Context, Result, ensure};
use std::path::Path;

/// A cleaned document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Name of the file without its ending.
    pub name: String,
    /// Chapters; each begins with its heading and ends with its last paragraph.
    pub chapters: Vec<String>,
}

/// The parts of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Name of the document.
    pub name: String,
    /// What the model learns from.
    pub train: String,
    /// What decides when to stop.
    pub validation: String,
    /// What no training sees.
    pub test: String,
}

/// Between paragraphs.
const PARAGRAPH: &str = "\n\n";

impl Document {
    /// Cleans a text and cuts it at its chapter headings.
    pub fn new(name: &str, text: &str) -> Self {
        let mut chapters = vec![String::new()];
        for paragraph in paragraphs(text) {
            let empty = chapters.last().is_none_or(String::is_empty);
            if is_heading(&paragraph) && !empty {
                chapters.push(String::new());
            }
            if let Some(chapter) = chapters.last_mut() {
                if !chapter.is_empty() {
                    chapter.push_str(PARAGRAPH);
                }
                chapter.push_str(&paragraph);
            }
        }
        Self {
            name: name.to_owned(),
            chapters,
        }
    }

    /// Holds out chapters from the end until each part has at least its share of the bytes.
    ///
    /// # Errors
    /// When nothing would be left to train on.
    pub fn split(&self, validation: f64, test: f64) -> Result<Parts> {
        let total: usize = self.chapters.iter().map(String::len).sum();
        let from = |end: usize, share: f64| {
            let mut first = end;
            let mut bytes = 0;
            while first > 0 && (bytes as f64) < share * total as f64 {
                first -= 1;
                bytes += self.chapters[first].len();
            }
            first
        };
        let test_from = from(self.chapters.len(), test);
        let validation_from = from(test_from, validation);
        ensure!(
            validation_from > 0,
            "{}: {} chapters are too few to hold out {validation} and {test} of them",
            self.name,
            self.chapters.len()
        );
        let join = |chapters: &[String]| chapters.join(PARAGRAPH);
        Ok(Parts {
            name: self.name.clone(),
            train: join(&self.chapters[..validation_from]),
            validation: join(&self.chapters[validation_from..test_from]),
            test: join(&self.chapters[test_from..]),
        })
    }
}

/// Reads every `.txt` file of a directory, in the order of their names.
///
/// # Errors
/// When the directory cannot be read, holds no text, or a file is not UTF-8.
pub fn load(directory: &Path) -> Result<Vec<Document>> {
    let context = || format!("reading the texts in {}", directory.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|ending| ending == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    ensure!(
        !paths.is_empty(),
        "{} holds no .txt file to train on",
        directory.display()
    );
    let mut documents = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} should be UTF-8 text", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        documents.push(Document::new(&name, &text));
    }
    Ok(documents)
}

/// Paragraphs with their lines joined and every run of white space as one space.
fn paragraphs(text: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            out.push(String::new());
        } else if let Some(paragraph) = out.last_mut() {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(&words.join(" "));
        }
    }
    out.retain(|paragraph| !paragraph.is_empty());
    out
}

/// "Chapter 12", "CHAPTER XII", "CHAPTER XII."
fn is_heading(paragraph: &str) -> bool {
    let mut words = paragraph.split(' ');
    let (first, number, rest) = (words.next(), words.next(), words.next());
    let numeral = |word: &str| {
        word.trim_end_matches('.')
            .chars()
            .all(|c| c.is_ascii_digit() || "IVXLC".contains(c))
    };
    first.is_some_and(|word| word.eq_ignore_ascii_case("chapter"))
        && number.is_some_and(numeral)
        && rest.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_and_cuts() {
        let text = "Title\r\n\r\nChapter 1\r\n\r\nOne  two\r\n three.\r\n\r\n\r\nFour.\n\nCHAPTER II.\n\nFive.\n";
        let document = Document::new("t", text);
        let want = [
            "Title",
            "Chapter 1\n\nOne two three.\n\nFour.",
            "CHAPTER II.\n\nFive.",
        ];
        assert_eq!(document.chapters, want);
    }

    #[test]
    fn parts_cover_the_text_and_do_not_overlap() {
        let chapters = (1..=20)
            .map(|i| format!("Chapter {i}\n\nText of {i}."))
            .collect();
        let document = Document {
            name: "t".into(),
            chapters,
        };
        let parts = document.split(0.1, 0.05).unwrap();
        let whole = [
            parts.train.clone(),
            parts.validation.clone(),
            parts.test.clone(),
        ];
        assert_eq!(whole.join(PARAGRAPH), document.chapters.join(PARAGRAPH));
        assert!(parts.test.starts_with("Chapter 20"));
        assert!(parts.validation.starts_with("Chapter 18"));
        assert!(!parts.train.contains("Chapter 18"));
    }

    #[test]
    fn too_little_text_is_an_error() {
        let document = Document::new("t", "One paragraph.");
        let error = document.split(0.03, 0.05).unwrap_err().to_string();
        assert!(error.contains("too few"), "{error}");
    }
}
