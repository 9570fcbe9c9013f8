//! What a session is asked for, and how much memory that takes.

use crate::config::{Config, Position};
use crate::error::SessionError;
use crate::kernels::layout::KvDtype;
use crate::kernels::ops::attention::Precision;

/// What happens when the context is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WhenFull {
    /// [`SessionError::ContextFull`]; nothing is changed, and [`Session::reset`](crate::Session::reset) begins anew.
    Error,
    /// The newest token takes the place of the oldest: every token sees itself and the `context_len − 1` before it,
    /// without end. The context is rounded up to a multiple of 16.
    ///
    /// Layers with a [`Window`](crate::Window) see no more than their window, as without a ring. The keys that a window
    /// keeps keep their places, and layers that see everything then see these and the newest `context_len − keep`. So
    /// where every layer has a window, a ring of its keys and the kept ones computes what endless memory would.
    Ring,
}

/// Size and kind of a session's memory.
///
/// ```
/// use attentive::kernels::layout::KvDtype;
/// use attentive::{SessionOptions, WhenFull};
///
/// const OPTIONS: SessionOptions = SessionOptions::new(256)
///     .with_kv(KvDtype::I8)
///     .with_when_full(WhenFull::Ring);
/// assert_eq!(OPTIONS.context_len, 256);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct SessionOptions {
    /// Positions of the key-value cache.
    pub context_len: usize,
    /// Most tokens of a prompt that are run at once: more of them read the weights less often and take more memory.
    pub prefill_len: usize,
    /// Element type of the key-value cache.
    pub kv: KvDtype,
    /// How attention multiplies with a key-value cache of [`KvDtype::I8`].
    pub precision: Precision,
    /// What happens when the context is full.
    pub when_full: WhenFull,
    /// Most parts that a pass is cut into for an [`Executor`](crate::Executor): each has scratch memory of its own.
    pub parts: usize,
    /// Tokens of the longest source of an encoder–decoder, with those that the model expects around it; 0 for other
    /// models.
    pub source_len: usize,
    /// Texts that [`Session::search`](crate::Session::search) pursues at once, each with a key-value cache and logits of
    /// its own; 0 for a session that does not search.
    pub beams: usize,
}

impl SessionOptions {
    /// Tokens of a prefill batch unless something else is asked for.
    pub const PREFILL_LEN: usize = 16;

    /// Most parts of a pass.
    pub const PARTS_MAX: usize = 256;

    /// Most beams.
    pub const BEAMS_MAX: usize = 16;

    /// A context of that many positions: key-value cache in f32, prompts in batches of [`Self::PREFILL_LEN`] tokens, an
    /// error when full, one core.
    pub const fn new(context_len: usize) -> Self {
        let prefill_len = if context_len < Self::PREFILL_LEN {
            context_len
        } else {
            Self::PREFILL_LEN
        };
        Self {
            context_len,
            prefill_len,
            kv: KvDtype::F32,
            precision: Precision::Fast,
            when_full: WhenFull::Error,
            parts: 1,
            source_len: 0,
            beams: 0,
        }
    }

    /// The same with prompts in batches of up to `tokens`.
    pub const fn with_prefill_len(self, tokens: usize) -> Self {
        Self {
            prefill_len: tokens,
            ..self
        }
    }

    /// The same with another element type of the key-value cache.
    pub const fn with_kv(self, kv: KvDtype) -> Self {
        Self { kv, ..self }
    }

    /// The same with another way to multiply with a key-value cache of [`KvDtype::I8`].
    pub const fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same with another choice for a full context.
    pub const fn with_when_full(self, when_full: WhenFull) -> Self {
        Self { when_full, ..self }
    }

    /// The same with passes cut into up to `parts` parts, usually the number of cores.
    ///
    /// The session needs an executor for that ([`Session::with_executor`](crate::Session::with_executor)), and prompts
    /// gain only in batches of several times as many tokens.
    pub const fn with_parts(self, parts: usize) -> Self {
        Self { parts, ..self }
    }

