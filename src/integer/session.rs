//! A text in the making, by integers.

use crate::error::{SessionError, TokenizeError};
use crate::integer::memory::{self, Memory, Room};
use crate::integer::model::Model;
use crate::integer::pass::{Pass, Progress, Setting, What};
use crate::integer::sampler::Sampler;
use crate::kernels::Backend;
use crate::kernels::integer::BATCH;

/// Size of a session's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Options {
    /// Positions of the key-value cache: at most the model's.
    pub context_len: usize,
    /// Tokens of the longest source of an encoder–decoder; 0 for other models.
    pub source_len: usize,
}

impl Options {
    /// A context of that many positions.
    pub const fn new(context_len: usize) -> Self {
        Self {
            context_len,
            source_len: 0,
        }
    }

    /// The same with room for sources of up to `tokens`, which an encoder–decoder needs.
    pub const fn with_source_len(self, tokens: usize) -> Self {
        Self {
            source_len: tokens,
            ..self
        }
    }

    const fn room(&self) -> Room {
        Room {
            context_len: self.context_len,
            source_len: self.source_len,
        }
    }

    /// Whether a model can have them.
    fn check(&self, model: &Model<'_>) -> Result<(), SessionError> {
        let config = model.config();
        if config.reading().is_some() {
            return Err(SessionError::Family);
        }
        let (most, have) = (config.context_len, self.context_len);
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
pub struct Session<'m> {
    pub(super) setting: Setting<'m>,
    pub(super) memory: Memory<'m>,
    pass: Pass<'m>,
    /// What the pass does, until it is noted as done.
    doing: Option<What>,
    /// Tokens of the source that is read.
    pub(super) source_len: usize,
    /// Tokens that were run.
    pub(super) position: usize,
    /// Tokens of the text.
    pub(super) tokens_len: usize,
    /// Whether the logits are those after the last token that was run.
    has_logits: bool,
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
        options.check(model)?;
        model.check_aligned()?;
        let room = options.room();
        Ok(Self {
            setting: Setting {
                model,
                backend,
                room,
                heard: 0,
            },
            memory: Memory::new(model.config(), room, memory)?,
            pass: Pass::DONE,
            doing: None,
            source_len: 0,
            position: 0,
            tokens_len: 0,
            has_logits: false,
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
    /// [`SessionError::NoSource`], [`SessionError::ContextFull`], [`SessionError::Tokenizer`]; nothing has changed then.
    pub fn prompt(&mut self, text: &str) -> Result<(), SessionError> {
        let before = self.tokens_len;
        let done = self.append_text(text);
        if done.is_err() {
            self.tokens_len = before;
        }
        done
    }

    fn append_text(&mut self, text: &str) -> Result<(), SessionError> {
        self.check_room(0)?;
        let config = self.setting.model.config();
        if self.tokens_len == 0
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
        if let Some(slot) = self.memory.tokens.get_mut(self.tokens_len) {
            *slot = id;
            self.tokens_len = self.tokens_len.saturating_add(1);
        }
        Ok(())
    }

    fn check_room(&self, n: usize) -> Result<(), SessionError> {
        if self.source_len == 0 && self.setting.model.config().source().is_some() {
            return Err(SessionError::NoSource);
        }
        let (need, have) = (self.tokens_len.saturating_add(n), self.memory.tokens.len());
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
        let mut left = budget;
        loop {
            let spent = (self.pass).advance(self.setting, &mut self.memory, left)?;
            if !self.pass.is_done() {
                return Ok(Progress::Busy);
            }
            self.go_on();
            left = left.saturating_sub(spent);
            match self.doing {
                None => return Ok(Progress::Done),
                Some(_) if left == 0 => return Ok(Progress::Busy),
                Some(_) => {}
            }
        }
    }

    /// Takes note of what the pass has done, and begins the next.
    fn go_on(&mut self) {
        match self.doing.take() {
            Some(What::Source) => self.setting.heard = self.source_len,
            Some(What::Next { logits }) => {
                self.position = self.position.saturating_add(self.pass.len());
                self.has_logits = logits;
            }
            Some(What::Whole) | None => {}
        }
        if self.position < self.tokens_len {
            let left = self.tokens_len.saturating_sub(self.position);
            let logits = left <= BATCH;
            self.begin(What::Next { logits }, self.position, left.min(BATCH));
        }
    }

    fn begin(&mut self, what: What, first: usize, len: usize) {
        self.doing = Some(what);
        self.has_logits = false;
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
        let id = sampler.draw(self.memory.logits, bits);
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

    /// The tokens of the text.
    pub fn tokens(&self) -> &[u32] {
        self.memory
            .tokens
            .get(..self.tokens_len)
            .unwrap_or_default()
    }

    /// Goes back to the first `len` tokens of the text, whose keys and values are kept; the last of them is run again
    /// before anything else, for its logits. Nothing happens where there are no more.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.tokens_len {
            return;
        }
        self.tokens_len = len;
        self.position = self.position.min(len.saturating_sub(1));
        self.has_logits = false;
        if self.doing != Some(What::Source) {
            self.stop();
        }
    }

    /// Begins a new text; a source stays.
    pub fn reset(&mut self) {
        self.position = 0;
        self.tokens_len = 0;
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
