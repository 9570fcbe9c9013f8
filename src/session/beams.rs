//! The texts that a search pursues, in the session's memory.

use super::Session;
use crate::error::SessionError;
use crate::executor::Executor;
use crate::kernels::Backend;
use crate::needs::Fit;
use crate::options::SessionOptions;
use crate::run::copy_inside;
use crate::workspace::Workspace;

impl<E: Executor, F: Fit> Session<'_, E, F> {
    /// Where a search begins: behind the last token, whose logits are there.
    pub(super) fn begin_search(&mut self) -> Result<usize, SessionError> {
        if self.beams == 0 {
            let (most, have) = (SessionOptions::BEAMS_MAX, 0);
            return Err(SessionError::Beams { most, have });
        }
        self.check_begun()?;
        self.check_room(0)?;
        self.run_pending()?;
        Ok(self.position)
    }

    /// Back to where the search began: the last token is run again before anything else, for its logits.
    pub(super) fn end_search(&mut self, at: usize) {
        self.position = at.saturating_sub(1);
        self.is_last_pending = true;
    }

    /// Runs the tokens of all beams, which lie in `sets`, at one position, and leaves the logits after them.
    pub(super) fn run_beams(
        &mut self,
        tokens: &[u32],
        sets: &[u32],
        position: usize,
    ) -> Result<(), SessionError> {
        for (slot, token) in self.workspace.batch.iter_mut().zip(tokens) {
            *slot = *token;
        }
        self.position = position;
        self.run_batch(tokens.len(), sets, None)?;
        self.set_logits_of(0, tokens.len())
    }

    /// Most beams.
    pub(super) const fn beams(&self) -> usize {
        self.beams
    }

    /// The tokens of a beam, and room for more; behind the last beam those of the best text.
    pub(super) fn beam_tokens(&self, beam: usize) -> &[u32] {
        let len = self.context_len();
        let rows = self.workspace.beams.get(beam.saturating_mul(len)..);
        rows.and_then(|rows| rows.get(..len)).unwrap_or_default()
    }

    /// The same for writing.
    pub(super) fn beam_tokens_mut(&mut self, beam: usize) -> &mut [u32] {
        let len = self.context_len();
        let rows = self.workspace.beams.get_mut(beam.saturating_mul(len)..);
        rows.and_then(|rows| rows.get_mut(..len))
            .unwrap_or_default()
    }

    /// Makes the first `len` tokens of a beam the best text.
    pub(super) fn keep(&mut self, beam: usize, len: usize) {
        self.copy_tokens(beam, self.beams, len);
    }

    /// Makes a beam what another one is, `len` tokens long, behind a text of `at`.
    pub(super) fn copy_beam(&mut self, from: usize, to: usize, at: usize, len: usize) {
        let layers = self.model.config().layers;
        let positions = at.saturating_add(len);
        self.workspace.kv.copy_set(from, to, layers, positions);
        self.copy_tokens(from, to, len);
    }

    fn copy_tokens(&mut self, from: usize, to: usize, len: usize) {
        let width = self.context_len();
        let [from, to] = [from, to].map(|beam| beam.saturating_mul(width));
        copy_inside(self.workspace.beams, from, to, len.min(width));
    }

    /// The first tokens of the beam in `set`, the logits of the beam that was run at place `index`, and scratch of their
    /// length.
    pub(super) fn beam_logits(&mut self, index: usize, set: usize, len: usize) -> BeamLogits<'_> {
        let (vocab_len, width) = (self.model.config().vocab_len, self.context_len());
        let Workspace {
            activations,
            logits,
            beams,
            ..
        } = &mut self.workspace;
        let tokens = beams.get(set.saturating_mul(width)..);
        let logits = logits.get_mut(index.saturating_mul(vocab_len)..);
        BeamLogits {
            backend: self.backend,
            tokens: tokens
                .and_then(|tokens| tokens.get(..len))
                .unwrap_or_default(),
            logits: logits
                .and_then(|logits| logits.get_mut(..vocab_len))
                .unwrap_or_default(),
            scratch: activations.scratch,
        }
    }
}

/// A beam's tokens, and what follows them.
pub(super) struct BeamLogits<'a> {
    pub(super) backend: Backend,
    pub(super) tokens: &'a [u32],
    /// (vocab).
    pub(super) logits: &'a mut [f32],
    pub(super) scratch: &'a mut [u32],
}
