//! What `generate` says, on the PC and in the firmware alike: `token ID "bytes"` and `name = value` lines.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;

/// One run of `generate`, taken apart.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// The generated tokens' ids.
    pub(crate) tokens: Vec<u32>,
    /// The hash of the logits' bits.
    pub(crate) logits: Option<String>,
    /// The figures, by name.
    pub(crate) figures: BTreeMap<String, f64>,
}

impl Report {
    /// Takes the lines apart; those of neither form (`INFO: …`) are for people and are skipped.
    pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut report = Self::default();
        for line in lines {
            if let Some((id, _)) = token(line)? {
                report.tokens.push(id);
            } else if let Some(hash) = line.strip_prefix("logits: ") {
                report.logits = Some(hash.to_owned());
            } else if let Some((name, value)) = figure(line) {
                report.figures.insert(name.to_owned(), value);
            }
        }
        Ok(report)
    }

    /// The figures alone, of a binary whose other lines are its own.
    pub(crate) fn of_figures<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let figures = lines.into_iter().filter_map(figure);
        Self {
            figures: figures.map(|(name, x)| (name.to_owned(), x)).collect(),
            ..Self::default()
        }
    }

    /// The figure called `name`.
    pub(crate) fn figure(&self, name: &str) -> Result<f64> {
        self.figures
            .get(name)
            .copied()
            .with_context(|| format!("the run printed no `{name}`"))
    }
}

/// `token 17 b" the"`: its id and its bytes.
pub(crate) fn token(line: &str) -> Result<Option<(u32, Vec<u8>)>> {
    let Some(rest) = line.strip_prefix("token ") else {
        return Ok(None);
    };
    let malformed = || format!("no token line: {line}");
    let (id, quoted) = rest.split_once(' ').with_context(malformed)?;
    let escaped = quoted
        .strip_prefix("b\"")
        .and_then(|text| text.strip_suffix('"'))
        .with_context(malformed)?;
    Ok(Some((
        id.parse().with_context(malformed)?,
        unescape(escaped).with_context(malformed)?,
    )))
}

/// `flash_bytes = 1234`: the name and the value.
pub(crate) fn figure(line: &str) -> Option<(&str, f64)> {
    let (name, value) = line.split_once(" = ")?;
    Some((name, value.parse().ok()?))
}

/// Undoes what `defmt`'s `{=[u8]:a}` and Rust's `escape_ascii` do.
fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(plain @ (b'\\' | b'"' | b'\'')) => plain,
            Some(b'x') => {
                let digits = [bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)];
                u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?
            }
            _ => bail!("unknown escape in {text}"),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_lines_apart() {
        let lines = [
            "token 17 b\" the\"",
            "token 3 b\"\\xe2\\x80\"",
            "flash_bytes = 1234",
            "logits: 00ff",
            "INFO: hello",
        ];
        let report = Report::parse(lines).unwrap();
        assert_eq!(report.tokens, [17, 3]);
        assert_eq!(token(lines[1]).unwrap(), Some((3, b"\xe2\x80".to_vec())));
        assert_eq!(report.figure("flash_bytes").unwrap(), 1234.0);
        assert_eq!(report.logits.as_deref(), Some("00ff"));
        assert!(report.figure("ram").is_err());
        let figures = Report::of_figures(["token b\" I\"", "flash_bytes = 1234"]);
        assert_eq!(figures.figure("flash_bytes").unwrap(), 1234.0);
        assert!(Report::parse(["token b\" I\""]).is_err());
    }

    #[test]
    fn undoes_every_escape_of_the_pc_side() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&all.escape_ascii().to_string()).unwrap(), all);
        for bad in ["\\", "\\q", "\\x4", "\\xzz"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rejects_a_torn_token_line() {
        for bad in [
            "token",
            "token ",
            "token 1",
            "token x b\"\"",
            "token 1 b\"",
            "token 1 \"a\"",
        ] {
            assert!(
                Report::parse([bad]).is_err() == bad.starts_with("token "),
                "{bad}"
            );
        }
    }
}
