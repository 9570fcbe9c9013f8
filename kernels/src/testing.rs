//! What the tests share: backends, random numbers, owned matrices.

use core::num::NonZero;
use core::sync::atomic::{AtomicUsize, Ordering};

use half::f16;
use std::sync::Once;
use std::{println, vec, vec::Vec};

use crate::layout::{WeightFormat, weight_lens};
use crate::pack::{self, ScaleMethod};
use crate::{Backend, Matrix, MatrixData};

/// The backends to test, saying which the machine lacks.
pub(crate) fn backends() -> Vec<Backend> {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        for name in ["avx2", "avxvnni", "avx512", "neon", "dotprod", "i8mm"] {
            if Backend::by_name(name).is_none() {
                println!("skipped: {name} (this processor lacks it)");
            }
        }
    });
    Backend::available().collect()
}

/// Every length and offset natively; under Miri, which is ten thousand times slower, every seventh.
pub(crate) const STRIDE: usize = if cfg!(miri) { 7 } else { 1 };

pub(crate) const FORMATS: [WeightFormat; 6] = [
    WeightFormat::F32,
    WeightFormat::F16,
    WeightFormat::I8Row,
    WeightFormat::I8Group32,
    WeightFormat::I4Group32,
    WeightFormat::U4Group32,
];

/// The long tests try every size up to this one.
pub(crate) const SIZE_MAX: usize = 130;

/// Runs `work` for each index below `count`, on every core, and prints what it returns with the number done.
///
/// # Panics
/// If one of them does, after the others have come to an end.
pub(crate) fn for_each_on_all_cores(
    count: usize,
    work: impl Fn(usize) -> std::string::String + Sync,
) {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    let text = work(index);
                    let done = 1 + done.fetch_add(1, Ordering::Relaxed);
                    println!("{done} of {count}: {text}");
                }
            });
        }
    });
}

/// xorshift64* (Vigna 2016): reproducible, good enough for test data.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In `0..below`.
    pub(crate) fn index(&mut self, below: usize) -> usize {
        (self.bits() >> 33) as usize % below
    }

    /// Uniform in −1..1.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// About normal with unit variance: a sum of uniforms.
    pub(crate) fn normal(&mut self) -> f32 {
        self.uniform() + self.uniform() + self.uniform()
    }

    pub(crate) fn normals(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal()).collect()
    }
}

/// A packed matrix that owns its memory.
pub(crate) struct Packed {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    format: WeightFormat,
    floats: Vec<f32>,
    halves: Vec<f16>,
    bytes: Vec<i8>,
    nibbles: Vec<u8>,
    pub(crate) scales: Vec<f16>,
    pub(crate) minima: Vec<f16>,
    corrections: Vec<i32>,
}

impl Packed {
    pub(crate) fn new(format: WeightFormat, rows: usize, cols: usize, matrix: &[f32]) -> Self {
        let lens = weight_lens(format, rows, cols).unwrap();
        let mut scales = vec![f16::ZERO; lens.scales];
        let mut minima = vec![f16::ZERO; lens.minima];
        let method = ScaleMethod::AbsMax;
        if !minima.is_empty() {
            pack::choose_scales_and_minima(rows, cols, matrix, method, &mut scales, &mut minima)
                .unwrap();
        } else if !scales.is_empty() {
            pack::choose_scales(format, rows, cols, matrix, method, &mut scales).unwrap();
        }
        Self::with_parameters(format, rows, cols, matrix, scales, minima)
    }

    pub(crate) fn with_scales(
        format: WeightFormat,
        rows: usize,
        cols: usize,
        matrix: &[f32],
        scales: Vec<f16>,
    ) -> Self {
        Self::with_parameters(format, rows, cols, matrix, scales, vec![])
    }

    pub(crate) fn with_parameters(
        format: WeightFormat,
        rows: usize,
        cols: usize,
        matrix: &[f32],
        scales: Vec<f16>,
        minima: Vec<f16>,
    ) -> Self {
        let lens = weight_lens(format, rows, cols).unwrap();
        let mut packed = Packed {
            rows,
            cols,
            format,
            floats: vec![],
            halves: vec![],
            bytes: vec![],
            nibbles: vec![],
            scales,
            minima,
            corrections: vec![],
        };
        let scales = &packed.scales;
        match format {
            WeightFormat::F32 => {
                packed.floats = vec![0.0; lens.data];
                pack::pack_f32(rows, cols, matrix, &mut packed.floats).unwrap();
            }
            WeightFormat::F16 => {
                packed.halves = vec![f16::ZERO; lens.data];
                pack::pack_f16(rows, cols, matrix, &mut packed.halves).unwrap();
            }
            WeightFormat::I8Row => {
                packed.bytes = vec![0; lens.data];
                packed.corrections = vec![0; lens.corrections];
                let corrections = &mut packed.corrections;
                pack::pack_i8_row(rows, cols, matrix, scales, &mut packed.bytes, corrections)
                    .unwrap();
            }
            WeightFormat::I8Group32 => {
                packed.bytes = vec![0; lens.data];
                pack::pack_i8_group32(rows, cols, matrix, scales, &mut packed.bytes).unwrap();
            }
            WeightFormat::I4Group32 => {
                packed.nibbles = vec![0; lens.data];
                pack::pack_i4_group32(rows, cols, matrix, scales, &mut packed.nibbles).unwrap();
            }
            WeightFormat::U4Group32 => {
                packed.nibbles = vec![0; lens.data];
                let (minima, nibbles) = (&packed.minima, &mut packed.nibbles);
                pack::pack_u4_group32(rows, cols, matrix, scales, minima, nibbles).unwrap();
            }
        }
        packed
    }

    pub(crate) fn matrix(&self) -> Matrix<'_> {
        let scales = &self.scales;
        let data = match self.format {
            WeightFormat::F32 => MatrixData::F32(&self.floats),
            WeightFormat::F16 => MatrixData::F16(&self.halves),
            WeightFormat::I8Row => MatrixData::I8Row {
                weights: &self.bytes,
                scales,
                corrections: &self.corrections,
            },
            WeightFormat::I8Group32 => MatrixData::I8Group32 {
                weights: &self.bytes,
                scales,
            },
            WeightFormat::I4Group32 => MatrixData::I4Group32 {
                weights: &self.nibbles,
                scales,
            },
            WeightFormat::U4Group32 => MatrixData::U4Group32 {
                weights: &self.nibbles,
                scales,
                minima: &self.minima,
            },
        };
        Matrix::new(self.rows, self.cols, data).unwrap()
    }
}
