//! Weights to begin with: those of a file, so that a training goes on from what another learned (Devlin et al. 2018).

use crate::mapped;
use crate::params::{Params, name, shapes};
use crate::vocabulary::Vocabulary;
use anyhow::{Context, Result, anyhow, ensure};
use attentive::{Config, Model, Role, TensorShape};
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A file of floats whose blocks are the task's, and its tokenizer with them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The weights file, as `attentive import` or `attentive train` makes one.
    pub file: PathBuf,
}

impl Start {
    fn open(&self) -> Result<Mmap> {
        mapped::map(&self.file).with_context(|| {
            "the task begins with the weights of a file; see the task's first lines for how to make it"
        })
    }

    /// The file's tokenizer.
    ///
    /// # Errors
    /// When the file cannot be read, or has none.
    pub fn vocabulary(&self) -> Result<Vocabulary> {
        let bytes = self.open()?;
        let vocabulary = parsed(&bytes).and_then(|model| Vocabulary::of_model(&model));
        vocabulary.with_context(|| self.file.display().to_string())
    }

    /// The file's weights. Heads that it has not begin at random, and places that no text of the task reaches are left out.
    ///
    /// # Errors
    /// When the file cannot be read, or its model is another in more than its head.
    pub fn params(&self, config: Config, seed: u64) -> Result<Params> {
        let bytes = self.open()?;
        let params = || -> Result<Params> {
            let model = parsed(&bytes)?;
            check(model.config(), &config)?;
            adopt(&Params::from_model(&model)?, Params::random(config, seed))
        };
        params().with_context(|| self.file.display().to_string())
    }
}

fn parsed(bytes: &[u8]) -> Result<Model<'_>> {
    Model::parse(bytes).map_err(|error| anyhow!("{error}"))
}

/// Whether both compute the same but for what shapes and heads say.
fn check(file: &Config, task: &Config) -> Result<()> {
    let fields = |config: &Config| {
        [
            ("heads", config.heads.to_string()),
            ("kv_heads", config.kv_heads.to_string()),
            ("head_dim", config.head_dim.to_string()),
            ("layers", config.layers.to_string()),
            ("norm", format!("{:?}", config.norm)),
            ("norm_place", format!("{:?}", config.norm_place)),
            ("norm_eps", config.norm_eps.to_string()),
            ("final_norm", config.final_norm.to_string()),
            ("ffn", format!("{:?}", config.ffn)),
            ("position", format!("{:?}", config.position)),
            ("attention", format!("{:?}", config.attention)),
            ("tied", config.tied.to_string()),
            ("biases", format!("{:?}", config.biases)),
            ("embedding_scale", config.embedding_scale.to_string()),
        ]
    };
    for ((name, have), (_, need)) in fields(file).into_iter().zip(fields(task)) {
        ensure!(
            have == need,
            "the file's model has {name} {have}, the task's {need}"
        );
    }
    Ok(())
}

/// Takes over what `begun` has too.
fn adopt(file: &Params, mut begun: Params) -> Result<Params> {
    let config = begun.config;
    for (shape, place) in shapes(&config).zip(&mut begun.tensors) {
        let index = file.config.tensor_index(shape.role, shape.layer);
        let same = index.and_then(|index| file.config.tensor(index));
        let values = index.and_then(|index| file.tensors.get(index));
        let is_head = matches!(shape.role, Role::HeadWeight | Role::HeadBias);
        match same.zip(values) {
            Some((have, values)) if fits(&have, &shape) => {
                place.copy_from_slice(&values[..shape.rows * shape.cols]);
            }
            _ if is_head => {}
            None => anyhow::bail!("the file's model has no {}", name(&shape)),
            Some((have, _)) => anyhow::bail!(
                "the file's {} is ({}, {}), the task's ({}, {})",
                name(&shape),
                have.rows,
                have.cols,
                shape.rows,
                shape.cols
            ),
        }
    }
    Ok(begun)
}

/// A table of positions may be longer than what is needed of it.
fn fits(have: &TensorShape, need: &TensorShape) -> bool {
    let rows = match need.role {
        Role::PositionEmbedding => have.rows >= need.rows,
        _ => have.rows == need.rows,
    };
    rows && have.cols == need.cols
}
