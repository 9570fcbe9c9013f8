//! Whether a model fits, as the compiler's answer.

/// Compiles where `need` bytes fit into `have`; where they do not, the compiler's error says both.
///
/// ```
/// attentive::fits!(138_112, 192 * 1024);
/// ```
///
/// ```compile_fail,E0080
/// attentive::fits!(138_112, 128 * 1024); // … needs 138112 bytes and has 131072: shorten the context, or …
/// ```
#[macro_export]
macro_rules! fits {
    ($need:expr, $have:expr $(,)?) => {
        const _: () = {
            const NEED: usize = $need;
            const HAVE: usize = $have;
            const TOLD: $crate::Unfit = $crate::Unfit::new(NEED, HAVE);
            ::core::assert!(NEED <= HAVE, "{}", TOLD.text());
        };
    };
}

/// The sentence of [`fits!`](crate::fits).
#[doc(hidden)]
#[derive(Debug)]
pub struct Unfit {
    bytes: [u8; 160],
    len: usize,
}

impl Unfit {
    /// Says what is needed and what is there.
    pub const fn new(need: usize, have: usize) -> Self {
        let empty = Self {
            bytes: [0; 160],
            len: 0,
        };
        empty
            .with("the model needs ")
            .with_number(need)
            .with(" bytes and has ")
            .with_number(have)
            .with(": shorten the context, or take a smaller model or a larger memory")
    }

    /// The sentence.
    pub const fn text(&self) -> &str {
        match core::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => "the model does not fit",
        }
    }

    const fn with(mut self, text: &str) -> Self {
        let mut rest = text.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            self = self.with_byte(byte);
            rest = tail;
        }
        self
    }

    const fn with_number(mut self, number: usize) -> Self {
        let mut place = 1;
        while number / place >= 10 {
            place *= 10;
        }
        while place > 0 {
            self = self.with_byte(b'0' + (number / place % 10) as u8);
            place /= 10;
        }
        self
    }

    const fn with_byte(mut self, byte: u8) -> Self {
        if self.len < self.bytes.len() {
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Unfit;

    #[test]
    fn both_numbers_are_told() {
        let told = Unfit::new(138_112, 0);
        assert_eq!(
            told.text(),
            "the model needs 138112 bytes and has 0: shorten the context, or take a smaller model or a larger memory"
        );
        let longest = Unfit::new(usize::MAX, usize::MAX);
        assert!(longest.text().ends_with("a larger memory"));
    }
}
