//! A text in the making, by integers.

use crate::config::Config;
use crate::error::{SessionError, TokenizeError};
use crate::integer::memory::{self, Memory, Room};
use crate::integer::model::Model;
use crate::integer::needs::{self, Anything, Fit, Of};
use crate::integer::pass::{Pass, Progress, Setting, What};
use crate::integer::sampler::Sampler;
use crate::integer::tensors::Bits;
use crate::kernels::Backend;
use crate::kernels::integer::BATCH;
use crate::options::WhenFull;
use crate::watch::{AttentionRow, Watcher};

/// Size of a session's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Options {
    /// Tokens of the text that a token sees, itself included: where positions are a table, at most the model's.
    pub context_len: usize,
    /// Tokens of the longest source of an encoder–decoder; 0 for other models.
    pub source_len: usize,
    /// What happens when the context is full.
    ///
    /// In a [`WhenFull::Ring`] every token sees itself and the `context_len − 1` before it, fewer where a layer's window
    /// is shorter, without end: the same bits as with endless memory and a window of that length. The cache has the next
    /// multiple of 64 to `context_len + 3` positions.
    pub when_full: WhenFull,
    /// Bits of a key's or value's number. Of four, they take half the memory and have 16 levels.
    pub kv: Bits,
}

impl Options {
    /// A context of that many positions.
    pub const fn new(context_len: usize) -> Self {
        Self {
            context_len,
            source_len: 0,
            when_full: WhenFull::Error,
            kv: Bits::Eight,
        }
    }

    /// The same with room for sources of up to `tokens`, which an encoder–decoder needs.
    pub const fn with_source_len(self, tokens: usize) -> Self {
        Self {
            source_len: tokens,
            ..self
        }
    }

    /// The same with something else to happen when the context is full.
    pub const fn with_when_full(self, when_full: WhenFull) -> Self {
        Self { when_full, ..self }
    }

    /// The same with keys and values of so many bits.
    pub const fn with_kv(self, kv: Bits) -> Self {
        Self { kv, ..self }
    }

    pub(super) const fn room(&self) -> Room {
        Room {
            context_len: self.context_len,
            source_len: self.source_len,
            is_ring: matches!(self.when_full, WhenFull::Ring),
            kv: self.kv,
        }
    }

    /// Whether a model can have them.
    fn check(&self, model: &Model<'_>) -> Result<(), SessionError> {
        let config = model.config();
        if config.reading().is_some() {
            return Err(SessionError::Family);
        }
        let is_table = config.position.is_added();
        if is_table && matches!(self.when_full, WhenFull::Ring) {
            return Err(SessionError::RingNeedsRelativePositions);
        }
        let most = match is_table {
            true => config.context_len,
            false => CONTEXT_MAX,
        };
        let have = self.context_len;
        if have == 0 || have > most {
            return Err(SessionError::ContextLen { most, have });
        }
        let have = self.source_len;
        match config.source().map(|source| source.len) {
            Some(most) if have == 0 || have > most => Err(SessionError::SourceLen { most, have }),
            None if have > 0 => Err(SessionError::SourceLen { most: 0, have }),
            _ => Ok(()),
        }
    }
}

/// Keys of so many tokens are summed without overflow.
const CONTEXT_MAX: usize = 65_536;
const _: () = assert!(CONTEXT_MAX <= Config::CONTEXT_MAX);

impl Model<'_> {
    /// Bytes that a [`Session`] takes, exactly: key-value cache, activations, logits, tokens.
    pub const fn session_bytes(&self, options: &Options) -> usize {
        memory::bytes(self.config(), options.room())
    }
}

/// Runs a decoder over a growing text; an encoder–decoder's, over what follows from a source ([`Session::read`]).
///
/// A session owns no memory: it borrows [`Model::session_bytes`] bytes, at a multiple of 64, for its life. Tokens are
/// run in batches of four, each in pieces that [`Session::advance`] counts; what is called between is never in the way:
///
/// ```
/// use attentive::SessionError;
/// use attentive::integer::{Progress, Sampler, Session};
///
/// fn next(session: &mut Session<'_>, sampler: &mut Sampler) -> Result<Option<u32>, SessionError> {
///     while session.advance(20_000)? == Progress::Busy {
///         // Kick the watchdog, take the samples that arrived, sleep.
///     }
///     session.draw(sampler)
/// }
/// ```
#[derive(Debug)]
pub struct Session<'m, F: Fit = Anything> {
    pub(super) setting: Setting<'m, F>,
    pub(super) memory: Memory<'m>,
    pass: Pass<'m>,
    /// What the pass does, until it is noted as done.
    doing: Option<What>,
    /// Tokens of the source that is read.
    pub(super) source_len: usize,
    /// Tokens that were run.
    pub(super) position: usize,
    /// Tokens of the text that are in memory.
    pub(super) tokens_len: usize,
    /// Whether the logits are those after the last token that was run.
    has_logits: bool,
    /// Whether a token was drawn from them.
    is_drawn: bool,
}

