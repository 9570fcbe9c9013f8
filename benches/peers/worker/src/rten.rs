//! rten: its products, weights packed beforehand.

use crate::{Job, Place, unsupported};
use anyhow::{Context, Result, anyhow};
use attentive_peers_protocol::Task;
use rten_gemm::{
    BlockQuantizedGemm, BlockQuantizedMatrix, ComputeMode, GemmExecutor, GemmInputA, GemmInputB,
    GemmOptions, PackedBMatrix, QuantParams,
};
use rten_tensor::prelude::*;
use rten_tensor::{Contiguous, NdTensor};
use std::mem::MaybeUninit;

/// Columns that share a scale.
const GROUP: usize = 32;

pub(crate) fn version() -> String {
    let floats = GemmExecutor::<f32>::new();
    let bytes = GemmExecutor::<u8, i8, i32>::new();
    format!("0.27.0 ({}, {})", floats.kernel_name(), bytes.kernel_name())
}

pub(crate) fn prepare(task: &Task, place: &Place) -> Result<Box<dyn Job>> {
    let &Task::Product {
        ref format,
        rows,
        cols,
        n,
        copies,
    } = task
    else {
        return unsupported("matrix products only");
    };
    let weights = place.floats("weights.f32", rows * cols)?;
    let x = place.floats("x.f32", n * cols)?;
    Ok(match format.as_str() {
        "f32" => Box::new(Floats::new([rows, cols, n, copies], weights, x)),
        "i8" => Box::new(Bytes::new([rows, cols, n, copies], &weights, &x)),
        "i4" => Box::new(Nibbles::new([rows, cols, n, copies], &weights, x)),
        _ => return unsupported("f32, int8 and int4 only"),
    })
}

struct Floats {
    executor: GemmExecutor,
    weights: Vec<PackedBMatrix<f32>>,
    x: NdTensor<f32, 2>,
    y: Vec<f32>,
}

impl Floats {
    fn new([rows, cols, n, copies]: [usize; 4], weights: Vec<f32>, x: Vec<f32>) -> Self {
        let executor = GemmExecutor::new();
        let weights = NdTensor::from_data([rows, cols], weights);
        let packed = || executor.prepack_b(weights.transposed());
        Self {
            weights: (0..copies).map(|_| packed()).collect(),
            x: NdTensor::from_data([n, cols], x),
            y: vec![0.0; n * rows],
            executor,
        }
    }
}

impl Job for Floats {
    fn run(&mut self, runs: usize) -> Result<()> {
        for weights in std::iter::repeat_n(&self.weights, runs).flatten() {
            let (a, b) = (
                GemmInputA::Unpacked(self.x.view()),
                GemmInputB::Packed(weights),
            );
            let done = self
                .executor
                .gemm(&mut self.y, a, b, GemmOptions::default());
            done.map_err(|error| anyhow!("{error:?}"))?;
        }
        Ok(())
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        Ok(self.y.clone())
    }
}

/// u8 activations times i8 weights. The activations are quantized beforehand and the sums stay integers, both of which
/// the product does itself: the comparison favours this peer.
struct Bytes {
    executor: GemmExecutor<u8, i8, i32>,
    weights: Vec<PackedBMatrix<i8>>,
    x: NdTensor<u8, 2>,
    zero: Vec<u8>,
    y: Vec<i32>,
    x_scale: f32,
    /// (rows)
    scales: Vec<f32>,
}

impl Bytes {
    fn new([rows, cols, n, copies]: [usize; 4], weights: &[f32], x: &[f32]) -> Self {
        let executor = GemmExecutor::new();
        // Where pairs of products are summed in 16 bits, activations of 7 bits keep the sums right.
        let most = if executor.may_saturate() { 63.0 } else { 127.0 };
        let zero = most as u8 + 1;
        let x_scale = largest(x) / most;
        let x = x
            .iter()
            .map(|x| ((x / x_scale).round() + f32::from(zero)) as u8);
        let mut scales = Vec::new();
        let mut bytes = Vec::new();
        for row in weights.chunks_exact(cols) {
            let scale = largest(row) / 127.0;
            bytes.extend(row.iter().map(|w| (w / scale).round() as i8));
            scales.push(scale);
        }
        let bytes = NdTensor::from_data([rows, cols], bytes);
        let packed = || executor.prepack_b(bytes.transposed());
        Self {
            weights: (0..copies).map(|_| packed()).collect(),
            x: NdTensor::from_data([n, cols], x.collect::<Vec<u8>>()),
            zero: vec![zero; n],
            y: vec![0; n * rows],
            executor,
            x_scale,
            scales,
        }
    }
}

