//! What can go wrong: one small enum per operation, with what was needed and what was there.

use core::error::Error;
use core::fmt;

use crate::kernels::ShapeError;
use crate::tensors::Role;

/// A [`Config`](crate::Config) that no model can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ConfigError {
    /// A dimension is outside its limits.
    OutOfRange {
        /// Name of the field.
        field: &'static str,
        /// Smallest value.
        least: usize,
        /// Largest value.
        most: usize,
        /// Value found.
        have: usize,
    },
    /// The width of a head is not a multiple of the lane count.
    HeadDim {
        /// What it must be a multiple of.
        step: usize,
        /// Width found.
        have: usize,
    },
    /// The query heads cannot be shared out evenly.
    Grouping {
        /// Query heads.
        heads: usize,
        /// Key and value heads.
        kv_heads: usize,
    },
    /// A real number is not finite or outside its limits.
    Number {
        /// Name of the field.
        field: &'static str,
    },
    /// A bias for a norm that has none.
    NormBias,
    /// A choice that an encoder cannot have, or not with its output.
    Encoder {
        /// Name of the field.
        field: &'static str,
    },
    /// A choice that the integer profile does not have.
    Integer {
        /// Name of the field.
        field: &'static str,
    },
    /// A code or flag that this version does not know.
    Unknown {
        /// Name of the field.
        field: &'static str,
    },
}

impl ConfigError {
    /// The same as `Display`, without the figures, for a compile-time `panic!`.
    pub const fn message(&self) -> &'static str {
        match self {
            Self::OutOfRange { .. } => "a dimension of the model is outside its limits",
            Self::HeadDim { .. } => "the width of a head must be a multiple of 8",
            Self::Grouping { .. } => "the query heads must be a multiple of the key heads",
            Self::Number { .. } => "a real number of the configuration is not finite or too large",
            Self::NormBias => "RMSNorm has no bias",
            Self::Encoder { .. } => "an encoder with that output cannot have that choice",
            Self::Integer { .. } => "the integer profile does not have that choice",
            Self::Unknown { .. } => {
                "the configuration holds a code that this version does not know"
            }
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        match *self {
            Self::OutOfRange {
                field,
                least,
                most,
                have,
            } => {
                write!(f, ": {field} is {have}, not in {least}..={most}")
            }
            Self::HeadDim { have, .. } => write!(f, ": {have}"),
            Self::Grouping { heads, kv_heads } => write!(f, ": {heads} and {kv_heads}"),
            Self::Number { field }
            | Self::Unknown { field }
            | Self::Encoder { field }
            | Self::Integer { field } => {
                write!(f, ": {field}")
            }
            Self::NormBias => Ok(()),
        }
    }
}

impl Error for ConfigError {}

/// Bytes that are no valid weights file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WeightsError {
    /// The file ends before its header and tables do.
    TooShort {
        /// Bytes that the header and tables take.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// The first four bytes are not `ATTN`.
    Magic,
    /// A version that this reader does not know.
    Version {
        /// Version found.
        have: u16,
    },
    /// The length in the header is not the length of the bytes: truncated, or something was appended.
    FileLen {
        /// Length in the header.
        need: u64,
        /// Bytes there.
        have: usize,
    },
    /// Header or tables are damaged.
    HeaderChecksum,
    /// A family of models that this reader does not know.
    Architecture {
        /// Code found.
        code: u8,
    },
    /// The file holds the numbers of the other profile.
    Profile {
        /// Whether it holds integers.
        integer: bool,
    },
    /// A reserved field is not zero.
    Reserved,
    /// The configuration is impossible.
    Config(ConfigError),
    /// The table has not the tensors that the configuration asks for.
    TensorsLen {
        /// Tensors that the configuration asks for.
        need: usize,
        /// Tensors in the table.
        have: usize,
    },
    /// An entry of the tensor table is not what the configuration asks for at this place.
    Tensor {
        /// Number of the entry.
        index: usize,
        /// What is wrong with it.
        fault: TensorFault,
    },
    /// The provenance record is misplaced, too long or not UTF-8.
    Provenance,
    /// The tokenizer section is misplaced or inconsistent.
    Tokenizer,
    /// Bytes after the last tensor, or too few for it.
    End,
    /// The tensors, the tokenizer or the provenance record are damaged.
    PayloadChecksum {
        /// Checksum in the header.
        need: u32,
        /// Checksum of the bytes.
        have: u32,
    },
    /// The bytes do not begin at a multiple of 64 in memory.
    Misaligned {
        /// Distance from the last multiple of 64.
        offset: usize,
    },
    /// The model has no such tensor.
    Absent {
        /// Role asked for.
        role: Role,
    },
}