impl<'m> Session<'m> {
    /// A session at the beginning of a text; zeroes the memory that it takes.
    ///
    /// # Errors
    /// Options that the model cannot have, memory that is too small or does not begin at a multiple of 64, weights that
    /// do not begin at a multiple of 64.
    pub fn new(
        model: &'m Model<'m>,
        options: &Options,
        memory: &'m mut [u8],
        backend: Backend,
    ) -> Result<Self, SessionError> {
        Self::fitted(model, options, memory, backend)
    }
}

impl<'m, F: Fit> Session<'m, F> {
    /// As [`Session::new`], for the models and options that [`Fit`] promises: the code for others is not linked.
    ///
    /// # Errors
    /// Those of [`Session::new`], and [`SessionError::NotLinked`].
    pub fn fitted(
        model: &'m Model<'m>,
        options: &Options,
        memory: &'m mut [u8],
        backend: Backend,
    ) -> Result<Self, SessionError> {
        options.check(model)?;
        if !needs::check::<F>(model.needs(options)) {
            return Err(SessionError::NotLinked);
        }
        model.check_aligned()?;
        let room = options.room();
        Ok(Self {
            setting: Setting::new(model, backend, room),
            memory: Memory::new(model.config(), room, memory)?,
            pass: Pass::DONE,
            doing: None,
            source_len: 0,
            position: 0,
            tokens_len: 0,
            has_logits: false,
            is_drawn: false,
        })
    }

    /// Takes an encoder–decoder's source, with the tokens that the model expects around it, and begins anew:
    /// [`Session::advance`] reads it, and the text that follows attends to it. Returns its number of tokens.
    ///
    /// # Errors
    /// [`SessionError::Family`], [`SessionError::Tokenizer`], which a source of more than [`Options::source_len`]
    /// tokens is too: it is never cut. Nothing is read then, and there is no text.
    pub fn read(&mut self, text: &str) -> Result<usize, SessionError> {
        self.forget_source()?;
        let tokenizer = self.setting.model.tokenizer();
        let Memory { encode, source, .. } = &mut self.memory;
        let wrapped = tokenizer.encode_wrapped(text, None, encode, source)?;
        self.begin_source(wrapped.len)?;
        Ok(wrapped.len)
    }

    /// As [`Session::read`], for tokens.
    ///
    /// # Errors
    /// [`SessionError::Family`], [`SessionError::ContextFull`], [`SessionError::Token`], [`SessionError::Text`].
    pub fn read_tokens(&mut self, ids: &[u32]) -> Result<(), SessionError> {
        self.forget_source()?;
        let (need, have) = (ids.len(), self.memory.source.len());
        let full = SessionError::ContextFull { need, have };
        let source = self.memory.source.get_mut(..need).ok_or(full)?;
        for (slot, &id) in source.iter_mut().zip(ids) {
            *slot = id;
        }
        self.begin_source(need)
    }

    fn forget_source(&mut self) -> Result<(), SessionError> {
        self.reset();
        self.source_len = 0;
        self.setting.heard = 0;
        match self.setting.model.config().source() {
            Some(_) => Ok(()),
            None => Err(SessionError::Family),
        }
    }

    fn begin_source(&mut self, len: usize) -> Result<(), SessionError> {
        let config = self.setting.model.config();
        let ids = self.memory.source.get(..len).unwrap_or_default();
        if ids.is_empty() {
            return Err(SessionError::Text { types: 0, have: 0 });
        }
        check_tokens(config.vocab_len, ids)?;
        self.source_len = len;
        self.begin(What::Source, 0, len);
        Ok(())
    }

    /// Appends a text; at the beginning, the model's begin-of-text token goes before it. [`Session::advance`] runs it.
    ///
    /// # Errors
    /// [`SessionError::NoSource`], [`SessionError::ContextFull`], also when more tokens wait than a ring has positions,
    /// [`SessionError::Tokenizer`]; nothing has changed then (but that a ring may have forgotten more of
    /// [`Session::tokens`], whose keys it keeps).
    pub fn prompt(&mut self, text: &str) -> Result<(), SessionError> {
        let before = self.text_len();
        let done = self.append_text(text);
        if done.is_err() {
            self.tokens_len = before.saturating_sub(self.setting.forgotten);
        }
        done
    }

