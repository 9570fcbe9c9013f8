//! An integer weights file, read where it lies.

use crate::config::{Config, Norm as NormKind};
use crate::error::{TensorFault, WeightsError};
use crate::file::{Entry, IntegerRecord};
use crate::integer::needs::{Fit, Of};
use crate::integer::tensors::{Kind, Parts, Scalars, Shape, check};
use crate::kernels::integer::{Linked, Norm, OutScale, Product, Table, Weights};
use crate::parse::{Parsed, Wanted, part};
use crate::tensors::{Profile, Role};
use crate::tokenizer::Tokenizer;

/// A parsed weights file of the integer profile.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    file: Parsed<'a>,
    eps: u64,
    logit_bits: u8,
    pooling: u32,
    stream_scale: f32,
    input_scale: f32,
}

/// Numbers of a layer that no matrix has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerScalars {
    /// Of the attention to its own text.
    pub(crate) own: HeadScales,
    /// Of what the feed-forward block's function gives.
    pub(crate) hidden: i32,
    /// Of the attention to the source.
    pub(crate) cross: HeadScales,
}

/// What attention needs besides queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadScales {
    pub(crate) score: i32,
    pub(crate) out: OutScale,
}

impl<'a> Model<'a> {
    /// Reads a whole file, as [`crate::Model::parse`] does.
    ///
    /// # Errors
    /// The first thing in the header or the tables that is not as `docs/format.md` says. After `Ok`, every tensor that
    /// the configuration asks for is there, in its shape, inside the bytes, and overlaps no other.
    pub const fn parse(bytes: &'a [u8]) -> Result<Self, WeightsError> {
        let file = match Parsed::parse(bytes, Profile::Integer) {
            Ok(file) => file,
            Err(error) => return Err(error),
        };
        if let Err(error) = check(&file.config) {
            return Err(WeightsError::Config(error));
        }
        let record = match IntegerRecord::decode(file.record) {
            Ok(record) => record,
            Err(error) => return Err(WeightsError::Config(error)),
        };
        match check_table(&file) {
            Ok(()) => Ok(Self {
                file,
                eps: record.eps,
                logit_bits: record.logit_bits,
                pooling: record.pooling,
                stream_scale: record.stream_scale,
                input_scale: record.input_scale,
            }),
            Err(error) => Err(error),
        }
    }

    /// As [`crate::Model::verify`].
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

    /// Bits of a logit's fraction: a logit l says 2^(l / 2^bits) for its token, up to a common factor.
    pub const fn logit_bits(&self) -> u8 {
        self.logit_bits
    }

    /// What a unit of the residual stream is worth, for reports.
    pub const fn stream_scale(&self) -> f32 {
        self.stream_scale
    }

    /// What a step of a patch's element is worth: see [`quantize_input`](crate::integer::quantize_input).
    pub const fn input_scale(&self) -> f32 {
        self.input_scale
    }

