//! Which characters are letters (`\p{L}`), from what `core` knows.

/// Whether the general category is a letter.
pub(crate) fn is_letter(c: char) -> bool {
    c.is_alphabetic() && !c.is_numeric()
}
