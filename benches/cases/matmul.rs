//! Products of packed weights with one vector (`gemv`) or many (`gemm`).

use crate::case::{Bound, Case, Outcome, Problem, Unit, Workload};
use crate::cases::{typed, typed_mut};
use crate::data::{Buffer, Rng};
use crate::probe::Arithmetic;
use crate::verdict::{Verdict, spread};
use attentive_kernels::layout::{WeightFormat, weight_lens};
use attentive_kernels::ops::embed::dequantize_row;
use attentive_kernels::ops::matmul::{matmul, matmul_scratch_len};
use attentive_kernels::pack;
use attentive_kernels::{Backend, Matrix, MatrixData};
use half::f16;

/// A matrix too large for the caches is read from memory once a token, after all the others of its model. The case
/// goes through this many bytes of copies, so that none is still in a cache when its turn comes again.
const COLD_BYTES: usize = 128 << 20;
/// No cache of a core alone is as large.
const COLD_FROM_BYTES: usize = 4 << 20;

#[derive(Clone, Copy)]
struct Shape {
    format: WeightFormat,
    rows: usize,
    cols: usize,
    n: usize,
}

pub(super) fn cases() -> Vec<Case> {
    use WeightFormat::{F16, F32, I4Group32, I8Group32, I8Row, U4Group32};

    let large = (4096, 4096);
    // The projections of the 15 M-parameter llama shape: they stay in L2.
    let small = (768, 288);
    let mut cases = Vec::new();
    for (format, (rows, cols)) in [
        (I8Row, large),
        (I4Group32, large),
        (U4Group32, large),
        (I8Row, small),
        (I8Group32, small),
        (I4Group32, small),
        (U4Group32, small),
        (F16, small),
        (F32, small),
    ] {
        let name = format!("gemv/{}/{rows}x{cols}", short(format));
        cases.push(case(
            name,
            Shape {
                format,
                rows,
                cols,
                n: 1,
            },
        ));
    }
    for (format, (rows, cols)) in [
        (I8Row, large),
        (I4Group32, large),
        (U4Group32, large),
        (I8Row, small),
        (I8Group32, small),
        (I4Group32, small),
        (U4Group32, small),
        (F16, small),
        (F32, small),
    ] {
        let name = format!("gemm/{}/{rows}x{cols}/n128", short(format));
        cases.push(case(
            name,
            Shape {
                format,
                rows,
                cols,
                n: 128,
            },
        ));
    }
    // The scores of one head: 512 keys by 512 queries over a head of 64.
    let scores = Shape {
        format: F32,
        rows: 512,
        cols: 64,
        n: 512,
    };
    cases.push(case("gemm/f32/512x512/k64".to_owned(), scores));
    cases
}

pub(super) fn short(format: WeightFormat) -> &'static str {
    match format {
        WeightFormat::F32 => "f32",
        WeightFormat::F16 => "f16",
        WeightFormat::I8Row => "i8",
        WeightFormat::I8Group32 => "i8g32",
        WeightFormat::I4Group32 => "i4",
        WeightFormat::U4Group32 => "u4",
    }
}

impl Shape {
    /// Bytes of the weights alone: what is counted, so that padding and scales do not flatter the figure.
    fn weight_bytes(self) -> usize {
        let bits = match self.format {
            WeightFormat::F32 => 32,
            WeightFormat::F16 => 16,
            WeightFormat::I8Row | WeightFormat::I8Group32 => 8,
            WeightFormat::I4Group32 | WeightFormat::U4Group32 => 4,
        };
        self.rows * self.cols * bits / 8
    }

    /// How many equal matrices the case goes through in one run.
    fn copies(self) -> usize {
        if self.n == 1 && self.weight_bytes() >= COLD_FROM_BYTES {
            COLD_BYTES.div_ceil(self.weight_bytes())
        } else {
            1
        }
    }

