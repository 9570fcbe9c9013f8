//! BERT from an ONNX file, as PyTorch exports it: names of the module's parameters where these stay whole, and matrices
//! without a name, which are found by the bias that is added to their product.

use crate::import::bert::{self, Head};
use crate::import::protobuf::{Field, fields, text, varint};
use crate::import::safetensors::{ConfigJson, Tensors, transposed};
use crate::mapped;
use crate::package::Formats;
use anyhow::{Context, Result, bail, ensure};
use attentive::{Block, Output, Pooling};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// The name that every BERT has in it; what stands before it is the module that holds it.
const WORDS: &str = "embeddings.word_embeddings.weight";

/// Turns the file into a weights file; `vocab.txt` or `tokenizer.json` stands beside it. `source` is its name and
/// `command` what was typed, for the record.
///
/// # Errors
/// What the file holds that the core cannot run, or that is missing, by its name.
pub fn import(
    path: &Path,
    source: &str,
    command: &str,
    formats: Formats,
    context: Option<usize>,
) -> Result<Vec<Block>> {
    let bytes = mapped::map(path)?;
    let graph = Graph::parse(&bytes).context("the file is truncated or no ONNX file")?;
    let words = graph
        .tensors
        .keys()
        .find_map(|name| name.strip_suffix(WORDS));
    let prefix =
        words.with_context(|| format!("tensor {WORDS} is missing: only BERT is supported"))?;
    let json = ConfigJson(graph.config(prefix)?);
    let head = graph.head();
    let dir = path.parent().unwrap_or(Path::new(""));
    let named = bert::Named {
        weights: &graph,
        prefix,
        source,
        command,
        context,
    };
    bert::build(dir, &json, head, &named, formats)
}

/// A file's tensors and operations.
struct Graph<'a> {
    tensors: BTreeMap<&'a str, Tensor<'a>>,
    nodes: Vec<Node<'a>>,
    /// Which node makes a value.
    makers: BTreeMap<&'a str, usize>,
}

/// A tensor of the file.
#[derive(Clone, Debug, Default)]
struct Tensor<'a> {
    name: &'a str,
    dims: Vec<usize>,
    /// ONNX's code of the elements' type.
    kind: u64,
    /// Little-endian elements.
    raw: &'a [u8],
}

/// An operation.
#[derive(Clone, Debug, Default)]
struct Node<'a> {
    op: &'a str,
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
    /// A constant's value.
    value: Option<Tensor<'a>>,
}

/// ONNX's codes of types.
const FLOAT: u64 = 1;
const INT64: u64 = 7;

impl<'a> Tensor<'a> {
    fn parse(message: &'a [u8]) -> Result<Self> {
        let mut tensor = Self::default();
        for field in fields(message) {
            match field? {
                (1, Field::Number(dim)) => tensor.dims.push(usize::try_from(dim)?),
                (1, Field::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        tensor.dims.push(usize::try_from(varint(&mut packed)?)?);
                    }
                }
                (2, Field::Number(kind)) => tensor.kind = kind,
                // Floats one by one are four bytes each as well, packed.
                (4 | 9, Field::Bytes(raw)) => tensor.raw = raw,
                (8, Field::Bytes(name)) => tensor.name = text(name)?,
                _ => {}
            }
        }
        Ok(tensor)
    }

    /// Of a constant that is one whole number.
    fn number(&self) -> Option<usize> {
        let bytes = (self.kind == INT64).then_some(self.raw)?;
        let number = i64::from_le_bytes(bytes.try_into().ok()?);
        usize::try_from(number).ok()
    }

    /// Of a constant that is one float.
    fn float(&self) -> Option<f32> {
        let bytes = (self.kind == FLOAT).then_some(self.raw)?;
        Some(f32::from_le_bytes(bytes.try_into().ok()?))
    }
}

impl<'a> Node<'a> {
    fn parse(message: &'a [u8]) -> Result<Self> {
        let mut node = Self::default();
        for field in fields(message) {
            match field? {
                (1, Field::Bytes(name)) => node.inputs.push(text(name)?),
                (2, Field::Bytes(name)) => node.outputs.push(text(name)?),
                (4, Field::Bytes(op)) => node.op = text(op)?,
                (5, Field::Bytes(attribute)) => {
                    for field in fields(attribute) {
                        if let (5, Field::Bytes(tensor)) = field? {
                            node.value = Some(Tensor::parse(tensor)?);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(node)
    }
}

impl<'a> Graph<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut graph = None;
        for field in fields(bytes) {
            if let (7, Field::Bytes(message)) = field? {
                graph = Some(message);
            }
        }
        let mut this = Self {
            tensors: BTreeMap::new(),
            nodes: Vec::new(),
            makers: BTreeMap::new(),
        };
        for field in fields(graph.context("it has no graph")?) {
            match field? {
                (1, Field::Bytes(node)) => {
                    let node = Node::parse(node)?;
                    for output in &node.outputs {
                        this.makers.insert(output, this.nodes.len());
                    }
                    this.nodes.push(node);
                }
                (5, Field::Bytes(tensor)) => {
                    let tensor = Tensor::parse(tensor)?;
                    this.tensors.insert(tensor.name, tensor);
                }
                _ => {}
            }
        }
        Ok(this)
    }

    fn maker(&self, value: &str) -> Option<&Node<'a>> {
        self.nodes.get(*self.makers.get(value)?)
    }

    fn constant(&self, value: &str) -> Option<&Tensor<'a>> {
        let made = || self.maker(value)?.value.as_ref();
        self.tensors.get(value).or_else(made)
    }

    /// The matrix whose product that bias is added to, (inputs, outputs).
    fn beside(&self, bias: &str) -> Option<&Tensor<'a>> {
        let adds = |node: &&Node<'a>| node.op == "Add" && node.inputs.contains(&bias);
        let add = self.nodes.iter().find(adds)?;
        let product = add.inputs.iter().find_map(|input| self.maker(input))?;
        let matrix = (product.op == "MatMul").then(|| product.inputs.get(1))??;
        self.tensors.get(matrix)
    }

