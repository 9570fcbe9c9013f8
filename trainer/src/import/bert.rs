//! Hugging Face's architecture `bert`, a directory of `config.json`, `model.safetensors` and `tokenizer.json` or
//! `vocab.txt`, as a model of the core. With the files of sentence-transformers the model gives embeddings.

use crate::import::packed;
use crate::import::safetensors::{ConfigJson, Files, Tensors, read_json};
use crate::import::text_vocabulary::TextVocabulary;
use crate::package::Formats;
use crate::params::{name, shapes};
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::tokenizer::BertText;
use attentive::{
    Architecture, Attention, Biases, Block, Config, Norm, NormPlace, Output, Pooling, Position,
    Reading, Role, TensorKind, TensorShape,
};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Hugging Face's name.
pub(super) const ARCHITECTURE: &str = "bert";

/// The record inside the file.
#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    command: &'a str,
    architecture: &'a str,
    /// Of classes or tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
}

/// Turns the directory into a weights file. `source` is its name and `command` what was typed, for the record.
///
/// # Errors
/// What the directory holds that the core cannot run, or that is missing, by its name.
pub fn import(
    dir: &Path,
    source: &str,
    command: &str,
    formats: Formats,
    context: Option<usize>,
) -> Result<Vec<Block>> {
    let json = ConfigJson(read_json(&dir.join("config.json"))?);
    let files = Files::open(dir)?;
    let weights = files.tensors()?;
    // Models with a head have the encoder under this name.
    let prefix = match weights.has("bert.embeddings.word_embeddings.weight") {
        true => "bert.",
        false => "",
    };
    let named = Named {
        weights: &weights,
        prefix,
        source,
        command,
        context,
    };
    build(dir, &json, head(&json.0, dir)?, &named, formats)
}

/// Tensors, and what they are called.
pub(super) struct Named<'a> {
    pub(super) weights: &'a dyn Tensors,
    /// Before the encoder's names.
    pub(super) prefix: &'a str,
    /// The model's, for the record.
    pub(super) source: &'a str,
    /// What was typed, for the record.
    pub(super) command: &'a str,
    /// Tokens of the longest text, if others than the files say.
    pub(super) context: Option<usize>,
}

/// The weights file of that configuration and those tensors, with the tokenizer that lies in the directory.
///
/// # Errors
/// What the core cannot run, or that is missing, by its name.
pub(super) fn build(
    dir: &Path,
    json: &ConfigJson,
    head: Head,
    named: &Named<'_>,
    formats: Formats,
) -> Result<Vec<Block>> {
    let Named {
        weights, prefix, ..
    } = *named;
    let vocabulary = vocabulary(dir)?;
    let config = config(json, dir, head, named.context)?;
    ensure!(
        vocabulary.len() <= config.vocab_len,
        "the tokenizer has {} tokens; config.json has vocab_size {}",
        vocabulary.len(),
        config.vocab_len
    );
    let positions = json.number("max_position_embeddings")?;
    let tensors = shapes(&config).map(|shape| match shape.role {
        // Places that no text reaches are left out.
        Role::PositionEmbedding => {
            let whole = TensorShape {
                rows: positions,
                ..shape
            };
            let mut table = values(weights, prefix, &config, &whole)?;
            table.truncate(shape.rows * shape.cols);
            Ok(table)
        }
        _ => values(weights, prefix, &config, &shape),
    });
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let provenance = toml::to_string(&Record {
        name: named.source,
        command: named.command,
        architecture: ARCHITECTURE,
        labels: match config.reading().map(|reading| reading.output) {
            Some(Output::Classes(count) | Output::Tags(count)) => labels(&json.0, count)?,
            _ => Vec::new(),
        },
    })
    .context("writing the record")?;
    vocabulary.with_parts(|tokenizer| packed(&config, tokenizer, &provenance, formats, &tensors))
}

/// `tokenizer.json`, or else `vocab.txt` with what `tokenizer_config.json` says about case.
fn vocabulary(dir: &Path) -> Result<TextVocabulary> {
    let json = dir.join("tokenizer.json");
    if json.exists() {
        let text = fs::read_to_string(&json).context("reading tokenizer.json")?;
        return TextVocabulary::from_tokenizer_json(&text).context("tokenizer.json");
    }
    let path = dir.join("vocab.txt");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("neither tokenizer.json nor vocab.txt in {}", dir.display()))?;
    let about = dir.join("tokenizer_config.json");
    let cased = about.exists() && read_json(&about)?["do_lower_case"] == Value::Bool(false);
    let kind = BertText {
        lowercase: !cased,
        strip_accents: !cased,
        ..BertText::UNCASED
    };
    TextVocabulary::from_vocab_txt(&text, kind)
}

