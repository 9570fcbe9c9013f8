//! Reading texts and patches as a whole, by integers.

use core::ops::Range;

use crate::config::{Output, Pooling};
use crate::error::SessionError;
use crate::integer::memory::{self, Memory, Room};
use crate::integer::model::Model;
use crate::integer::needs::{self, Anything, Fit, Of};
use crate::integer::pass::{Pass, Progress, Setting, What};
use crate::integer::session::check_tokens;
use crate::kernels::Backend;
use crate::watch::{AttentionRow, Watcher};

impl Model<'_> {
    /// Bytes that an [`Encoder`] for texts of up to `len` tokens takes, exactly.
    pub const fn encoder_bytes(&self, len: usize) -> usize {
        memory::bytes(self.config(), Room::of_text(len))
    }
}

/// A patch's element in steps of the model's input ([`Model::input_scale`]).
pub fn quantize_input(x: f32, scale: f32) -> i8 {
    // A cast saturates.
    libm::roundf(x / scale) as i8
}

/// Reads texts or patches, one at a time.
///
/// An encoder owns no memory: it borrows [`Model::encoder_bytes`] bytes, at a multiple of 64, for its life. What a text
/// gives depends neither on the texts before it nor on the room that it leaves, nor on how the work is cut.
///
/// ```
/// use attentive::SessionError;
/// use attentive::integer::{Encoder, Progress};
///
/// fn class(encoder: &mut Encoder<'_>, text: &str) -> Result<Option<usize>, SessionError> {
///     encoder.begin_text(text)?;
///     while encoder.advance(20_000)? == Progress::Busy {
///         // Kick the watchdog, take the samples that arrived, sleep.
///     }
///     encoder.class()
/// }
/// ```
#[derive(Debug)]
pub struct Encoder<'m, F: Fit = Anything> {
    setting: Setting<'m, F>,
    memory: Memory<'m>,
    pass: Pass<'m>,
    /// Tokens of the last text; 0 before the first.
    len: usize,
}

impl<'m> Encoder<'m> {
    /// An encoder for texts of up to `len` tokens, or `len − 1` patches; zeroes the memory that it takes.
    ///
    /// # Errors
    /// A decoder's model, a length that it cannot have, memory that is too small or does not begin at a multiple of 64,
    /// weights that do not begin at a multiple of 64.
    pub fn new(
        model: &'m Model<'m>,
        len: usize,
        memory: &'m mut [u8],
        backend: Backend,
    ) -> Result<Self, SessionError> {
        Self::fitted(model, len, memory, backend)
    }
}

impl<'m, F: Fit> Encoder<'m, F> {
    /// As [`Encoder::new`], for the models that [`Fit`] promises: the code for others is not linked.
    ///
    /// # Errors
    /// Those of [`Encoder::new`], and [`SessionError::NotLinked`].
    pub fn fitted(
        model: &'m Model<'m>,
        len: usize,
        memory: &'m mut [u8],
        backend: Backend,
    ) -> Result<Self, SessionError> {
        let config = model.config();
        if config.reading().is_none() {
            return Err(SessionError::Family);
        }
        let most = config.context_len;
        if len == 0 || len > most {
            return Err(SessionError::ContextLen { most, have: len });
        }
        if !needs::check::<F>(model.encoder_needs()) {
            return Err(SessionError::NotLinked);
        }
        model.check_aligned()?;
        let room = Room::of_text(len);
        Ok(Self {
            setting: Setting::new(model, backend, room),
            memory: Memory::new(config, room, memory)?,
            pass: Pass::DONE,
            len: 0,
        })
    }

    /// Takes a text, with the tokens that the model expects around it; [`Encoder::advance`] runs it. Returns the number
    /// of tokens.
    ///
    /// # Errors
    /// [`SessionError::Input`], [`SessionError::Tokenizer`], which a text of too many tokens is too: it is never cut.
    pub fn begin_text(&mut self, text: &str) -> Result<usize, SessionError> {
        self.forget(false)?;
        let tokenizer = self.setting.model.tokenizer();
        let Memory { encode, tokens, .. } = &mut self.memory;
        let wrapped = tokenizer.encode_wrapped(text, None, encode, tokens)?;
        self.begin(wrapped.len)?;
        Ok(wrapped.len)
    }

    /// As [`Encoder::begin_text`], for tokens.
    ///
    /// # Errors
    /// [`SessionError::Input`], [`SessionError::ContextFull`], [`SessionError::Token`], [`SessionError::Text`].
    pub fn begin_tokens(&mut self, ids: &[u32]) -> Result<(), SessionError> {
        self.forget(false)?;
        let (need, have) = (ids.len(), self.memory.tokens.len());
        let full = SessionError::ContextFull { need, have };
        let tokens = self.memory.tokens.get_mut(..need).ok_or(full)?;
        for (slot, &id) in tokens.iter_mut().zip(ids) {
            *slot = id;
        }
        self.begin(need)
    }

    /// Takes patches, (n, [`Reading::patch`](crate::Reading::patch)), in steps of [`Model::input_scale`]. They become
    /// the tokens 1 to n, behind the model's only token.
    ///
    /// # Errors
    /// [`SessionError::Input`], [`SessionError::Patches`], [`SessionError::ContextFull`].
    pub fn begin_patches(&mut self, patches: &[i8]) -> Result<(), SessionError> {
        self.forget(true)?;
        let (patch, have) = (self.setting.model.config().patch(), patches.len());
        let n = have.checked_div(patch).unwrap_or(0);
        if n == 0 || n.saturating_mul(patch) != have {
            return Err(SessionError::Patches { patch, have });
        }
        let (need, have) = (n.saturating_add(1), self.memory.tokens.len());
        let full = SessionError::ContextFull { need, have };
        self.memory.tokens.get_mut(..need).ok_or(full)?.fill(0);
        for (slot, &x) in self.memory.q.iter_mut().zip(patches) {
            *slot = x;
        }
        self.begin(need)
    }

