//! Messages of protocol buffers, field by field: what ONNX and SentencePiece are written in.

use anyhow::{Context, Result, bail};

/// A field of a message of protocol buffers.
pub(super) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight.
    Fixed(&'a [u8]),
}

/// The fields of a message, with their numbers.
pub(super) fn fields(mut message: &[u8]) -> impl Iterator<Item = Result<(u64, Field<'_>)>> {
    std::iter::from_fn(move || {
        (!message.is_empty()).then(|| {
            let field = field(&mut message);
            if field.is_err() {
                message = &[];
            }
            field
        })
    })
}

fn field<'a>(message: &mut &'a [u8]) -> Result<(u64, Field<'a>)> {
    let tag = varint(message)?;
    let field = match tag & 7 {
        0 => Field::Number(varint(message)?),
        1 => Field::Fixed(take(message, 8)?),
        2 => {
            let len = usize::try_from(varint(message)?)?;
            Field::Bytes(take(message, len)?)
        }
        5 => Field::Fixed(take(message, 4)?),
        other => bail!("a field of the type {other}"),
    };
    Ok((tag >> 3, field))
}

fn take<'a>(message: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let (taken, rest) = message
        .split_at_checked(len)
        .with_context(|| format!("{len} bytes are needed, {} are left", message.len()))?;
    *message = rest;
    Ok(taken)
}

/// A number of seven bits a byte.
pub(super) fn varint(message: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Ok(value);
        }
    }
    bail!("a number of more than 64 bits")
}

/// A string.
pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).context("a text that is no UTF-8")
}
