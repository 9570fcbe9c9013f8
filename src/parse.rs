//! What both profiles of a weights file have in common: header, records, provenance, tokenizer, checksums, and the
//! place of a tensor.

use zerocopy::FromBytes;

use crate::config::Config;
use crate::error::{TensorFault, WeightsError};
use crate::file::{
    self, ALIGN, CRC, ConfigRecord, Entry, Header, IntegerRecord, MAGIC, NO_LAYER, VERSION,
    align_up,
};
use crate::tensors::{Profile, Role, Runs, TENSORS_MAX};
use crate::tokenizer::Tokenizer;

/// A file whose header is sound; its tensors are each profile's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) bytes: &'a [u8],
    /// Everything after the tables.
    payload: &'a [u8],
    pub(crate) table: &'a [[u8; Entry::LEN]],
    pub(crate) config: Config,
    pub(crate) tokenizer: Tokenizer<'a>,
    pub(crate) provenance: &'a str,
    payload_crc: u32,
    /// Where the first tensor must begin.
    tensors_at: u64,
    runs: Runs,
    /// Zeros in a file of floats.
    pub(crate) record: [u8; IntegerRecord::LEN],
}

impl<'a> Parsed<'a> {
    /// Everything but the entries of the tensor table.
    pub(crate) const fn parse(bytes: &'a [u8], profile: Profile) -> Result<Self, WeightsError> {
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
        let integer = match profile {
            Profile::Float => 0,
            Profile::Integer => IntegerRecord::LEN,
        };
        let records_len = ConfigRecord::len_of_all(config_bytes) + integer;
        let (tables, payload) = match check_header(&header, profile, records_len, have, rest) {
            Ok(parts) => parts,
            Err(error) => return Err(error),
        };
        if header_crc(header_bytes, tables) != header.header_crc {
            return Err(WeightsError::HeaderChecksum);
        }
        let (Some((records, table)), Some((records_of_config, record))) = (
            tables.split_at_checked(records_len),
            tables.split_at_checked(records_len - integer),
        ) else {
            return Err(too_short);
        };
        let record = match record.first_chunk::<{ IntegerRecord::LEN }>() {
            Some(record) if records.len() > records_of_config.len() => *record,
            _ => [0; IntegerRecord::LEN],
        };
        let config = match check_config(&header, profile, *config_bytes, records_of_config) {
            Ok(config) => config,
            Err(error) => return Err(error),
        };
        let sections = match Sections::check(&header, bytes, tables.len(), config.vocab_len) {
            Ok(sections) => sections,
            Err(error) => return Err(error),
        };
        let (table, _) = table.as_chunks::<{ Entry::LEN }>();
        Ok(Self {
            bytes,
            payload,
            table,
            config,
            tokenizer: sections.tokenizer,
            provenance: sections.provenance,
            payload_crc: header.payload_crc,
            tensors_at: sections.tensors_at,
            runs: config.runs(profile),
            record,
        })
    }

    /// See [`Model::verify`](crate::Model::verify).
    pub(crate) const fn payload_crc(&self) -> u32 {
        self.payload_crc
    }

    pub(crate) fn verify(&self) -> Result<(), WeightsError> {
        let have = CRC.checksum(self.payload);
        if have != self.payload_crc {
            return Err(WeightsError::PayloadChecksum {
                need: self.payload_crc,
                have,
            });
        }
        self.tokenizer.check()
    }

    /// See [`Model::tokenizer_section`](crate::Model::tokenizer_section).
    pub(crate) fn tokenizer_section(&self) -> &'a [u8] {
        let header = self.bytes.first_chunk::<{ Header::LEN }>();
        let header = header.map(|header| Header::decode(*header));
        let section = header.and_then(|header| {
            let len = u64::from(header.tokenizer_len);
            part(self.bytes, header.tokenizer_offset, len)
        });
        section.unwrap_or_default()
    }

    /// See [`Model::check_aligned`](crate::Model::check_aligned).
    pub(crate) fn check_aligned(&self) -> Result<(), WeightsError> {
        match self.bytes.as_ptr().addr() % ALIGN {
            0 => Ok(()),
            offset => Err(WeightsError::Misaligned { offset }),
        }
    }

    /// A tensor's entry and bytes.
    pub(crate) fn tensor(
        &self,
        role: Role,
        layer: Option<usize>,
    ) -> Result<(Entry, &'a [u8]), WeightsError> {
        let absent = WeightsError::Absent { role };
        // The table is what the configuration asks for: the parser has seen to that. To find a role in it takes less than to
        // count which roles the model has.
        let (first, second) = self.runs.of(layer);
        let entries = |first: Option<&'a [_]>| first.unwrap_or_default().iter();
        let mut entries = entries(self.table.get(first)).chain(entries(self.table.get(second)));
        let is = |entry: &&[u8; Entry::LEN]| entry.starts_with(&(role as u16).to_le_bytes());
        let entry = Entry::decode(*entries.find(is).ok_or(absent)?);
        let bytes = part(self.bytes, entry.offset, entry.len).ok_or(absent)?;
        Ok((entry, bytes))
    }

    /// Bytes as numbers. The lengths were checked, so only the alignment of the file can be wrong.
    pub(crate) fn view<T: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout>(
        &self,
        bytes: &'a [u8],
    ) -> Result<&'a [T], WeightsError> {
        <[T]>::ref_from_bytes(bytes).map_err(|_| WeightsError::Misaligned {
            offset: self.bytes.as_ptr().addr() % ALIGN,
        })
    }

    /// Whether the file ends where its last tensor does.
    pub(crate) const fn check_end(&self, end: u64) -> Result<(), WeightsError> {
        if end != self.bytes.len() as u64 {
            Err(WeightsError::End)
        } else {
            Ok(())
        }
    }

    /// Where the first tensor must begin.
    pub(crate) const fn tensors_at(&self) -> u64 {
        self.tensors_at
    }
}

/// What an entry of the table must say.
pub(crate) struct Wanted {
    pub(crate) role: Role,
    pub(crate) layer: Option<usize>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) offset: u64,
    /// `None` for a format that the tensor cannot have.
    pub(crate) len: Option<u64>,
}

impl Wanted {
    /// Compares; where the tensor after it begins.
    pub(crate) const fn check(&self, entry: &Entry, file_len: u64) -> Result<u64, TensorFault> {
        let layer = match self.layer {
            Some(layer) => layer as u16,
            None => NO_LAYER,
        };
        let [a, b, c] = entry.reserved;
        if entry.role != self.role as u16 || entry.layer != layer || a | b | c != 0 {
            return Err(TensorFault::Role);
        }
        if entry.rows as usize != self.rows || entry.cols as usize != self.cols {
            return Err(TensorFault::Shape);
        }
        if entry.offset != self.offset {
            return Err(TensorFault::Offset);
        }
        let Some(len) = self.len else {
            return Err(TensorFault::Format);
        };
        if entry.len != len || self.offset > file_len || len > file_len - self.offset {
            return Err(TensorFault::Len);
        }
        Ok(align_up(self.offset + len))
    }
}

/// `len` bytes from `offset`, if they are there.
pub(crate) const fn part(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
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
    profile: Profile,
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
    let Some(have_profile) = file::profile_of(header.flags) else {
        return Err(WeightsError::Reserved);
    };
    if have_profile as u8 != profile as u8 {
        return Err(WeightsError::Profile {
            integer: matches!(have_profile, Profile::Integer),
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
    profile: Profile,
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
    let (need, have) = (config.tensors_len_of(profile), header.tensors_len as usize);
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
