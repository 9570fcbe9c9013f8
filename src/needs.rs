//! What a model and a session's options need of the code, so that a firmware links no more.
//!
//! [`Session::new`](crate::Session::new) takes any model: the code for every number format, cache and variety of block
//! is there. A firmware knows its model when it compiles, so it can say what it needs, as a type ([`Fit`]), and open
//! its sessions by [`Session::fitted`](crate::Session::fitted): the compiler drops the rest, which is more than half.

use core::marker::PhantomData;

use crate::config::{Architecture, Biases, Config, Ffn, Norm, Position, RotaryStyle};
use crate::file::{self, Entry};
use crate::kernels::{Kinds, Linked};
use crate::options::{EncoderOptions, SessionOptions};
use crate::tensors::TensorKind;
use crate::weights::Model;

/// Types of matrices and caches, and varieties of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Needs {
    kinds: Kinds,
    blocks: u16,
}

impl Needs {
    /// Those of every model and every session.
    pub const ALL: Self = Self {
        kinds: Kinds::ALL,
        blocks: u16::MAX,
    };

    const fn of_blocks(config: &Config) -> u16 {
        let Biases {
            qkv,
            out,
            up,
            down,
            output,
            ..
        } = config.biases;
        let biases = match qkv | out | up | down | output {
            true => BIASES,
            false => 0,
        };
        let family = match &config.architecture {
            Architecture::Decoder => 0,
            Architecture::Encoder(reading)
                if reading.pooler || reading.head_rows() > 0 || reading.patch > 0 =>
            {
                ENCODER | BIASES
            }
            Architecture::Encoder(_) => ENCODER,
            Architecture::EncoderDecoder(source) => TRANSLATES | position(&source.position),
        };
        ffn(config.ffn) | norm(config.norm) | position(&config.position) | biases | family
    }

    const fn contains(&self, others: &Self) -> bool {
        self.kinds.contains(others.kinds) && others.blocks & !self.blocks == 0
    }

    /// These and those of `others`.
    pub const fn and(self, others: Self) -> Self {
        Self {
            kinds: self.kinds.and(others.kinds),
            blocks: self.blocks | others.blocks,
        }
    }
}

/// Biases of projections.
const BIASES: u16 = 1 << 12;
/// What encoders have and decoders have not.
const ENCODER: u16 = 1 << 13;
/// What encoder–decoders have and decoders have not.
const TRANSLATES: u16 = 1 << 14;
/// What sessions with beams have.
const SEARCHES: u16 = 1 << 15;

const fn ffn(ffn: Ffn) -> u16 {
    1 << match ffn {
        Ffn::SwiGlu => 0,
        Ffn::GeGlu => 1,
        Ffn::GeluTanh => 2,
        Ffn::GeluErf => 3,
        Ffn::Relu => 4,
        Ffn::Silu => 5,
    }
}

const fn norm(norm: Norm) -> u16 {
    1 << match norm {
        Norm::Rms => 6,
        Norm::Layer => 7,
    }
}

const fn position(position: &Position) -> u16 {
    1 << match position {
        Position::None => return 0,
        Position::Learned => 8,
        Position::Sinusoidal => 9,
        Position::Rotary {
            style: RotaryStyle::Half,
            ..
        } => 10,
        Position::Rotary {
            style: RotaryStyle::Interleaved,
            ..
        } => 11,
    }
}

impl Model<'_> {
    /// What encoders of this model with these options need of the code.
    pub const fn encoder_needs(&self, options: &EncoderOptions) -> Needs {
        self.needs(&options.session())
    }

    /// What sessions of this model with these options need of the code.
    pub const fn needs(&self, options: &SessionOptions) -> Needs {
        let mut kinds = Kinds::NONE.with_kv(options.kv, options.precision);
        let mut table = self.table();
        let mut index = 0;
        while let Some((entry, rest)) = table.split_first() {
            // Both exist for a parsed file.
            if let (Some(shape), Some(format)) = (
                self.config().tensor(index),
                file::format_of(Entry::decode(*entry).format),
            ) && matches!(shape.kind, TensorKind::Matrix)
            {
                kinds = kinds.with_weights(format);
            }
            index += 1;
            table = rest;
        }
        let searches = match options.beams {
            0 => 0,
            _ => SEARCHES,
        };
        Needs {
            kinds,
            blocks: Needs::of_blocks(self.config()) | searches,
        }
    }
}

/// A type that stands for what a program's sessions need.
///
/// ```
/// use attentive::kernels::Backend;
/// use attentive::kernels::layout::KvDtype;
/// use attentive::{Arena, Fit, Model, Needs, Sequential, Session, SessionOptions, include_weights};
///
/// static MODEL: Model = include_weights!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/austen-1m-int8.attn"));
/// const OPTIONS: SessionOptions = SessionOptions::new(256).with_kv(KvDtype::I8);
/// static ARENA: Arena<{ MODEL.session_bytes(&OPTIONS) }> = Arena::new();
///
/// struct Austen;
///
/// impl Fit for Austen {
///     const NEEDS: Needs = MODEL.needs(&OPTIONS);
/// }
///
/// # let Ok(memory) = ARENA.take() else { return Ok(()) };
/// let mut session = Session::<Sequential, Austen>::fitted(&MODEL, &OPTIONS, memory, Backend::BASELINE)?;
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

/// Whether sessions that fit `F` can have that model and those options.
pub(crate) fn check<F: Fit>(model: &Model<'_>, options: &SessionOptions) -> bool {
    F::NEEDS.contains(&model.needs(options))
}

/// The kernels' view of what fits, and constants that the compiler drops branches by.
pub(crate) struct Of<F>(PhantomData<F>);

impl<F: Fit> Linked for Of<F> {
    const KINDS: Kinds = F::NEEDS.kinds;
}

impl<F: Fit> Of<F> {
    pub(crate) const fn ffn(kind: Ffn) -> bool {
        F::NEEDS.blocks & ffn(kind) != 0
    }

    pub(crate) const fn norm(kind: Norm) -> bool {
        F::NEEDS.blocks & norm(kind) != 0
    }

    pub(crate) const fn biases() -> bool {
        F::NEEDS.blocks & BIASES != 0
    }

    pub(crate) const fn encoder() -> bool {
        F::NEEDS.blocks & ENCODER != 0
    }

    pub(crate) const fn translates() -> bool {
        F::NEEDS.blocks & TRANSLATES != 0
    }

    pub(crate) const fn searches() -> bool {
        F::NEEDS.blocks & SEARCHES != 0
    }

    pub(crate) const fn learned() -> bool {
        F::NEEDS.blocks & position(&Position::Learned) != 0
    }

    pub(crate) const fn sinusoidal() -> bool {
        F::NEEDS.blocks & position(&Position::Sinusoidal) != 0
    }

    pub(crate) const fn rotary(style: RotaryStyle) -> bool {
        F::NEEDS.blocks & position(&Position::Rotary { style, base: 1.0 }) != 0
    }
}
