//! Which tensors a model has, in which order a file holds them, and their shapes.
//!
//! The order follows from the [`Config`] alone. So a file cannot leave a tensor out, hold one twice or give one a
//! wrong shape without the parser seeing it at that very entry, and a look-up is an index, not a search.

use crate::config::{Config, Position, Reading};

/// What a tensor is for; the number is its code in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u16)]
pub enum Role {
    /// (vocab_len, dim).
    TokenEmbedding = 1,
    /// (context_len, dim), with learned positions.
    PositionEmbedding = 2,
    /// (types, dim), of an encoder that tells texts apart.
    TypeEmbedding = 3,
    /// (dim), of an encoder that norms its embeddings.
    EmbeddingNormGain = 4,
    /// (dim).
    EmbeddingNormBias = 5,
    /// (dim).
    AttnNormGain = 16,
    /// (dim).
    AttnNormBias = 17,
    /// Query, key and value rows: ((heads + 2·kv_heads)·head_dim, dim).
    QkvWeight = 18,
    /// ((heads + 2·kv_heads)·head_dim).
    QkvBias = 19,
    /// (dim, heads·head_dim).
    OutWeight = 20,
    /// (dim).
    OutBias = 21,
    /// (dim).
    FfnNormGain = 22,
    /// (dim).
    FfnNormBias = 23,
    /// Gate rows, then up rows, when gated: (hidden_dim or 2·hidden_dim, dim).
    UpWeight = 24,
    /// (hidden_dim or 2·hidden_dim).
    UpBias = 25,
    /// (dim, hidden_dim).
    DownWeight = 26,
    /// (dim).
    DownBias = 27,
    /// (heads), with attention sinks; always f32.
    AttnSinks = 28,
    /// (dim).
    FinalNormGain = 48,
    /// (dim).
    FinalNormBias = 49,
    /// (vocab_len, dim), unless tied to the token embedding.
    OutputWeight = 50,
    /// (vocab_len).
    OutputBias = 51,
    /// (dim, dim), of an encoder's pooler.
    PoolerWeight = 52,
    /// (dim).
    PoolerBias = 53,
    /// (classes, tags or 2, dim), of an encoder's output.
    HeadWeight = 54,
    /// (classes, tags or 2).
    HeadBias = 55,
}

/// Tensors before the layers, in file order.
const BEFORE: [Role; 5] = [
    Role::TokenEmbedding,
    Role::PositionEmbedding,
    Role::TypeEmbedding,
    Role::EmbeddingNormGain,
    Role::EmbeddingNormBias,
];
/// Tensors of a layer, in file order, which is the order of use.
const LAYER: [Role; 13] = [
    Role::AttnNormGain,
    Role::AttnNormBias,
    Role::QkvWeight,
    Role::QkvBias,
    Role::AttnSinks,
    Role::OutWeight,
    Role::OutBias,
    Role::FfnNormGain,
    Role::FfnNormBias,
    Role::UpWeight,
    Role::UpBias,
    Role::DownWeight,
    Role::DownBias,
];
/// Tensors after the layers, in file order.
const AFTER: [Role; 8] = [
    Role::FinalNormGain,
    Role::FinalNormBias,
    Role::OutputWeight,
    Role::OutputBias,
    Role::PoolerWeight,
    Role::PoolerBias,
    Role::HeadWeight,
    Role::HeadBias,
];

/// Most tensors that any [`Config`] asks for.
pub(crate) const TENSORS_MAX: usize = BEFORE.len() + AFTER.len() + Config::LAYERS_MAX * LAYER.len();

/// How a tensor is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TensorKind {
    /// A matrix in any of the packed formats.
    Matrix,
    /// A plain vector, f32 or f16; `rows` is 1.
    Vector,
}

/// One tensor that a [`Config`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TensorShape {
    /// What it is for.
    pub role: Role,
    /// Its layer, if it belongs to one.
    pub layer: Option<usize>,
    /// How it is read.
    pub kind: TensorKind,
    /// Outputs of the product; 1 for a vector.
    pub rows: usize,
    /// Inputs of the product; elements of a vector.
    pub cols: usize,
}

impl Config {
    /// Number of tensors in a file of this model.
    pub const fn tensors_len(&self) -> usize {
        self.present_len(&BEFORE)
            + self.layers * self.present_len(&LAYER)
            + self.present_len(&AFTER)
    }

    /// The tensor at `index` in file order; `None` past the end.
    pub const fn tensor(&self, index: usize) -> Option<TensorShape> {
        let before = self.present_len(&BEFORE);
        if index < before {
            return self.shape(self.nth(&BEFORE, index), None);
        }
        let index = index - before;
        let per_layer = self.present_len(&LAYER);
        // A layer always has its weights, so the quotient exists; the compiler cannot know it.
        let Some(layer) = index.checked_div(per_layer) else {
            return None;
        };
        if layer < self.layers {
            return self.shape(self.nth(&LAYER, index - layer * per_layer), Some(layer));
        }
        self.shape(self.nth(&AFTER, index - self.layers * per_layer), None)
    }

