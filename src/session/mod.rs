//! A text in the making: a model, its memory and the tokens so far.

mod beams;
mod reading;
mod search;

pub use search::{BeamOptions, Hypothesis, LengthPenalty};

use core::marker::PhantomData;

use crate::decoder::{Text, logits, stack};
use crate::error::{SessionError, TokenizeError};
use crate::executor::{Executor, Sequential};
use crate::kernels::Backend;
use crate::kernels::ops::attention::Precision;
use crate::needs::{self, Anything, Fit};
use crate::options::{SessionOptions, WhenFull};
use crate::position::set_frequencies;
use crate::run::{Run, floats};
use crate::sampler::Sampler;
use crate::source::Heard;
use crate::spread::Spread;
use crate::watch::{AttentionRow, Watcher};
use crate::weights::Model;
use crate::workspace::Workspace;

/// Runs a decoder over a growing text; an encoder–decoder's, over what follows from a source ([`Session::read`]).
///
/// A session owns no memory: it borrows [`Model::session_bytes`] bytes, at a multiple of 64, for its life.
///
/// ```
/// # use attentive::pack::{Recipe, ScaleMethod, TokenizerParts};
/// # let config = attentive::Config {
/// #     architecture: attentive::Architecture::Decoder, vocab_len: 256, dim: 8, layers: 1, heads: 1, kv_heads: 1,
/// #     head_dim: 8, hidden_dim: 16, context_len: 32, norm: attentive::Norm::Rms,
/// #     norm_place: attentive::NormPlace::Pre, norm_eps: 1e-5, final_norm: true, ffn: attentive::Ffn::Relu,
/// #     position: attentive::Position::None, tied: true, biases: attentive::Biases::NONE,
/// #     attention: attentive::Attention::PLAIN, embedding_scale: 1.0, begin_of_text: None, end_of_text: None,
/// # };
/// # let recipe = Recipe {
/// #     config: &config, tokenizer: TokenizerParts::Bytes { offset: 0 }, provenance: "",
/// #     format: &|_| attentive::kernels::layout::WeightFormat::F32,
/// # };
/// # let mut file = vec![attentive::Block::ZERO; recipe.file_bytes()? / 64];
/// # recipe.write(attentive::Block::bytes_mut(&mut file), |mut tensor| {
/// #     let len = tensor.shape.rows * tensor.shape.cols;
/// #     let values: Vec<f32> = (0..len).map(|i| (i as f32).sin()).collect();
/// #     tensor.write(&values, ScaleMethod::AbsMax)
/// # })?;
/// use attentive::kernels::Backend;
/// use attentive::{Block, Model, Sampler, SamplerOptions, Session, SessionOptions};
///
/// let model = Model::parse(Block::bytes(&file))?;
/// let options = SessionOptions::new(32);
/// let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
/// let mut session = Session::new(&model, &options, Block::bytes_mut(&mut memory), Backend::detect())?;
/// let mut sampler = Sampler::new(SamplerOptions::GREEDY);
/// session.prompt("It is a truth")?;
/// for _ in 0..8 {
///     let Some(piece) = session.step(&mut sampler)? else { break };
///     print!("{}", String::from_utf8_lossy(piece));
/// }
/// assert_eq!(session.tokens().len(), 13 + 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session<'m, E = Sequential, F = Anything> {
    model: &'m Model<'m>,
    backend: Backend,
    executor: E,
    fit: PhantomData<fn() -> F>,
    /// Parts that there is scratch for.
    parts: usize,
    when_full: WhenFull,
    precision: Precision,
    workspace: Workspace<'m>,
    /// Tokens of the source; 0 where nothing was read.
    source_len: usize,
    /// Tokens of the longest source.
    source_len_max: usize,
    /// Texts that a search pursues.
    beams: usize,
    /// Tokens that were run since the beginning.
    position: usize,
    /// Tokens in `workspace.tokens`.
    tokens_len: usize,
    /// Whether the last of them was drawn and has not been run.
    is_last_pending: bool,
}

