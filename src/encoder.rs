//! The encoder family: a text is read as a whole, every token seeing every other (Devlin et al. 2018).
//!
//! The layers are the decoder's (`decoder::stack`) with another mask; `heads` makes something of what they leave.

use core::marker::PhantomData;
use core::ops::Range;

use crate::config::Output;
use crate::decoder::{Text, stack};
use crate::error::SessionError;
use crate::executor::{Executor, Sequential};
use crate::heads;
use crate::kernels::Backend;
use crate::kernels::ops::attention::Precision;
use crate::needs::{self, Anything, Fit, Of};
use crate::options::EncoderOptions;
use crate::position::set_frequencies;
use crate::run::Run;
use crate::spread::Spread;
use crate::stem::embed_patches;
use crate::watch::{AttentionRow, Watcher};
use crate::weights::Model;
use crate::workspace::Workspace;

/// The best span of a text: the tokens from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Answer {
    /// Its first token.
    pub first: usize,
    /// Its last token.
    pub last: usize,
    /// Sum of their two logits.
    pub score: f32,
}

impl Answer {
    /// The span of at most `len_max` tokens whose two logits, for being the first and the last, have the greatest sum, of
    /// equals the first; among those `tokens`. `None` where there is none. Linear in the tokens times `len_max`.
    pub fn best(logits: &[[f32; 2]], tokens: Range<usize>, len_max: usize) -> Option<Self> {
        let logits = logits.get(..tokens.end).unwrap_or(logits);
        let mut best: Option<Self> = None;
        for (first, &[start, _]) in logits.iter().enumerate().skip(tokens.start) {
            let ends = logits.iter().enumerate().skip(first).take(len_max);
            for (last, &[_, end]) in ends {
                let score = start + end;
                if best.is_none_or(|best| score > best.score) {
                    best = Some(Self { first, last, score });
                }
            }
        }
        best
    }
}

/// Reads texts, one at a time.
///
/// An encoder owns no memory: it borrows [`Model::encoder_bytes`] bytes, at a multiple of 64, for its life. What a text
/// gives depends neither on the texts before it nor on the room that it leaves.
///
/// ```
/// use attentive::kernels::Backend;
/// use attentive::{Block, Encoder, EncoderOptions, Model, SessionError};
///
/// fn embed(model: &Model<'_>, text: &str) -> Result<Vec<f32>, SessionError> {
///     let options = EncoderOptions::new(128);
///     let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
///     let mut encoder = Encoder::new(model, &options, Block::bytes_mut(&mut memory), Backend::detect())?;
///     encoder.run_text(text, None)?;
///     Ok(encoder.embedding()?.to_vec())
/// }
/// ```
#[derive(Debug)]
pub struct Encoder<'m, E = Sequential, F = Anything> {
    model: &'m Model<'m>,
    backend: Backend,
    executor: E,
    fit: PhantomData<fn() -> F>,
    parts: usize,
    precision: Precision,
    workspace: Workspace<'m>,
    /// Tokens of the last text; 0 before the first.
    len: usize,
}

impl<'m> Encoder<'m> {
    /// An encoder for texts of up to [`EncoderOptions::len`] tokens; zeroes the memory that it takes.
    ///
    /// # Errors
    /// A decoder's model, a length that it cannot have, memory that is too small or does not begin at a multiple of 64,
    /// weights that do not begin at a multiple of 64.
    pub fn new(
        model: &'m Model<'m>,
        options: &EncoderOptions,
        memory: &'m mut [u8],
        backend: Backend,
    ) -> Result<Self, SessionError> {
        Self::fitted(model, options, memory, backend)
    }
}

