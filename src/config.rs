//! Dimensions of a model, their limits, and the sizes that follow from them.
//!
//! A [`Config`] that passed [`Config::check`] keeps every product of its dimensions inside 64 bits, so that no formula
//! downstream has to think about overflow; what exceeds the address space of a 32-bit target saturates and is refused
//! where it meets a real length.

use crate::error::ConfigError;

/// Family of a model; decides which tensors a file holds and which forward pass runs it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Architecture {
    /// Causal self-attention only: language models.
    Decoder,
    /// Every token sees every other of its text: models that read (Devlin et al. 2018).
    Encoder(Reading),
    /// An encoder reads a source, which a decoder's layers attend to besides its own text: models that translate
    /// (Vaswani et al. 2017).
    EncoderDecoder(Source),
}

/// What an encoder–decoder reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Input {
    /// Tokens, with the decoder's embeddings.
    Tokens,
    /// Frames of sound, of which a stem of two convolutions makes half as many vectors (Radford et al. 2022).
    Frames {
        /// Elements of a frame: 1 to [`Source::BINS_MAX`].
        bins: usize,
    },
}

/// What an encoder–decoder's encoder has of its own. Tokens, dimensions, blocks and norms are those of the decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Source {
    /// Number of layers: 1 to [`Config::LAYERS_MAX`].
    pub layers: usize,
    /// Positions that it was trained for; the rows of a learned position table: 1 to [`Config::CONTEXT_MAX`].
    pub len: usize,
    /// Positions. Rotary ones are the decoder's, or there are none on either side.
    pub position: Position,
    /// What it reads.
    pub input: Input,
}

impl Source {
    /// Most elements of a frame.
    pub const BINS_MAX: usize = 1 << 10;

    /// Elements of a frame; 0 for tokens.
    pub const fn bins(&self) -> usize {
        match self.input {
            Input::Tokens => 0,
            Input::Frames { bins } => bins,
        }
    }

    const fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let ranges = [
            ("source_layers", 1, Config::LAYERS_MAX, self.layers),
            ("source_len", 1, Config::CONTEXT_MAX, self.len),
            (
                "bins",
                matches!(self.input, Input::Frames { .. }) as usize,
                Self::BINS_MAX,
                self.bins(),
            ),
        ];
        if let Err(error) = check_ranges(&ranges) {
            return Err(error);
        }
        let same = match (self.position, config.position) {
            (
                Position::Rotary { style, base },
                Position::Rotary {
                    style: other_style,
                    base: other_base,
                },
            ) => style as u8 == other_style as u8 && base.to_bits() == other_base.to_bits(),
            (Position::Rotary { .. }, _) | (_, Position::Rotary { .. }) => false,
            _ => true,
        };
        if !same {
            return Err(ConfigError::Encoder {
                field: "source_position",
            });
        }
        // A window looks back, which an encoder does not; a sink belongs to one attention of a layer.
        if config.attention.window.is_some() {
            return Err(ConfigError::Encoder { field: "window" });
        }
        if config.attention.sinks {
            return Err(ConfigError::Encoder { field: "sinks" });
        }
        Ok(())
    }
}

/// What an encoder has that a decoder has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Reading {
    /// Rows of the type embedding, which tells two texts apart (BERT: 2); 0 for none. At most [`Reading::TYPES_MAX`].
    pub types: usize,
    /// A norm of the sum of the embeddings (BERT).
    pub embedding_norm: bool,
    /// How a vector is made of a text's.
    pub pooling: Pooling,
    /// That vector passes tanh(W x + b), (dim, dim) (BERT's pooler).
    pub pooler: bool,
    /// What comes of it.
    pub output: Output,
    /// Elements of a patch, for a model that reads patches of a picture or a spectrum instead of tokens (Dosovitskiy et
    /// al. 2020): each is multiplied with a matrix, and its only token, 0, stands before the first. 0 for a model that
    /// reads tokens. At most [`Reading::PATCH_MAX`].
    pub patch: usize,
}

impl Reading {
    /// Most elements of a patch.
    pub const PATCH_MAX: usize = 1 << 14;
    /// Most types.
    pub const TYPES_MAX: usize = 256;
    /// Most classes or tags.
    pub const CLASSES_MAX: usize = 1 << 16;

    /// Rows of the head's projection; 0 for none.
    pub const fn head_rows(&self) -> usize {
        match self.output {
            Output::Hidden | Output::Embedding { .. } => 0,
            Output::Classes(n) | Output::Tags(n) => n,
            Output::Span => 2,
        }
    }

