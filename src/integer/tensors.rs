//! The tensors of an integer file: their kinds, shapes and bytes.

use crate::config::{Config, Ffn, Input, NormPlace, Output, Position};
use crate::error::ConfigError;
use crate::file::align_up;
use crate::kernels::integer::{QUAD, quads_len, stride};
use crate::tensors::{Profile, Role};

/// How a tensor of an integer file is read. Each of its parts begins at a multiple of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kind {
    /// A matrix: bytes, multipliers, biases, pair sums.
    Product,
    /// Rows that are looked up: bytes, steps.
    Table,
    /// Both with the same bytes: bytes, multipliers, biases, pair sums, steps.
    Tied,
    /// Gains, biases.
    Norm,
    /// Steps of rotary positions.
    Steps,
    /// Numbers of a layer.
    Scalars,
    /// A matrix of four bits a number: fours of rows, multipliers, biases, pair sums.
    Quads,
}

/// Bits of a number of the layers' matrices. Embeddings, outputs and heads have eight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Bits {
    /// i8.
    #[default]
    Eight,
    /// The upper half of an i8.
    Four,
}

impl Kind {
    /// Its code in the tensor table.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Product => 16,
            Self::Table => 17,
            Self::Tied => 18,
            Self::Norm => 19,
            Self::Steps => 20,
            Self::Scalars => 21,
            Self::Quads => 22,
        }
    }

    /// Inverse of [`Self::code`].
    pub(crate) const fn of(code: u8) -> Option<Self> {
        Some(match code {
            16 => Self::Product,
            17 => Self::Table,
            18 => Self::Tied,
            19 => Self::Norm,
            20 => Self::Steps,
            21 => Self::Scalars,
            22 => Self::Quads,
            _ => return None,
        })
    }
}

/// A tensor that a [`Config`] asks for in the integer profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Shape {
    /// What it is for.
    pub role: Role,
    /// Its layer, if it belongs to one; a source's follow the decoder's.
    pub layer: Option<usize>,
    /// How it is read.
    pub kind: Kind,
    /// Rows of a matrix or table; else 1.
    pub rows: usize,
    /// Columns of a row, numbers.
    pub cols: usize,
}

impl Shape {
    /// Whether a file may have it with four bits a number: a matrix of the layers, or of patches, of whole fours of rows, the
    /// gates' and the others'.
    const fn may_be_narrow(&self) -> bool {
        let is_last = matches!(self.role, Role::OutputWeight | Role::HeadWeight);
        matches!(self.kind, Kind::Product) && !is_last && self.rows.is_multiple_of(2 * QUAD)
    }

    /// The same with numbers of so many bits, where it may be.
    pub const fn with_bits(self, bits: Bits) -> Self {
        match bits {
            Bits::Four if self.may_be_narrow() => Self {
                kind: Kind::Quads,
                ..self
            },
            _ => self,
        }
    }

    /// The same as the file's table has it; `None` where that is of another kind.
    pub(crate) const fn of_code(self, code: u8) -> Option<Self> {
        let bits = match Kind::of(code) {
            Some(Kind::Quads) => Bits::Four,
            _ => Bits::Eight,
        };
        let shape = self.with_bits(bits);
        if shape.kind.code() == code {
            Some(shape)
        } else {
            None
        }
    }
}

/// Numbers of a layer: the multiplier of a product of query and key, mantissa and shift of a head's output, the
/// multiplier of what the feed-forward block's function gives; the first three of the attention to the source; 0.
pub(crate) struct Scalars;

impl Scalars {
    pub(crate) const LEN: usize = 8;
}

/// Whether the integer profile can run a model of that configuration.
///
/// # Errors
/// [`ConfigError::Integer`] with the first choice that it does not have, and those of [`Config::check`].
pub const fn check(config: &Config) -> Result<(), ConfigError> {
    if let Err(error) = config.check() {
        return Err(error);
    }
    let window_keeps = match config.attention.window {
        Some(window) => window.keep > 0,
        None => false,
    };
    let of_family = match (config.reading(), config.source()) {
        (Some(reading), _) => match reading.output {
            _ if reading.types > 0 => Some("types"),
            _ if reading.embedding_norm => Some("embedding_norm"),
            _ if reading.pooler => Some("pooler"),
            Output::Hidden | Output::Embedding { .. } => Some("output"),
            Output::Classes(_) | Output::Tags(_) | Output::Span => None,
        },
        (_, Some(source)) if matches!(source.input, Input::Frames { .. }) => Some("input"),
        _ => None,
    };
    let field = if matches!(config.norm_place, NormPlace::Post) {
        "norm_place"
    } else if !config.final_norm {
        "final_norm"
    } else if config.attention.sinks {
        "sinks"
    } else if config.attention.soft_cap.is_some() {
        "soft_cap"
    } else if window_keeps {
        "window_keep"
    } else if let Some(field) = of_family {
        field
    } else {
        return Ok(());
    };
    Err(ConfigError::Integer { field })
}

/// The tensors of a model of the integer profile in file order, with eight bits a number.
pub fn shapes(config: &Config) -> impl Iterator<Item = Shape> + '_ {
    (0..config.tensors_len_of(Profile::Integer)).filter_map(|index| config.integer_tensor(index))
}

