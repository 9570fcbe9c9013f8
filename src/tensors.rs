//! Which tensors a model has, in which order a file holds them, and their shapes.
//!
//! The order follows from the [`Config`] alone. So a file cannot leave a tensor out, hold one twice or give one a
//! wrong shape without the parser seeing it at that very entry, and a look-up is an index, not a search.

use core::ops::{Range, RangeFrom};

use crate::config::{Config, Position, Reading, Source};

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
    /// (source's len, dim), of an encoder–decoder whose source has learned positions.
    SourcePositionEmbedding = 6,
    /// Windows of three frames, one after the other: (dim, 3·bins), of a source of sound.
    Conv1Weight = 7,
    /// (dim).
    Conv1Bias = 8,
    /// Windows of three vectors: (dim, 3·dim).
    Conv2Weight = 9,
    /// (dim).
    Conv2Bias = 10,
    /// (dim, elements of a patch), of an encoder that reads patches.
    PatchWeight = 11,
    /// (dim).
    PatchBias = 12,
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
    /// (dim), of a decoder's attention to its source, as the seven that follow.
    CrossNormGain = 29,
    /// (dim).
    CrossNormBias = 30,
    /// (heads·head_dim, dim).
    CrossQWeight = 31,
    /// (heads·head_dim).
    CrossQBias = 32,
    /// Key and value rows, of the source: (2·kv_heads·head_dim, dim).
    CrossKvWeight = 33,
    /// (2·kv_heads·head_dim).
    CrossKvBias = 34,
    /// (dim, heads·head_dim).
    CrossOutWeight = 35,
    /// (dim).
    CrossOutBias = 36,
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
    /// (dim), of the source after its last layer.
    SourceNormGain = 56,
    /// (dim).
    SourceNormBias = 57,
    /// How far each pair turns from one position to the next, of an integer model with rotary positions.
    RotarySteps = 58,
    /// Numbers of a layer that no matrix has, of an integer model.
    Scalars = 59,
}

/// Which numbers a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Those of [`crate::Model`].
    Float,
    /// Those of [`crate::integer::Model`].
    Integer,
}

/// Roles in file order.
struct Order {
    before: &'static [Role],
    layer: &'static [Role],
    source_layer: &'static [Role],
    after: &'static [Role],
}

impl Profile {
    const fn order(self) -> &'static Order {
        match self {
            Self::Float => &FLOAT,
            Self::Integer => &INTEGER,
        }
    }
}

const FLOAT: Order = Order {
    before: &BEFORE,
    layer: &LAYER,
    source_layer: &SOURCE_LAYER,
    after: &AFTER,
};

/// Biases belong to their matrices and norms there.
const INTEGER: Order = Order {
    before: &[
        Role::TokenEmbedding,
        Role::PositionEmbedding,
        Role::SourcePositionEmbedding,
        Role::PatchWeight,
        Role::RotarySteps,
    ],
    layer: &[
        Role::Scalars,
        Role::AttnNormGain,
        Role::QkvWeight,
        Role::OutWeight,
        Role::CrossNormGain,
        Role::CrossQWeight,
        Role::CrossKvWeight,
        Role::CrossOutWeight,
        Role::FfnNormGain,
        Role::UpWeight,
        Role::DownWeight,
    ],
    source_layer: &[
        Role::Scalars,
        Role::AttnNormGain,
        Role::QkvWeight,
        Role::OutWeight,
        Role::FfnNormGain,
        Role::UpWeight,
        Role::DownWeight,
    ],
    after: &[
        Role::FinalNormGain,
        Role::OutputWeight,
        Role::HeadWeight,
        Role::SourceNormGain,
    ],
};

