//! Writing files of the integer profile: what a trainer needs.
//!
//! As [`crate::pack`]: a [`Recipe`] says what the file holds, and [`Recipe::write`] asks a closure for one tensor after
//! the other.

use crate::config::Config;
use crate::file::{Entry, FLAG_INTEGER, IntegerRecord, NO_LAYER, align_up};
use crate::integer::tensors::{Bits, Parts, Shape, check};
use crate::pack::{Head, PackError, Places, TokenizerParts, slice_mut, view};
use crate::tensors::Profile;

/// Numbers that the whole model shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// eps · dim² in the square of the stream's unit.
    pub eps: u64,
    /// Bits of a logit's fraction, in powers of two: at most 16.
    pub logit_bits: u8,
    /// Steps of the final norm in a step of the pooled vector, in 2⁻¹⁶; 0 without pooling.
    pub pooling: u32,
    /// What a unit of the residual stream is worth.
    pub stream_scale: f32,
    /// What a step of a patch's element is worth; 0 without patches.
    pub input_scale: f32,
}

/// What a file is to hold.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    /// Dimensions.
    pub config: &'a Config,
    /// Tokenizer.
    pub tokenizer: TokenizerParts<'a>,
    /// As in [`crate::pack::Recipe`].
    pub provenance: &'a str,
    /// Numbers of the whole model.
    pub record: Record,
    /// Of a number of the layers' matrices.
    pub bits: Bits,
}

/// One tensor of the file being written. Parts that its [`Kind`](super::Kind) has not are empty.
#[derive(Debug)]
pub struct TensorMut<'o> {
    /// Role, layer, kind and shape.
    pub shape: Shape,
    /// (rows, [`stride`](crate::kernels::integer::stride)`(cols)`) of a matrix or table.
    pub bytes: &'o mut [i8],
    /// (rows) of a matrix.
    pub multipliers: &'o mut [i32],
    /// (rows) of a matrix.
    pub biases: &'o mut [i32],
    /// [`quads_len`](crate::kernels::integer::quads_len) of a matrix of four bits a number.
    pub quads: &'o mut [u16],
    /// [`pair_sums`](crate::kernels::integer::pair_sums) of the bytes, (rows), or
    /// [`quad_sums`](crate::kernels::integer::quad_sums), two for four rows.
    pub pairs: &'o mut [i32],
    /// (rows) of a table.
    pub steps: &'o mut [i32],
    /// (cols) of rotary positions, in 2⁻³² of a turn.
    pub rotary_steps: &'o mut [u32],
    /// (cols) of a norm.
    pub halves: &'o mut [i16],
    /// (cols) of a norm.
    pub half_biases: &'o mut [i16],
    /// (cols) of scalars.
    pub scalars: &'o mut [i32],
}

impl Recipe<'_> {
    fn head(&self) -> Head<'_> {
        let record = IntegerRecord {
            eps: self.record.eps,
            contract: IntegerRecord::CONTRACT,
            packing: 0,
            logit_bits: self.record.logit_bits,
            pooling: self.record.pooling,
            stream_scale: self.record.stream_scale,
            input_scale: self.record.input_scale,
            reserved: [0; 10],
        };
        Head {
            config: self.config,
            tokenizer: self.tokenizer,
            provenance: self.provenance,
            profile: Profile::Integer,
            flags: FLAG_INTEGER,
            record: Some(record.encode()),
        }
    }

    /// Length of the file in bytes, a multiple of 64.
    ///
    /// # Errors
    /// A configuration, tokenizer or provenance record that no file of this profile can hold.
    pub fn file_bytes(&self) -> Result<usize, PackError> {
        check(self.config)?;
        let mut end = self.head().places()?.tensors;
        let mut index = 0;
        while let Some(shape) = self.tensor(index) {
            end = align_up(end.saturating_add(Parts::of(&shape).len()));
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

    fn tensor(&self, index: usize) -> Option<Shape> {
        let shape = self.config.integer_tensor(index)?;
        Some(shape.with_bits(self.bits))
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
        while let Some(shape) = self.tensor(index) {
            let parts = Parts::of(&shape);
            let entry = Entry {
                role: shape.role as u16,
                layer: shape.layer.map_or(NO_LAYER, |layer| layer as u16),
                format: shape.kind.code(),
                reserved: [0; 3],
                rows: shape.rows as u32,
                cols: shape.cols as u32,
                offset,
                len: parts.len(),
            };
            head.entry(out, index, &entry)?;
            fill(tensor(shape, &parts, slice_mut(out, offset, parts.len())?)?)?;
            offset = align_up(offset + parts.len());
            index += 1;
        }
        Ok(())
    }
}

/// Splits the bytes of a tensor into its parts.
fn tensor<'o>(
    shape: Shape,
    parts: &Parts,
    bytes: &'o mut [u8],
) -> Result<TensorMut<'o>, PackError> {
    use super::Kind;
    let mut rest = bytes;
    let mut end = 0;
    let mut cut = |index: usize| -> Result<&'o mut [u8], PackError> {
        let (at, len) = parts.place(index);
        if len == 0 {
            return Ok(&mut []);
        }
        let have = rest.len();
        let short = PackError::Len { need: len, have };
        let from = core::mem::take(&mut rest).split_at_mut_checked((at - end) as usize);
        let (part, behind) = (from.ok_or(short)?.1)
            .split_at_mut_checked(len as usize)
            .ok_or(short)?;
        (rest, end) = (behind, at + len);
        Ok(part)
    };
    let [first, second, third, fourth, fifth] = [cut(0)?, cut(1)?, cut(2)?, cut(3)?, cut(4)?];
    let mut out = TensorMut {
        shape,
        bytes: &mut [],
        quads: &mut [],
        multipliers: &mut [],
        biases: &mut [],
        pairs: &mut [],
        steps: &mut [],
        rotary_steps: &mut [],
        halves: &mut [],
        half_biases: &mut [],
        scalars: &mut [],
    };
    match shape.kind {
        Kind::Product | Kind::Tied => {
            (out.bytes, out.multipliers, out.biases) = (view(first)?, view(second)?, view(third)?);
            out.pairs = view(fourth)?;
            if shape.kind == Kind::Tied {
                out.steps = view(fifth)?;
            }
        }
        Kind::Quads => {
            (out.quads, out.multipliers, out.biases) = (view(first)?, view(second)?, view(third)?);
            out.pairs = view(fourth)?;
        }
        Kind::Table => (out.bytes, out.steps) = (view(first)?, view(second)?),
        Kind::Norm => (out.halves, out.half_biases) = (view(first)?, view(second)?),
        Kind::Steps => out.rotary_steps = view(first)?,
        Kind::Scalars => out.scalars = view(first)?,
    }
    Ok(out)
}
