//! The weights file, read where it lies.
//!
//! [`Model::parse`] is `const`: a file that is embedded is checked by the compiler. It checks the header, the
//! configuration and the tables (their checksum, every offset, length, role, shape and format), in time that grows with
//! the number of tensors, not with their size. [`Model::verify`] reads the rest once and compares its checksum.

use crate::config::Config;
use crate::error::{TensorFault, WeightsError};
use crate::file::{self, Entry, MatrixBytes};
use crate::kernels::layout::WeightFormat;
use crate::kernels::{Matrix, MatrixData, Vector};
use crate::parse::{Parsed, Wanted, part};
use crate::tensors::{Profile, Role, TensorKind, TensorShape};
use crate::tokenizer::Tokenizer;

/// A parsed weights file: a view of its bytes and the numbers from its header.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    file: Parsed<'a>,
}

/// A tensor of a file, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TensorInfo {
    /// Role, layer and shape.
    pub shape: TensorShape,
    /// Number format.
    pub format: WeightFormat,
    /// Length in the file, without the filling up to a multiple of 64.
    pub bytes: usize,
}

impl<'a> Model<'a> {
    /// Reads a whole file.
    ///
    /// The bytes may lie anywhere; only a [`Session`](crate::Session) insists that they begin at a multiple of 64. On
    /// a PC, a memory-mapped file does.
    ///
    /// # Errors
    /// The first thing in the header or the tables that is not as `docs/format.md` says. After `Ok`, every tensor that
    /// the configuration asks for is there, in its shape, inside the bytes, and overlaps no other.
    pub const fn parse(bytes: &'a [u8]) -> Result<Self, WeightsError> {
        let file = match Parsed::parse(bytes, Profile::Float) {
            Ok(file) => file,
            Err(error) => return Err(error),
        };
        match check_table(&file) {
            Ok(()) => Ok(Self { file }),
            Err(error) => Err(error),
        }
    }

    /// Compares the checksum of everything after the tables, and checks the tokenizer's tables. Reads the whole file
    /// once.
    ///
    /// # Errors
    /// [`WeightsError::PayloadChecksum`] for damaged bytes, [`WeightsError::Tokenizer`] for unsound tables.
    pub fn verify(&self) -> Result<(), WeightsError> {
        self.file.verify()
    }

    /// The dimensions, checked.
    pub const fn config(&self) -> &Config {
        &self.file.config
    }

    /// The entries of the tensor table.
    pub(crate) const fn table(&self) -> &'a [[u8; Entry::LEN]] {
        self.file.table
    }

    /// The tokenizer as it lies in the file, for [`TokenizerParts::Section`](crate::pack::TokenizerParts::Section).
    pub fn tokenizer_section(&self) -> &'a [u8] {
        self.file.tokenizer_section()
    }

    /// The tokenizer.
    pub const fn tokenizer(&self) -> &Tokenizer<'a> {
        &self.file.tokenizer
    }

    /// Where the model comes from: data, command, metrics, as TOML.
    pub const fn provenance(&self) -> &'a str {
        self.file.provenance
    }

    /// The whole file.
    pub const fn bytes(&self) -> &'a [u8] {
        self.file.bytes
    }

    /// The tensors in file order.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo> + '_ {
        self.file
            .table
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| {
                let entry = Entry::decode(*entry);
                Some(TensorInfo {
                    shape: self.file.config.tensor(index)?,
                    format: file::format_of(entry.format)?,
                    bytes: entry.len as usize,
                })
            })
    }

    /// The matrix of that role.
    ///
    /// # Errors
    /// [`WeightsError::Absent`] when the model has none, [`WeightsError::Misaligned`] when the bytes do not begin at a
    /// multiple of 64. A tensor that exists in aligned bytes is always given.
    pub fn matrix(&self, role: Role, layer: Option<usize>) -> Result<Matrix<'a>, WeightsError> {
        let (entry, bytes) = self.file.tensor(role, layer)?;
        let absent = WeightsError::Absent { role };
        let format = file::format_of(entry.format).ok_or(absent)?;
        let (rows, cols) = (entry.rows as usize, entry.cols as usize);
        let parts = MatrixBytes::of(format, rows, cols);
        let weights = part(bytes, 0, parts.weights).ok_or(absent)?;
        let scales = part(bytes, parts.scales_at, parts.scales).ok_or(absent)?;
        let corrections = part(bytes, parts.corrections_at, parts.corrections).ok_or(absent)?;
        let minima = part(bytes, parts.minima_at, parts.minima).ok_or(absent)?;
        let data = match format {
            WeightFormat::F32 => MatrixData::F32(self.file.view(weights)?),
            WeightFormat::F16 => MatrixData::F16(self.file.view(weights)?),
            WeightFormat::I8Row => MatrixData::I8Row {
                weights: self.file.view(weights)?,
                scales: self.file.view(scales)?,
                corrections: self.file.view(corrections)?,
            },
            WeightFormat::I8Group32 => MatrixData::I8Group32 {
                weights: self.file.view(weights)?,
                scales: self.file.view(scales)?,
            },
            WeightFormat::I4Group32 => MatrixData::I4Group32 {
                weights,
                scales: self.file.view(scales)?,
            },
            WeightFormat::U4Group32 => MatrixData::U4Group32 {
                weights,
                scales: self.file.view(scales)?,
                minima: self.file.view(minima)?,
            },
        };
        Matrix::new(rows, cols, data).map_err(|_| absent)
    }

    /// The vector of that role; `None` when the model has none.
    ///
    /// # Errors
    /// [`WeightsError::Misaligned`] when the bytes do not begin at a multiple of 64.
    pub fn vector(
        &self,
        role: Role,
        layer: Option<usize>,
    ) -> Result<Option<Vector<'a>>, WeightsError> {
        if !self.file.config.has(role) {
            return Ok(None);
        }
        let (entry, bytes) = self.file.tensor(role, layer)?;
        Ok(Some(match file::format_of(entry.format) {
            Some(WeightFormat::F32) => Vector::F32(self.file.view(bytes)?),
            Some(WeightFormat::F16) => Vector::F16(self.file.view(bytes)?),
            _ => return Err(WeightsError::Absent { role }),
        }))
    }

    /// Whether the bytes begin at a multiple of 64 in memory, as a session wants them.
    ///
    /// # Errors
    /// [`WeightsError::Misaligned`] when they do not.
    pub fn check_aligned(&self) -> Result<(), WeightsError> {
        self.file.check_aligned()
    }
}

