//! GGUF files: metadata, and where each tensor lies.
//!
//! Versions 2 and 3, little-endian, as ggml's `docs/gguf.md` describes them. Nothing in a file is believed: each length
//! and offset is compared with the bytes that are there before anything is read or reserved.

use crate::import::blocks::Dtype;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;

/// First bytes of every file.
const MAGIC: &[u8; 4] = b"GGUF";
/// Where tensors begin, unless `general.alignment` says otherwise.
const ALIGNMENT: u64 = 32;
/// Lists in lists: none is known to be deeper than one.
const DEPTH_MAX: usize = 3;

/// A value of the metadata. Integers and floats of all widths are kept in the widest.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// f32 or f64.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8.
    Text(&'a str),
    /// Values of one type.
    List(Vec<Value<'a>>),
}

impl Value<'_> {
    /// What it is, for messages.
    fn kind(&self) -> &'static str {
        match self {
            Self::Unsigned(_) | Self::Signed(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a truth value",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
        }
    }
}

/// A tensor: its name, shape and bytes.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// Number of rows; 1 for a vector.
    pub rows: usize,
    /// Elements of a row, which lie one after the other.
    pub cols: usize,
    /// How they are stored.
    pub dtype: Dtype,
    /// All of its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// The bytes of a row.
    pub fn row(&self, row: usize) -> &'a [u8] {
        let len = self.dtype.bytes(self.cols);
        self.bytes
            .get(row * len..)
            .map_or(&[], |tail| tail.get(..len).unwrap_or_default())
    }

    /// "576 × 192", columns last.
    pub fn shape(&self) -> String {
        format!("{} × {}", self.rows, self.cols)
    }
}

/// A parsed file.
#[derive(Clone, Debug)]
pub struct Gguf<'a> {
    metadata: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, Tensor<'a>>,
}

impl<'a> Gguf<'a> {
    /// Reads metadata and tensor table and checks that every tensor lies inside the file.
    ///
    /// # Errors
    /// The first thing that is not as the format says, by its name.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor { bytes, at: 0 };
        let magic = cursor.take(4, "the magic")?;
        ensure!(
            magic == MAGIC,
            "not a GGUF file: it begins with {:?}, not \"GGUF\"",
            String::from_utf8_lossy(magic)
        );
        let version = cursor.u32("the version")?;
        ensure!(
            version == 2 || version == 3,
            "GGUF version {version}; versions 2 and 3 (little-endian) are supported: convert the file anew"
        );
        // A tensor takes 8 + 4 + 4 + 8 bytes and its name and shape, a pair 8 + 4 and its key and value.
        let tensors_len = cursor.count(24, "the number of tensors")?;
        let pairs_len = cursor.count(13, "the number of metadata pairs")?;
        let mut metadata = BTreeMap::new();
        for _ in 0..pairs_len {
            let key = cursor.text("a metadata key")?;
            let code = cursor.u32(key)?;
            let value = cursor.value(code, key, 0)?;
            ensure!(
                metadata.insert(key, value).is_none(),
                "the metadata hold {key} twice"
            );
        }
        let alignment = match metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(Value::Unsigned(alignment)) if alignment.is_power_of_two() => *alignment,
            Some(value) => bail!("general.alignment should be a power of two, not {value:?}"),
        };
        let mut entries = Vec::with_capacity(tensors_len);
        for _ in 0..tensors_len {
            entries.push(Entry::read(&mut cursor, alignment)?);
        }
        let data = (cursor.at as u64).checked_next_multiple_of(alignment);
        let data = data
            .and_then(|at| bytes.get(usize::try_from(at).ok()?..))
            .unwrap_or_default();
        let mut tensors = BTreeMap::new();
        for entry in entries {
            let tensor = entry.locate(data)?;
            let name = tensor.name;
            ensure!(
                tensors.insert(name, tensor).is_none(),
                "the file holds the tensor {name} twice"
            );
        }
        Ok(Self { metadata, tensors })
    }

    /// The tensors in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor<'a>> {
        self.tensors.values()
    }

    /// The tensor of that name, if there is one.
    pub fn tensor(&self, name: &str) -> Option<&Tensor<'a>> {
        self.tensors.get(name)
    }

    /// The keys in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.metadata.keys().copied()
    }

    /// A value, if it is there.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.metadata.get(key)
    }

    /// A text, if it is there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => bail!("{key} should be a text, not {}", other.kind()),
        }
    }

    /// A number that is not negative, if it is there.
    ///
    /// # Errors
    /// When it is something else, or too large for this machine.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        let value = match self.get(key) {
            None => return Ok(None),
            Some(Value::Unsigned(value)) => usize::try_from(*value),
            Some(Value::Signed(value)) => usize::try_from(*value),
            Some(other) => bail!("{key} should be an integer, not {}", other.kind()),
        };
        let value = value.with_context(|| format!("{key} is negative or too large"))?;
        Ok(Some(value))
    }

    /// A float, if it is there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn float(&self, key: &str) -> Result<Option<f32>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value as f32)),
            Some(other) => bail!("{key} should be a float, not {}", other.kind()),
        }
    }

    /// A truth value, if it is there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => bail!("{key} should be a truth value, not {}", other.kind()),
        }
    }

    /// A list, if it is there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn list(&self, key: &str) -> Result<Option<&[Value<'a>]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(other) => bail!("{key} should be a list, not {}", other.kind()),
        }
    }
}