impl Job for Bytes {
    fn run(&mut self, runs: usize) -> Result<()> {
        for weights in std::iter::repeat_n(&self.weights, runs).flatten() {
            let options = GemmOptions {
                a_quant: Some(QuantParams {
                    zero_point: &self.zero,
                }),
                ..GemmOptions::default()
            };
            let (a, b) = (
                GemmInputA::Unpacked(self.x.view()),
                GemmInputB::Packed(weights),
            );
            let done = self.executor.gemm(&mut self.y, a, b, options);
            done.map_err(|error| anyhow!("{error:?}"))?;
        }
        Ok(())
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        let rows = self.scales.len();
        let scale = |at: usize| self.x_scale * self.scales[at % rows];
        Ok(self
            .y
            .iter()
            .enumerate()
            .map(|(at, &sum)| sum as f32 * scale(at))
            .collect())
    }
}

/// f32 activations, quantized on the way, times int4 weights in groups of 32.
struct Nibbles {
    weights: Vec<(NdTensor<u8, 3>, NdTensor<f32, 2>)>,
    x: NdTensor<f32, 3>,
    y: Vec<MaybeUninit<f32>>,
}

impl Nibbles {
    fn new([rows, cols, n, copies]: [usize; 4], weights: &[f32], x: Vec<f32>) -> Self {
        let mut scales = Vec::new();
        let mut bytes = Vec::new();
        for group in weights.chunks_exact(GROUP) {
            let most = group
                .iter()
                .copied()
                .max_by(|a, b| a.abs().total_cmp(&b.abs()));
            let scale = most.unwrap_or(0.0) / -8.0;
            let nibble = |w: f32| ((w / scale).round() + 8.0).clamp(0.0, 15.0) as u8;
            let (pairs, _) = group.as_chunks::<2>();
            bytes.extend(
                pairs
                    .iter()
                    .map(|&[low, high]| nibble(low) | (nibble(high) << 4)),
            );
            scales.push(scale);
        }
        let groups = cols / GROUP;
        let one = || {
            let bytes = NdTensor::from_data([rows, groups, GROUP / 2], bytes.clone());
            let scales = NdTensor::from_data([rows, groups], scales.clone());
            (bytes, scales)
        };
        Self {
            weights: (0..copies).map(|_| one()).collect(),
            x: NdTensor::from_data([1, n, cols], x),
            y: vec![MaybeUninit::new(f32::NAN); n * rows],
        }
    }
}

impl Job for Nibbles {
    fn run(&mut self, runs: usize) -> Result<()> {
        let product = BlockQuantizedGemm::new().with_compute(ComputeMode::Int8);
        for (bytes, scales) in std::iter::repeat_n(&self.weights, runs).flatten() {
            let bytes = Contiguous::new(bytes.view()).context("bytes with gaps")?;
            let scales = Contiguous::new(scales.view()).context("scales with gaps")?;
            let weights = BlockQuantizedMatrix::new(bytes, scales, 4)
                .map_err(|error| anyhow!("{error:?}"))?;
            let done = product.batched_gemm_uninit(&mut self.y, self.x.view(), weights);
            done.map_err(|error| anyhow!("{error:?}"))?;
        }
        Ok(())
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        // SAFETY: every element was initialised when it was made.
        Ok(self.y.iter().map(|y| unsafe { y.assume_init() }).collect())
    }
}

fn largest(values: &[f32]) -> f32 {
    values
        .iter()
        .fold(1e-30, |most, value| most.max(value.abs()))
}