impl<'m> Session<'m> {
    /// A session at the beginning of a text; zeroes the memory that it takes.
    ///
    /// # Errors
    /// Options that the model cannot have, memory that is too small or does not begin at a multiple of 64, weights that
    /// do not begin at a multiple of 64.
    pub fn new(
        model: &'m Model<'m>,
        options: &SessionOptions,
        memory: &'m mut [u8],
        backend: Backend,
    ) -> Result<Self, SessionError> {
        Self::fitted(model, options, memory, backend)
    }
}

impl<'m, F: Fit> Session<'m, Sequential, F> {
    /// As [`Session::new`], for the models and options that [`Fit`] promises: the code for others is not linked.
    ///
    /// # Errors
    /// Those of [`Session::new`], and [`SessionError::NotLinked`].
    pub fn fitted(
        model: &'m Model<'m>,
        options: &SessionOptions,
        memory: &'m mut [u8],
        backend: Backend,
    ) -> Result<Self, SessionError> {
        if model.config().reading().is_some() {
            return Err(SessionError::Family);
        }
        if !needs::check::<F>(model, options) {
            return Err(SessionError::NotLinked);
        }
        model.check_aligned()?;
        let workspace = Workspace::new(model.config(), options, memory)?;
        set_frequencies(&model.config().position, workspace.activations.frequencies);
        Ok(Self {
            model,
            backend,
            executor: Sequential,
            fit: PhantomData,
            parts: options.parts,
            when_full: options.when_full,
            precision: options.precision,
            workspace,
            source_len: 0,
            source_len_max: options.source_len,
            beams: options.beams,
            position: 0,
            tokens_len: 0,
            is_last_pending: false,
        })
    }
}