fn config(json: &ConfigJson, dir: &Path, head: Head, context: Option<usize>) -> Result<Config> {
    let kind = json.model_type();
    ensure!(
        kind == ARCHITECTURE,
        "config.json has the model_type {kind:?}; expected {ARCHITECTURE:?}"
    );
    json.only("position_embedding_type", &["absolute".into()])?;
    let number = |key: &str| json.number(key);
    let (dim, heads) = (number("hidden_size")?, number("num_attention_heads")?);
    ensure!(
        heads > 0 && dim.is_multiple_of(heads),
        "hidden_size {dim} is no multiple of num_attention_heads {heads}"
    );
    let ffn = json.activation("hidden_act")?;
    let Head {
        pooling,
        pooler,
        output,
    } = head;
    let config = Config {
        architecture: Architecture::Encoder(Reading {
            types: number("type_vocab_size")?,
            embedding_norm: true,
            pooling,
            pooler,
            output,
            patch: 0,
        }),
        vocab_len: number("vocab_size")?,
        dim,
        layers: number("num_hidden_layers")?,
        heads,
        kv_heads: heads,
        head_dim: dim / heads,
        hidden_dim: number("intermediate_size")?,
        context_len: context_len(number("max_position_embeddings")?, dir, context)?,
        norm: Norm::Layer,
        norm_place: NormPlace::Post,
        norm_eps: json.float("layer_norm_eps")?,
        final_norm: false,
        ffn,
        position: Position::Learned,
        attention: Attention::PLAIN,
        tied: true,
        biases: Biases::ALL_BUT_OUTPUT,
        embedding_scale: 1.0,
        begin_of_text: None,
        end_of_text: None,
    };
    config
        .check()
        .map_err(|error| anyhow!("config.json: {error}"))?;
    Ok(config)
}

/// Tokens of the longest text: as many as are wanted, or as sentence-transformers has it, or as there are positions.
fn context_len(positions: usize, dir: &Path, wanted: Option<usize>) -> Result<usize> {
    if let Some(wanted) = wanted {
        ensure!(
            (1..=positions).contains(&wanted),
            "--context should lie between 1 and the model's {positions} positions, not {wanted}"
        );
        return Ok(wanted);
    }
    let path = dir.join("sentence_bert_config.json");
    if !path.exists() {
        return Ok(positions);
    }
    let most = ConfigJson(read_json(&path)?).optional("max_seq_length");
    let most = most.context("sentence_bert_config.json")?;
    Ok(most.map_or(positions, |most| most.min(positions)))
}

/// What comes of the tokens.
pub(super) struct Head {
    pub(super) pooling: Pooling,
    pub(super) pooler: bool,
    pub(super) output: Output,
}

/// Number of labels, which Hugging Face takes for 2 where nothing says otherwise.
pub(super) fn labels_len(json: &Value) -> usize {
    let named = json["id2label"].as_object().map(serde_json::Map::len);
    let number = json["num_labels"].as_u64().map(|n| n as usize);
    named.or(number).unwrap_or(2)
}

/// The labels' names.
pub(super) fn labels(json: &Value, count: usize) -> Result<Vec<String>> {
    let label = |index: usize| match &json["id2label"] {
        Value::Null => Ok(format!("LABEL_{index}")),
        names => {
            let name = names[index.to_string()].as_str().map(str::to_owned);
            name.with_context(|| format!("config.json has no id2label for {index}"))
        }
    };
    (0..count).map(label).collect()
}