    /// One column is bound by reading, except of int4 in a cache, where unpacking costs more than reading.
    fn bound(self) -> (Unit, Bound) {
        match self.format {
            WeightFormat::F32 | WeightFormat::F16 if self.n > 1 => {
                (Unit::Gflops, Bound::Arithmetic(Arithmetic::F32))
            }
            WeightFormat::I4Group32 | WeightFormat::U4Group32 if self.copies() == 1 => {
                (Unit::Gops, Bound::Arithmetic(Arithmetic::I8))
            }
            _ if self.n > 1 => (Unit::Gops, Bound::Arithmetic(Arithmetic::I8)),
            _ => (Unit::Gbytes, Bound::Reading),
        }
    }

    fn tolerance(self) -> f64 {
        match self.format {
            // Sums of up to 4096 products in f32.
            WeightFormat::F32 | WeightFormat::F16 => 1e-5,
            // Activations of 7 bits, of 8 bits; the weights of the reference are the quantized ones. One column is
            // compared at 24 outputs, whose mean error is now and then twice the usual 1.8e-2 and 0.9e-2.
            WeightFormat::I8Row | WeightFormat::I8Group32 => 4e-2,
            WeightFormat::I4Group32 | WeightFormat::U4Group32 => 2e-2,
        }
    }
}

fn case(name: String, shape: Shape) -> Case {
    let (unit, bound) = shape.bound();
    let work = match unit {
        Unit::Gbytes => shape.weight_bytes() * shape.copies(),
        _ => 2 * shape.rows * shape.cols * shape.n * shape.copies(),
    } as f64;
    Case {
        name,
        unit,
        work,
        bound,
        bound_work: work,
        bytes: shape.copies() * shape.weight_bytes() + 4 * shape.n * (shape.rows + shape.cols),
        prepare: Box::new(move |backend, rng| Ok(Box::new(Product::new(shape, backend, rng)?))),
    }
}

struct Product {
    shape: Shape,
    backend: Backend,
    /// (rows, cols) before packing.
    source: Vec<f32>,
    weights: Vec<Packed>,
    x: Buffer<f32>,
    y: Buffer<f32>,
    scratch: Vec<u32>,
}

impl Product {
    fn new(shape: Shape, backend: Backend, rng: &mut Rng) -> Outcome<Self> {
        let source = rng.normals(shape.rows * shape.cols, 0.02);
        let mut weights = vec![Packed::new(shape, &source, rng)?];
        while weights.len() < shape.copies() {
            weights.push(weights[0].copied(rng));
        }
        Ok(Self {
            shape,
            backend,
            source,
            weights,
            x: Buffer::copied_anywhere(&rng.normals(shape.n * shape.cols, 1.0), rng),
            y: Buffer::anywhere(shape.n * shape.rows, rng),
            scratch: vec![0; matmul_scratch_len(shape.cols, shape.n)],
        })
    }
}

impl Workload for Product {
    fn run(&mut self) -> Outcome {
        for weights in &self.weights {
            let matrix = weights.matrix(self.shape)?;
            matmul(
                self.backend,
                &matrix,
                &self.x,
                self.shape.n,
                &mut self.y,
                &mut self.scratch,
            )?;
        }
        Ok(())
    }

    fn check(&mut self) -> Outcome {
        self.y.fill(f32::NAN);
        self.run()?;
        let Shape { rows, cols, n, .. } = self.shape;
        let matrix = self.weights[0].matrix(self.shape)?;
        let mut verdict = Verdict::default();
        let mut row = vec![0.0; cols];
        for i in spread(rows, 24) {
            dequantize_row(self.backend, &matrix, i, &mut row)?;
            for token in spread(n, 9) {
                let x = &self.x[token * cols..][..cols];
                let sum: f64 = row
                    .iter()
                    .zip(x)
                    .map(|(&w, &x)| f64::from(w) * f64::from(x))
                    .sum();
                let got = self.y[token * rows + i];
                verdict.row(&format!("token {token}, row {i}"), &[got], &[sum]);
            }
        }
        verdict.judge(self.shape.tolerance())
    }