/// What is wrong with an entry of the tensor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TensorFault {
    /// Another role or layer belongs here.
    Role,
    /// The format is unknown or not one that this tensor can have.
    Format,
    /// Rows or columns disagree with the configuration.
    Shape,
    /// The tensor does not begin where the one before ends.
    Offset,
    /// The length disagrees with format and shape, or exceeds the file.
    Len,
}

impl WeightsError {
    /// The same as `Display`, without the figures, for a compile-time `panic!`.
    pub const fn message(&self) -> &'static str {
        match self {
            Self::TooShort { .. } => "weights file: it ends before its header and tables do",
            Self::Magic => "weights file: it does not begin with `ATTN`",
            Self::Version { .. } => "weights file: this version of the format is unknown",
            Self::FileLen { .. } => "weights file: truncated, or bytes were appended",
            Self::HeaderChecksum => "weights file: the header or the tables are damaged (CRC-32)",
            Self::Architecture { .. } => "weights file: this family of models is unknown",
            Self::Profile { integer: true } => {
                "weights file: of the integer profile, where floats are expected"
            }
            Self::Profile { integer: false } => {
                "weights file: of floats, where the integer profile is expected"
            }
            Self::Reserved => "weights file: a reserved field is not zero",
            Self::Config(error) => error.message(),
            Self::TensorsLen { .. } => "weights file: wrong number of tensors",
            Self::Tensor { fault, .. } => match fault {
                TensorFault::Role => "weights file: a tensor is missing, doubled or out of order",
                TensorFault::Format => {
                    "weights file: a tensor's number format is not allowed there"
                }
                TensorFault::Shape => "weights file: a tensor's shape disagrees with the model",
                TensorFault::Offset => "weights file: a tensor is misplaced or overlaps another",
                TensorFault::Len => "weights file: a tensor's length is wrong or exceeds the file",
            },
            Self::Provenance => "weights file: the provenance record is malformed",
            Self::Tokenizer => "weights file: the tokenizer is malformed",
            Self::End => "weights file: it does not end where its last tensor does",
            Self::PayloadChecksum { .. } => "weights file: the payload is damaged (CRC-32)",
            Self::Misaligned { .. } => "weights: the bytes must begin at a multiple of 64",
            Self::Absent { .. } => "weights: the model has no such tensor",
        }
    }
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        match *self {
            Self::TooShort { need, have } => write!(f, ": need {need} bytes, have {have}"),
            Self::FileLen { need, have } => write!(f, ": need {need} bytes, have {have}"),
            Self::Version { have } => write!(f, ": {have}"),
            Self::Architecture { code } => write!(f, ": code {code}"),
            Self::Config(error) => write!(f, " ({error})"),
            Self::TensorsLen { need, have } => write!(f, ": need {need}, have {have}"),
            Self::Tensor { index, .. } => write!(f, ": entry {index}"),
            Self::PayloadChecksum { need, have } => write!(f, ": need {need:08x}, have {have:08x}"),
            Self::Misaligned { offset } => write!(f, ", these are {offset} past one"),
            Self::Absent { role } => write!(f, ": {role:?}"),
            _ => Ok(()),
        }
    }
}

impl Error for WeightsError {}

/// What is wrong with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SnapshotFault {
    /// It is shorter than it says, or than any.
    Torn {
        /// Bytes that it says.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// It is none, or of another version.
    Format,
    /// Bytes have changed since it was written.
    Checksum {
        /// The checksum that was written.
        need: u32,
        /// That of the bytes.
        have: u32,
    },
    /// It is of another model.
    Model,
    /// It is of a session whose keys lie otherwise.
    Cache,
}

impl fmt::Display for SnapshotFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn { need, have } => write!(f, "has {have} bytes of {need}: read it whole"),
            Self::Format => f.write_str("is none that this version wrote"),
            Self::Checksum { need, have } => write!(
                f,
                "has the checksum {have:#010x} instead of {need:#010x}: bytes have changed"
            ),
            Self::Model => f.write_str("is of another model's text"),
            Self::Cache => f.write_str(
                "is of a session with another cache: bits of a key, a ring or none, a ring's length",
            ),
        }
    }
}