    fn append_text(&mut self, text: &str) -> Result<(), SessionError> {
        self.check_room(0)?;
        let config = self.setting.model.config();
        if self.text_len() == 0
            && let Some(id) = config.begin_of_text
        {
            self.append(id)?;
        }
        // The iterator borrows this buffer; nothing else uses it.
        let encode = core::mem::take(&mut self.memory.encode);
        let done = match self.setting.model.tokenizer().encode(text, encode) {
            Ok(mut ids) => ids.try_for_each(|id: Result<u32, TokenizeError>| {
                let id = id?;
                check_tokens(config.vocab_len, &[id])?;
                self.append(id)
            }),
            Err(error) => Err(error.into()),
        };
        self.memory.encode = encode;
        done
    }

    /// Appends tokens.
    ///
    /// # Errors
    /// [`SessionError::NoSource`], [`SessionError::ContextFull`], [`SessionError::Token`]; nothing has changed then.
    pub fn prompt_tokens(&mut self, ids: &[u32]) -> Result<(), SessionError> {
        check_tokens(self.setting.model.config().vocab_len, ids)?;
        self.check_room(ids.len())?;
        for &id in ids {
            self.append(id)?;
        }
        Ok(())
    }

    fn append(&mut self, id: u32) -> Result<(), SessionError> {
        self.check_room(1)?;
        if Of::<F>::RING && self.tokens_len >= self.memory.tokens.len() {
            self.forget_token();
        }
        if let Some(slot) = self.memory.tokens.get_mut(self.tokens_len) {
            *slot = id;
            self.tokens_len = self.tokens_len.saturating_add(1);
        }
        Ok(())
    }

    /// Makes room in a ring: the oldest token was run.
    fn forget_token(&mut self) {
        let cells = core::cell::Cell::from_mut(&mut *self.memory.tokens).as_slice_of_cells();
        for (to, from) in cells.iter().zip(cells.iter().skip(1)) {
            to.set(from.get());
        }
        self.tokens_len = self.tokens_len.saturating_sub(1);
        self.setting.forgotten = self.setting.forgotten.saturating_add(1);
    }

    /// Tokens of the text, those that a ring has forgotten among them.
    pub(super) const fn text_len(&self) -> usize {
        self.setting.forgotten.saturating_add(self.tokens_len)
    }

    fn check_room(&self, n: usize) -> Result<(), SessionError> {
        if self.source_len == 0 && self.setting.model.config().source().is_some() {
            return Err(SessionError::NoSource);
        }
        // A ring forgets what was run.
        let kept = match Of::<F>::RING && self.setting.room.is_ring {
            true => self.text_len().saturating_sub(self.position),
            false => self.tokens_len,
        };
        let (need, have) = (kept.saturating_add(n), self.memory.tokens.len());
        match need > have {
            true => Err(SessionError::ContextFull { need, have }),
            false => Ok(()),
        }
    }

    /// Does about `budget` multiply-adds of the work that is left: at least one piece, at most `budget` and one piece
    /// ([`Model::largest_piece`]).
    ///
    /// # Errors
    /// A defect of the crate, or weights that are not aligned.
    pub fn advance(&mut self, budget: u32) -> Result<Progress, SessionError> {
        self.go_on(budget, None)
    }

