//! candle: its CPU attention, its products and its quantized products.

use crate::{Job, Place, unsupported};
use anyhow::{Context, Result};
use attentive_peers_protocol::Task;
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::attention::{AttnMask, flash_attn};

pub(crate) fn version() -> String {
    let with = |on: bool, name: &'static str| if on { name } else { "" };
    format!(
        "0.11.1{}{}",
        with(candle_core::utils::with_avx(), " AVX2"),
        with(candle_core::utils::with_f16c(), " F16C")
    )
}

pub(crate) fn prepare(task: &Task, place: &Place) -> Result<Box<dyn Job>> {
    match task {
        &Task::Attention {
            ref kv,
            causal,
            head_dim,
            group,
            q_len,
            kv_len,
        } => {
            let dtype = match kv.as_str() {
                "f32" => DType::F32,
                "f16" => DType::F16,
                "bf16" => DType::BF16,
                _ => return unsupported("no quantized keys and values"),
            };
            let read = |name: &str, len: usize, heads: usize| -> Result<Tensor> {
                let values = place.floats(name, len * heads * head_dim)?;
                let tensor = Tensor::from_vec(values, (1, len, heads, head_dim), &Device::Cpu)?;
                Ok(tensor.to_dtype(dtype)?)
            };
            Ok(Box::new(Attention {
                q: read("q.f32", q_len, group)?,
                k: read("k.f32", kv_len, 1)?,
                v: read("v.f32", kv_len, 1)?,
                scale: 1.0 / (head_dim as f32).sqrt(),
                // One query sees every key, whatever the mask.
                causal: causal && q_len > 1,
                out: None,
            }))
        }
        &Task::Product {
            ref format,
            rows,
            cols,
            n,
            copies,
        } => {
            let weights = place.floats("weights.f32", rows * cols)?;
            let weights = Tensor::from_vec(weights, (rows, cols), &Device::Cpu)?;
            let kind = match format.as_str() {
                "f32" => GgmlDType::F32,
                "i8" => GgmlDType::Q8_0,
                "i4" => GgmlDType::Q4_0,
                _ => return unsupported("f32, Q8_0 and Q4_0 only"),
            };
            let quantized = QTensor::quantize(&weights, kind)?;
            let make = || -> Result<QMatMul> {
                if kind == GgmlDType::F32 {
                    return Ok(QMatMul::Tensor(weights.copy()?));
                }
                let storage = QStorage::from_data(quantized.data()?, &Device::Cpu, kind)?;
                Ok(QMatMul::from_qtensor(QTensor::new(storage, (rows, cols))?)?)
            };
            let x = Tensor::from_vec(place.floats("x.f32", n * cols)?, (n, cols), &Device::Cpu)?;
            let weights = (0..copies).map(|_| make()).collect::<Result<_>>()?;
            Ok(Box::new(Product {
                weights,
                x,
                y: None,
            }))
        }
        Task::Generation { .. } | Task::Embedding { .. } => unsupported("kernels only"),
    }
}

struct Attention {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: f32,
    causal: bool,
    out: Option<Tensor>,
}

impl Job for Attention {
    fn run(&mut self, runs: usize) -> Result<()> {
        for _ in 0..runs {
            let mask = match self.causal {
                true => AttnMask::causal(),
                false => AttnMask::None,
            };
            let (q, k, v) = (&self.q, &self.k, &self.v);
            self.out = Some(match q.dtype() {
                DType::F16 => flash_attn::<half::f16>(q, k, v, self.scale, mask, None, None)?,
                DType::BF16 => flash_attn::<half::bf16>(q, k, v, self.scale, mask, None, None)?,
                _ => flash_attn::<f32>(q, k, v, self.scale, mask, None, None)?,
            });
        }
        Ok(())
    }

    /// From (1, heads, tokens, head_dim).
    fn result(&mut self) -> Result<Vec<f32>> {
        let out = self.out.as_ref().context("no run yet")?;
        let out = out.to_dtype(DType::F32)?.transpose(1, 2)?;
        Ok(out.flatten_all()?.to_vec1()?)
    }
}

struct Product {
    weights: Vec<QMatMul>,
    x: Tensor,
    y: Option<Tensor>,
}

impl Job for Product {
    fn run(&mut self, runs: usize) -> Result<()> {
        for weights in std::iter::repeat_n(&self.weights, runs).flatten() {
            self.y = Some(weights.forward(&self.x)?);
        }
        Ok(())
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        let y = self.y.as_ref().context("no run yet")?;
        Ok(y.flatten_all()?.to_vec1()?)
    }
}