    /// The same with room for sources of up to `tokens`, which an encoder–decoder needs.
    pub const fn with_source_len(self, tokens: usize) -> Self {
        Self {
            source_len: tokens,
            ..self
        }
    }

    /// The same with room for `beams` texts that a search pursues at once.
    pub const fn with_beams(self, beams: usize) -> Self {
        Self { beams, ..self }
    }

    /// Whether a session of that model can have these options.
    ///
    /// # Errors
    /// The context, the prefill batch, the parts, the source or the beams are out of range, or a ring is asked of a
    /// model with learned positions, or one that has no room beside the keys that the model keeps.
    pub const fn check(&self, config: &Config) -> Result<(), SessionError> {
        let learned = matches!(config.position, Position::Learned);
        if learned && matches!(self.when_full, WhenFull::Ring) {
            return Err(SessionError::RingNeedsRelativePositions);
        }
        let most = if learned {
            config.context_len
        } else {
            Config::CONTEXT_MAX
        };
        if self.context_len == 0 || self.context_len > most {
            return Err(SessionError::ContextLen {
                most,
                have: self.context_len,
            });
        }
        let keep = config.attention.keep();
        if matches!(self.when_full, WhenFull::Ring) && self.context_len <= keep {
            return Err(SessionError::RingKeeps {
                keep,
                have: self.context_len,
            });
        }
        if self.prefill_len == 0 || self.prefill_len > self.context_len {
            return Err(SessionError::PrefillLen {
                most: self.context_len,
                have: self.prefill_len,
            });
        }
        if self.parts == 0 || self.parts > Self::PARTS_MAX {
            return Err(SessionError::Parts {
                most: Self::PARTS_MAX,
                have: self.parts,
            });
        }
        let (least, most) = match config.source() {
            None => (0, 0),
            Some(source) if matches!(source.position, Position::Learned) => (1, source.len),
            Some(_) => (1, Config::CONTEXT_MAX),
        };
        if self.source_len < least || self.source_len > most {
            return Err(SessionError::SourceLen {
                most,
                have: self.source_len,
            });
        }
        // Beams that turn in a ring would have to be kept in step.
        let most = match self.when_full {
            WhenFull::Error => Self::BEAMS_MAX,
            WhenFull::Ring => 0,
        };
        if self.beams > most {
            return Err(SessionError::Beams {
                most,
                have: self.beams,
            });
        }
        Ok(())
    }
}

/// Size and kind of an encoder's memory.
///
/// ```
/// use attentive::EncoderOptions;
///
/// const OPTIONS: EncoderOptions = EncoderOptions::new(128);
/// assert_eq!(OPTIONS.len, 128);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct EncoderOptions {
    /// Tokens of the longest text, with those that the model expects around it.
    pub len: usize,
    /// Element type of a layer's keys and values.
    pub kv: KvDtype,
    /// How attention multiplies with keys and values of [`KvDtype::I8`].
    pub precision: Precision,
    /// Most parts that a pass is cut into for an [`Executor`](crate::Executor): each has scratch memory of its own.
    pub parts: usize,
}

impl EncoderOptions {
    /// Texts of up to that many tokens: keys and values in f32, one core.
    pub const fn new(len: usize) -> Self {
        Self {
            len,
            kv: KvDtype::F32,
            precision: Precision::Fast,
            parts: 1,
        }
    }

    /// The same with another element type of the keys and values.
    pub const fn with_kv(self, kv: KvDtype) -> Self {
        Self { kv, ..self }
    }

    /// The same with another way to multiply with keys and values of [`KvDtype::I8`].
    pub const fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same with passes cut into up to `parts` parts ([`Encoder::with_executor`](crate::Encoder::with_executor)).
    pub const fn with_parts(self, parts: usize) -> Self {
        Self { parts, ..self }
    }

    /// A session whose one batch is the text.
    pub(crate) const fn session(&self) -> SessionOptions {
        SessionOptions {
            context_len: self.len,
            prefill_len: self.len,
            kv: self.kv,
            precision: self.precision,
            when_full: WhenFull::Error,
            parts: self.parts,
            source_len: 0,
            beams: 0,
        }
    }
}
