//! A text that comes in pieces.

/// Up to N bytes of it; what comes after is left out.
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        bytes: [0; N],
        len: 0,
    };

    /// Appends a piece, which may end inside a letter.
    pub fn push(&mut self, piece: &[u8]) {
        for (to, byte) in self.bytes.iter_mut().skip(self.len).zip(piece) {
            *to = *byte;
            self.len += 1;
        }
    }

    /// What was pushed. A text that was longer may end inside a letter.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or("(a text that is no UTF-8)")
    }
}