impl From<SnapshotFault> for SessionError {
    fn from(fault: SnapshotFault) -> Self {
        Self::Snapshot(fault)
    }
}

/// A session that cannot begin or go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SessionError {
    /// The weights cannot be used.
    Weights(WeightsError),
    /// The context is empty, or longer than the model's positions reach.
    ContextLen {
        /// Longest context.
        most: usize,
        /// Context asked for.
        have: usize,
    },
    /// A prefill batch must hold at least one token and no more than the context.
    PrefillLen {
        /// Longest batch.
        most: usize,
        /// Batch asked for.
        have: usize,
    },
    /// A pass is cut into at least one part and no more than
    /// [`SessionOptions::PARTS_MAX`](crate::SessionOptions::PARTS_MAX).
    Parts {
        /// Most parts.
        most: usize,
        /// Parts asked for.
        have: usize,
    },
    /// An encoder–decoder needs room for a source, no longer than its positions reach; other models have none.
    SourceLen {
        /// Longest source.
        most: usize,
        /// Length asked for.
        have: usize,
    },
    /// A session has at most [`SessionOptions::BEAMS_MAX`](crate::SessionOptions::BEAMS_MAX) beams, in a ring none;
    /// to search, it needs at least one.
    Beams {
        /// Most beams.
        most: usize,
        /// Beams asked for.
        have: usize,
    },
    /// The model reads something else.
    Input {
        /// What it reads.
        need: &'static str,
    },
    /// Frames that are no whole frames, or none.
    Frames {
        /// Elements of a frame.
        bins: usize,
        /// Elements there.
        have: usize,
    },
    /// Patches that are no whole patches, or none.
    Patches {
        /// Elements of a patch.
        patch: usize,
        /// Elements there.
        have: usize,
    },
    /// An encoder–decoder that has read nothing yet.
    NoSource,
    /// What cannot be restored.
    Snapshot(SnapshotFault),
    /// A table of positions ends, so such a model cannot slide its context in a ring.
    RingNeedsRelativePositions,
    /// A ring that has room for the first keys of the text, which the model's windows keep, and for no others.
    RingKeeps {
        /// Keys that are kept; the context must be longer.
        keep: usize,
        /// Context asked for.
        have: usize,
    },
    /// The model, or the type of the cache, needs code that was not linked: it is not what
    /// [`Fit::NEEDS`](crate::Fit::NEEDS) says.
    NotLinked,
    /// A model of another family: a [`Session`](crate::Session) runs decoders, with a source or without, an
    /// [`Encoder`](crate::Encoder) encoders.
    Family,
    /// The model has another output, or there was no run.
    Output {
        /// What was asked for.
        need: &'static str,
    },
    /// A text without a token, or types that are not as many as the tokens.
    Text {
        /// Types.
        types: usize,
        /// Tokens.
        have: usize,
    },
    /// A type that the model has not.
    Type {
        /// Number of types.
        types: usize,
        /// Type found.
        have: u32,
    },
    /// The memory is smaller than [`Model::session_bytes`](crate::Model::session_bytes), or
    /// [`Model::encoder_bytes`](crate::Model::encoder_bytes).
    Memory {
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// The memory does not begin at a multiple of 64.
    Misaligned {
        /// Distance from the last multiple of 64.
        offset: usize,
    },
    /// The context is full.
    ContextFull {
        /// Positions needed.
        need: usize,
        /// Positions there.
        have: usize,
    },
    /// A token that the model has not.
    Token {
        /// Number of tokens.
        vocab_len: usize,
        /// Token found.
        have: u32,
    },
    /// A step without a prompt: there is nothing to continue.
    NoPrompt,
    /// No logit is a number.
    NoLogit,
    /// Text could not be turned into tokens.
    Tokenizer(TokenizeError),
    /// A kernel refused its shapes. The session checks them all, so this is a defect of the crate.
    Shape(ShapeError),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Weights(error) => write!(f, "{error}"),
            Self::ContextLen { most, have } => {
                write!(f, "a context of {have} positions is not in 1..={most}")
            }
            Self::PrefillLen { most, have } => {
                write!(f, "a prefill batch of {have} tokens is not in 1..={most}")
            }
            Self::Parts { most, have } => {
                write!(f, "{have} parts of a pass are not in 1..={most}")
            }
            Self::SourceLen { most: 0, .. } => {
                f.write_str("only encoder–decoders read a source: its length must be 0")
            }
            Self::SourceLen { most, have } => {
                write!(f, "a source of {have} tokens is not in 1..={most}")
            }
            Self::Beams { have: 0, .. } => {
                f.write_str("a search needs beams: open the session with with_beams")
            }
            Self::Beams { most, have } => write!(f, "{have} beams are more than {most}"),
            Self::Input { need } => write!(f, "this model reads {need}"),
            Self::Frames { bins, have } => {
                write!(f, "{have} elements are not frames of {bins}, one at least")
            }
            Self::Patches { patch, have } => {
                write!(f, "{have} elements are not patches of {patch}, one at least")
            }
            Self::Snapshot(fault) => write!(f, "the snapshot {fault}"),
            Self::NoSource => f.write_str("nothing to attend to: read a source first"),
            Self::RingNeedsRelativePositions => {
                f.write_str("positions of a table end with it: no ring")
            }
            Self::RingKeeps { keep, have } => {
                write!(
                    f,
                    "a ring of {have} positions has no room beside the {keep} that the model keeps"
                )
            }
            Self::NotLinked => f.write_str(
                "this program links no code for that model or cache: NEEDS must be model.needs(&options)",
            ),
            Self::Family => f.write_str(
                "a model of another family: sessions run decoders, and encoders are run by Encoder",
            ),
            Self::Output { need } => write!(f, "this model does not give {need}, or none was run"),
            Self::Text { have: 0, .. } => f.write_str("a text without a token"),
            Self::Text { types, have } => write!(f, "{types} types for {have} tokens"),
            Self::Type { types, have } => write!(f, "type {have} is not below {types}"),
            Self::Memory { need, have } => {
                write!(f, "the session needs {need} bytes of memory, not {have}")
            }
            Self::Misaligned { offset } => {
                write!(
                    f,
                    "memory must begin at a multiple of 64, not {offset} past one"
                )
            }
            Self::ContextFull { need, have } => {
                write!(f, "the context is full: need {need} positions, have {have}")
            }
            Self::Token { vocab_len, have } => write!(f, "token {have} is not below {vocab_len}"),
            Self::NoPrompt => f.write_str("nothing to continue: give a prompt first"),
            Self::NoLogit => f.write_str("no logit is a number"),
            Self::Tokenizer(error) => write!(f, "{error}"),
            Self::Shape(error) => write!(f, "a kernel refused a shape: {error:?}"),
        }
    }
}

