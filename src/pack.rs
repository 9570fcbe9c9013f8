//! Writing `.attn` files: what a trainer or an importer needs.
//!
//! A [`Recipe`] says what the file holds, [`Recipe::file_bytes`] how long it will be, and [`Recipe::write`] fills a
//! buffer of that length, asking a closure for one tensor after the other. Nothing is allocated. Kernels' own
//! [`kernels::pack`](crate::kernels::pack) turns row-major floats into the packed formats; [`TensorMut::write`] calls
//! it.
//!
//! ```
//! use attentive::kernels::layout::WeightFormat;
//! use attentive::pack::{Recipe, ScaleMethod, TokenizerParts};
//! use attentive::{Attention, Biases, Block, Config, Ffn, Model, Norm, NormPlace, Position};
//!
//! let config = Config {
//!     architecture: attentive::Architecture::Decoder,
//!     vocab_len: 256, dim: 8, layers: 1, heads: 1, kv_heads: 1, head_dim: 8, hidden_dim: 16,
//!     context_len: 32, norm: Norm::Rms, norm_place: NormPlace::Pre, norm_eps: 1e-5, final_norm: true,
//!     ffn: Ffn::Relu, position: Position::None, tied: true, biases: Biases::NONE,
//!     attention: Attention::PLAIN, embedding_scale: 1.0, begin_of_text: None, end_of_text: None,
//! };
//! let recipe = Recipe {
//!     config: &config,
//!     tokenizer: TokenizerParts::Bytes { offset: 0 },
//!     provenance: "made = \"for a test\"\n",
//!     format: &|_tensor| WeightFormat::F32,
//! };
//! let mut blocks = vec![Block::ZERO; recipe.file_bytes()? / Block::LEN];
//! let file = Block::bytes_mut(&mut blocks);
//! recipe.write(file, |mut tensor| {
//!     let values = vec![0.5; tensor.shape.rows * tensor.shape.cols];
//!     tensor.write(&values, ScaleMethod::AbsMax)
//! })?;
//! assert_eq!(Model::parse(file)?.config(), &config);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::error::Error;
use core::fmt;

use half::f16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::config::{Architecture, Config};
use crate::error::{ConfigError, WeightsError};
use crate::file::{
    self, ALIGN, AttentionRecord, CRC, ConfigRecord, EncoderRecord, Entry, Header, MAGIC,
    MatrixBytes, NO_LAYER, PROVENANCE_BYTES_MAX, SourceRecord, VERSION, align_up,
};
use crate::kernels::layout::WeightFormat;
use crate::kernels::pack;
use crate::parse::header_crc;
use crate::tensors::{Profile, TensorKind, TensorShape};
use crate::tokenizer::pack as tokenizer_pack;
use crate::weights::tensor_bytes;

pub use crate::kernels::pack::ScaleMethod;
pub use crate::tokenizer::pack::{TokenizerParts, UnigramParts, WordPieceParts, alphabet_byte};

/// What a file is to hold.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    /// Dimensions.
    pub config: &'a Config,
    /// Tokenizer.
    pub tokenizer: TokenizerParts<'a>,
    /// Where the model comes from, as TOML: data and their licence, command, seed, metrics. At most 16 KiB.
    pub provenance: &'a str,
    /// The format of each tensor; a vector is `F32` or `F16`.
    pub format: &'a dyn Fn(&TensorShape) -> WeightFormat,
}

/// One tensor of the file being written.
#[derive(Debug)]
pub struct TensorMut<'o> {
    /// Role, layer and shape.
    pub shape: TensorShape,
    /// Where its numbers go.
    pub data: TensorData<'o>,
}