    const fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let classes = match self.output {
            Output::Classes(n) | Output::Tags(n) => n,
            _ => 1,
        };
        let ranges = [
            ("types", 0, Self::TYPES_MAX, self.types),
            ("classes", 1, Self::CLASSES_MAX, classes),
            ("patch", 0, Self::PATCH_MAX, self.patch),
        ];
        if let Err(error) = check_ranges(&ranges) {
            return Err(error);
        }
        if self.patch > 0 && config.vocab_len != 1 {
            return Err(ConfigError::Encoder { field: "vocab_len" });
        }
        let pools = !matches!(self.pooling, Pooling::None);
        let of_texts = matches!(self.output, Output::Embedding { .. } | Output::Classes(_));
        // A vector of the text is made exactly where something comes of it.
        if pools != of_texts || self.pooler && !pools {
            return Err(ConfigError::Encoder { field: "pooling" });
        }
        // Logits over the vocabulary are a decoder's, and so is a window, which looks back.
        if !config.tied || config.biases.output {
            return Err(ConfigError::Encoder { field: "output" });
        }
        if config.attention.window.is_some() {
            return Err(ConfigError::Encoder { field: "window" });
        }
        Ok(())
    }
}

/// How a vector is made of those of a text's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Pooling {
    /// Not at all: the output is of tokens.
    None,
    /// It is the first token's.
    First,
    /// It is the mean of all.
    Mean,
}

/// What an encoder's run gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Output {
    /// The tokens' vectors, (n, dim).
    Hidden,
    /// The pooled vector, (dim).
    Embedding {
        /// Divided by its Euclidean length.
        unit: bool,
    },
    /// Logits of that many classes, from the pooled vector.
    Classes(usize),
    /// Logits of that many tags for each token, (n, tags).
    Tags(usize),
    /// Logits for the first and the last token of an answer, (n, 2).
    Span,
}

/// Which normalisation stands before or after the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Norm {
    /// x / rms(x) · gain (Zhang and Sennrich 2019).
    Rms,
    /// (x − mean) / deviation · gain + bias (Ba et al. 2016).
    Layer,
}

/// Where the normalisation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NormPlace {
    /// x + block(norm(x)): GPT-2, Llama.
    Pre,
    /// norm(x + block(x)): the original transformer, GPT-1.
    Post,
}

/// The feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ffn {
    /// down(silu(gate(x)) · up(x)).
    SwiGlu,
    /// down(gelu(gate(x)) · up(x)), GELU in its tanh form.
    GeGlu,
    /// down(gelu(up(x))), GELU in its tanh form.
    GeluTanh,
    /// down(gelu(up(x))), GELU by the error function.
    GeluErf,
    /// down(max(up(x), 0)).
    Relu,
    /// down(silu(up(x))).
    Silu,
}

impl Ffn {
    /// Whether the block has a gate besides its up projection.
    pub const fn is_gated(self) -> bool {
        matches!(self, Ffn::SwiGlu | Ffn::GeGlu)
    }
}

/// How a model knows the place of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Position {
    /// Not at all.
    None,
    /// A row of a trained table is added to the embedding.
    Learned,
    /// sin and cos are added to the embedding (Vaswani et al. 2017, section 3.5).
    Sinusoidal,
    /// Queries and keys are rotated by their place (Su et al. 2021); frequencies are base^(−2i/head_dim).
    Rotary {
        /// Which elements form a pair.
        style: RotaryStyle,
        /// Base of the frequencies, usually 10,000.
        base: f32,
    },
}

impl Position {
    /// Whether something is added to the embedding, from a table or by sines: of the integer profile always a table.
    pub const fn is_added(&self) -> bool {
        matches!(self, Self::Learned | Self::Sinusoidal)
    }
}

/// Which elements of a head a rotation joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RotaryStyle {
    /// i and i + head_dim/2: Llama as Hugging Face stores it, GPT-NeoX.
    Half,
    /// 2i and 2i + 1: the paper, GPT-J.
    Interleaved,
}

/// Which projections carry a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Biases {
    /// Query, key and value projections.
    pub qkv: bool,
    /// Output projection of the attention.
    pub out: bool,
    /// Up (and gate) projection of the feed-forward block.
    pub up: bool,
    /// Down projection of the feed-forward block.
    pub down: bool,
    /// Norms; needs [`Norm::Layer`].
    pub norm: bool,
    /// Logits.
    pub output: bool,
}

impl Biases {
    /// No bias anywhere.
    pub const NONE: Self = Self {
        qkv: false,
        out: false,
        up: false,
        down: false,
        norm: false,
        output: false,
    };
    /// A bias at every projection and norm, but not at the logits: GPT-2.
    pub const ALL_BUT_OUTPUT: Self = Self {
        qkv: true,
        out: true,
        up: true,
        down: true,
        norm: true,
        output: false,
    };
}

