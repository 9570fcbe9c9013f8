//! What the blocks of every family share: the model and backend of a pass, the place of its tokens, parts of buffers.

use core::marker::PhantomData;

use zerocopy::{FromBytes, IntoBytes};

use crate::error::SessionError;
use crate::kernels::ops::attention::Precision;
use crate::kernels::{Backend, ShapeError};
use crate::weights::Model;

/// What every part of a forward pass needs; the code for what fits `F`.
pub(crate) struct Run<'a, F> {
    pub(crate) model: &'a Model<'a>,
    pub(crate) backend: Backend,
    pub(crate) precision: Precision,
    pub(crate) fit: PhantomData<fn() -> F>,
}

impl<F> Clone for Run<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Run<'_, F> {}

/// The place of the tokens that are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    /// Position of the first.
    pub(crate) first: usize,
    /// How many there are.
    pub(crate) len: usize,
}

/// `len` elements from `from` on; `usize::MAX` for all that follow.
pub(crate) fn part(x: &[f32], from: usize, len: usize) -> Result<&[f32], SessionError> {
    let have = x.len();
    let to = if len == usize::MAX {
        have
    } else {
        from.saturating_add(len)
    };
    Ok(x.get(from..to).ok_or(short(to, have))?)
}

/// The same for writing.
pub(crate) fn part_mut(x: &mut [f32], from: usize, len: usize) -> Result<&mut [f32], SessionError> {
    let have = x.len();
    let to = from.saturating_add(len);
    Ok(x.get_mut(from..to).ok_or(short(to, have))?)
}

/// Scratch words as floats; a word is as wide and as aligned.
pub(crate) fn floats(words: &mut [u32]) -> Result<&mut [f32], SessionError> {
    let have = words.len();
    Ok(<[f32]>::mut_from_bytes(words.as_mut_bytes()).map_err(|_| short(have, have))?)
}

/// The workspace is cut to fit, so this is a defect of the crate.
pub(crate) fn short(need: usize, have: usize) -> ShapeError {
    ShapeError {
        what: "activations",
        need,
        have,
    }
}
