//! What the blocks of every family share: the model and backend of a pass, the place of its tokens, parts of buffers.

use core::marker::PhantomData;
use core::ops::Range;

use zerocopy::{FromBytes, IntoBytes};

use crate::config::{Position, Source};
use crate::error::SessionError;
use crate::kernels::ops::attention::Precision;
use crate::kernels::{Backend, ShapeError, Vector};
use crate::needs::{Fit, Of};
use crate::tensors::Role;
use crate::weights::Model;

/// What every part of a forward pass needs; the code for what fits `F`.
pub(crate) struct Run<'a, F> {
    pub(crate) model: &'a Model<'a>,
    pub(crate) backend: Backend,
    pub(crate) precision: Precision,
    /// Whether it goes through the layers of a source.
    pub(crate) source: bool,
    pub(crate) fit: PhantomData<fn() -> F>,
}

impl<F> Clone for Run<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Run<'_, F> {}

impl<'m, F: Fit> Run<'m, F> {
    /// The same through the layers of a source.
    pub(crate) fn of_source(self) -> Self {
        Self {
            source: true,
            ..self
        }
    }

    /// The layers that the pass goes through.
    pub(crate) fn layers(&self) -> Range<usize> {
        let config = self.model.config();
        match self.is_of_source() {
            Some(source) => config.layers..config.layers.saturating_add(source.layers),
            None => 0..config.layers,
        }
    }

    /// Positions, and the role of their table.
    pub(crate) fn positions(&self) -> (&Position, Role) {
        match self.is_of_source() {
            Some(source) => (&source.position, Role::SourcePositionEmbedding),
            None => (&self.model.config().position, Role::PositionEmbedding),
        }
    }

    /// Whether every token sees every other.
    pub(crate) fn reads(&self) -> bool {
        let encodes = Of::<F>::encoder() && self.model.config().reading().is_some();
        encodes || self.is_of_source().is_some()
    }

    /// The sinks of a layer's query heads; none where it has none.
    pub(crate) fn sinks(&self, layer: usize) -> Result<&'m [f32], SessionError> {
        Ok(match self.model.vector(Role::AttnSinks, Some(layer))? {
            Some(Vector::F32(sinks)) => sinks,
            // The parser lets no other format through.
            _ => &[],
        })
    }

    /// The tokens that have an embedding; in the place of the others, the stream holds what a stem made.
    pub(crate) fn embedded<'a>(&self, tokens: &Tokens, ids: &'a [u32]) -> &'a [u32] {
        let patches = Of::<F>::encoder()
            && (self.model.config().reading()).is_some_and(|reading| reading.patch > 0);
        let own = match (patches, self.is_of_source()) {
            // A part of the batch may begin behind the one token.
            (true, _) => usize::from(tokens.first == 0),
            (_, Some(source)) if source.bins() > 0 => 0,
            _ => usize::MAX,
        };
        ids.get(..own).unwrap_or(ids)
    }

    fn is_of_source(&self) -> Option<&Source> {
        match Of::<F>::translates() && self.source {
            true => self.model.config().source(),
            false => None,
        }
    }
}

/// The place of the tokens that are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    /// Position of the first.
    pub(crate) first: usize,
    /// How many there are.
    pub(crate) len: usize,
    /// Whether each is of a text of its own, all at the first's position.
    pub(crate) abreast: bool,
}

impl Tokens {
    /// The position of one of them.
    pub(crate) fn position<F: Fit>(&self, token: usize) -> usize {
        match Of::<F>::searches() && self.abreast {
            true => self.first,
            false => self.first.saturating_add(token),
        }
    }
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

/// Copies `len` elements from one place to another that they do not overlap; nothing where they are not there.
pub(crate) fn copy_inside<T: Copy>(all: &mut [T], from: usize, to: usize, len: usize) {
    let (first, second) = (from.min(to), from.max(to));
    let (low, high) = all.split_at_mut_checked(second).unwrap_or_default();
    let low = low.get_mut(first..).and_then(|low| low.get_mut(..len));
    let (Some(low), Some(high)) = (low, high.get_mut(..len)) else {
        return;
    };
    let (source, target) = if from < to { (low, high) } else { (high, low) };
    for (to, from) in target.iter_mut().zip(&*source) {
        *to = *from;
    }
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
