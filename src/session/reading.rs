//! Reading the source of an encoder–decoder.

use super::{Session, check_token};
use crate::config::Source;
use crate::error::SessionError;
use crate::executor::Executor;
use crate::needs::{Fit, Of};
use crate::source;
use crate::spread::Spread;
use crate::stem::stem;
use crate::watch::{AttentionRow, Watcher};
use crate::workspace::Workspace;

impl<E: Executor, F: Fit> Session<'_, E, F> {
    /// Reads an encoder–decoder's source, with the tokens that the model expects around it, and begins anew: the text
    /// that follows attends to it. Returns its number of tokens.
    ///
    /// After an error nothing is read, and there is no text.
    ///
    /// # Errors
    /// [`SessionError::Family`], [`SessionError::Input`], [`SessionError::Tokenizer`], which a source of more than
    /// [`SessionOptions::source_len`](crate::SessionOptions::source_len) tokens is too: it is never cut.
    pub fn read(&mut self, text: &str) -> Result<usize, SessionError> {
        self.forget_source(0)?;
        let tokenizer = self.model.tokenizer();
        let Workspace { batch, encode, .. } = &mut self.workspace;
        let wrapped = tokenizer.encode_wrapped(text, None, encode, batch)?;
        self.read_batch(wrapped.len, None)?;
        Ok(wrapped.len)
    }

    /// As [`Session::read`], for tokens.
    ///
    /// # Errors
    /// [`SessionError::Family`], [`SessionError::ContextFull`], [`SessionError::Token`], [`SessionError::Text`].
    pub fn read_tokens(&mut self, ids: &[u32]) -> Result<(), SessionError> {
        self.take_source(ids)?;
        self.read_batch(ids.len(), None)
    }

    /// As [`Session::read_tokens`], on one core, and hands the weights of the source's attention to itself to `each`:
    /// layer by layer, token by token, head by head. `weights` is room for a row, as many as there are tokens.
    ///
    /// # Errors
    /// As [`Session::read_tokens`], and [`SessionError::Memory`] for too little room.
    pub fn watch_source(
        &mut self,
        ids: &[u32],
        weights: &mut [f32],
        mut each: impl FnMut(&AttentionRow<'_>) + Send,
    ) -> Result<(), SessionError> {
        self.take_source(ids)?;
        let each = &mut each;
        self.read_batch(ids.len(), Some(&mut Watcher { weights, each }))
    }

    /// Reads frames of sound, (n, bins), of which the model makes ⌈n / 2⌉ vectors, and begins anew: the text that
    /// follows attends to them.
    ///
    /// # Errors
    /// [`SessionError::Family`], [`SessionError::Input`], [`SessionError::Frames`], [`SessionError::ContextFull`] where
    /// there are more than twice [`SessionOptions::source_len`](crate::SessionOptions::source_len). Nothing is read then,
    /// and there is no text.
    pub fn read_frames(&mut self, frames: &[f32]) -> Result<(), SessionError> {
        let bins = self
            .model
            .config()
            .source()
            .map_or(0, |source| source.bins());
        self.forget_source(bins.max(1))?;
        let have = frames.len();
        let n = have.checked_div(bins).unwrap_or(0);
        if n == 0 || n.saturating_mul(bins) != have {
            return Err(SessionError::Frames { bins, have });
        }
        let (tokens, have) = (n.div_ceil(2), self.source_len_max);
        if tokens > have {
            let need = tokens;
            return Err(SessionError::ContextFull { need, have });
        }
        if !Of::<F>::translates() {
            return Err(SessionError::NotLinked);
        }
        let (run, spread) = (self.run(), Spread::new(&self.executor, self.parts));
        let activations = &mut self.workspace.activations;
        self.executor
            .enter(|| stem(run.of_source(), spread, frames, bins, activations))?;
        self.read_batch(tokens, None)
    }

    fn take_source(&mut self, ids: &[u32]) -> Result<(), SessionError> {
        self.forget_source(0)?;
        let (need, have) = (ids.len(), self.source_len_max);
        let full = SessionError::ContextFull { need, have };
        let batch = self.workspace.batch.get_mut(..need).ok_or(full)?;
        for (slot, &id) in batch.iter_mut().zip(ids) {
            *slot = id;
        }
        Ok(())
    }

    /// Begins anew, with a source whose frames have so many elements; 0 for tokens.
    fn forget_source(&mut self, bins: usize) -> Result<(), SessionError> {
        self.source_len = 0;
        self.reset();
        match self.model.config().source().map(Source::bins) {
            None => Err(SessionError::Family),
            Some(of_model) if of_model == bins => Ok(()),
            Some(0) => Err(SessionError::Input { need: "tokens" }),
            Some(_) => Err(SessionError::Input { need: "frames" }),
        }
    }

    /// Reads the first `n` tokens of the batch.
    fn read_batch(
        &mut self,
        n: usize,
        watcher: Option<&mut Watcher<'_>>,
    ) -> Result<(), SessionError> {
        let parts = if watcher.is_some() { 1 } else { self.parts };
        let (run, spread) = (self.run(), Spread::new(&self.executor, parts));
        let Workspace {
            cross,
            activations,
            batch,
            ..
        } = &mut self.workspace;
        let cross = cross.as_mut().ok_or(SessionError::Family)?;
        let (need, have) = (n, self.source_len_max);
        let ids = batch.get(..n).unwrap_or_default();
        if ids.is_empty() {
            return Err(SessionError::Text { types: 0, have: 0 });
        }
        if need > have {
            return Err(SessionError::ContextFull { need, have });
        }
        let vocab_len = self.model.config().vocab_len;
        ids.iter().try_for_each(|&id| check_token(vocab_len, id))?;
        if !Of::<F>::translates() {
            return Err(SessionError::NotLinked);
        }
        self.executor
            .enter(|| source::read(run, spread, ids, cross, watcher, activations))?;
        self.source_len = n;
        Ok(())
    }
}