/// The parts of a tensor, in the lengths and places that [`WeightFormat`] states.
#[derive(Debug)]
pub enum TensorData<'o> {
    /// A vector of f32.
    VectorF32(&'o mut [f32]),
    /// A vector of f16.
    VectorF16(&'o mut [f16]),
    /// [`WeightFormat::F32`].
    F32(&'o mut [f32]),
    /// [`WeightFormat::F16`].
    F16(&'o mut [f16]),
    /// [`WeightFormat::I8Row`].
    I8Row {
        /// Packed integers.
        weights: &'o mut [i8],
        /// One a row.
        scales: &'o mut [f16],
        /// One a row.
        corrections: &'o mut [i32],
    },
    /// [`WeightFormat::I8Group32`].
    I8Group32 {
        /// Packed integers.
        weights: &'o mut [i8],
        /// One for each 32 columns of a row.
        scales: &'o mut [f16],
    },
    /// [`WeightFormat::I4Group32`].
    I4Group32 {
        /// Packed nibbles.
        weights: &'o mut [u8],
        /// One for each 32 columns of a row.
        scales: &'o mut [f16],
    },
    /// [`WeightFormat::U4Group32`].
    U4Group32 {
        /// Packed nibbles.
        weights: &'o mut [u8],
        /// One for each 32 columns of a row.
        scales: &'o mut [f16],
        /// One for each 32 columns of a row.
        minima: &'o mut [f16],
    },
}

impl TensorMut<'_> {
    /// Rounds and packs a row-major matrix (rows, cols), or a vector; an integer format gets its scales (and minima) by
    /// `method`.
    ///
    /// # Errors
    /// A wrong number of values, or a value that the format cannot hold.
    pub fn write(&mut self, values: &[f32], method: ScaleMethod<'_>) -> Result<(), PackError> {
        let (rows, cols) = (self.shape.rows, self.shape.cols);
        match &mut self.data {
            TensorData::I8Row { scales, .. } => {
                pack::choose_scales(WeightFormat::I8Row, rows, cols, values, method, scales)?;
            }
            TensorData::I8Group32 { scales, .. } => {
                pack::choose_scales(WeightFormat::I8Group32, rows, cols, values, method, scales)?;
            }
            TensorData::I4Group32 { scales, .. } => {
                pack::choose_scales(WeightFormat::I4Group32, rows, cols, values, method, scales)?;
            }
            TensorData::U4Group32 { scales, minima, .. } => {
                pack::choose_scales_and_minima(rows, cols, values, method, scales, minima)?;
            }
            _ => {}
        }
        self.pack(values)
    }

    /// The same with scales that the caller chose, in the places that
    /// [`scale_index`](crate::kernels::pack::scale_index) states; none for a format without scales. A format with
    /// minima takes them behind its scales, in the same places.
    ///
    /// # Errors
    /// A wrong number of values or scales, or a value that the format cannot hold.
    pub fn write_with_scales(&mut self, values: &[f32], given: &[f16]) -> Result<(), PackError> {
        self.copy_scales(given)?;
        self.pack(values)
    }

    /// Packs a row-major matrix (rows, cols) of integers that stand for the weights already, as a file holds them that
    /// somebody else quantized; integers, scales and minima keep their values. `scales` is as for
    /// [`write_with_scales`](Self::write_with_scales).
    ///
    /// # Errors
    /// A format without integers, a wrong number of them or of scales, or an integer that the format does not have:
    /// −128..=127 in `I8Row` and `I8Group32`, −8..=7 in `I4Group32`, 0..=15 in `U4Group32`.
    pub fn write_levels(&mut self, levels: &[i8], scales: &[f16]) -> Result<(), PackError> {
        self.copy_scales(scales)?;
        let (rows, cols) = (self.shape.rows, self.shape.cols);
        match &mut self.data {
            TensorData::I8Row {
                weights,
                corrections,
                ..
            } => pack::pack_i8_row_levels(rows, cols, levels, weights, corrections)?,
            TensorData::I8Group32 { weights, .. } => {
                pack::pack_i8_group32_levels(rows, cols, levels, weights)?;
            }
            TensorData::I4Group32 { weights, .. } => {
                pack::pack_i4_group32_levels(rows, cols, levels, weights)?;
            }
            TensorData::U4Group32 { weights, .. } => {
                pack::pack_u4_group32_levels(rows, cols, levels, weights)?;
            }
            TensorData::VectorF32(_) | TensorData::F32(_) => {
                return Err(PackError::Levels(WeightFormat::F32));
            }
            TensorData::VectorF16(_) | TensorData::F16(_) => {
                return Err(PackError::Levels(WeightFormat::F16));
            }
        }
        Ok(())
    }

    /// Scales, then minima.
    fn copy_scales(&mut self, given: &[f16]) -> Result<(), PackError> {
        let (scales, minima): (&mut [f16], &mut [f16]) = match &mut self.data {
            TensorData::I8Row { scales, .. }
            | TensorData::I8Group32 { scales, .. }
            | TensorData::I4Group32 { scales, .. } => (scales, &mut []),
            TensorData::U4Group32 { scales, minima, .. } => (scales, minima),
            _ => (&mut [], &mut []),
        };
        let (need, have) = (scales.len() + minima.len(), given.len());
        if need != have {
            return Err(PackError::Scales { need, have });
        }
        let (first, last) = given.split_at(scales.len());
        scales.copy_from_slice(first);
        minima.copy_from_slice(last);
        Ok(())
    }

    fn pack(&mut self, values: &[f32]) -> Result<(), PackError> {
        let (rows, cols) = (self.shape.rows, self.shape.cols);
        let (need, have) = (rows * cols, values.len());
        if need != have {
            return Err(PackError::Values { need, have });
        }
        match &mut self.data {
            TensorData::VectorF32(vector) => vector.copy_from_slice(values),
            TensorData::VectorF16(vector) => {
                for (to, &from) in vector.iter_mut().zip(values) {
                    *to = f16::from_f32(from);
                }
            }
            TensorData::F32(weights) => pack::pack_f32(rows, cols, values, weights)?,
            TensorData::F16(weights) => pack::pack_f16(rows, cols, values, weights)?,
            TensorData::I8Row {
                weights,
                scales,
                corrections,
            } => {
                pack::pack_i8_row(rows, cols, values, scales, weights, corrections)?;
            }
            TensorData::I8Group32 { weights, scales } => {
                pack::pack_i8_group32(rows, cols, values, scales, weights)?;
            }
            TensorData::I4Group32 { weights, scales } => {
                pack::pack_i4_group32(rows, cols, values, scales, weights)?;
            }
            TensorData::U4Group32 {
                weights,
                scales,
                minima,
            } => {
                pack::pack_u4_group32(rows, cols, values, scales, minima, weights)?;
            }
        }
        Ok(())
    }
}

/// Where the sections of a file begin.
pub(crate) struct Places {
    tables_end: u64,
    provenance: u64,
    tokenizer: u64,
    pub(crate) tensors: u64,
}

impl Recipe<'_> {
    /// Length of the file in bytes, a multiple of 64.
    ///
    /// # Errors
    /// A configuration, tokenizer or provenance record that no file can hold.
    pub fn file_bytes(&self) -> Result<usize, PackError> {
        let mut end = self.head().places()?.tensors;
        let mut index = 0;
        while let Some(shape) = self.config.tensor(index) {
            let format = (self.format)(&shape);
            let bytes = tensor_bytes(&shape, format).ok_or(PackError::Format { shape, format })?;
            end = align_up(end.saturating_add(bytes));
            index += 1;
        }
        usize::try_from(end).map_err(|_| PackError::Len { need: end, have: 0 })
    }

    /// Writes the file into `out`, asking `fill` for the content of each tensor in file order.
    ///
    /// # Errors
    /// Those of [`Recipe::file_bytes`], a wrong length or alignment of `out`, and whatever `fill` returns.
    pub fn write<E: From<PackError>>(
        &self,
        out: &mut [u8],
        mut fill: impl FnMut(TensorMut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let head = self.head();
        let places = head.begin(out, self.file_bytes()?)?;
        self.write_tensors(out, &head, &places, &mut fill)?;
        head.finish(out, &places)?;
        Ok(())
    }

    fn head(&self) -> Head<'_> {
        Head {
            config: self.config,
            tokenizer: self.tokenizer,
            provenance: self.provenance,
            profile: Profile::Float,
            flags: 0,
            record: None,
        }
    }

    fn write_tensors<E: From<PackError>>(
        &self,
        out: &mut [u8],
        head: &Head<'_>,
        places: &Places,
        fill: &mut impl FnMut(TensorMut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut offset = places.tensors;
        let mut index = 0;
        while let Some(shape) = self.config.tensor(index) {
            let format = (self.format)(&shape);
            let len = tensor_bytes(&shape, format).ok_or(PackError::Format { shape, format })?;
            let entry = Entry {
                role: shape.role as u16,
                layer: shape.layer.map_or(NO_LAYER, |layer| layer as u16),
                format: file::format_code(format),
                reserved: [0; 3],
                rows: shape.rows as u32,
                cols: shape.cols as u32,
                offset,
                len,
            };
            head.entry(out, index, &entry)?;
            let data = tensor_data(&shape, format, slice_mut(out, offset, len)?)?;
            fill(TensorMut { shape, data })?;
            offset = align_up(offset + len);
            index += 1;
        }
        Ok(())
    }
}

/// What files of both profiles begin with.
pub(crate) struct Head<'a> {
    pub(crate) config: &'a Config,
    pub(crate) tokenizer: TokenizerParts<'a>,
    pub(crate) provenance: &'a str,
    pub(crate) profile: Profile,
    pub(crate) flags: u16,
    /// Behind the configuration's own records.
    pub(crate) record: Option<[u8; 64]>,
}

impl Head<'_> {
    pub(crate) fn places(&self) -> Result<Places, PackError> {
        self.config.check()?;
        if self.provenance.len() > PROVENANCE_BYTES_MAX as usize {
            return Err(PackError::Provenance {
                most: PROVENANCE_BYTES_MAX as usize,
                have: self.provenance.len(),
            });
        }
        self.tokenizer.check(self.config.vocab_len)?;
        let table = self.table_at() + self.tensors_len() * Entry::LEN;
        let tables_end = table as u64;
        let provenance = align_up(tables_end);
        let tokenizer = align_up(provenance + self.provenance.len() as u64);
        let tensors = align_up(tokenizer + self.tokenizer.bytes()?);
        Ok(Places {
            tables_end,
            provenance,
            tokenizer,
            tensors,
        })
    }

    fn tensors_len(&self) -> usize {
        self.config.tensors_len_of(self.profile)
    }

    /// The records behind the configuration.
    fn records(&self) -> impl Iterator<Item = [u8; 64]> {
        let attention = AttentionRecord::encode(&self.config.attention);
        let family = match &self.config.architecture {
            Architecture::Decoder => None,
            Architecture::Encoder(reading) => Some(EncoderRecord::encode(reading)),
            Architecture::EncoderDecoder(source) => Some(SourceRecord::encode(source)),
        };
        [attention, family, self.record].into_iter().flatten()
    }

    /// Where the tensor table begins.
    fn table_at(&self) -> usize {
        Header::LEN + ConfigRecord::LEN + 64 * self.records().count()
    }

    /// Provenance and tokenizer, in an empty file of `need` bytes.
    pub(crate) fn begin(&self, out: &mut [u8], need: usize) -> Result<Places, PackError> {
        let have = out.len();
        if need != have {
            let need = need as u64;
            return Err(PackError::Len { need, have });
        }
        if !out.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(PackError::Misaligned);
        }
        let places = self.places()?;
        out.fill(0);
        let provenance = self.provenance.as_bytes();
        slice_mut(out, places.provenance, provenance.len() as u64)?.copy_from_slice(provenance);
        let section = slice_mut(out, places.tokenizer, self.tokenizer.bytes()?)?;
        tokenizer_pack::write(&self.tokenizer, section)?;
        Ok(places)
    }

    pub(crate) fn entry(
        &self,
        out: &mut [u8],
        index: usize,
        entry: &Entry,
    ) -> Result<(), PackError> {
        let at = (self.table_at() + index * Entry::LEN) as u64;
        slice_mut(out, at, Entry::LEN as u64)?.copy_from_slice(&entry.encode());
        Ok(())
    }

    /// The records and, last of all because it holds the checksums, the header.
    pub(crate) fn finish(&self, out: &mut [u8], places: &Places) -> Result<(), PackError> {
        let file_len = out.len() as u64;
        let payload = slice_mut(out, places.tables_end, file_len - places.tables_end)?;
        let payload_crc = CRC.checksum(payload);
        let config = ConfigRecord::encode(self.config);
        let mut at = Header::LEN as u64;
        for record in core::iter::once(config).chain(self.records()) {
            slice_mut(out, at, record.len() as u64)?.copy_from_slice(&record);
            at += record.len() as u64;
        }
        let mut header = Header {
            magic: MAGIC,
            version: VERSION,
            flags: self.flags,
            file_len,
            provenance_offset: places.provenance,
            tokenizer_offset: places.tokenizer,
            provenance_len: self.provenance.len() as u32,
            tokenizer_len: self.tokenizer.bytes()? as u32,
            tensors_len: self.tensors_len() as u32,
            architecture: file::architecture_code(self.config.architecture),
            reserved: [0; 11],
            payload_crc,
            header_crc: 0,
        };
        let tables_at = Header::LEN as u64;
        let tables = slice_mut(out, tables_at, places.tables_end - tables_at)?;
        header.header_crc = header_crc(&header.encode(), tables);
        slice_mut(out, 0, Header::LEN as u64)?.copy_from_slice(&header.encode());
        Ok(())
    }
}