/// Tensors before the layers, in file order.
const BEFORE: [Role; 12] = [
    Role::TokenEmbedding,
    Role::PositionEmbedding,
    Role::TypeEmbedding,
    Role::EmbeddingNormGain,
    Role::EmbeddingNormBias,
    Role::SourcePositionEmbedding,
    Role::Conv1Weight,
    Role::Conv1Bias,
    Role::Conv2Weight,
    Role::Conv2Bias,
    Role::PatchWeight,
    Role::PatchBias,
];
/// Tensors of a layer, in file order, which is the order of use.
const LAYER: [Role; 21] = [
    Role::AttnNormGain,
    Role::AttnNormBias,
    Role::QkvWeight,
    Role::QkvBias,
    Role::AttnSinks,
    Role::OutWeight,
    Role::OutBias,
    Role::CrossNormGain,
    Role::CrossNormBias,
    Role::CrossQWeight,
    Role::CrossQBias,
    Role::CrossKvWeight,
    Role::CrossKvBias,
    Role::CrossOutWeight,
    Role::CrossOutBias,
    Role::FfnNormGain,
    Role::FfnNormBias,
    Role::UpWeight,
    Role::UpBias,
    Role::DownWeight,
    Role::DownBias,
];
/// Tensors of a layer of a source.
const SOURCE_LAYER: [Role; 13] = [
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
const AFTER: [Role; 10] = [
    Role::FinalNormGain,
    Role::FinalNormBias,
    Role::OutputWeight,
    Role::OutputBias,
    Role::PoolerWeight,
    Role::PoolerBias,
    Role::HeadWeight,
    Role::HeadBias,
    Role::SourceNormGain,
    Role::SourceNormBias,
];

/// Most tensors that any [`Config`] asks for.
pub(crate) const TENSORS_MAX: usize =
    BEFORE.len() + AFTER.len() + Config::LAYERS_MAX * (LAYER.len() + SOURCE_LAYER.len());

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
    /// Its layer, if it belongs to one; a source's follow the decoder's.
    pub layer: Option<usize>,
    /// How it is read.
    pub kind: TensorKind,
    /// Outputs of the product; 1 for a vector.
    pub rows: usize,
    /// Inputs of the product; elements of a vector.
    pub cols: usize,
}

/// Numbers of tensors: of the model before the layers, of each layer, of each layer of a source's; and of these layers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runs {
    before: usize,
    layers: usize,
    own: usize,
    source_layers: usize,
    sources: usize,
}

impl Runs {
    /// Places in file order of a layer's tensors, the first range alone; without a layer, of the model's own: those before the
    /// layers, and all from there on that are behind them.
    pub(crate) fn of(&self, layer: Option<usize>) -> (Range<usize>, RangeFrom<usize>) {
        let sources_at = self
            .before
            .saturating_add(self.layers.saturating_mul(self.own));
        let behind = sources_at.saturating_add(self.source_layers.saturating_mul(self.sources));
        let none = usize::MAX..;
        let Some(layer) = layer else {
            return (0..self.before, behind..);
        };
        let (first, len) = match layer.checked_sub(self.layers) {
            None => (
                self.before.saturating_add(layer.saturating_mul(self.own)),
                self.own,
            ),
            Some(layer) if layer < self.source_layers => {
                let first = sources_at.saturating_add(layer.saturating_mul(self.sources));
                (first, self.sources)
            }
            Some(_) => (0, 0),
        };
        (first..first.saturating_add(len), none)
    }
}

impl Config {
    /// Number of tensors in a file of this model.
    pub const fn tensors_len(&self) -> usize {
        self.tensors_len_of(Profile::Float)
    }

    /// The tensor at `index` in file order; `None` past the end.
    pub const fn tensor(&self, index: usize) -> Option<TensorShape> {
        match self.place_at(Profile::Float, index) {
            Some((role, layer)) => self.shape(role, layer),
            None => None,
        }
    }

    /// Place of a tensor in file order; `None` when this model has no such tensor.
    pub const fn tensor_index(&self, role: Role, layer: Option<usize>) -> Option<usize> {
        self.index_of(Profile::Float, role, layer)
    }

    /// How the tensors in a file of that profile follow one another.
    pub(crate) const fn runs(&self, profile: Profile) -> Runs {
        let order = profile.order();
        Runs {
            before: self.present_len(profile, order.before),
            layers: self.layers,
            own: self.present_len(profile, order.layer),
            source_layers: self.source_layers(),
            sources: self.present_len(profile, order.source_layer),
        }
    }

    /// Number of tensors in a file of that profile.
    pub(crate) const fn tensors_len_of(&self, profile: Profile) -> usize {
        let order = profile.order();
        self.present_len(profile, order.before)
            + self.layers * self.present_len(profile, order.layer)
            + self.source_layers() * self.present_len(profile, order.source_layer)
            + self.present_len(profile, order.after)
    }