    /// Place of a tensor in file order; `None` when this model has no such tensor.
    pub const fn tensor_index(&self, role: Role, layer: Option<usize>) -> Option<usize> {
        if !self.has(role) {
            return None;
        }
        let before = self.present_len(&BEFORE);
        let per_layer = self.present_len(&LAYER);
        if let Some(layer) = layer {
            return match self.rank(&LAYER, role) {
                Some(rank) if layer < self.layers => Some(before + layer * per_layer + rank),
                _ => None,
            };
        }
        if let Some(rank) = self.rank(&BEFORE, role) {
            return Some(rank);
        }
        match self.rank(&AFTER, role) {
            Some(rank) => Some(before + self.layers * per_layer + rank),
            None => None,
        }
    }

    /// Whether this model has tensors of that role.
    pub const fn has(&self, role: Role) -> bool {
        match role {
            Role::TokenEmbedding | Role::QkvWeight | Role::OutWeight => true,
            Role::UpWeight | Role::DownWeight | Role::AttnNormGain | Role::FfnNormGain => true,
            Role::PositionEmbedding => matches!(self.position, Position::Learned),
            Role::AttnNormBias | Role::FfnNormBias => self.biases.norm,
            Role::QkvBias => self.biases.qkv,
            Role::AttnSinks => self.attention.sinks,
            Role::OutBias => self.biases.out,
            Role::UpBias => self.biases.up,
            Role::DownBias => self.biases.down,
            Role::FinalNormGain => self.final_norm,
            Role::FinalNormBias => self.final_norm && self.biases.norm,
            Role::OutputWeight => !self.tied,
            Role::OutputBias => self.biases.output,
            _ => match self.reading() {
                Some(reading) => self.reads_with(reading, role),
                None => false,
            },
        }
    }

    const fn reads_with(&self, reading: &Reading, role: Role) -> bool {
        match role {
            Role::TypeEmbedding => reading.types > 0,
            Role::EmbeddingNormGain => reading.embedding_norm,
            Role::EmbeddingNormBias => reading.embedding_norm && self.biases.norm,
            Role::PoolerWeight | Role::PoolerBias => reading.pooler,
            Role::HeadWeight | Role::HeadBias => reading.head_rows() > 0,
            _ => false,
        }
    }

    const fn shape(&self, role: Option<Role>, layer: Option<usize>) -> Option<TensorShape> {
        let Some(role) = role else {
            return None;
        };
        let (types, head) = match self.reading() {
            Some(reading) => (reading.types, reading.head_rows()),
            None => (0, 0),
        };
        let (rows, cols) = match role {
            Role::TypeEmbedding => (types, self.dim),
            Role::PoolerWeight => (self.dim, self.dim),
            Role::HeadWeight => (head, self.dim),
            Role::HeadBias => (0, head),
            Role::TokenEmbedding | Role::OutputWeight => (self.vocab_len, self.dim),
            Role::PositionEmbedding => (self.context_len, self.dim),
            Role::QkvWeight => (self.qkv_dim(), self.dim),
            Role::OutWeight => (self.dim, self.q_dim()),
            Role::UpWeight => (self.up_dim(), self.dim),
            Role::DownWeight => (self.dim, self.hidden_dim),
            Role::QkvBias => (0, self.qkv_dim()),
            Role::AttnSinks => (0, self.heads),
            Role::UpBias => (0, self.up_dim()),
            Role::OutputBias => (0, self.vocab_len),
            Role::EmbeddingNormGain
            | Role::EmbeddingNormBias
            | Role::PoolerBias
            | Role::AttnNormGain
            | Role::AttnNormBias
            | Role::OutBias
            | Role::FfnNormGain
            | Role::FfnNormBias
            | Role::DownBias
            | Role::FinalNormGain
            | Role::FinalNormBias => (0, self.dim),
        };
        let (kind, rows) = if rows == 0 {
            (TensorKind::Vector, 1)
        } else {
            (TensorKind::Matrix, rows)
        };
        Some(TensorShape {
            role,
            layer,
            kind,
            rows,
            cols,
        })
    }

    /// How many of the roles this model has.
    const fn present_len(&self, mut roles: &[Role]) -> usize {
        let mut len = 0;
        while let Some((&role, rest)) = roles.split_first() {
            if self.has(role) {
                len += 1;
            }
            roles = rest;
        }
        len
    }

    /// The `n`th of the roles that this model has.
    const fn nth(&self, mut roles: &[Role], mut n: usize) -> Option<Role> {
        while let Some((&role, rest)) = roles.split_first() {
            if self.has(role) {
                if n == 0 {
                    return Some(role);
                }
                n -= 1;
            }
            roles = rest;
        }
        None
    }

    /// Inverse of [`Self::nth`].
    const fn rank(&self, mut roles: &[Role], wanted: Role) -> Option<usize> {
        let mut rank = 0;
        while let Some((&role, rest)) = roles.split_first() {
            if role as u16 == wanted as u16 {
                return Some(rank);
            }
            if self.has(role) {
                rank += 1;
            }
            roles = rest;
        }
        None
    }
}