/// What the modules of sentence-transformers make of the tokens; without them the head that config.json names, and
/// without that the tokens' vectors.
fn head(json: &Value, dir: &Path) -> Result<Head> {
    let modules = dir.join("modules.json");
    if !modules.exists() {
        let (pooling, pooler, output) = match json["architectures"][0].as_str().unwrap_or_default()
        {
            "BertForSequenceClassification" => {
                (Pooling::First, true, Output::Classes(labels_len(json)))
            }
            "BertForTokenClassification" => (Pooling::None, false, Output::Tags(labels_len(json))),
            "BertForQuestionAnswering" => (Pooling::None, false, Output::Span),
            _ => (Pooling::None, false, Output::Hidden),
        };
        return Ok(Head {
            pooling,
            pooler,
            output,
        });
    }
    let modules = read_json(&modules)?;
    let (mut pooling, mut unit) = (Pooling::None, false);
    for module in modules.as_array().context("modules.json is no list")? {
        let kind = module["type"].as_str().unwrap_or_default();
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Normalize" => unit = true,
            "Pooling" => {
                let path = module["path"].as_str().unwrap_or_default();
                let json = read_json(&dir.join(path).join("config.json"))?;
                let modes = json.as_object().into_iter().flatten();
                let on: Vec<_> = modes
                    .filter(|(key, value)| {
                        key.starts_with("pooling_mode") && **value == Value::Bool(true)
                    })
                    .map(|(key, _)| key.as_str())
                    .collect();
                pooling = match on[..] {
                    ["pooling_mode_cls_token"] => Pooling::First,
                    ["pooling_mode_mean_tokens"] => Pooling::Mean,
                    _ => bail!(
                        "{path}/config.json has {on:?}; supported is one of pooling_mode_cls_token and \
                         pooling_mode_mean_tokens"
                    ),
                };
            }
            _ => {
                bail!("modules.json has {kind:?}; supported are Transformer, Pooling and Normalize")
            }
        }
    }
    ensure!(pooling != Pooling::None, "modules.json has no Pooling");
    Ok(Head {
        pooling,
        pooler: false,
        output: Output::Embedding { unit },
    })
}

/// A tensor of the model, row-major: one of the file, or queries, keys and values one after the other.
fn values(
    weights: &dyn Tensors,
    prefix: &str,
    config: &Config,
    shape: &TensorShape,
) -> Result<Vec<f32>> {
    let (q_dim, kv_dim) = (config.q_dim(), config.kv_dim());
    let attention = |end| {
        vec![
            (format!("attention.self.query.{end}"), q_dim),
            (format!("attention.self.key.{end}"), kv_dim),
            (format!("attention.self.value.{end}"), kv_dim),
        ]
    };
    let one = |name: &str| vec![(name.to_owned(), shape.rows)];
    let head = match config.reading().map(|reading| reading.output) {
        Some(Output::Span) => "qa_outputs",
        _ => "classifier",
    };
    // A head stands beside the encoder, not in it.
    let prefix = match shape.role {
        Role::HeadWeight | Role::HeadBias => "",
        _ => prefix,
    };
    let parts = match shape.role {
        Role::TokenEmbedding => one("embeddings.word_embeddings.weight"),
        Role::PositionEmbedding => one("embeddings.position_embeddings.weight"),
        Role::TypeEmbedding => one("embeddings.token_type_embeddings.weight"),
        Role::EmbeddingNormGain => one("embeddings.LayerNorm.weight"),
        Role::EmbeddingNormBias => one("embeddings.LayerNorm.bias"),
        Role::QkvWeight => attention("weight"),
        Role::QkvBias => attention("bias"),
        Role::OutWeight => one("attention.output.dense.weight"),
        Role::OutBias => one("attention.output.dense.bias"),
        Role::AttnNormGain => one("attention.output.LayerNorm.weight"),
        Role::AttnNormBias => one("attention.output.LayerNorm.bias"),
        Role::UpWeight => one("intermediate.dense.weight"),
        Role::UpBias => one("intermediate.dense.bias"),
        Role::DownWeight => one("output.dense.weight"),
        Role::DownBias => one("output.dense.bias"),
        Role::FfnNormGain => one("output.LayerNorm.weight"),
        Role::FfnNormBias => one("output.LayerNorm.bias"),
        Role::PoolerWeight => one("pooler.dense.weight"),
        Role::PoolerBias => one("pooler.dense.bias"),
        Role::HeadWeight => one(&format!("{head}.weight")),
        Role::HeadBias => one(&format!("{head}.bias")),
        _ => bail!("bert has no {}", name(shape)),
    };
    let place = shape.layer.map(|layer| format!("encoder.layer.{layer}."));
    let place = place.unwrap_or_default();
    let mut out = Vec::with_capacity(shape.rows * shape.cols);
    for (part, len) in parts {
        let expected = match (shape.kind, shape.role) {
            (TensorKind::Matrix, _) => vec![len, shape.cols],
            (TensorKind::Vector, Role::QkvBias) => vec![len],
            (TensorKind::Vector, _) => vec![shape.cols],
        };
        let part = format!("{prefix}{place}{part}");
        out.append(&mut weights.floats(&part, &expected)?);
    }
    Ok(out)
}
