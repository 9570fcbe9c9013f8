//! Attention that can be looked at: each query's weights, row by row, while a text runs.

use crate::attention::Layer;
use crate::error::SessionError;
use crate::kernels::ops::attention::{AttentionShape, attention_weights};
use crate::needs::Fit;
use crate::part::Part;
use crate::run::Run;

/// Who attends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Attends {
    /// A text to itself.
    Text,
    /// A text to the source of an encoder–decoder.
    TextToSource,
    /// A source to itself.
    Source,
}

/// What one query of one head gives each key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionRow<'a> {
    /// Who attends to whom.
    pub attends: Attends,
    /// The layer, from 0 for each of the three.
    pub layer: usize,
    /// The query head.
    pub head: usize,
    /// Position of the query's token.
    pub position: usize,
    /// One for each key up to the last that any query of the batch sees, in the order of their positions: 0 where this
    /// query sees none, together 1 (less with a sink).
    pub weights: &'a [f32],
}

/// Where rows go, and room for one.
pub(crate) struct Watcher<'a> {
    pub(crate) weights: &'a mut [f32],
    pub(crate) each: &'a mut (dyn FnMut(&AttentionRow<'_>) + Send),
}

impl Watcher<'_> {
    /// Whether there is room for a row of so many keys.
    pub(crate) fn check_room(keys: usize, weights: &[f32]) -> Result<(), SessionError> {
        let [need, have] = [keys, weights.len()].map(|floats| floats.saturating_mul(4));
        match need > have {
            true => Err(SessionError::Memory { need, have }),
            false => Ok(()),
        }
    }

    /// Hands over the rows of some tokens, whose queries lie in `wide`.
    pub(crate) fn rows<F: Fit>(
        &mut self,
        run: Run<'_, F>,
        keys: &Layer<'_>,
        tokens: &Part<'_>,
        attends: Attends,
    ) -> Result<(), SessionError> {
        let config = run.model.config();
        let (kv_len, mask) = keys.seen(run, tokens.tokens);
        let call = AttentionShape {
            soft_cap: config.attention.soft_cap.unwrap_or(0.0),
            sinks: run.sinks(keys.index)?,
            ..AttentionShape::new(keys.shape, config.heads, tokens.tokens.len, kv_len, mask)
        };
        Self::check_room(kv_len, self.weights)?;
        let weights = self.weights.get_mut(..kv_len).unwrap_or_default();
        let layer = match attends {
            Attends::Source => keys.index.saturating_sub(config.layers),
            _ => keys.index,
        };
        for token in 0..tokens.tokens.len {
            for head in 0..config.heads {
                attention_weights(
                    keys.shape,
                    &call,
                    tokens.wide,
                    keys.q_stride,
                    keys.cache,
                    token,
                    head,
                    weights,
                )?;
                (self.each)(&AttentionRow {
                    attends,
                    layer,
                    head,
                    position: tokens.tokens.first.saturating_add(token),
                    weights,
                });
            }
        }
        Ok(())
    }
}