/// Checks each entry against the configuration and its place against the entry before.
const fn check_table(file: &Parsed<'_>) -> Result<(), WeightsError> {
    let mut table = file.table;
    let mut index = 0;
    let mut offset = file.tensors_at();
    while let Some((entry, rest)) = table.split_first() {
        let entry = Entry::decode(*entry);
        let Some(shape) = file.config.tensor(index) else {
            return Err(WeightsError::Tensor {
                index,
                fault: TensorFault::Role,
            });
        };
        let wanted = Wanted {
            role: shape.role,
            layer: shape.layer,
            rows: shape.rows,
            cols: shape.cols,
            offset,
            len: match file::format_of(entry.format) {
                Some(format) => tensor_bytes(&shape, format),
                None => None,
            },
        };
        offset = match wanted.check(&entry, file.bytes.len() as u64) {
            Ok(end) => end,
            Err(fault) => return Err(WeightsError::Tensor { index, fault }),
        };
        index += 1;
        table = rest;
    }
    file.check_end(offset)
}

/// Length of a tensor in that format; `None` for a format that it cannot have.
pub(crate) const fn tensor_bytes(shape: &TensorShape, format: WeightFormat) -> Option<u64> {
    match shape.kind {
        TensorKind::Matrix => Some(MatrixBytes::of(format, shape.rows, shape.cols).len()),
        // Attention reads them in place, and knows f32 only.
        TensorKind::Vector
            if matches!(shape.role, Role::AttnSinks) && !matches!(format, WeightFormat::F32) =>
        {
            None
        }
        TensorKind::Vector => file::vector_bytes(format, shape.cols),
    }
}

/// Bytes at a multiple of 64; what [`include_weights!`](crate::include_weights) puts a file into.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Aligned<T: ?Sized>(pub T);

/// Embeds a weights file and parses it while compiling: `include_weights!("story.attn")` is a `Model<'static>`.
///
/// The path is relative to the source file, as in `include_bytes!`. A damaged file, or one that this version cannot
/// read, is a compile error that says why. Header and tables are checked then; [`Model::verify`] checks the rest.
#[macro_export]
macro_rules! include_weights {
    ($path:expr $(,)?) => {{
        static FILE: &$crate::Aligned<[u8]> = &$crate::Aligned(*::core::include_bytes!($path));
        const MODEL: $crate::Model<'static> = match $crate::Model::parse(&FILE.0) {
            ::core::result::Result::Ok(model) => model,
            ::core::result::Result::Err(error) => ::core::panic!("{}", error.message()),
        };
        MODEL
    }};
}