    /// Leaves what was begun, and refuses what the model does not read.
    fn forget(&mut self, patches: bool) -> Result<(), SessionError> {
        self.len = 0;
        self.pass = Pass::DONE;
        match (self.setting.model.config().patch() > 0, patches) {
            (true, false) => Err(SessionError::Input { need: "patches" }),
            (false, true) => Err(SessionError::Input { need: "tokens" }),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, len: usize) -> Result<(), SessionError> {
        let config = self.setting.model.config();
        let ids = self.memory.tokens.get(..len).unwrap_or_default();
        if ids.is_empty() {
            return Err(SessionError::Text { types: 0, have: 0 });
        }
        check_tokens(config.vocab_len, ids)?;
        self.len = len;
        self.pass = Pass::begin(What::Whole, 0, len, config);
        Ok(())
    }

    /// Does about `budget` multiply-adds of the work that is left: at least one piece, at most `budget` and one piece
    /// ([`Model::largest_piece`]).
    ///
    /// # Errors
    /// A defect of the crate, or weights that are not aligned.
    pub fn advance(&mut self, budget: u32) -> Result<Progress, SessionError> {
        self.go_on(budget, None)
    }

    fn go_on(
        &mut self,
        budget: u32,
        watcher: Option<&mut Watcher<'_>>,
    ) -> Result<Progress, SessionError> {
        (self.pass).advance(self.setting, &mut self.memory, budget, watcher)?;
        Ok(match self.pass.is_done() {
            true => Progress::Done,
            false => Progress::Busy,
        })
    }

    /// As [`Encoder::run`], and hands the weights of attention to `each`: layer by layer, four tokens by four, in these head
    /// by head. `weights` is room for a row, as many as there are tokens. Weights are those of the contract, divided by
    /// their sum.
    ///
    /// # Errors
    /// As [`Encoder::advance`]; [`SessionError::Memory`] for too little room, [`SessionError::NotLinked`] where [`Needs::WATCH`](super::Needs::WATCH)
    /// is not among what is linked.
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

    /// Does all of it.
    ///
    /// # Errors
    /// As [`Encoder::advance`].
    pub fn run(&mut self) -> Result<(), SessionError> {
        while self.advance(u32::MAX)? == Progress::Busy {}
        Ok(())
    }

    /// Logits of the classes, in 2^−[`logit_bits`](Model::logit_bits) of a power of two.
    ///
    /// # Errors
    /// [`SessionError::Output`] when the model gives something else, work is left, or nothing was begun.
    pub fn classes(&self) -> Result<&[i32], SessionError> {
        let is = |output: &Output| matches!(output, Output::Classes(_));
        self.output("classes", is)
    }

    /// The class of the highest logit, of equals the first.
    ///
    /// # Errors
    /// As [`Encoder::classes`].
    pub fn class(&self) -> Result<Option<usize>, SessionError> {
        let mut best: Option<(usize, i32)> = None;
        for (index, &logit) in self.classes()?.iter().enumerate() {
            if best.is_none_or(|(_, highest)| logit > highest) {
                best = Some((index, logit));
            }
        }
        Ok(best.map(|(index, _)| index))
    }

    /// Logits of each token's tags, (n, tags).
    ///
    /// # Errors
    /// As [`Encoder::classes`].
    pub fn tags(&self) -> Result<&[i32], SessionError> {
        self.output("tags", |output| matches!(output, Output::Tags(_)))
    }

    /// Logits of each token for being an answer's first and last, (n, 2).
    ///
    /// # Errors
    /// As [`Encoder::classes`].
    pub fn span_logits(&self) -> Result<&[i32], SessionError> {
        self.output("spans", |output| matches!(output, Output::Span))
    }

    /// The span of at most `len_max` tokens whose two logits have the greatest sum, of equals the first; among those
    /// `tokens`. `None` where there is none.
    ///
    /// # Errors
    /// As [`Encoder::classes`].
    pub fn span(
        &self,
        tokens: Range<usize>,
        len_max: usize,
    ) -> Result<Option<Range<usize>>, SessionError> {
        let (logits, _) = self.span_logits()?.as_chunks::<2>();
        let logits = logits.get(..tokens.end).unwrap_or(logits);
        let mut best: Option<(Range<usize>, i64)> = None;
        for (first, &[start, _]) in logits.iter().enumerate().skip(tokens.start) {
            for (last, &[_, end]) in logits.iter().enumerate().skip(first).take(len_max) {
                let score = i64::from(start).saturating_add(i64::from(end));
                if best.as_ref().is_none_or(|(_, highest)| score > *highest) {
                    best = Some((first..last.saturating_add(1), score));
                }
            }
        }
        Ok(best.map(|(span, _)| span))
    }

    /// Tokens of the last text; 0 before the first.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was begun yet, or the last text was refused.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The model.
    pub const fn model(&self) -> &'m Model<'m> {
        self.setting.model
    }

    fn output(
        &self,
        need: &'static str,
        is: impl Fn(&Output) -> bool,
    ) -> Result<&[i32], SessionError> {
        let config = self.setting.model.config();
        let wrong = SessionError::Output { need };
        match config.reading() {
            Some(reading) if is(&reading.output) && self.len > 0 && self.pass.is_done() => {
                let rows = match reading.pooling {
                    Pooling::None => self.len,
                    Pooling::First | Pooling::Mean => 1,
                };
                let len = rows.saturating_mul(reading.head_rows());
                self.memory.logits.get(..len).ok_or(wrong)
            }
            _ => Err(wrong),
        }
    }
}