    /// Role and layer of the tensor at `index` in file order; `None` past the end.
    pub(crate) const fn place_at(
        &self,
        profile: Profile,
        index: usize,
    ) -> Option<(Role, Option<usize>)> {
        let order = profile.order();
        let before = self.present_len(profile, order.before);
        if index < before {
            return with_layer(self.nth(profile, order.before, index), None);
        }
        let index = index - before;
        let own = self.present_len(profile, order.layer);
        let sources = self.present_len(profile, order.source_layer);
        // A layer always has its weights, so the quotients exist; the compiler cannot know it.
        let Some(layer) = index.checked_div(own) else {
            return None;
        };
        if layer < self.layers {
            let role = self.nth(profile, order.layer, index - layer * own);
            return with_layer(role, Some(layer));
        }
        let index = index - self.layers * own;
        let Some(layer) = index.checked_div(sources) else {
            return None;
        };
        if layer < self.source_layers() {
            let role = self.nth(profile, order.source_layer, index - layer * sources);
            return with_layer(role, Some(self.layers + layer));
        }
        let index = index - self.source_layers() * sources;
        with_layer(self.nth(profile, order.after, index), None)
    }

    /// Inverse of [`Self::place_at`].
    pub(crate) const fn index_of(
        &self,
        profile: Profile,
        role: Role,
        layer: Option<usize>,
    ) -> Option<usize> {
        if !self.holds(profile, role) {
            return None;
        }
        let order = profile.order();
        let own_at = self.present_len(profile, order.before);
        let own = self.present_len(profile, order.layer);
        let sources_at = own_at + self.layers * own;
        let sources = self.present_len(profile, order.source_layer);
        let (rank, at) = match layer {
            Some(layer) if layer < self.layers => {
                (self.rank(profile, order.layer, role), own_at + layer * own)
            }
            Some(layer) if layer - self.layers < self.source_layers() => (
                self.rank(profile, order.source_layer, role),
                sources_at + (layer - self.layers) * sources,
            ),
            Some(_) => (None, 0),
            None => match self.rank(profile, order.before, role) {
                Some(rank) => (Some(rank), 0),
                None => (
                    self.rank(profile, order.after, role),
                    sources_at + self.source_layers() * sources,
                ),
            },
        };
        match rank {
            Some(rank) => Some(at + rank),
            None => None,
        }
    }

    /// Whether a file of that profile has tensors of that role. An integer file has its positions as tables.
    const fn holds(&self, profile: Profile, role: Role) -> bool {
        match (profile, role) {
            (Profile::Float, _) => self.has(role),
            (Profile::Integer, Role::PositionEmbedding) => self.position.is_added(),
            (Profile::Integer, Role::SourcePositionEmbedding) => match self.source() {
                Some(source) => source.position.is_added(),
                None => false,
            },
            (Profile::Integer, Role::RotarySteps) => {
                matches!(self.position, Position::Rotary { .. })
            }
            (Profile::Integer, Role::Scalars) => true,
            (Profile::Integer, _) => self.has(role),
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
            Role::RotarySteps | Role::Scalars => false,
            _ => match (self.reading(), self.source()) {
                (Some(reading), _) => self.reads_with(reading, role),
                (_, Some(source)) => self.translates_with(source, role),
                _ => false,
            },
        }
    }

    const fn translates_with(&self, source: &Source, role: Role) -> bool {
        match role {
            Role::SourcePositionEmbedding => matches!(source.position, Position::Learned),
            Role::Conv1Weight | Role::Conv1Bias => source.bins() > 0,
            Role::Conv2Weight | Role::Conv2Bias => source.bins() > 0,
            Role::CrossNormGain | Role::CrossQWeight => true,
            Role::CrossKvWeight | Role::CrossOutWeight => true,
            Role::CrossNormBias => self.biases.norm,
            Role::CrossQBias | Role::CrossKvBias => self.biases.qkv,
            Role::CrossOutBias => self.biases.out,
            Role::SourceNormGain => self.final_norm,
            Role::SourceNormBias => self.final_norm && self.biases.norm,
            _ => false,
        }
    }