    /// What Hugging Face's `config.json` would say.
    fn config(&self, prefix: &str) -> Result<serde_json::Value> {
        let dims = |name: &str| {
            let tensor = self.tensors.get(format!("{prefix}{name}").as_str());
            let tensor = tensor.with_context(|| format!("tensor {prefix}{name} is missing"))?;
            ensure!(
                tensor.dims.len() == 2,
                "tensor {prefix}{name} is {:?}; expected two dimensions",
                tensor.dims
            );
            Ok([tensor.dims[0], tensor.dims[1]])
        };
        let [vocab_len, dim] = dims(WORDS)?;
        let [positions, _] = dims("embeddings.position_embeddings.weight")?;
        let [types, _] = dims("embeddings.token_type_embeddings.weight")?;
        let of_layer = |layer: &usize| {
            let name = format!("{prefix}encoder.layer.{layer}.intermediate.dense.bias");
            self.tensors
                .get(name.as_str())
                .map(|bias| bias.dims.clone())
        };
        let layers = (0..).take_while(|layer| of_layer(layer).is_some()).count();
        let hidden = of_layer(&0).and_then(|dims| dims.first().copied());
        let hidden = hidden.context("the file has no layer")?;
        // Heads are made by a shape that ends with their number and their width.
        let heads = self
            .nodes
            .iter()
            .filter(|node| node.op == "Concat")
            .find_map(|node| {
                let [.., heads, width] = node.inputs.as_slice() else {
                    return None;
                };
                let heads = self.constant(heads)?.number()?;
                (heads * self.constant(width)?.number()? == dim).then_some(heads)
            });
        let heads = heads.context("no shape says how many heads there are")?;
        // A norm adds this before its root.
        let epsilon = self
            .nodes
            .iter()
            .filter(|node| node.op == "Sqrt")
            .find_map(|node| {
                let sum = self.maker(node.inputs.first()?)?;
                let constant = |input: &&str| self.constant(input)?.float();
                (sum.op == "Add").then(|| sum.inputs.iter().find_map(constant))?
            });
        let has = |op: &str| self.nodes.iter().any(|node| node.op == op);
        let activation = match (has("Erf"), has("Tanh"), has("Relu")) {
            (true, false, false) => "gelu",
            (false, false, true) => "relu",
            _ => bail!("the activation is none of gelu by the error function and relu"),
        };
        Ok(json!({
            "model_type": bert::ARCHITECTURE,
            "vocab_size": vocab_len,
            "hidden_size": dim,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": hidden,
            "max_position_embeddings": positions,
            "type_vocab_size": types,
            "hidden_act": activation,
            "layer_norm_eps": epsilon.unwrap_or(1e-12),
        }))
    }

    /// The mean of the tokens, which a sum over them is a part of, divided by its length or not; or the tokens.
    fn head(&self) -> Head {
        let has = |op: &str| self.nodes.iter().any(|node| node.op == op);
        let pools = has("ReduceSum") && has("Clip");
        Head {
            pooling: if pools { Pooling::Mean } else { Pooling::None },
            pooler: false,
            output: match pools {
                true => Output::Embedding {
                    unit: has("ReduceL2") || has("LpNormalization"),
                },
                false => Output::Hidden,
            },
        }
    }
}

impl Tensors for Graph<'_> {
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn floats(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>> {
        let bias = name
            .strip_suffix(".weight")
            .map(|name| format!("{name}.bias"));
        let beside = || self.beside(bias.as_deref()?);
        let (tensor, across) = match (self.tensors.get(name), beside) {
            (Some(tensor), _) => (tensor, false),
            (None, beside) => {
                let tensor = beside();
                let tensor = tensor
                    .with_context(|| format!("tensor {name} is missing; expected {expected:?}"))?;
                (tensor, true)
            }
        };
        let mut dims = tensor.dims.clone();
        if across {
            dims.reverse();
        }
        ensure!(
            dims == expected && tensor.kind == FLOAT,
            "tensor {name} is {dims:?} of the type {}; expected {expected:?} of the type {FLOAT}, floats of 32 bits",
            tensor.kind
        );
        let (elements, _) = tensor.raw.as_chunks();
        let values: Vec<f32> = elements.iter().map(|x| f32::from_le_bytes(*x)).collect();
        ensure!(
            values.len() == expected.iter().product::<usize>(),
            "tensor {name} has {} elements; expected {expected:?}",
            values.len()
        );
        Ok(match across {
            true => transposed(&values, expected[0]),
            false => values,
        })
    }
}