/// Splits the bytes of a tensor into its parts.
fn tensor_data<'o>(
    shape: &TensorShape,
    format: WeightFormat,
    bytes: &'o mut [u8],
) -> Result<TensorData<'o>, PackError> {
    if shape.kind == TensorKind::Vector {
        return match format {
            WeightFormat::F32 => Ok(TensorData::VectorF32(view(bytes)?)),
            WeightFormat::F16 => Ok(TensorData::VectorF16(view(bytes)?)),
            _ => Err(PackError::Format {
                shape: *shape,
                format,
            }),
        };
    }
    let parts = MatrixBytes::of(format, shape.rows, shape.cols);
    let mut rest = bytes;
    let mut end = 0;
    // What lies between two parts fills up to a multiple of 64 and stays zero.
    let mut cut = |at: u64, len: u64| -> Option<&'o mut [u8]> {
        if len == 0 {
            return Some(&mut []);
        }
        let from = core::mem::take(&mut rest).split_at_mut_checked((at - end) as usize)?;
        let (part, behind) = from.1.split_at_mut_checked(len as usize)?;
        (rest, end) = (behind, at + len);
        Some(part)
    };
    let [weights, scales, corrections, minima] = [
        cut(0, parts.weights),
        cut(parts.scales_at, parts.scales),
        cut(parts.corrections_at, parts.corrections),
        cut(parts.minima_at, parts.minima),
    ]
    .map(Option::unwrap_or_default);
    Ok(match format {
        WeightFormat::F32 => TensorData::F32(view(weights)?),
        WeightFormat::F16 => TensorData::F16(view(weights)?),
        WeightFormat::I8Row => TensorData::I8Row {
            weights: view(weights)?,
            scales: view(scales)?,
            corrections: view(corrections)?,
        },
        WeightFormat::I8Group32 => TensorData::I8Group32 {
            weights: view(weights)?,
            scales: view(scales)?,
        },
        WeightFormat::I4Group32 => TensorData::I4Group32 {
            weights,
            scales: view(scales)?,
        },
        WeightFormat::U4Group32 => TensorData::U4Group32 {
            weights,
            scales: view(scales)?,
            minima: view(minima)?,
        },
    })
}

