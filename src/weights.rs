//! The weights file, read where it lies.
//!
//! [`Model::parse`] is `const`: a file that is embedded is checked by the compiler. It checks the header, the
//! configuration and the tables (their checksum, every offset, length, role, shape and format), in time that grows with
//! the number of tensors, not with their size. [`Model::verify`] reads the rest once and compares its checksum.

use zerocopy::FromBytes;

use crate::config::Config;
use crate::error::{TensorFault, WeightsError};
use crate::file::{
    self, ALIGN, CRC, ConfigRecord, Entry, Header, MAGIC, MatrixBytes, NO_LAYER, VERSION, align_up,
};
use crate::kernels::layout::WeightFormat;
use crate::kernels::{Matrix, MatrixData, Vector};
use crate::tensors::{Role, TENSORS_MAX, TensorKind, TensorShape};
use crate::tokenizer::Tokenizer;

/// A parsed weights file: a view of its bytes and the numbers from its header.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    bytes: &'a [u8],
    /// Everything after the tables.
    payload: &'a [u8],
    table: &'a [[u8; Entry::LEN]],
    config: Config,
    tokenizer: Tokenizer<'a>,
    provenance: &'a str,
    payload_crc: u32,
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
        let have = bytes.len();
        let need = Header::LEN + ConfigRecord::LEN;
        let too_short = WeightsError::TooShort { need, have };
        let Some((header_bytes, rest)) = bytes.split_first_chunk::<{ Header::LEN }>() else {
            return Err(too_short);
        };
        let Some(config_bytes) = rest.first_chunk::<{ ConfigRecord::LEN }>() else {
            return Err(too_short);
        };
        let header = Header::decode(*header_bytes);
        let records_len = ConfigRecord::len_of_all(config_bytes);
        let (tables, payload) = match check_header(&header, records_len, have, rest) {
            Ok(parts) => parts,
            Err(error) => return Err(error),
        };
        if header_crc(header_bytes, tables) != header.header_crc {
            return Err(WeightsError::HeaderChecksum);
        }
        let Some((records, table)) = tables.split_at_checked(records_len) else {
            return Err(too_short);
        };
        let config = match check_config(&header, *config_bytes, records) {
            Ok(config) => config,
            Err(error) => return Err(error),
        };
        let sections = match Sections::check(&header, bytes, tables.len(), config.vocab_len) {
            Ok(sections) => sections,
            Err(error) => return Err(error),
        };
        let (table, _) = table.as_chunks::<{ Entry::LEN }>();
        if let Err(error) = check_table(&config, table, sections.tensors_at, have as u64) {
            return Err(error);
        }
        Ok(Self {
            bytes,
            payload,
            table,
            config,
            tokenizer: sections.tokenizer,
            provenance: sections.provenance,
            payload_crc: header.payload_crc,
        })
    }

    /// Compares the checksum of everything after the tables, and checks the tokenizer's tables. Reads the whole file
    /// once.
    ///
    /// # Errors
    /// [`WeightsError::PayloadChecksum`] for damaged bytes, [`WeightsError::Tokenizer`] for unsound tables.
    pub fn verify(&self) -> Result<(), WeightsError> {
        let have = CRC.checksum(self.payload);
        if have != self.payload_crc {
            return Err(WeightsError::PayloadChecksum {
                need: self.payload_crc,
                have,
            });
        }
        self.tokenizer.check()
    }

    /// The dimensions, checked.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The entries of the tensor table.
    pub(crate) const fn table(&self) -> &'a [[u8; Entry::LEN]] {
        self.table
    }

    /// The tokenizer.
    pub const fn tokenizer(&self) -> &Tokenizer<'a> {
        &self.tokenizer
    }

    /// Where the model comes from: data, command, metrics, as TOML.
    pub const fn provenance(&self) -> &'a str {
        self.provenance
    }

    /// The whole file.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The tensors in file order.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo> + '_ {
        self.table.iter().enumerate().filter_map(|(index, entry)| {
            let entry = Entry::decode(*entry);
            Some(TensorInfo {
                shape: self.config.tensor(index)?,
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
        let (entry, bytes) = self.tensor(role, layer)?;
        let absent = WeightsError::Absent { role };
        let format = file::format_of(entry.format).ok_or(absent)?;
        let (rows, cols) = (entry.rows as usize, entry.cols as usize);
        let parts = MatrixBytes::of(format, rows, cols);
        let weights = part(bytes, 0, parts.weights).ok_or(absent)?;
        let scales = part(bytes, parts.scales_at, parts.scales).ok_or(absent)?;
        let corrections = part(bytes, parts.corrections_at, parts.corrections).ok_or(absent)?;
        let minima = part(bytes, parts.minima_at, parts.minima).ok_or(absent)?;
        let data = match format {
            WeightFormat::F32 => MatrixData::F32(self.view(weights)?),
            WeightFormat::F16 => MatrixData::F16(self.view(weights)?),
            WeightFormat::I8Row => MatrixData::I8Row {
                weights: self.view(weights)?,
                scales: self.view(scales)?,
                corrections: self.view(corrections)?,
            },
            WeightFormat::I8Group32 => MatrixData::I8Group32 {
                weights: self.view(weights)?,
                scales: self.view(scales)?,
            },
            WeightFormat::I4Group32 => MatrixData::I4Group32 {
                weights,
                scales: self.view(scales)?,
            },
            WeightFormat::U4Group32 => MatrixData::U4Group32 {
                weights,
                scales: self.view(scales)?,
                minima: self.view(minima)?,
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
        if !self.config.has(role) {
            return Ok(None);
        }
        let (entry, bytes) = self.tensor(role, layer)?;
        Ok(Some(match file::format_of(entry.format) {
            Some(WeightFormat::F32) => Vector::F32(self.view(bytes)?),
            Some(WeightFormat::F16) => Vector::F16(self.view(bytes)?),
            _ => return Err(WeightsError::Absent { role }),
        }))
    }

    /// Whether the bytes begin at a multiple of 64 in memory, as a session wants them.
    ///
    /// # Errors
    /// [`WeightsError::Misaligned`] when they do not.
    pub fn check_aligned(&self) -> Result<(), WeightsError> {
        match self.bytes.as_ptr().addr() % ALIGN {
            0 => Ok(()),
            offset => Err(WeightsError::Misaligned { offset }),
        }
    }

    fn tensor(&self, role: Role, layer: Option<usize>) -> Result<(Entry, &'a [u8]), WeightsError> {
        let absent = WeightsError::Absent { role };
        let index = self.config.tensor_index(role, layer).ok_or(absent)?;
        let entry = Entry::decode(*self.table.get(index).ok_or(absent)?);
        let bytes = part(self.bytes, entry.offset, entry.len).ok_or(absent)?;
        Ok((entry, bytes))
    }

    /// Bytes as numbers. The lengths were checked, so only the alignment of the file can be wrong.
    fn view<T: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout>(
        &self,
        bytes: &'a [u8],
    ) -> Result<&'a [T], WeightsError> {
        <[T]>::ref_from_bytes(bytes).map_err(|_| WeightsError::Misaligned {
            offset: self.bytes.as_ptr().addr() % ALIGN,
        })
    }
}

/// `len` bytes from `offset`, if they are there.
const fn part(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let have = bytes.len() as u64;
    if len == 0 {
        return Some(&[]);
    }
    if offset > have || len > have - offset {
        return None;
    }
    let Some((_, from)) = bytes.split_at_checked(offset as usize) else {
        return None;
    };
    match from.split_at_checked(len as usize) {
        Some((part, _)) => Some(part),
        None => None,
    }
}

/// What must hold before the checksum can be taken; splits the bytes after the header into tables (the configuration's
/// records, the tensor table) and payload.
const fn check_header<'a>(
    header: &Header,
    records_len: usize,
    have: usize,
    rest: &'a [u8],
) -> Result<(&'a [u8], &'a [u8]), WeightsError> {
    if u32::from_le_bytes(header.magic) != u32::from_le_bytes(MAGIC) {
        return Err(WeightsError::Magic);
    }
    if header.version != VERSION {
        return Err(WeightsError::Version {
            have: header.version,
        });
    }
    let tensors_len = header.tensors_len as usize;
    if tensors_len > TENSORS_MAX {
        return Err(WeightsError::TensorsLen {
            need: TENSORS_MAX,
            have: tensors_len,
        });
    }
    let tables_len = records_len + tensors_len * Entry::LEN;
    let Some(parts) = rest.split_at_checked(tables_len) else {
        let need = Header::LEN + tables_len;
        return Err(WeightsError::TooShort { need, have });
    };
    if header.file_len != have as u64 {
        return Err(WeightsError::FileLen {
            need: header.file_len,
            have,
        });
    }
    Ok(parts)
}

/// Checksum of the header without its last field, and of the tables.
pub(crate) const fn header_crc(header: &[u8; Header::LEN], tables: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    if let Some((covered, _)) = header.split_last_chunk::<4>() {
        digest.update(covered);
    }
    digest.update(tables);
    digest.finalize()
}

const fn check_config(
    header: &Header,
    bytes: [u8; ConfigRecord::LEN],
    records: &[u8],
) -> Result<Config, WeightsError> {
    let mut reserved: &[u8] = &header.reserved;
    while let Some((&byte, rest)) = reserved.split_first() {
        if byte != 0 {
            return Err(WeightsError::Reserved);
        }
        reserved = rest;
    }
    if header.flags != 0 {
        return Err(WeightsError::Reserved);
    }
    if let Err(error) = file::check_architecture(header.architecture) {
        return Err(error);
    }
    let others = match records.split_at_checked(ConfigRecord::LEN) {
        Some((_, others)) => others,
        None => &[],
    };
    let config = match ConfigRecord::decode(bytes, others, header.architecture) {
        Ok(config) => config,
        Err(error) => return Err(WeightsError::Config(error)),
    };
    if let Err(error) = config.check() {
        return Err(WeightsError::Config(error));
    }
    let (need, have) = (config.tensors_len(), header.tensors_len as usize);
    if need != have {
        return Err(WeightsError::TensorsLen { need, have });
    }
    Ok(config)
}

/// The sections between the table and the tensors.
struct Sections<'a> {
    provenance: &'a str,
    tokenizer: Tokenizer<'a>,
    /// Where the first tensor must begin.
    tensors_at: u64,
}

impl<'a> Sections<'a> {
    const fn check(
        header: &Header,
        bytes: &'a [u8],
        tables_len: usize,
        vocab_len: usize,
    ) -> Result<Self, WeightsError> {
        let tables_end = (Header::LEN + tables_len) as u64;
        let len = header.provenance_len;
        if header.provenance_offset != align_up(tables_end) || len > file::PROVENANCE_BYTES_MAX {
            return Err(WeightsError::Provenance);
        }
        let Some(text) = part(bytes, header.provenance_offset, len as u64) else {
            return Err(WeightsError::Provenance);
        };
        let Ok(provenance) = core::str::from_utf8(text) else {
            return Err(WeightsError::Provenance);
        };
        let offset = header.tokenizer_offset;
        if offset != align_up(header.provenance_offset + len as u64) {
            return Err(WeightsError::Tokenizer);
        }
        let Some(section) = part(bytes, offset, header.tokenizer_len as u64) else {
            return Err(WeightsError::Tokenizer);
        };
        match Tokenizer::parse(section, vocab_len) {
            Ok(tokenizer) => Ok(Self {
                provenance,
                tokenizer,
                tensors_at: align_up(offset + header.tokenizer_len as u64),
            }),
            Err(error) => Err(error),
        }
    }
}

/// Checks each entry against the configuration and its place against the entry before.
const fn check_table(
    config: &Config,
    mut table: &[[u8; Entry::LEN]],
    tensors_at: u64,
    file_len: u64,
) -> Result<(), WeightsError> {
    let mut index = 0;
    let mut offset = tensors_at;
    while let Some((entry, rest)) = table.split_first() {
        let entry = Entry::decode(*entry);
        let Some(shape) = config.tensor(index) else {
            return Err(WeightsError::Tensor {
                index,
                fault: TensorFault::Role,
            });
        };
        if let Err(fault) = check_entry(&entry, &shape, offset) {
            return Err(WeightsError::Tensor { index, fault });
        }
        if offset > file_len || entry.len > file_len - offset {
            return Err(WeightsError::Tensor {
                index,
                fault: TensorFault::Len,
            });
        }
        offset = align_up(offset + entry.len);
        index += 1;
        table = rest;
    }
    if offset != file_len {
        Err(WeightsError::End)
    } else {
        Ok(())
    }
}

const fn check_entry(entry: &Entry, shape: &TensorShape, offset: u64) -> Result<(), TensorFault> {
    let layer = match shape.layer {
        Some(layer) => layer as u16,
        None => NO_LAYER,
    };
    let [a, b, c] = entry.reserved;
    if entry.role != shape.role as u16 || entry.layer != layer || a | b | c != 0 {
        return Err(TensorFault::Role);
    }
    if entry.rows as usize != shape.rows || entry.cols as usize != shape.cols {
        return Err(TensorFault::Shape);
    }
    if entry.offset != offset {
        return Err(TensorFault::Offset);
    }
    let Some(format) = file::format_of(entry.format) else {
        return Err(TensorFault::Format);
    };
    let Some(len) = tensor_bytes(shape, format) else {
        return Err(TensorFault::Format);
    };
    if entry.len != len {
        Err(TensorFault::Len)
    } else {
        Ok(())
    }
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