/// An entry of the tensor table, its bytes not yet found.
struct Entry<'a> {
    name: &'a str,
    rows: usize,
    cols: usize,
    dtype: Dtype,
    offset: u64,
    len: u64,
}

impl<'a> Entry<'a> {
    fn read(cursor: &mut Cursor<'a>, alignment: u64) -> Result<Self> {
        let name = cursor.text("a tensor's name")?;
        let dims_len = cursor.u32(name)?;
        ensure!(
            (1..=4).contains(&dims_len),
            "tensor {name} has {dims_len} dimensions, not 1 to 4"
        );
        let mut dims = Vec::new();
        for _ in 0..dims_len {
            dims.push(cursor.u64(name)?);
        }
        let code = cursor.u32(name)?;
        let dtype = Dtype::of(code).with_context(|| {
            let known: Vec<_> = Dtype::ALL.iter().map(|dtype| dtype.name()).collect();
            format!(
                "tensor {name} is of type {}; supported are {}",
                Dtype::name_of(code),
                known.join(", ")
            )
        })?;
        let offset = cursor.u64(name)?;
        ensure!(
            offset.is_multiple_of(alignment),
            "tensor {name} begins at {offset}, which {alignment} does not divide"
        );
        let (&cols, more) = dims.split_first().unwrap_or((&1, &[]));
        let rows = more
            .iter()
            .try_fold(1u64, |rows, dim| rows.checked_mul(*dim));
        let block = dtype.block_len() as u64;
        ensure!(
            cols.is_multiple_of(block),
            "tensor {name}: rows of {cols} elements are not whole {} blocks of {block}",
            dtype.name()
        );
        let row_bytes = (cols / block).checked_mul(dtype.block_bytes() as u64);
        let len = rows
            .zip(row_bytes)
            .and_then(|(rows, row)| rows.checked_mul(row));
        let sizes = rows.zip(len).filter(|&(rows, len)| {
            cols > 0 && rows > 0 && usize::try_from(cols.max(rows).max(len)).is_ok()
        });
        let (rows, len) =
            sizes.with_context(|| format!("tensor {name} has an impossible shape {dims:?}"))?;
        Ok(Self {
            name,
            rows: rows as usize,
            cols: cols as usize,
            dtype,
            offset,
            len,
        })
    }

    fn locate(self, data: &'a [u8]) -> Result<Tensor<'a>> {
        let end = self.offset.checked_add(self.len);
        let end = end.filter(|&end| end <= data.len() as u64);
        let bytes = end.and_then(|end| data.get(self.offset as usize..end as usize));
        let bytes = bytes.with_context(|| {
            format!(
                "tensor {} takes {} bytes from {} of the data on, but there are only {}: the file is truncated",
                self.name,
                self.len,
                self.offset,
                data.len()
            )
        })?;
        Ok(Tensor {
            name: self.name,
            rows: self.rows,
            cols: self.cols,
            dtype: self.dtype,
            bytes,
        })
    }
}

/// Reads from the beginning on, and never past the end.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next `len` bytes, which are those of `what`.
    fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let taken = taken.with_context(|| {
            format!(
                "the file ends inside {what}: {len} bytes should follow byte {}, there are {}",
                self.at,
                rest.len()
            )
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let bytes = self.take(N as u64, what)?;
        bytes.try_into().context("as many bytes as were asked for")
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A number of things of at least `least` bytes each, which the rest of the file can hold.
    fn count(&mut self, least: usize, what: &str) -> Result<usize> {
        let count = self.u64(what)?;
        let most = (self.bytes.len() - self.at) / least;
        ensure!(
            count <= most as u64,
            "{what} is {count}, more than the rest of the file can hold ({most})"
        );
        Ok(count as usize)
    }

    fn text(&mut self, what: &str) -> Result<&'a str> {
        let len = self.u64(what)?;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).with_context(|| format!("{what} is not UTF-8"))
    }

    fn value(&mut self, code: u32, key: &str, depth: usize) -> Result<Value<'a>> {
        Ok(match code {
            0 => Value::Unsigned(u8::from_le_bytes(self.array(key)?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Unsigned(self.u32(key)?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => match self.array(key)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => bail!("{key}: a truth value is 0 or 1, not {other}"),
            },
            8 => Value::Text(self.text(key)?),
            9 => {
                ensure!(depth < DEPTH_MAX, "{key}: lists in lists in lists");
                let code = self.u32(key)?;
                let len = self.count(least_bytes(code), key)?;
                let mut list = Vec::with_capacity(len);
                for _ in 0..len {
                    list.push(self.value(code, key, depth + 1)?);
                }
                Value::List(list)
            }
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            _ => bail!("{key}: unknown type of value, code {code}"),
        })
    }
}

/// Bytes that a value of that type takes at least.
fn least_bytes(code: u32) -> usize {
    match code {
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        _ => 1,
    }
}