/// The keys that a query sees where it does not see all before it: its own and the `len − 1` before it (a sliding
/// window, Beltagy et al. 2020), and the first of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Window {
    /// Keys of the window, the query's own among them: 1 to [`Config::CONTEXT_MAX`].
    pub len: usize,
    /// First keys of the text that stay visible (Xiao et al. 2023, "attention sinks"): at most `len`.
    pub keep: usize,
    /// Of so many layers the last has no window and sees every key: 2 for Gemma 2 and gpt-oss, 6 for Gemma 3. 0 where
    /// every layer has the window. At most [`Config::LAYERS_MAX`].
    pub full_every: usize,
}

/// How attention departs from softmax(q·kᵀ / √head_dim) · v over all keys that are not later.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Attention {
    /// Fewer keys.
    pub window: Option<Window>,
    /// Scores s become cap · tanh(s / cap) (Gemma 2): 0.01 to 65,536.
    pub soft_cap: Option<f32>,
    /// One trained score a query head takes part in the softmax without a value (gpt-oss): [`Role::AttnSinks`].
    ///
    /// [`Role::AttnSinks`]: crate::Role::AttnSinks
    pub sinks: bool,
}

impl Attention {
    /// No departure.
    pub const PLAIN: Self = Self {
        window: None,
        soft_cap: None,
        sinks: false,
    };

    /// The window of a layer, if it has one.
    pub const fn window_of(&self, layer: usize) -> Option<Window> {
        match self.window {
            // Counted from 1, every `full_every`th layer sees everything; no layer's number is a multiple of 0.
            Some(window) if !(layer + 1).is_multiple_of(window.full_every) => Some(window),
            _ => None,
        }
    }

    /// First keys of the text that some layer's window keeps.
    pub(crate) const fn keep(&self) -> usize {
        match self.window {
            Some(window) => window.keep,
            None => 0,
        }
    }

    const fn check(&self) -> Result<(), ConfigError> {
        if let Some(Window {
            len,
            keep,
            full_every,
        }) = self.window
        {
            let ranges = [
                ("window", 1, Config::CONTEXT_MAX, len),
                ("window_keep", 0, len, keep),
            ];
            if let Err(error) = check_ranges(&ranges) {
                return Err(error);
            }
            // 1 would leave no layer with a window.
            if full_every == 1 || full_every > Config::LAYERS_MAX {
                return Err(ConfigError::OutOfRange {
                    field: "window_full_every",
                    least: 2,
                    most: Config::LAYERS_MAX,
                    have: full_every,
                });
            }
        }
        match self.soft_cap {
            // A NaN fails both comparisons.
            Some(cap) if !(cap >= 0.01 && cap <= 65536.0) => {
                Err(ConfigError::Number { field: "soft_cap" })
            }
            _ => Ok(()),
        }
    }
}

/// Everything that decides the shape of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Family.
    pub architecture: Architecture,
    /// Number of tokens that have an embedding.
    pub vocab_len: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head; independent of `dim / heads`.
    pub head_dim: usize,
    /// Width inside the feed-forward block.
    pub hidden_dim: usize,
    /// Positions that the model was trained for; the rows of a learned position table.
    pub context_len: usize,
    /// Kind of norm.
    pub norm: Norm,
    /// Place of the norms.
    pub norm_place: NormPlace,
    /// Added to the variance inside a norm.
    pub norm_eps: f32,
    /// Whether a norm stands before the logits.
    pub final_norm: bool,
    /// The feed-forward block.
    pub ffn: Ffn,
    /// Positions.
    pub position: Position,
    /// What is special about the attention.
    pub attention: Attention,
    /// Whether the logits use the token embedding as their matrix.
    pub tied: bool,
    /// Biases.
    pub biases: Biases,
    /// Factor of the token embedding (1 for most models, √dim for some).
    pub embedding_scale: f32,
    /// Token to begin a text with, if the model wants one.
    pub begin_of_text: Option<u32>,
    /// Token that ends a text; [`crate::Session::step`] returns `None` when it is drawn.
    pub end_of_text: Option<u32>,
}

impl Config {
    /// Most tokens.
    pub const VOCAB_MAX: usize = 1 << 20;
    /// Widest residual stream.
    pub const DIM_MAX: usize = 1 << 14;
    /// Most layers.
    pub const LAYERS_MAX: usize = 256;
    /// Most heads.
    pub const HEADS_MAX: usize = 256;
    /// Widest head; a width is a multiple of [`Config::HEAD_DIM_STEP`].
    pub const HEAD_DIM_MAX: usize = 256;
    /// Heads are processed eight lanes at a time.
    pub const HEAD_DIM_STEP: usize = 8;
    /// Widest feed-forward block.
    pub const HIDDEN_MAX: usize = 1 << 16;
    /// Longest context.
    pub const CONTEXT_MAX: usize = 1 << 20;