impl Error for SessionError {}

impl From<WeightsError> for SessionError {
    fn from(error: WeightsError) -> Self {
        Self::Weights(error)
    }
}

impl From<ShapeError> for SessionError {
    fn from(error: ShapeError) -> Self {
        Self::Shape(error)
    }
}

impl From<TokenizeError> for SessionError {
    fn from(error: TokenizeError) -> Self {
        Self::Tokenizer(error)
    }
}

/// Text that could not be turned into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TokenizeError {
    /// The file has no tokenizer: give tokens instead.
    Absent,
    /// The buffer for one word is too short.
    Scratch {
        /// Elements needed.
        need: usize,
        /// Elements there.
        have: usize,
    },
    /// The buffer for the tokens is too short.
    Tokens {
        /// Elements there.
        have: usize,
    },
    /// The vocabulary has no token for this byte.
    Byte {
        /// The byte.
        byte: u8,
    },
}

impl fmt::Display for TokenizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Absent => f.write_str("the weights file has no tokenizer"),
            Self::Scratch { need, have } => {
                write!(
                    f,
                    "the tokenizer's scratch needs {need} elements, not {have}"
                )
            }
            Self::Tokens { have } => write!(f, "the text has more than {have} tokens"),
            Self::Byte { byte } => write!(f, "the vocabulary has no token for byte {byte:#04x}"),
        }
    }
}

impl Error for TokenizeError {}

/// The memory of an [`Arena`](crate::Arena) was taken before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ArenaTaken;

impl fmt::Display for ArenaTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the arena was taken before")
    }
}

impl Error for ArenaTaken {}
