//! What a model of the integer profile and a session's options need of the code, so that a firmware links no more.
//!
//! As [`crate::Fit`] for floats: [`Session::new`](super::Session::new) and [`Encoder::new`](super::Encoder::new) take any
//! model, [`Session::fitted`](super::Session::fitted) and [`Encoder::fitted`](super::Encoder::fitted) those that a type
//! promises, and the compiler drops the rest.

use core::marker::PhantomData;

use crate::config::{Architecture, Config, Input, Pooling, Position, RotaryStyle};
use crate::file::Entry;
use crate::integer::model::Model;
use crate::integer::session::Options;
use crate::integer::tensors::{Bits, Kind};
use crate::kernels::integer::{Function, Linked};
use crate::options::WhenFull;

/// Varieties of models and of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Needs(u32);

/// Matrices of four bits a number.
const QUADS: u32 = 1 << 0;
/// Keys and values of four bits a number.
const NIBBLES: u32 = 1 << 1;
const RING: u32 = 1 << 2;
/// Texts that go on, and their logits.
const WRITES: u32 = 1 << 3;
/// Texts that are read as a whole, and a head.
const READS: u32 = 1 << 4;
/// Attention to a source.
const TRANSLATES: u32 = 1 << 5;
const PATCHES: u32 = 1 << 6;
const MEAN: u32 = 1 << 7;
/// Positions that are added.
const TABLE: u32 = 1 << 8;
const HALF: u32 = 1 << 9;
const INTERLEAVED: u32 = 1 << 10;
const GATED: u32 = 1 << 11;
const PLAIN: u32 = 1 << 12;
const WATCHES: u32 = 1 << 13;

const fn function(function: Function) -> u32 {
    1 << match function {
        Function::Relu => 16,
        Function::Silu => 17,
        Function::GeluTanh => 18,
        Function::GeluErf => 19,
    }
}

const fn position(position: &Position) -> u32 {
    match position {
        Position::None => 0,
        Position::Learned | Position::Sinusoidal => TABLE,
        Position::Rotary { style, .. } => rotary(*style),
    }
}

const fn rotary(style: RotaryStyle) -> u32 {
    match style {
        RotaryStyle::Half => HALF,
        RotaryStyle::Interleaved => INTERLEAVED,
    }
}

impl Needs {
    /// Those of every model and every session.
    pub const ALL: Self = Self(u32::MAX);
    /// That of looking at the weights of attention ([`Session::watch`](super::Session::watch)), which no model needs.
    pub const WATCH: Self = Self(WATCHES);

    /// These and those of `others`.
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    const fn contains(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    const fn of_config(config: &Config) -> u32 {
        let family = match &config.architecture {
            Architecture::Decoder => WRITES,
            Architecture::Encoder(reading) => {
                let patches = if reading.patch > 0 { PATCHES } else { 0 };
                let mean = matches!(reading.pooling, Pooling::Mean);
                READS | patches | if mean { MEAN } else { 0 }
            }
            Architecture::EncoderDecoder(source) => {
                let tokens = matches!(source.input, Input::Tokens);
                let of_source = if tokens {
                    position(&source.position)
                } else {
                    0
                };
                WRITES | TRANSLATES | of_source
            }
        };
        let ffn = if config.ffn.is_gated() { GATED } else { PLAIN };
        family | position(&config.position) | ffn | function(config.function())
    }
}

impl Model<'_> {
    /// What encoders of this model need of the code.
    pub const fn encoder_needs(&self) -> Needs {
        let mut table = self.table_of_tensors();
        let mut needs = Needs::of_config(self.config());
        while let Some((entry, rest)) = table.split_first() {
            if Entry::decode(*entry).format == Kind::Quads.code() {
                needs |= QUADS;
            }
            table = rest;
        }
        Needs(needs)
    }

    /// What sessions of this model with these options need of the code.
    pub const fn needs(&self, options: &Options) -> Needs {
        let kv = match options.kv {
            Bits::Eight => 0,
            Bits::Four => NIBBLES,
        };
        let when_full = match options.when_full {
            WhenFull::Error => 0,
            WhenFull::Ring => RING,
        };
        self.encoder_needs().and(Needs(kv | when_full))
    }
}

/// A type that stands for what a program's sessions and encoders need.
///
/// ```
/// use attentive::integer::{Fit, Model, Needs, Options, Session};
/// use attentive::kernels::Backend;
/// use attentive::{Arena, include_integer_weights};
///
/// static MODEL: Model = include_integer_weights!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/austen-1m-integer.attn"));
/// const OPTIONS: Options = Options::new(64);
/// static ARENA: Arena<{ MODEL.session_bytes(&OPTIONS) }> = Arena::new();
///
/// struct Austen;
///
/// impl Fit for Austen {
///     const NEEDS: Needs = MODEL.needs(&OPTIONS);
/// }
///
/// # let Ok(memory) = ARENA.take() else { return Ok(()) };
/// let mut session = Session::<Austen>::fitted(&MODEL, &OPTIONS, memory, Backend::BASELINE)?;
/// session.prompt("It is a truth")?;
/// # Ok::<(), attentive::SessionError>(())
/// ```
pub trait Fit {
    /// What they need.
    const NEEDS: Needs;
}

/// Every model and all options.
#[derive(Clone, Copy, Debug)]
pub struct Anything;

impl Fit for Anything {
    const NEEDS: Needs = Needs::ALL;
}

/// Whether what fits `F` can have these.
pub(crate) fn check<F: Fit>(needs: Needs) -> bool {
    F::NEEDS.contains(needs)
}

/// The kernels' view of what fits, and constants that the compiler drops branches by.
pub(crate) struct Of<F>(PhantomData<F>);

impl<F: Fit> Linked for Of<F> {
    const QUADS: bool = Self::has(QUADS);
}

impl<F: Fit> Of<F> {
    pub(crate) const NIBBLES: bool = Self::has(NIBBLES);
    pub(crate) const RING: bool = Self::has(RING);
    pub(crate) const WRITES: bool = Self::has(WRITES);
    pub(crate) const READS: bool = Self::has(READS);
    pub(crate) const TRANSLATES: bool = Self::has(TRANSLATES);
    pub(crate) const PATCHES: bool = Self::has(PATCHES);
    pub(crate) const MEAN: bool = Self::has(MEAN);
    pub(crate) const TABLE: bool = Self::has(TABLE);
    pub(crate) const GATED: bool = Self::has(GATED);
    pub(crate) const PLAIN: bool = Self::has(PLAIN);
    pub(crate) const WATCHES: bool = Self::has(WATCHES);

    const fn has(what: u32) -> bool {
        F::NEEDS.0 & what != 0
    }

    pub(crate) const fn function(which: Function) -> bool {
        Self::has(function(which))
    }

    pub(crate) const fn rotary(style: RotaryStyle) -> bool {
        Self::has(rotary(style))
    }
}