impl<'m, F: Fit> Encoder<'m, Sequential, F> {
    /// As [`Encoder::new`], for the models and options that [`Fit`] promises ([`Model::encoder_needs`]): the code for
    /// others is not linked.
    ///
    /// # Errors
    /// Those of [`Encoder::new`], and [`SessionError::NotLinked`].
    pub fn fitted(
        model: &'m Model<'m>,
        options: &EncoderOptions,
        memory: &'m mut [u8],
        backend: Backend,
    ) -> Result<Self, SessionError> {
        if model.config().reading().is_none() {
            return Err(SessionError::Family);
        }
        let session = options.session();
        if !needs::check::<F>(model, &session) {
            return Err(SessionError::NotLinked);
        }
        model.check_aligned()?;
        let workspace = Workspace::new(model.config(), &session, memory)?;
        set_frequencies(&model.config().position, workspace.activations.frequencies);
        Ok(Self {
            model,
            backend,
            executor: Sequential,
            fit: PhantomData,
            parts: options.parts,
            precision: options.precision,
            workspace,
            len: 0,
        })
    }
}

impl<'m, E: Executor, F: Fit> Encoder<'m, E, F> {
    /// The same encoder, its work spread over several cores: up to [`EncoderOptions::parts`] parts of a text. Results
    /// stay the same, to the bit.
    pub fn with_executor<X: Executor>(self, executor: X) -> Encoder<'m, X, F> {
        Encoder {
            model: self.model,
            backend: self.backend,
            executor,
            fit: PhantomData,
            parts: self.parts,
            precision: self.precision,
            workspace: self.workspace,
            len: self.len,
        }
    }

    /// Reads a text, or two, with the tokens that the model expects around them, and returns the number of tokens.
    ///
    /// # Errors
    /// [`SessionError::Tokenizer`], which a text of more than [`EncoderOptions::len`] tokens is too: it is never cut;
    /// [`SessionError::Input`].
    pub fn run_text(&mut self, text: &str, second: Option<&str>) -> Result<usize, SessionError> {
        self.len = 0;
        self.wants_tokens()?;
        let tokenizer = self.model.tokenizer();
        let Workspace {
            batch,
            encode,
            tokens: types,
            ..
        } = &mut self.workspace;
        let wrapped = tokenizer.encode_wrapped(text, second, encode, batch)?;
        let one = u32::from(tokenizer.template().types);
        for (index, kind) in types.iter_mut().enumerate() {
            *kind = if index < wrapped.second_at { 0 } else { one };
        }
        self.run_batch(wrapped.len, None)?;
        Ok(wrapped.len)
    }

    /// Reads tokens. `types` are theirs; none for all of type 0.
    ///
    /// # Errors
    /// [`SessionError::ContextFull`], [`SessionError::Token`], [`SessionError::Type`], [`SessionError::Text`],
    /// [`SessionError::Input`].
    pub fn run_tokens(&mut self, ids: &[u32], types: &[u32]) -> Result<(), SessionError> {
        self.take_tokens(ids, types)?;
        self.run_batch(ids.len(), None)
    }

    /// As [`Encoder::run_tokens`], on one core, and hands the weights of attention to `each`: layer by layer, token by
    /// token, head by head. `weights` is room for a row, as many as there are tokens.
    ///
    /// # Errors
    /// As [`Encoder::run_tokens`], and [`SessionError::Memory`] for too little room.
    pub fn watch(
        &mut self,
        ids: &[u32],
        types: &[u32],
        weights: &mut [f32],
        mut each: impl FnMut(&AttentionRow<'_>) + Send,
    ) -> Result<(), SessionError> {
        self.take_tokens(ids, types)?;
        let each = &mut each;
        self.run_batch(ids.len(), Some(&mut Watcher { weights, each }))
    }

    /// Reads patches, (n, [`Reading::patch`](crate::Reading::patch)): a picture's
    /// ([`PatchSpec::cut`](crate::frontend::PatchSpec::cut)), or some frames of sound each. They become the tokens 1 to
    /// n, behind the model's only token.
    ///
    /// # Errors
    /// [`SessionError::Input`], [`SessionError::Patches`], [`SessionError::ContextFull`].
    pub fn run_patches(&mut self, patches: &[f32]) -> Result<(), SessionError> {
        let n = self.take_patches(patches)?;
        self.run_batch(n, None)
    }

    /// As [`Encoder::run_patches`], on one core, and hands the weights of attention to `each` as [`Encoder::watch`]
    /// does.
    ///
    /// # Errors
    /// As [`Encoder::run_patches`], and [`SessionError::Memory`] for too little room.
    pub fn watch_patches(
        &mut self,
        patches: &[f32],
        weights: &mut [f32],
        mut each: impl FnMut(&AttentionRow<'_>) + Send,
    ) -> Result<(), SessionError> {
        let n = self.take_patches(patches)?;
        let each = &mut each;
        self.run_batch(n, Some(&mut Watcher { weights, each }))
    }

    /// Embeds patches; returns the number of tokens.
    fn take_patches(&mut self, patches: &[f32]) -> Result<usize, SessionError> {
        self.len = 0;
        let patch = self.model.config().reading().map_or(0, |r| r.patch);
        let have = patches.len();
        let Some(n) = have.checked_div(patch) else {
            return Err(SessionError::Input { need: "tokens" });
        };
        if n == 0 || n.saturating_mul(patch) != have {
            return Err(SessionError::Patches { patch, have });
        }
        if !Of::<F>::encoder() {
            return Err(SessionError::NotLinked);
        }
        let (need, have) = (n.saturating_add(1), self.len_max());
        let full = SessionError::ContextFull { need, have };
        let run = self.run();
        let Workspace {
            batch,
            tokens: types,
            activations,
            ..
        } = &mut self.workspace;
        batch.get_mut(..need).ok_or(full)?.fill(0);
        types.get_mut(..need).ok_or(full)?.fill(0);
        let spread = Spread::new(&self.executor, self.parts);
        self.executor
            .enter(|| embed_patches(run, spread, patches, n, activations))?;
        Ok(need)
    }

    fn run(&self) -> Run<'m, F> {
        Run {
            model: self.model,
            backend: self.backend,
            precision: self.precision,
            source: false,
            fit: PhantomData,
        }
    }

    /// Refuses a model of patches.
    fn wants_tokens(&self) -> Result<(), SessionError> {
        match self.model.config().reading() {
            Some(reading) if reading.patch > 0 => Err(SessionError::Input { need: "patches" }),
            _ => Ok(()),
        }
    }

    fn take_tokens(&mut self, ids: &[u32], types: &[u32]) -> Result<(), SessionError> {
        self.len = 0;
        self.wants_tokens()?;
        let Workspace {
            batch,
            tokens: all_types,
            ..
        } = &mut self.workspace;
        let (need, have) = (ids.len(), batch.len());
        let full = SessionError::ContextFull { need, have };
        if !types.is_empty() && types.len() != need {
            let types = types.len();
            return Err(SessionError::Text { types, have: need });
        }
        let batch = batch.get_mut(..need).ok_or(full)?;
        let all_types = all_types.get_mut(..need).ok_or(full)?;
        for (slot, &id) in batch.iter_mut().zip(ids) {
            *slot = id;
        }
        for (index, slot) in all_types.iter_mut().enumerate() {
            *slot = types.get(index).copied().unwrap_or(0);
        }
        Ok(())
    }

    /// Vectors of the last text's tokens, (n, dim); empty before the first run.
    pub fn hidden(&self) -> &[f32] {
        let len = self.len.saturating_mul(self.model.config().dim);
        self.workspace.activations.x.get(..len).unwrap_or_default()
    }

    /// The last text's vector, (dim).
    ///
    /// # Errors
    /// [`SessionError::Output`] when the model gives something else, or nothing was run.
    pub fn embedding(&self) -> Result<&[f32], SessionError> {
        let is = |output: &Output| matches!(output, Output::Embedding { .. });
        self.output("an embedding", is, self.model.config().dim)
    }

    /// Logits of the classes, (classes).
    ///
    /// # Errors
    /// As [`Encoder::embedding`].
    pub fn classes(&self) -> Result<&[f32], SessionError> {
        let is = |output: &Output| matches!(output, Output::Classes(_));
        self.output("classes", is, self.head_rows())
    }

    /// Logits of each token's tags, (n, tags).
    ///
    /// # Errors
    /// As [`Encoder::embedding`].
    pub fn tags(&self) -> Result<&[f32], SessionError> {
        let is = |output: &Output| matches!(output, Output::Tags(_));
        self.output("tags", is, self.len.saturating_mul(self.head_rows()))
    }

    /// Logits of each token for being an answer's first and last, (n, 2).
    ///
    /// # Errors
    /// As [`Encoder::embedding`].
    pub fn span_logits(&self) -> Result<&[f32], SessionError> {
        let is = |output: &Output| matches!(output, Output::Span);
        self.output("spans", is, self.len.saturating_mul(2))
    }

    /// [`Answer::best`] among those `tokens`, such as the second text's.
    ///
    /// # Errors
    /// As [`Encoder::embedding`].
    pub fn span(
        &self,
        tokens: Range<usize>,
        len_max: usize,
    ) -> Result<Option<Answer>, SessionError> {
        let (logits, _) = self.span_logits()?.as_chunks::<2>();
        Ok(Answer::best(logits, tokens, len_max))
    }

    /// Tokens of the last text; 0 before the first.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was read yet, or the last text was refused.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens of the longest text.
    pub const fn len_max(&self) -> usize {
        self.workspace.batch.len()
    }

    /// Tokens of the last text.
    pub fn tokens(&self) -> &[u32] {
        self.workspace.batch.get(..self.len).unwrap_or_default()
    }

    /// The model.
    pub const fn model(&self) -> &'m Model<'m> {
        self.model
    }

    fn head_rows(&self) -> usize {
        self.model.config().reading().map_or(0, |r| r.head_rows())
    }

    fn output(
        &self,
        need: &'static str,
        is: impl Fn(&Output) -> bool,
        len: usize,
    ) -> Result<&[f32], SessionError> {
        let wrong = SessionError::Output { need };
        match self.model.config().reading() {
            Some(reading) if is(&reading.output) && self.len > 0 => {
                self.workspace.logits.get(..len).ok_or(wrong)
            }
            _ => Err(wrong),
        }
    }

    /// Checks and runs the first `n` tokens of the batch.
    fn run_batch(
        &mut self,
        n: usize,
        watcher: Option<&mut Watcher<'_>>,
    ) -> Result<(), SessionError> {
        let config = self.model.config();
        let reading = config.reading().ok_or(SessionError::Family)?;
        let run = self.run();
        let parts = if watcher.is_some() { 1 } else { self.parts };
        let spread = Spread::new(&self.executor, parts);
        let Workspace {
            kv,
            activations,
            batch,
            tokens: types,
            logits,
            ..
        } = &mut self.workspace;
        let ids = batch.get(..n).unwrap_or_default();
        let types = types.get(..n).unwrap_or_default();
        if ids.is_empty() {
            return Err(SessionError::Text { types: 0, have: 0 });
        }
        let vocab_len = config.vocab_len;
        if let Some(&have) = ids.iter().find(|id| **id as usize >= vocab_len) {
            return Err(SessionError::Token { vocab_len, have });
        }
        // A model without types has the type 0, which adds nothing.
        let kinds = reading.types.max(1);
        if let Some(&have) = types.iter().find(|kind| **kind as usize >= kinds) {
            return Err(SessionError::Type { types: kinds, have });
        }
        self.executor.enter(|| {
            let first = 0;
            let text = Text {
                first,
                ids,
                types,
                sets: &[],
            };
            stack(run, spread, text, kv, None, watcher, activations)?;
            heads::output(run, spread, reading, n, activations, logits)
        })?;
        self.len = n;
        Ok(())
    }
}
