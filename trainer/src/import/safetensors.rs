//! Directories in Hugging Face's layout: `config.json`, and `model.safetensors` or the parts that
//! `model.safetensors.index.json` names.

use crate::mapped;
use anyhow::{Context, Result, anyhow, bail, ensure};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Reads a file of JSON.
///
/// # Errors
/// When it cannot be read or is none.
pub(super) fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// The numbers and words of a `config.json`.
pub(super) struct ConfigJson(pub(super) Value);

impl ConfigJson {
    /// The architecture.
    pub(super) fn model_type(&self) -> &str {
        self.0["model_type"].as_str().unwrap_or("none")
    }

    /// A whole number.
    pub(super) fn number(&self, key: &str) -> Result<usize> {
        self.optional(key)?
            .with_context(|| format!("config.json has no whole number {key}"))
    }

    /// A whole number, if there is one.
    pub(super) fn optional(&self, key: &str) -> Result<Option<usize>> {
        match &self.0[key] {
            Value::Null => Ok(None),
            value => {
                let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
                let number =
                    number.with_context(|| format!("{key} is {value}; expected a whole number"))?;
                Ok(Some(number))
            }
        }
    }

    /// A number.
    pub(super) fn float(&self, key: &str) -> Result<f32> {
        let number = self.0[key].as_f64();
        Ok(number.with_context(|| format!("config.json has no number {key}"))? as f32)
    }

    /// Refuses a value that would change what the model computes.
    pub(super) fn only(&self, key: &str, supported: &[Value]) -> Result<()> {
        let value = &self.0[key];
        let list: Vec<String> = supported.iter().map(Value::to_string).collect();
        ensure!(
            value.is_null() || supported.contains(value),
            "config.json has {key} {value}; supported is {}",
            list.join(" or ")
        );
        Ok(())
    }

    /// The activation inside the feed-forward block.
    pub(super) fn activation(&self, key: &str) -> Result<attentive::Ffn> {
        use attentive::Ffn;
        Ok(match self.0[key].as_str() {
            Some("gelu") => Ffn::GeluErf,
            Some("gelu_new" | "gelu_pytorch_tanh") => Ffn::GeluTanh,
            Some("relu") => Ffn::Relu,
            Some("silu" | "swish") => Ffn::Silu,
            other => bail!(
                "config.json has {key} {other:?}; supported are gelu, gelu_new, gelu_pytorch_tanh, relu, silu"
            ),
        })
    }
}

/// The files of weights, mapped.
pub(super) struct Files(Vec<Mmap>);

impl Files {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let index = dir.join("model.safetensors.index.json");
        if !index.exists() {
            return Ok(Self(vec![mapped::map(&dir.join("model.safetensors"))?]));
        }
        let json = read_json(&index)?;
        let map = json["weight_map"].as_object();
        let map = map.context("model.safetensors.index.json has no weight_map")?;
        let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
        let mut maps = Vec::new();
        for name in names {
            let plain = Path::new(name).components().count() == 1;
            ensure!(
                plain,
                "model.safetensors.index.json names the file {name:?}"
            );
            maps.push(mapped::map(&dir.join(name))?);
        }
        Ok(Self(maps))
    }

    pub(super) fn tensors(&self) -> Result<Weights<'_>> {
        let mut files = Vec::new();
        for bytes in &self.0 {
            let file = SafeTensors::deserialize(bytes).map_err(|error| {
                anyhow!("model.safetensors is truncated or no safetensors file: {error}")
            });
            files.push(file?);
        }
        Ok(Weights(files))
    }
}

/// Tensors that are found by their names.
pub(super) trait Tensors {
    /// Whether there is a tensor of that name.
    fn has(&self, name: &str) -> bool;

    /// A tensor as floats, row-major.
    ///
    /// # Errors
    /// When it is missing, has another shape, or a type that is no float.
    fn floats(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>>;
}

/// The tensors of all files.
pub(super) struct Weights<'a>(Vec<SafeTensors<'a>>);

impl Tensors for Weights<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|file| file.tensor(name).is_ok())
    }

    fn floats(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>> {
        let found = self.0.iter().find_map(|file| file.tensor(name).ok());
        let found =
            found.with_context(|| format!("tensor {name} is missing; expected {expected:?}"))?;
        ensure!(
            found.shape() == expected,
            "tensor {name} is {:?}; expected {expected:?}",
            found.shape()
        );
        let mut out = Vec::with_capacity(expected.iter().product());
        floats(&mut out, found.dtype(), found.data()).with_context(|| format!("tensor {name}"))?;
        Ok(out)
    }
}

fn floats(out: &mut Vec<f32>, dtype: Dtype, bytes: &[u8]) -> Result<()> {
    let (pairs, _) = bytes.as_chunks::<2>();
    match dtype {
        Dtype::F32 => out.extend(bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x))),
        Dtype::F16 => out.extend(pairs.iter().map(|x| f16::from_le_bytes(*x).to_f32())),
        Dtype::BF16 => out.extend(pairs.iter().map(|x| bf16::from_le_bytes(*x).to_f32())),
        _ => bail!("it is of type {dtype:?}; supported are F32, F16 and BF16"),
    }
    Ok(())
}

/// `(rows, cols)` to `(cols, rows)`.
pub(super) fn transposed(matrix: &[f32], cols: usize) -> Vec<f32> {
    let column = |col: usize| matrix.iter().skip(col).step_by(cols.max(1)).copied();
    (0..cols).flat_map(column).collect()
}