    fn problem(&self) -> Option<Problem<'_>> {
        Some(Problem::Product {
            format: short(self.shape.format),
            rows: self.shape.rows,
            cols: self.shape.cols,
            copies: self.shape.copies(),
            weights: &self.source,
            x: &self.x,
            y: &self.y,
        })
    }

    fn streams(&self) -> Vec<&[u8]> {
        self.weights.iter().map(|weights| &*weights.data).collect()
    }

    fn scratch_bytes(&self) -> usize {
        size_of_val(&*self.scratch)
    }
}

/// A packed matrix in bytes, each part at a cache line as the weights file has it.
struct Packed {
    data: Buffer<u8>,
    scales: Buffer<f16>,
    corrections: Buffer<u8>,
    minima: Buffer<f16>,
}

impl Packed {
    fn new(shape: Shape, source: &[f32], rng: &mut Rng) -> Outcome<Self> {
        let Shape {
            format, rows, cols, ..
        } = shape;
        let lens =
            weight_lens(format, rows, cols).ok_or("the matrix does not fit the address space")?;
        let element = match format {
            WeightFormat::F32 => 4,
            WeightFormat::F16 => 2,
            _ => 1,
        };
        let mut packed = Self {
            data: Buffer::at_line(lens.data * element, rng),
            scales: Buffer::at_line(lens.scales, rng),
            corrections: Buffer::at_line(lens.corrections * 4, rng),
            minima: Buffer::at_line(lens.minima, rng),
        };
        let Self {
            data,
            scales,
            corrections,
            minima,
        } = &mut packed;
        let method = pack::ScaleMethod::AbsMax;
        if lens.minima > 0 {
            pack::choose_scales_and_minima(rows, cols, source, method, scales, minima)?;
        } else if lens.scales > 0 {
            pack::choose_scales(format, rows, cols, source, method, scales)?;
        }
        match format {
            WeightFormat::F32 => pack::pack_f32(rows, cols, source, typed_mut(data)?)?,
            WeightFormat::F16 => pack::pack_f16(rows, cols, source, typed_mut(data)?)?,
            WeightFormat::I8Row => {
                pack::pack_i8_row(
                    rows,
                    cols,
                    source,
                    scales,
                    typed_mut(data)?,
                    typed_mut(corrections)?,
                )?;
            }
            WeightFormat::I8Group32 => {
                pack::pack_i8_group32(rows, cols, source, scales, typed_mut(data)?)?;
            }
            WeightFormat::I4Group32 => pack::pack_i4_group32(rows, cols, source, scales, data)?,
            WeightFormat::U4Group32 => {
                pack::pack_u4_group32(rows, cols, source, scales, minima, data)?;
            }
        }
        Ok(packed)
    }

    fn copied(&self, rng: &mut Rng) -> Self {
        Self {
            data: Buffer::copied_at_line(&self.data, rng),
            scales: Buffer::copied_at_line(&self.scales, rng),
            corrections: Buffer::copied_at_line(&self.corrections, rng),
            minima: Buffer::copied_at_line(&self.minima, rng),
        }
    }

    fn matrix(&self, shape: Shape) -> Outcome<Matrix<'_>> {
        let (data, scales) = (&*self.data, &*self.scales);
        let data = match shape.format {
            WeightFormat::F32 => MatrixData::F32(typed(data)?),
            WeightFormat::F16 => MatrixData::F16(typed(data)?),
            WeightFormat::I8Row => MatrixData::I8Row {
                weights: typed(data)?,
                scales,
                corrections: typed(&self.corrections)?,
            },
            WeightFormat::I8Group32 => MatrixData::I8Group32 {
                weights: typed(data)?,
                scales,
            },
            WeightFormat::I4Group32 => MatrixData::I4Group32 {
                weights: data,
                scales,
            },
            WeightFormat::U4Group32 => MatrixData::U4Group32 {
                weights: data,
                scales,
                minima: &self.minima,
            },
        };
        Ok(Matrix::new(shape.rows, shape.cols, data)?)
    }
}