    /// The tensors in file order, and their bytes without the filling up to a multiple of 64.
    pub fn tensors(&self) -> impl Iterator<Item = (Shape, usize)> + '_ {
        self.file
            .table
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| {
                let entry = Entry::decode(*entry);
                let shape = self.config().integer_tensor(index)?;
                Some((shape.of_code(entry.format)?, entry.len as usize))
            })
    }

    /// Whether the bytes begin at a multiple of 64 in memory, as a session wants them.
    ///
    /// # Errors
    /// [`WeightsError::Misaligned`] when they do not.
    pub fn check_aligned(&self) -> Result<(), WeightsError> {
        self.file.check_aligned()
    }

    /// The checksum of the file's payload, as its header has it.
    pub(crate) const fn checksum(&self) -> u32 {
        self.file.payload_crc()
    }

    /// The table of the tensors.
    pub(crate) const fn table_of_tensors(&self) -> &[[u8; Entry::LEN]] {
        self.file.table
    }

    pub(crate) const fn pooling(&self) -> u32 {
        self.pooling
    }

    pub(crate) fn product<F: Fit>(
        &self,
        role: Role,
        layer: Option<usize>,
    ) -> Result<Product<'a>, WeightsError> {
        let tensor = self.tensor(role, layer)?;
        let (rows, cols) = (tensor.shape.rows, tensor.shape.cols);
        let weights = match tensor.shape.kind {
            Kind::Quads if Of::<F>::QUADS => Weights::I4(self.view(&tensor, 0)?),
            _ => Weights::I8(self.view(&tensor, 0)?),
        };
        let (multipliers, biases) = (self.view(&tensor, 1)?, self.view(&tensor, 2)?);
        let pairs = self.view(&tensor, 3)?;
        Product::new(rows, cols, weights, multipliers, biases, pairs)
            .map_err(|_| WeightsError::Absent { role })
    }

    pub(crate) fn table(&self, role: Role) -> Result<Table<'a>, WeightsError> {
        let tensor = self.tensor(role, None)?;
        let steps = match tensor.shape.kind {
            Kind::Tied => 4,
            _ => 1,
        };
        let (rows, steps) = (self.view(&tensor, 0)?, self.view(&tensor, steps)?);
        Table::new(tensor.shape.cols, rows, steps).map_err(|_| WeightsError::Absent { role })
    }

    pub(crate) fn norm(&self, role: Role, layer: Option<usize>) -> Result<Norm<'a>, WeightsError> {
        let tensor = self.tensor(role, layer)?;
        Ok(Norm {
            gains: self.view(&tensor, 0)?,
            biases: self.view(&tensor, 1)?,
            centred: matches!(self.config().norm, NormKind::Layer),
            eps: self.eps,
        })
    }

    /// How far each pair of a head turns from one position to the next.
    pub(crate) fn rotary_steps(&self) -> Result<&'a [u32], WeightsError> {
        let tensor = self.tensor(Role::RotarySteps, None)?;
        self.view(&tensor, 0)
    }

    /// The numbers of a layer.
    pub(crate) fn scalars(&self, layer: usize) -> Result<LayerScalars, WeightsError> {
        let role = Role::Scalars;
        let tensor = self.tensor(role, Some(layer))?;
        let scalars: &[i32] = self.view(&tensor, 0)?;
        let scalars = scalars
            .first_chunk::<{ Scalars::LEN }>()
            .ok_or(WeightsError::Absent { role })?;
        let [
            score,
            mantissa,
            shift,
            hidden,
            cross_score,
            cross_mantissa,
            cross_shift,
            _,
        ] = *scalars;
        let heads = |score, mantissa: i32, shift: i32| HeadScales {
            score,
            out: OutScale {
                mantissa: mantissa as u16,
                shift: shift as u8,
            },
        };
        Ok(LayerScalars {
            own: heads(score, mantissa, shift),
            hidden,
            cross: heads(cross_score, cross_mantissa, cross_shift),
        })
    }

    /// What the table says of a tensor is what its configuration asks for: the parser has seen to that.
    fn tensor(&self, role: Role, layer: Option<usize>) -> Result<Tensor<'a>, WeightsError> {
        let (entry, bytes) = self.file.tensor(role, layer)?;
        let kind = Kind::of(entry.format).ok_or(WeightsError::Absent { role })?;
        let shape = Shape {
            role,
            layer,
            kind,
            rows: entry.rows as usize,
            cols: entry.cols as usize,
        };
        Ok(Tensor { shape, bytes })
    }

    fn view<T: zerocopy::FromBytes + zerocopy::Immutable + zerocopy::KnownLayout>(
        &self,
        tensor: &Tensor<'a>,
        index: usize,
    ) -> Result<&'a [T], WeightsError> {
        let (at, len) = Parts::of(&tensor.shape).place(index);
        let role = tensor.shape.role;
        let bytes = part(tensor.bytes, at, len).ok_or(WeightsError::Absent { role })?;
        self.file.view(bytes)
    }
}

struct Tensor<'a> {
    shape: Shape,
    bytes: &'a [u8],
}

const fn check_table(file: &Parsed<'_>) -> Result<(), WeightsError> {
    let mut table = file.table;
    let mut index = 0;
    let mut offset = file.tensors_at();
    while let Some((entry, rest)) = table.split_first() {
        let entry = Entry::decode(*entry);
        let Some(shape) = file.config.integer_tensor(index) else {
            return Err(WeightsError::Tensor {
                index,
                fault: TensorFault::Role,
            });
        };
        let len = match shape.of_code(entry.format) {
            Some(shape) => Some(Parts::of(&shape).len()),
            None => None,
        };
        let wanted = Wanted {
            role: shape.role,
            layer: shape.layer,
            rows: shape.rows,
            cols: shape.cols,
            offset,
            len,
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
