//! CTranslate2's model files, version 6: named tensors, then other names of them.

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use std::collections::BTreeMap;

/// The version that is read.
const VERSION: u32 = 6;
/// Most tensors, and most dimensions of one: more are a damaged file.
const TENSORS_MAX: u32 = 1 << 16;
const RANK_MAX: u8 = 8;

/// A tensor as it lies in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// Its dimensions; none for a single number.
    pub shape: Vec<usize>,
    kind: Kind,
    bytes: &'a [u8],
}

/// Types of numbers, in the order of their codes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    F32,
    I8,
    I16,
    I32,
    F16,
    Bf16,
}

impl Kind {
    fn of(code: u8) -> Option<Self> {
        let kinds = [
            Self::F32,
            Self::I8,
            Self::I16,
            Self::I32,
            Self::F16,
            Self::Bf16,
        ];
        kinds.get(usize::from(code)).copied()
    }

    const fn len(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::I16 | Self::F16 | Self::Bf16 => 2,
            Self::I8 => 1,
        }
    }
}

impl Tensor<'_> {
    /// Its numbers.
    fn numbers(&self) -> Vec<f32> {
        let pairs = self.bytes.as_chunks::<2>().0.iter();
        match self.kind {
            Kind::F32 => {
                let words = self.bytes.as_chunks::<4>().0.iter();
                words.map(|x| f32::from_le_bytes(*x)).collect()
            }
            Kind::I32 => {
                let words = self.bytes.as_chunks::<4>().0.iter();
                words.map(|x| i32::from_le_bytes(*x) as f32).collect()
            }
            Kind::I16 => pairs.map(|x| f32::from(i16::from_le_bytes(*x))).collect(),
            Kind::I8 => self.bytes.iter().map(|x| f32::from(*x as i8)).collect(),
            Kind::F16 => pairs.map(|x| f16::from_le_bytes(*x).to_f32()).collect(),
            Kind::Bf16 => pairs.map(|x| bf16::from_le_bytes(*x).to_f32()).collect(),
        }
    }

    /// Its only number.
    ///
    /// # Errors
    /// Several numbers, or a float.
    pub fn integer(&self) -> Result<i64> {
        ensure!(
            self.shape.is_empty(),
            "it is {:?}, no single number",
            self.shape
        );
        Ok(match (self.kind, self.bytes) {
            (Kind::I8, [a]) => i64::from(*a as i8),
            (Kind::I16, [a, b]) => i64::from(i16::from_le_bytes([*a, *b])),
            (Kind::I32, [a, b, c, d]) => i64::from(i32::from_le_bytes([*a, *b, *c, *d])),
            (kind, _) => bail!("it is of type {kind:?}, no integer"),
        })
    }
}

/// A file that was read.
pub struct Ct2<'a> {
    /// The kind of model, such as `WhisperSpec`.
    pub spec: String,
    tensors: BTreeMap<String, Tensor<'a>>,
}

impl<'a> Ct2<'a> {
    /// Reads the tables; numbers stay where they are.
    ///
    /// # Errors
    /// Another version, a type that does not exist, a file that ends too early or too late.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut rest = Rest(bytes);
        let version = rest.u32().context("the file is empty or truncated")?;
        ensure!(
            version == VERSION,
            "it begins with {version}, where a CTranslate2 model of version {VERSION} has its version"
        );
        let spec = rest.text()?;
        let _revision = rest.u32()?;
        let len = rest.u32()?;
        ensure!(
            len <= TENSORS_MAX,
            "{len} tensors are more than {TENSORS_MAX}"
        );
        let mut tensors = BTreeMap::new();
        for _ in 0..len {
            let name = rest.text()?;
            let read = rest.tensor().with_context(|| format!("tensor {name}"));
            tensors.insert(name, read?);
        }
        let aliases = rest.u32()?;
        ensure!(
            aliases <= TENSORS_MAX,
            "{aliases} names are more than {TENSORS_MAX}"
        );
        for _ in 0..aliases {
            let (alias, name) = (rest.text()?, rest.text()?);
            let tensor = tensors.get(&name);
            let tensor = tensor.with_context(|| format!("{alias} is {name}, which is missing"))?;
            tensors.insert(alias, tensor.clone());
        }
        ensure!(
            rest.0.is_empty(),
            "{} bytes follow the last name",
            rest.0.len()
        );
        Ok(Self { spec, tensors })
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor<'a>> {
        self.tensors.get(name)
    }

    /// The numbers of the tensor of that name. Integers are levels: divided by the tensor `…_scale`, which has a number for
    /// each row, or one for all, they are the weights.
    ///
    /// # Errors
    /// No such tensor, another shape, integers without their scales.
    pub fn floats(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>> {
        let missing = || format!("tensor {name} is missing; expected {expected:?}");
        let found = self.get(name).with_context(missing)?;
        ensure!(
            found.shape == expected,
            "tensor {name} is {:?}; expected {expected:?}",
            found.shape
        );
        let mut numbers = found.numbers();
        if matches!(found.kind, Kind::F32 | Kind::F16 | Kind::Bf16) {
            return Ok(numbers);
        }
        let scale = format!("{name}_scale");
        let missing = || {
            format!(
                "tensor {name} is of type {:?}, and {scale} is missing",
                found.kind
            )
        };
        let scales = self.get(&scale).with_context(missing)?.numbers();
        let rows = expected.first().copied().unwrap_or(1);
        ensure!(
            scales.len() == 1 || scales.len() == rows,
            "tensor {scale} has {} numbers; expected 1 or {rows}",
            scales.len()
        );
        let width = (numbers.len() / scales.len()).max(1);
        for (levels, scale) in numbers.chunks_mut(width).zip(scales) {
            levels.iter_mut().for_each(|level| *level /= scale);
        }
        Ok(numbers)
    }

    /// The integer of that name.
    ///
    /// # Errors
    /// None, or something else.
    pub fn integer(&self, name: &str) -> Result<i64> {
        let tensor = self.get(name);
        let tensor = tensor.with_context(|| format!("tensor {name} is missing"))?;
        tensor.integer().with_context(|| format!("tensor {name}"))
    }
}

/// What has not been read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len).with_context(|| {
            format!(
                "truncated: {len} bytes are needed where {} are left",
                self.0.len()
            )
        })?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A length of two bytes and as many, the last of which is zero.
    fn text(&mut self) -> Result<String> {
        let len = u16::from_le_bytes(self.array()?);
        let bytes = self.take(usize::from(len))?;
        let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        let text = std::str::from_utf8(text);
        Ok(text.context("a name is not UTF-8")?.to_owned())
    }

    fn tensor(&mut self) -> Result<Tensor<'a>> {
        let [rank] = self.array()?;
        ensure!(
            rank <= RANK_MAX,
            "{rank} dimensions are more than {RANK_MAX}"
        );
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(self.u32()? as usize);
        }
        let [code] = self.array()?;
        let kind = Kind::of(code).with_context(|| format!("type {code} does not exist"))?;
        let have = self.u32()? as usize;
        let len = shape
            .iter()
            .try_fold(kind.len(), |len, n| len.checked_mul(*n));
        ensure!(
            len == Some(have),
            "{have} bytes cannot be {shape:?} of type {kind:?}"
        );
        let bytes = self.take(have)?;
        Ok(Tensor { shape, kind, bytes })
    }
}