pub(crate) fn view<T: FromBytes + IntoBytes + Immutable + KnownLayout>(
    bytes: &mut [u8],
) -> Result<&mut [T], PackError> {
    <[T]>::mut_from_bytes(bytes).map_err(|_| PackError::Misaligned)
}

pub(crate) fn slice_mut(out: &mut [u8], offset: u64, len: u64) -> Result<&mut [u8], PackError> {
    let have = out.len();
    let need = offset.saturating_add(len);
    out.get_mut(offset as usize..need as usize)
        .ok_or(PackError::Len { need, have })
}

/// Why a file cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PackError {
    /// The configuration is impossible.
    Config(ConfigError),
    /// The output has the wrong length.
    Len {
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: usize,
    },
    /// The output does not begin at a multiple of 64; see [`Block`](crate::Block).
    Misaligned,
    /// The provenance record is too long.
    Provenance {
        /// Most bytes.
        most: usize,
        /// Bytes found.
        have: usize,
    },
    /// A tensor cannot have that format.
    Format {
        /// The tensor.
        shape: TensorShape,
        /// The format.
        format: WeightFormat,
    },
    /// A tensor was given the wrong number of values.
    Values {
        /// Values needed.
        need: usize,
        /// Values given.
        have: usize,
    },
    /// A tensor was given the wrong number of scales.
    Scales {
        /// Scales needed.
        need: usize,
        /// Scales given.
        have: usize,
    },
    /// Integers for a format of floats.
    Levels(WeightFormat),
    /// A value that the format cannot hold.
    Value(pack::PackError),
    /// The vocabulary is larger than the model's, or a token is not in it.
    Token {
        /// Tokens in the vocabulary.
        vocab_len: usize,
        /// Token or number of tokens found.
        have: usize,
    },
    /// The same pair merges twice.
    MergeTwice,
    /// A special token without text.
    SpecialEmpty {
        /// The token.
        id: u32,
    },
    /// Two tokens have the same text.
    PieceTwice {
        /// One of them.
        id: u32,
    },
    /// A token that a text can give is too long.
    PieceLen {
        /// The token.
        id: u32,
        /// Most bytes.
        most: usize,
        /// Bytes found.
        have: usize,
    },
    /// Not one score for each token.
    ScoresLen {
        /// Tokens.
        need: usize,
        /// Scores.
        have: usize,
    },
    /// A token's score is no number, or 128 or more either way.
    Score {
        /// The token.
        id: u32,
    },
    /// The written tokenizer cannot be read back.
    Tokenizer(WeightsError),
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Len { need, have } => write!(f, "the file needs {need} bytes, not {have}"),
            Self::Misaligned => f.write_str("the output must begin at a multiple of 64"),
            Self::Provenance { most, have } => {
                write!(
                    f,
                    "the provenance record has {have} bytes, more than {most}"
                )
            }
            Self::Format { shape, format } => write!(f, "{:?} cannot be {format:?}", shape.role),
            Self::Values { need, have } => write!(f, "the tensor needs {need} values, not {have}"),
            Self::Scales { need, have } => write!(f, "the tensor needs {need} scales, not {have}"),
            Self::Levels(format) => write!(f, "{format:?} takes floats, not integers"),
            Self::Value(error) => write!(f, "{error}"),
            Self::Token { vocab_len, have } => {
                write!(f, "token {have} is beyond a vocabulary of {vocab_len}")
            }
            Self::MergeTwice => f.write_str("a pair of tokens merges twice"),
            Self::SpecialEmpty { id } => write!(f, "special token {id} has no text"),
            Self::PieceTwice { id } => write!(f, "token {id} has the text of another"),
            Self::PieceLen { id, most, have } => {
                write!(f, "token {id} has {have} bytes; {most} can be looked up")
            }
            Self::ScoresLen { need, have } => {
                write!(f, "{need} tokens have {have} scores")
            }
            Self::Score { id } => {
                write!(f, "the score of token {id} is not between -128 and 128")
            }
            Self::Tokenizer(error) => write!(f, "{error}"),
        }
    }
}

impl Error for PackError {}

impl From<ConfigError> for PackError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<pack::PackError> for PackError {
    fn from(error: pack::PackError) -> Self {
        Self::Value(error)
    }
}
