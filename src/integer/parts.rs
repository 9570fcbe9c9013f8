//! What a layer is made of, looked up.

use crate::error::SessionError;
use crate::integer::model::{LayerScalars, Model};
use crate::integer::needs::Fit;
use crate::kernels::integer::{Norm, Product};
use crate::tensors::Role;

/// What a layer is made of. To look up a tensor takes about as long as a thousand multiply-adds, so a layer's are looked
/// up once for all tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer<'m> {
    pub(crate) scalars: LayerScalars,
    pub(crate) attn_norm: Norm<'m>,
    pub(crate) qkv: Product<'m>,
    pub(crate) out: Product<'m>,
    pub(crate) cross: Option<Cross<'m>>,
    pub(crate) ffn_norm: Norm<'m>,
    pub(crate) up: Product<'m>,
    pub(crate) down: Product<'m>,
}

/// Attention to the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cross<'m> {
    pub(crate) norm: Norm<'m>,
    pub(crate) query: Product<'m>,
    pub(crate) out: Product<'m>,
}

impl<'m> Layer<'m> {
    pub(crate) fn new<F: Fit>(
        model: &'m Model<'m>,
        layer: usize,
        cross: bool,
    ) -> Result<Self, SessionError> {
        let at = Some(layer);
        Ok(Self {
            scalars: model.scalars(layer)?,
            attn_norm: model.norm(Role::AttnNormGain, at)?,
            qkv: model.product::<F>(Role::QkvWeight, at)?,
            out: model.product::<F>(Role::OutWeight, at)?,
            cross: match cross {
                true => Some(Cross {
                    norm: model.norm(Role::CrossNormGain, at)?,
                    query: model.product::<F>(Role::CrossQWeight, at)?,
                    out: model.product::<F>(Role::CrossOutWeight, at)?,
                }),
                false => None,
            },
            ffn_norm: model.norm(Role::FfnNormGain, at)?,
            up: model.product::<F>(Role::UpWeight, at)?,
            down: model.product::<F>(Role::DownWeight, at)?,
        })
    }
}