impl Config {
    /// The integer profile's tensor at `index` in file order; `None` past the end.
    pub(crate) const fn integer_tensor(&self, index: usize) -> Option<Shape> {
        let Some((role, layer)) = self.place_at(Profile::Integer, index) else {
            return None;
        };
        let (kind, rows, cols) = match role {
            Role::TokenEmbedding if self.tied && self.reading().is_none() => {
                (Kind::Tied, self.vocab_len, self.dim)
            }
            Role::TokenEmbedding => (Kind::Table, self.vocab_len, self.dim),
            Role::PositionEmbedding => (Kind::Table, self.context_len, self.dim),
            Role::SourcePositionEmbedding => (Kind::Table, self.source_len(), self.dim),
            Role::RotarySteps => (Kind::Steps, 1, self.head_dim / 2),
            Role::Scalars => (Kind::Scalars, 1, Scalars::LEN),
            Role::AttnNormGain
            | Role::FfnNormGain
            | Role::CrossNormGain
            | Role::FinalNormGain
            | Role::SourceNormGain => (Kind::Norm, 1, self.dim),
            Role::PatchWeight => (Kind::Product, self.dim, self.patch()),
            Role::QkvWeight => (Kind::Product, self.qkv_dim(), self.dim),
            Role::OutWeight | Role::CrossOutWeight => (Kind::Product, self.dim, self.q_dim()),
            Role::CrossQWeight => (Kind::Product, self.q_dim(), self.dim),
            Role::CrossKvWeight => (Kind::Product, 2 * self.kv_dim(), self.dim),
            Role::UpWeight => (Kind::Product, self.up_dim(), self.dim),
            Role::DownWeight => (Kind::Product, self.dim, self.hidden_dim),
            Role::OutputWeight => (Kind::Product, self.vocab_len, self.dim),
            Role::HeadWeight => (Kind::Product, self.head_rows(), self.dim),
            _ => return None,
        };
        Some(Shape {
            role,
            layer,
            kind,
            rows,
            cols,
        })
    }

    /// Positions of the source; 0 without.
    const fn source_len(&self) -> usize {
        match self.source() {
            Some(source) => source.len,
            None => 0,
        }
    }

    /// Elements of a patch; 0 for tokens.
    pub(crate) const fn patch(&self) -> usize {
        match self.reading() {
            Some(reading) => reading.patch,
            None => 0,
        }
    }

    /// Rows of an encoder's head.
    pub(crate) const fn head_rows(&self) -> usize {
        match self.reading() {
            Some(reading) => reading.head_rows(),
            None => 0,
        }
    }

    /// Whether keys know their place by a rotation.
    pub(crate) const fn rotates(&self) -> bool {
        matches!(self.position, Position::Rotary { .. })
    }

    /// The function inside the feed-forward block.
    pub(crate) const fn function(&self) -> crate::kernels::integer::Function {
        use crate::kernels::integer::Function;
        match self.ffn {
            Ffn::SwiGlu | Ffn::Silu => Function::Silu,
            Ffn::GeGlu | Ffn::GeluTanh => Function::GeluTanh,
            Ffn::GeluErf => Function::GeluErf,
            Ffn::Relu => Function::Relu,
        }
    }
}

/// Bytes of a tensor's parts, in their order; those that it has not are empty.
#[derive(Clone, Copy)]
pub(crate) struct Parts([u64; 5]);

impl Parts {
    pub(crate) const fn of(shape: &Shape) -> Self {
        let (rows, cols) = (shape.rows as u64, shape.cols as u64);
        let bytes = rows.saturating_mul(stride(shape.cols) as u64);
        let words = rows * 4;
        Self(match shape.kind {
            Kind::Product => [bytes, words, words, words, 0],
            Kind::Table => [bytes, words, 0, 0, 0],
            Kind::Tied => [bytes, words, words, words, words],
            Kind::Norm => [cols * 2, cols * 2, 0, 0, 0],
            Kind::Steps | Kind::Scalars => [cols * 4, 0, 0, 0, 0],
            Kind::Quads => {
                let numbers = quads_len(shape.rows, shape.cols) as u64;
                let pairs = (shape.rows / QUAD) as u64 * 2;
                [numbers.saturating_mul(2), words, words, pairs * 4, 0]
            }
        })
    }

    /// Where part `index` begins in the tensor, and its length.
    pub(crate) const fn place(&self, index: usize) -> (u64, u64) {
        let mut at = 0;
        let mut rest: &[u64] = &self.0;
        let mut left = index;
        while let Some((&len, tail)) = rest.split_first() {
            if left == 0 {
                return (at, len);
            }
            at = align_up(at + len);
            rest = tail;
            left -= 1;
        }
        (at, 0)
    }

    /// Length of the tensor.
    pub(crate) const fn len(&self) -> u64 {
        let mut last = 0;
        let mut index = 0;
        let mut rest: &[u64] = &self.0;
        while let Some((&len, tail)) = rest.split_first() {
            if len > 0 {
                last = index;
            }
            rest = tail;
            index += 1;
        }
        let (at, len) = self.place(last);
        at.saturating_add(len)
    }
}
