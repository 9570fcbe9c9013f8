//! Marks and capitals as tags of words, taken off a text and put back.

use super::OUTSIDE;

/// The marks that are taken off behind words; all others are left out.
const MARKS: [char; 7] = ['.', ',', ';', ':', '?', '!', '—'];
/// Says that a word begins with a capital.
const CAPITAL: char = 'A';

/// A text's words without marks and capitals, each with its tag: `A` for a capital, then the mark behind the word; `O` for
/// neither. Of several marks behind a word the first counts; a mark that stands alone belongs to the word before.
pub fn taken(text: &str) -> Vec<(String, String)> {
    let text = text.replace("--", "— ").replace('—', "— ");
    let mut out: Vec<(String, String)> = Vec::new();
    for part in text.split_whitespace() {
        let word = part.trim_matches(|c: char| !c.is_alphanumeric());
        let behind = match word {
            "" => part,
            _ => part.rsplit(word).next().unwrap_or_default(),
        };
        let mark = behind.chars().find(|c| MARKS.contains(c));
        let Some(first) = word.chars().next() else {
            if let (Some(mark), Some((_, tag))) = (mark, out.last_mut())
                && !tag.ends_with(MARKS)
            {
                if tag == OUTSIDE {
                    tag.clear();
                }
                tag.push(mark);
            }
            continue;
        };
        let capital = first.is_uppercase().then_some(CAPITAL);
        let tag: String = capital.into_iter().chain(mark).collect();
        let tag = if tag.is_empty() { OUTSIDE.into() } else { tag };
        out.push((word.to_lowercase(), tag));
    }
    out
}

/// A text's words as they are tagged.
pub fn plain(text: &str) -> String {
    let words = taken(text).into_iter().map(|(word, _)| word);
    words.collect::<Vec<_>>().join(" ")
}

/// The words with what their tags say.
pub fn put_back<'a>(words: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (word, tag) in words {
        if !out.is_empty() && !out.ends_with('—') {
            out.push(' ');
        }
        let mut letters = word.chars();
        match (tag.starts_with(CAPITAL), letters.next()) {
            (true, Some(first)) => {
                out.extend(first.to_uppercase());
                out.push_str(letters.as_str());
            }
            _ => out.push_str(word),
        }
        out.extend(tag.chars().filter(|c| MARKS.contains(c)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_can_be_put_back() {
        let text = "“My dear Mr. Bennet,” said his lady to him one day--“have you heard?” _No_ ; (he) hadn't!--Oh";
        let words = taken(text);
        let tag = |word: &str| words.iter().find(|(w, _)| w == word).map(|(_, tag)| &**tag);
        assert_eq!(tag("my"), Some("A"));
        assert_eq!(tag("mr"), Some("A."));
        assert_eq!(tag("bennet"), Some("A,"));
        assert_eq!(tag("day"), Some("—"));
        assert_eq!(tag("no"), Some("A;"), "a mark that stands alone");
        assert_eq!(tag("hadn't"), Some("!"), "the first of two");
        let back = put_back(words.iter().map(|(word, tag)| (&**word, &**tag)));
        let want =
            "My dear Mr. Bennet, said his lady to him one day—have you heard? No; he hadn't! Oh";
        assert_eq!(back, want);
        assert_eq!(plain("—It is. "), "it is");
        assert_eq!(taken(" -- ... "), [], "marks without a word");
    }
}