    const fn reads_with(&self, reading: &Reading, role: Role) -> bool {
        match role {
            Role::TypeEmbedding => reading.types > 0,
            Role::EmbeddingNormGain => reading.embedding_norm,
            Role::EmbeddingNormBias => reading.embedding_norm && self.biases.norm,
            Role::PatchWeight | Role::PatchBias => reading.patch > 0,
            Role::PoolerWeight | Role::PoolerBias => reading.pooler,
            Role::HeadWeight | Role::HeadBias => reading.head_rows() > 0,
            _ => false,
        }
    }

    const fn shape(&self, role: Role, layer: Option<usize>) -> Option<TensorShape> {
        let (types, head, patch) = match self.reading() {
            Some(reading) => (reading.types, reading.head_rows(), reading.patch),
            None => (0, 0, 0),
        };
        let (rows, cols) = match role {
            Role::TypeEmbedding => (types, self.dim),
            Role::PatchWeight => (self.dim, patch),
            Role::PoolerWeight => (self.dim, self.dim),
            Role::HeadWeight => (head, self.dim),
            Role::HeadBias => (0, head),
            Role::TokenEmbedding | Role::OutputWeight => (self.vocab_len, self.dim),
            Role::PositionEmbedding => (self.context_len, self.dim),
            Role::QkvWeight => (self.qkv_dim(), self.dim),
            Role::OutWeight | Role::CrossOutWeight => (self.dim, self.q_dim()),
            Role::CrossQWeight => (self.q_dim(), self.dim),
            Role::CrossKvWeight => (2 * self.kv_dim(), self.dim),
            Role::CrossQBias => (0, self.q_dim()),
            Role::CrossKvBias => (0, 2 * self.kv_dim()),
            Role::SourcePositionEmbedding => match self.source() {
                Some(source) => (source.len, self.dim),
                None => return None,
            },
            Role::Conv1Weight => match self.source() {
                Some(source) => (self.dim, 3 * source.bins()),
                None => return None,
            },
            Role::Conv2Weight => (self.dim, 3 * self.dim),
            Role::RotarySteps | Role::Scalars => return None,
            Role::UpWeight => (self.up_dim(), self.dim),
            Role::DownWeight => (self.dim, self.hidden_dim),
            Role::QkvBias => (0, self.qkv_dim()),
            Role::AttnSinks => (0, self.heads),
            Role::UpBias => (0, self.up_dim()),
            Role::OutputBias => (0, self.vocab_len),
            Role::EmbeddingNormGain
            | Role::EmbeddingNormBias
            | Role::PatchBias
            | Role::PoolerBias
            | Role::AttnNormGain
            | Role::AttnNormBias
            | Role::OutBias
            | Role::FfnNormGain
            | Role::FfnNormBias
            | Role::DownBias
            | Role::CrossNormGain
            | Role::CrossNormBias
            | Role::CrossOutBias
            | Role::SourceNormGain
            | Role::SourceNormBias
            | Role::Conv1Bias
            | Role::Conv2Bias
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
    const fn present_len(&self, profile: Profile, mut roles: &[Role]) -> usize {
        let mut len = 0;
        while let Some((&role, rest)) = roles.split_first() {
            if self.holds(profile, role) {
                len += 1;
            }
            roles = rest;
        }
        len
    }

    /// The `n`th of the roles that this model has.
    const fn nth(&self, profile: Profile, mut roles: &[Role], mut n: usize) -> Option<Role> {
        while let Some((&role, rest)) = roles.split_first() {
            if self.holds(profile, role) {
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
    const fn rank(&self, profile: Profile, mut roles: &[Role], wanted: Role) -> Option<usize> {
        let mut rank = 0;
        while let Some((&role, rest)) = roles.split_first() {
            if role as u16 == wanted as u16 {
                return Some(rank);
            }
            if self.holds(profile, role) {
                rank += 1;
            }
            roles = rest;
        }
        None
    }
}

const fn with_layer(role: Option<Role>, layer: Option<usize>) -> Option<(Role, Option<usize>)> {
    match role {
        Some(role) => Some((role, layer)),
        None => None,
    }
}