    /// Checks every dimension against its limits and the dimensions against each other.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub const fn check(&self) -> Result<(), ConfigError> {
        let ranges = [
            ("vocab_len", 1, Self::VOCAB_MAX, self.vocab_len),
            ("dim", 1, Self::DIM_MAX, self.dim),
            ("layers", 1, Self::LAYERS_MAX, self.layers),
            ("heads", 1, Self::HEADS_MAX, self.heads),
            ("kv_heads", 1, self.heads, self.kv_heads),
            (
                "head_dim",
                Self::HEAD_DIM_STEP,
                Self::HEAD_DIM_MAX,
                self.head_dim,
            ),
            ("hidden_dim", 1, Self::HIDDEN_MAX, self.hidden_dim),
            ("context_len", 1, Self::CONTEXT_MAX, self.context_len),
        ];
        if let Err(error) = check_ranges(&ranges) {
            return Err(error);
        }
        if !self.head_dim.is_multiple_of(Self::HEAD_DIM_STEP) {
            return Err(ConfigError::HeadDim {
                step: Self::HEAD_DIM_STEP,
                have: self.head_dim,
            });
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(ConfigError::Grouping {
                heads: self.heads,
                kv_heads: self.kv_heads,
            });
        }
        if let Err(error) = self.attention.check() {
            return Err(error);
        }
        let family = match &self.architecture {
            Architecture::Decoder => Ok(()),
            Architecture::Encoder(reading) => reading.check(self),
            Architecture::EncoderDecoder(source) => source.check(self),
        };
        if let Err(error) = family {
            return Err(error);
        }
        self.check_numbers()
    }

    const fn check_numbers(&self) -> Result<(), ConfigError> {
        // Comparisons with NaN are false, so each condition states what is right and negates it.
        if !(self.norm_eps >= 0.0 && self.norm_eps <= 1.0) {
            return Err(ConfigError::Number { field: "norm_eps" });
        }
        if !(self.embedding_scale > 0.0 && self.embedding_scale <= 65536.0) {
            return Err(ConfigError::Number {
                field: "embedding_scale",
            });
        }
        if let Position::Rotary { base, .. } = self.position
            && !(base >= 1.0 && base <= 1e9)
        {
            return Err(ConfigError::Number {
                field: "rotary_base",
            });
        }
        if self.biases.norm && !matches!(self.norm, Norm::Layer) {
            return Err(ConfigError::NormBias);
        }
        let tokens = [
            ("begin_of_text", self.begin_of_text),
            ("end_of_text", self.end_of_text),
        ];
        let mut rest: &[(&'static str, Option<u32>)] = &tokens;
        while let Some((&(field, token), tail)) = rest.split_first() {
            if let Some(id) = token
                && id as usize >= self.vocab_len
            {
                return Err(ConfigError::OutOfRange {
                    field,
                    least: 0,
                    most: self.vocab_len - 1,
                    have: id as usize,
                });
            }
            rest = tail;
        }
        Ok(())
    }

    /// What an encoder has besides; `None` for the other families.
    pub const fn reading(&self) -> Option<&Reading> {
        match &self.architecture {
            Architecture::Encoder(reading) => Some(reading),
            _ => None,
        }
    }

    /// What an encoder–decoder has besides; `None` for the other families.
    pub const fn source(&self) -> Option<&Source> {
        match &self.architecture {
            Architecture::EncoderDecoder(source) => Some(source),
            _ => None,
        }
    }

    /// Layers of the source's encoder, which are numbered after the decoder's; 0 without.
    pub const fn source_layers(&self) -> usize {
        match self.source() {
            Some(source) => source.layers,
            None => 0,
        }
    }

    /// Width of all query heads together.
    pub const fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads (or value heads) together.
    pub const fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Rows of the fused query, key, value projection, in this order.
    pub const fn qkv_dim(&self) -> usize {
        self.q_dim() + 2 * self.kv_dim()
    }

    /// Rows of the up projection: gate rows, then up rows, when the block is gated.
    pub const fn up_dim(&self) -> usize {
        if self.ffn.is_gated() {
            2 * self.hidden_dim
        } else {
            self.hidden_dim
        }
    }

    /// Number of trained parameters, tied ones counted once.
    pub const fn parameters(&self) -> u64 {
        let mut sum = 0;
        let mut index = 0;
        while let Some(tensor) = self.tensor(index) {
            sum += tensor.rows as u64 * tensor.cols as u64;
            index += 1;
        }
        sum
    }
}

/// Name, least and greatest value, value of each field.
const fn check_ranges(
    mut ranges: &[(&'static str, usize, usize, usize)],
) -> Result<(), ConfigError> {
    while let Some((&(field, least, most, have), rest)) = ranges.split_first() {
        if have < least || have > most {
            return Err(ConfigError::OutOfRange {
                field,
                least,
                most,
                have,
            });
        }
        ranges = rest;
    }
    Ok(())
}