    /// Does all of it, and hands the weights of attention to `each`: four tokens by four, layer by layer, in these head by
    /// head; in an encoder–decoder's layer first those to the text, then those to the source, and before all those of
    /// the source to itself if it is still to be read. `weights` is room for a row, as many as there are positions of the
    /// text, or of the source. Weights are those of the contract, divided by their sum; keys that a ring has forgotten have 0.
    ///
    /// # Errors
    /// As [`Session::advance`]; [`SessionError::Memory`] for too little room, [`SessionError::NotLinked`] where
    /// [`Needs::WATCH`](super::Needs::WATCH) is not among what is linked.
    pub fn watch(
        &mut self,
        weights: &mut [f32],
        mut each: impl FnMut(&AttentionRow<'_>) + Send,
    ) -> Result<(), SessionError> {
        if !Of::<F>::WATCHES {
            return Err(SessionError::NotLinked);
        }
        let each = &mut each;
        let mut watcher = Watcher { weights, each };
        while self.go_on(u32::MAX, Some(&mut watcher))? == Progress::Busy {}
        Ok(())
    }

    fn go_on(
        &mut self,
        budget: u32,
        mut watcher: Option<&mut Watcher<'_>>,
    ) -> Result<Progress, SessionError> {
        let mut left = budget;
        loop {
            let (memory, watcher) = (&mut self.memory, watcher.as_deref_mut());
            let spent = (self.pass).advance(self.setting, memory, left, watcher)?;
            if !self.pass.is_done() {
                return Ok(Progress::Busy);
            }
            self.next();
            left = left.saturating_sub(spent);
            match self.doing {
                None => return Ok(Progress::Done),
                Some(_) if left == 0 => return Ok(Progress::Busy),
                Some(_) => {}
            }
        }
    }

    /// Takes note of what the pass has done, and begins the next.
    fn next(&mut self) {
        match self.doing.take() {
            Some(What::Source) => self.setting.heard = self.source_len,
            Some(What::Next { logits }) => {
                self.position = self.position.saturating_add(self.pass.len());
                self.has_logits = logits;
            }
            Some(What::Whole) | None => {}
        }
        if self.position < self.text_len() {
            let left = self.text_len().saturating_sub(self.position);
            let logits = left <= BATCH;
            self.begin(What::Next { logits }, self.position, left.min(BATCH));
        }
    }

    fn begin(&mut self, what: What, first: usize, len: usize) {
        self.doing = Some(what);
        (self.has_logits, self.is_drawn) = (false, false);
        self.pass = Pass::begin(what, first, len, self.setting.model.config());
    }

    /// Runs what is left, draws the next token and appends it. `None` at the end of the text: the model's end-of-text
    /// token was drawn, which is not appended.
    ///
    /// # Errors
    /// [`SessionError::NoPrompt`], [`SessionError::ContextFull`].
    pub fn draw(&mut self, sampler: &mut Sampler) -> Result<Option<u32>, SessionError> {
        while self.advance(u32::MAX)? == Progress::Busy {}
        if !self.has_logits {
            // Nothing was run, so there was nothing to run.
            return Err(SessionError::NoPrompt);
        }
        let bits = self.setting.model.logit_bits();
        // A penalty is not imposed twice, where the first draw has ended the text.
        let tokens = self.memory.tokens.get(..self.tokens_len);
        let context = tokens.filter(|_| !self.is_drawn).unwrap_or_default();
        let id = sampler.draw(self.memory.logits, bits, context);
        self.is_drawn = true;
        let id = id.ok_or(SessionError::NoLogit)?;
        if self.setting.model.config().end_of_text == Some(id) {
            return Ok(None);
        }
        self.append(id)?;
        Ok(Some(id))
    }

    /// As [`Session::draw`]; the bytes of the token.
    ///
    /// # Errors
    /// As [`Session::draw`].
    pub fn step(&mut self, sampler: &mut Sampler) -> Result<Option<&'m [u8]>, SessionError> {
        let id = self.draw(sampler)?;
        Ok(id.map(|id| self.setting.model.tokenizer().piece(id)))
    }

    /// The logits after the last token that was run, in 2^−[`logit_bits`](Model::logit_bits) of a power of two: behind
    /// [`Session::draw`] those that it drew from. `None` while a token is run, or before a text.
    pub fn logits(&self) -> Option<&[i32]> {
        self.has_logits.then_some(&*self.memory.logits)
    }

    /// Tokens that were run since the beginning of the text.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// The tokens of the text; in a ring that has turned, the newest.
    pub fn tokens(&self) -> &[u32] {
        self.memory
            .tokens
            .get(..self.tokens_len)
            .unwrap_or_default()
    }

    /// Goes back to the first `len` of [`Session::tokens`], whose keys and values are kept; the last of them is run again
    /// before anything else, for its logits. Nothing happens where there are no more.
    ///
    /// Where a ring has turned, the places of the keys furthest back were taken: what follows sees as many fewer as were
    /// run since, but for those that the cache has more places than the context has tokens.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.tokens_len {
            return;
        }
        let written = match self.doing {
            Some(What::Next { .. }) => self.position.saturating_add(self.pass.len()),
            _ => self.position,
        };
        let overwritten = written.saturating_sub(self.setting.room.own_places());
        self.setting.oldest = self.setting.oldest.max(overwritten);
        self.tokens_len = len;
        let last = self.text_len().saturating_sub(usize::from(len > 0));
        self.position = self.position.min(last);
        self.has_logits = false;
        if self.doing != Some(What::Source) {
            self.stop();
        }
    }

    /// Begins a new text; a source stays.
    pub fn reset(&mut self) {
        self.position = 0;
        self.tokens_len = 0;
        (self.setting.forgotten, self.setting.oldest) = (0, 0);
        self.has_logits = false;
        self.stop();
        self.source_len = self.setting.heard;
    }

    /// Leaves what was begun.
    fn stop(&mut self) {
        self.doing = None;
        self.pass = Pass::DONE;
    }

    /// The model.
    pub const fn model(&self) -> &'m Model<'m> {
        self.setting.model
    }
}

pub(crate) fn check_tokens(vocab_len: usize, ids: &[u32]) -> Result<(), SessionError> {
    match ids.iter().find(|id| **id as usize >= vocab_len) {
        Some(&have) => Err(SessionError::Token { vocab_len, have }),
        None => Ok(()),
    }
}