impl<'m, E: Executor, F: Fit> Session<'m, E, F> {
    /// The same session, its work spread over several cores by an executor: up to [`SessionOptions::parts`] parts of a
    /// prompt's batch, or of a token's matrices. Texts and logits stay the same, to the bit.
    ///
    /// ```
    /// # fn example(model: &attentive::Model<'_>) -> Result<(), Box<dyn std::error::Error>> {
    /// # #[cfg(feature = "rayon")] {
    /// use attentive::kernels::Backend;
    /// use attentive::{Block, Executor, Rayon, Session, SessionOptions};
    ///
    /// let executor = Rayon::current();
    /// let options = SessionOptions::new(1024).with_prefill_len(128).with_parts(executor.width());
    /// let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    /// let session = Session::new(model, &options, Block::bytes_mut(&mut memory), Backend::detect())?;
    /// let mut session = session.with_executor(executor);
    /// session.prompt("It is a truth")?;
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_executor<X: Executor>(self, executor: X) -> Session<'m, X, F> {
        Session {
            model: self.model,
            backend: self.backend,
            executor,
            fit: PhantomData,
            parts: self.parts,
            when_full: self.when_full,
            precision: self.precision,
            workspace: self.workspace,
            source_len: self.source_len,
            source_len_max: self.source_len_max,
            beams: self.beams,
            position: self.position,
            tokens_len: self.tokens_len,
            is_last_pending: self.is_last_pending,
        }
    }

    /// Appends a text and runs it, in batches. At the beginning, the model's begin-of-text token goes before it.
    ///
    /// After an error in the text or for want of room nothing has changed.
    ///
    /// # Errors
    /// [`SessionError::ContextFull`], [`SessionError::Tokenizer`].
    pub fn prompt(&mut self, text: &str) -> Result<(), SessionError> {
        let tokenizer = self.model.tokenizer();
        let vocab_len = self.model.config().vocab_len;
        let mut len = usize::from(self.begin().is_some());
        for id in tokenizer.encode(text, self.workspace.encode)? {
            check_token(vocab_len, id?)?;
            len += 1;
        }
        self.check_room(len)?;
        if let Some(id) = self.begin() {
            self.append(&mut core::iter::once(Ok(id)), None)?;
        }
        // The iterator borrows this buffer for longer than a batch; the session has no other use of it.
        let encode = core::mem::take(&mut self.workspace.encode);
        let done = match tokenizer.encode(text, encode) {
            Ok(mut ids) => self.append(&mut ids, None),
            Err(error) => Err(error.into()),
        };
        self.workspace.encode = encode;
        done
    }

    /// Appends tokens and runs them, in batches; after an error nothing has changed.
    ///
    /// # Errors
    /// [`SessionError::ContextFull`], [`SessionError::Token`].
    pub fn prompt_tokens(&mut self, ids: &[u32]) -> Result<(), SessionError> {
        self.check_tokens(ids)?;
        self.append(&mut ids.iter().map(|&id| Ok(id)), None)
    }

    /// As [`Session::prompt_tokens`], on one core, and hands the weights of attention to `each`: batch by batch, in it
    /// layer by layer, token by token, head by head; in an encoder–decoder's layer first those to the text, then those
    /// to the source. `weights` is room for a row, as many as there are positions in the context, or in the source.
    ///
    /// ```
    /// # fn look(session: &mut attentive::Session<'_>) -> Result<(), attentive::SessionError> {
    /// let mut row = vec![0.0; session.context_len()];
    /// session.watch(&[1, 2, 3], &mut row, |row| {
    ///     println!("layer {} head {}: token {} attends {:?}", row.layer, row.head, row.position, row.weights);
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Session::prompt_tokens`], [`SessionError::Memory`] for too little room, and [`SessionError::ContextFull`]
    /// where a ring would have to turn: its keys are not in the order of their positions.
    pub fn watch(
        &mut self,
        ids: &[u32],
        weights: &mut [f32],
        mut each: impl FnMut(&AttentionRow<'_>) + Send,
    ) -> Result<(), SessionError> {
        self.check_tokens(ids)?;
        let pending = usize::from(self.is_last_pending);
        let before = self.position.saturating_add(pending);
        let (need, have) = (before.saturating_add(ids.len()), self.context_len());
        if need > have {
            return Err(SessionError::ContextFull { need, have });
        }
        Watcher::check_room(need.max(self.source_len), weights)?;
        let each = &mut each;
        let mut watcher = Watcher { weights, each };
        self.append(&mut ids.iter().map(|&id| Ok(id)), Some(&mut watcher))
    }

    /// Appends tokens and runs them; `each` gets the number of a token in `ids` and the logits, (vocab), after it.
    ///
    /// What an evaluation needs: the logits after token i are the model's belief about token i + 1.
    ///
    /// # Errors
    /// As [`Session::prompt_tokens`].
    pub fn score(
        &mut self,
        ids: &[u32],
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<(), SessionError> {
        self.check_tokens(ids)?;
        self.run_pending()?;
        let mut done = 0;
        let mut ids = ids.iter().map(|&id| Ok(id));
        loop {
            let n = self.fill_batch(&mut ids)?;
            if n == 0 {
                return Ok(());
            }
            self.run_batch(n, &[], None)?;
            for index in 0..n {
                self.set_logits(index)?;
                each(done + index, self.logits());
            }
            done += n;
        }
    }

    /// Draws the next token and returns its text, which need not be whole characters; `None` at the end of the text.
    ///
    /// A drawn token is run by the step after it, so the first costs no pass. The session stays as it is between two
    /// steps for as long as the caller likes, and [`Session::prompt`] may come between them. After `None`, a further
    /// step goes on behind the end-of-text token.
    ///
    /// # Errors
    /// [`SessionError::NoPrompt`] at the beginning, [`SessionError::ContextFull`], [`SessionError::NoLogit`].
    pub fn step(&mut self, sampler: &mut Sampler) -> Result<Option<&'m [u8]>, SessionError> {
        self.check_begun()?;
        self.check_room(1)?;
        self.run_pending()?;
        let vocab_len = self.model.config().vocab_len;
        let logits = self.workspace.logits.get(..vocab_len).unwrap_or_default();
        let probabilities = floats(self.workspace.activations.scratch)?;
        let context = self
            .workspace
            .tokens
            .get(..self.tokens_len)
            .unwrap_or_default();
        let id = sampler
            .draw(self.backend, logits, context, probabilities)
            .ok_or(SessionError::NoLogit)?;
        self.remember(id);
        self.is_last_pending = true;
        if self.model.config().end_of_text == Some(id) {
            return Ok(None);
        }
        Ok(Some(self.model.tokenizer().piece(id)))
    }

    /// Forgets the text; the source and the memory stay.
    pub fn reset(&mut self) {
        self.workspace.kv.clear();
        self.position = 0;
        self.tokens_len = 0;
        self.is_last_pending = false;
    }

    /// The tokens of the context, oldest first, the last one drawn included. In a ring, those that still have a place
    /// in the cache: the first ones that the model's windows keep, and the newest.
    pub fn tokens(&self) -> &[u32] {
        self.workspace
            .tokens
            .get(..self.tokens_len)
            .unwrap_or_default()
    }

    /// Logits, (vocab), of the last pass; zeros at the beginning.
    pub fn logits(&self) -> &[f32] {
        let vocab_len = self.model.config().vocab_len;
        let logits = self.workspace.logits.get(..vocab_len);
        logits.unwrap_or_default()
    }

    /// Tokens that were run since the beginning.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Positions of the context.
    pub const fn context_len(&self) -> usize {
        self.workspace.tokens.len()
    }

    /// The model.
    pub const fn model(&self) -> &'m Model<'m> {
        self.model
    }

    /// The token to begin with, if this is the beginning and the model wants one.
    fn begin(&self) -> Option<u32> {
        if self.tokens_len == 0 {
            self.model.config().begin_of_text
        } else {
            None
        }
    }

    fn check_tokens(&self, ids: &[u32]) -> Result<(), SessionError> {
        let vocab_len = self.model.config().vocab_len;
        ids.iter().try_for_each(|&id| check_token(vocab_len, id))?;
        self.check_room(ids.len())
    }

    /// Whether there is something to continue.
    const fn check_begun(&self) -> Result<(), SessionError> {
        match self.position == 0 && !self.is_last_pending {
            true => Err(SessionError::NoPrompt),
            false => Ok(()),
        }
    }

    /// Whether `n` more tokens can be run.
    fn check_room(&self, n: usize) -> Result<(), SessionError> {
        if self.source_len == 0 && self.model.config().source().is_some() {
            return Err(SessionError::NoSource);
        }
        let pending = usize::from(self.is_last_pending);
        let need = self.position.saturating_add(pending).saturating_add(n);
        let have = self.context_len();
        if self.when_full == WhenFull::Error && need > have {
            return Err(SessionError::ContextFull { need, have });
        }
        Ok(())
    }

    /// Runs checked tokens in batches and leaves the logits after the last.
    fn append(
        &mut self,
        ids: &mut dyn Iterator<Item = Result<u32, TokenizeError>>,
        mut watcher: Option<&mut Watcher<'_>>,
    ) -> Result<(), SessionError> {
        self.run_pending()?;
        let mut last = None;
        loop {
            let n = self.fill_batch(ids)?;
            if n == 0 {
                break;
            }
            self.run_batch(n, &[], watcher.as_deref_mut())?;
            last = n.checked_sub(1);
        }
        last.map_or(Ok(()), |index| self.set_logits(index))
    }

    /// Runs the token that was drawn last, if that has not been done.
    fn run_pending(&mut self) -> Result<(), SessionError> {
        if !self.is_last_pending {
            return Ok(());
        }
        let id = self.tokens().last().copied().unwrap_or_default();
        if let Some(slot) = self.workspace.batch.first_mut() {
            *slot = id;
        }
        self.run_batch(1, &[], None)?;
        self.is_last_pending = false;
        self.set_logits(0)
    }

    /// Takes as many tokens as one pass can run, and remembers them; 0 at the end.
    ///
    /// In a ring, tokens that would take the place of keys which the batch still has to see go one by one.
    fn fill_batch(
        &mut self,
        ids: &mut dyn Iterator<Item = Result<u32, TokenizeError>>,
    ) -> Result<usize, SessionError> {
        let capacity = self.workspace.kv.places().capacity;
        let room = capacity.saturating_sub(self.position);
        let most = self.workspace.batch.len().min(room.max(1));
        let mut len = 0;
        while len < most
            && let Some(id) = ids.next()
        {
            let id = id?;
            if let Some(slot) = self.workspace.batch.get_mut(len) {
                *slot = id;
            }
            self.remember(id);
            len += 1;
        }
        Ok(len)
    }

    /// Runs the first `n` tokens of the batch: of one text, or each of a text in its own of the cache's `sets`.
    fn run_batch(
        &mut self,
        n: usize,
        sets: &[u32],
        watcher: Option<&mut Watcher<'_>>,
    ) -> Result<(), SessionError> {
        let (run, first, len) = (self.run(), self.position, self.source_len);
        let parts = if watcher.is_some() { 1 } else { self.parts };
        let spread = Spread::new(&self.executor, parts);
        let Workspace {
            kv,
            cross,
            activations,
            batch,
            ..
        } = &mut self.workspace;
        let text = Text {
            first,
            ids: batch.get(..n).unwrap_or_default(),
            types: &[],
            sets,
        };
        let mut heard = cross.as_mut().map(|kv| Heard { kv, len });
        self.executor.enter(|| {
            let heard = heard.as_mut();
            stack(run, spread, text, kv, heard, watcher, activations)
        })?;
        let step = if sets.is_empty() { n } else { 1 };
        self.position = self.position.saturating_add(step);
        Ok(())
    }

    /// The logits after token `index` of the batch.
    fn set_logits(&mut self, index: usize) -> Result<(), SessionError> {
        self.set_logits_of(index, 1)
    }

    /// Those after `n` tokens from `first` on.
    fn set_logits_of(&mut self, first: usize, n: usize) -> Result<(), SessionError> {
        let run = self.run();
        let spread = Spread::new(&self.executor, self.parts);
        let Workspace {
            activations,
            logits: to,
            ..
        } = &mut self.workspace;
        self.executor
            .enter(|| logits(run, spread, (first, n), activations, to))
    }

    const fn run(&self) -> Run<'m, F> {
        Run {
            model: self.model,
            backend: self.backend,
            precision: self.precision,
            source: false,
            fit: PhantomData,
        }
    }

    /// Appends to the context; in a full ring the oldest token goes that is not kept.
    fn remember(&mut self, id: u32) {
        let keep = self.workspace.kv.places().keep;
        let tokens = &mut *self.workspace.tokens;
        if self.tokens_len >= tokens.len() {
            let turning = tokens.get_mut(keep..).unwrap_or_default();
            let cells = core::cell::Cell::from_mut(turning).as_slice_of_cells();
            for (to, from) in cells.iter().zip(cells.iter().skip(1)) {
                to.set(from.get());
            }
            self.tokens_len = self.tokens_len.saturating_sub(1);
        }
        if let Some(slot) = self.workspace.tokens.get_mut(self.tokens_len) {
            *slot = id;
            self.tokens_len += 1;
        }
    }
}

fn check_token(vocab_len: usize, have: u32) -> Result<(), SessionError> {
    if (have as usize) < vocab_len {
        Ok(())
    } else {
        Err(SessionError::Token { vocab_len, have })
    }
}
