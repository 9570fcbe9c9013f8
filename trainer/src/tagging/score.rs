//! How well tags agree: words, and what the tags say of them.

use super::{OUTSIDE, Sentence};

/// Agreement over some sentences.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tagging {
    /// Harmonic mean of the shares of chunks found that are right, and of right ones that are found. A chunk is what one
    /// begins with `B-X` and goes on with `I-X` (Tjong Kim Sang and Buchholz 2000), or a word with another tag than `O`.
    pub f1: f64,
    /// Share of the words whose tag is right.
    pub accuracy: f64,
    /// Words.
    pub words: usize,
}

impl Tagging {
    /// Of the tags that were found for the words of each sentence.
    pub fn of(found: &[Vec<u32>], sentences: &[Sentence], labels: &[String]) -> Self {
        let (mut right, mut words) = (0, 0);
        let (mut both, mut of_found, mut of_sentences) = (0, 0, 0);
        for (found, sentence) in found.iter().zip(sentences) {
            let pairs = found.iter().zip(&sentence.tags);
            right += pairs.filter(|(found, tag)| found == tag).count();
            words += sentence.tags.len();
            let (found, real) = (chunks(found, labels), chunks(&sentence.tags, labels));
            both += found.iter().filter(|chunk| real.contains(chunk)).count();
            of_found += found.len();
            of_sentences += real.len();
        }
        Self {
            f1: 2.0 * both as f64 / (of_found + of_sentences).max(1) as f64,
            accuracy: right as f64 / words.max(1) as f64,
            words,
        }
    }
}

/// What is said, of how many words, from which on.
#[derive(Debug, PartialEq)]
struct Chunk<'a> {
    kind: &'a str,
    first: usize,
    len: usize,
}

fn chunks<'a>(tags: &[u32], labels: &'a [String]) -> Vec<Chunk<'a>> {
    let mut out: Vec<Chunk<'a>> = Vec::new();
    for (word, tag) in tags.iter().enumerate() {
        let tag = labels.get(*tag as usize).map_or(OUTSIDE, String::as_str);
        if tag == OUTSIDE {
            continue;
        }
        let kind = tag.strip_prefix("I-");
        let goes_on =
            |chunk: &&mut Chunk<'_>| Some(chunk.kind) == kind && chunk.first + chunk.len == word;
        if let Some(chunk) = out.last_mut().filter(goes_on) {
            chunk.len += 1;
            continue;
        }
        out.push(Chunk {
            kind: kind.or_else(|| tag.strip_prefix("B-")).unwrap_or(tag),
            first: word,
            len: 1,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_count_whole() {
        let labels = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"].map(String::from);
        let of = |found: &[u32], real: &[u32]| {
            let sentence = Sentence {
                text: String::new(),
                tags: real.to_vec(),
            };
            Tagging::of(&[found.to_vec()], &[sentence], &labels)
        };
        // "Anna Maria" and "Rome": the first found by half, the second whole.
        let half = of(&[1, 4, 4, 0], &[1, 3, 4, 0]);
        assert_eq!((half.f1, half.accuracy, half.words), (0.5, 0.75, 4));
        assert_eq!(of(&[1, 3], &[1, 3]).f1, 1.0);
        assert_eq!(
            of(&[1, 1], &[1, 3]).f1,
            0.0,
            "two chunks are not one of two words"
        );
        assert_eq!(
            of(&[4, 4], &[4, 4]),
            Tagging {
                f1: 0.0,
                accuracy: 1.0,
                words: 2
            }
        );
        // A chunk may begin with I-, and end where another kind begins.
        assert_eq!(chunks(&[3, 2, 2], &labels).len(), 2);
    }

    #[test]
    fn other_tags_count_by_the_word() {
        let labels = [",", "A", "O"].map(String::from);
        let kinds: Vec<&str> = chunks(&[1, 1, 2, 0], &labels)
            .iter()
            .map(|c| c.kind)
            .collect();
        assert_eq!(kinds, ["A", "A", ","]);
    }
}
