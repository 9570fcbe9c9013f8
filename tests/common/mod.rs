//! Small models of every variety, with random weights.
#![allow(dead_code, reason = "each test binary uses another part of it")]

pub(crate) mod hostile;
pub(crate) mod reference;

use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::pack::{
    PackError, Recipe, ScaleMethod, TokenizerParts, UnigramParts, WordPieceParts,
};
use attentive::tokenizer::{BertText, Spaces, Split, Template};
use attentive::{
    Architecture, Attention, Biases, Block, Config, Executor, Ffn, Input, Model, Norm, NormPlace,
    Output, Pooling, Position, Reading, RotaryStyle, Session, SessionOptions, Source, TensorKind,
    Window,
};

/// A configuration with a name for messages.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) config: Config,
}

/// The default model's family, tiny.
pub(crate) const LLAMA: Config = Config {
    architecture: Architecture::Decoder,
    vocab_len: 300,
    dim: 24,
    layers: 2,
    heads: 4,
    kv_heads: 2,
    head_dim: 8,
    hidden_dim: 40,
    context_len: 48,
    norm: Norm::Rms,
    norm_place: NormPlace::Pre,
    norm_eps: 1e-5,
    final_norm: true,
    ffn: Ffn::SwiGlu,
    position: Position::Rotary {
        style: RotaryStyle::Half,
        base: 10_000.0,
    },
    tied: true,
    biases: Biases::NONE,
    attention: Attention::PLAIN,
    embedding_scale: 1.0,
    begin_of_text: None,
    end_of_text: Some(256),
};

/// One configuration for each choice that a file can make.
pub(crate) fn variants() -> Vec<Variant> {
    let gpt2 = Config {
        norm: Norm::Layer,
        ffn: Ffn::GeluTanh,
        position: Position::Learned,
        biases: Biases::ALL_BUT_OUTPUT,
        kv_heads: 4,
        ..LLAMA
    };
    let interleaved = Position::Rotary {
        style: RotaryStyle::Interleaved,
        base: 500.0,
    };
    let named = |name, config| Variant { name, config };
    vec![
        named("llama", LLAMA),
        named("gpt2", gpt2),
        named(
            "original",
            Config {
                norm_place: NormPlace::Post,
                final_norm: false,
                ffn: Ffn::Relu,
                position: Position::Sinusoidal,
                embedding_scale: 4.898_979_5,
                tied: false,
                ..gpt2
            },
        ),
        named(
            "post-norm rms",
            Config {
                norm_place: NormPlace::Post,
                ..LLAMA
            },
        ),
        named(
            "gpt-j",
            Config {
                position: interleaved,
                ffn: Ffn::GeluErf,
                tied: false,
                ..gpt2
            },
        ),
        named(
            "gemma",
            Config {
                ffn: Ffn::GeGlu,
                kv_heads: 1,
                embedding_scale: 5.0,
                ..LLAMA
            },
        ),
        named(
            "no positions",
            Config {
                position: Position::None,
                ffn: Ffn::Silu,
                ..LLAMA
            },
        ),
        named(
            "every bias",
            Config {
                biases: Biases {
                    output: true,
                    ..Biases::ALL_BUT_OUTPUT
                },
                norm: Norm::Layer,
                ..LLAMA
            },
        ),
        named(
            "no norm bias",
            Config {
                biases: Biases {
                    norm: false,
                    ..Biases::ALL_BUT_OUTPUT
                },
                norm: Norm::Layer,
                final_norm: false,
                ..LLAMA
            },
        ),
        named(
            "wide heads",
            Config {
                head_dim: 24,
                heads: 3,
                kv_heads: 3,
                dim: 20,
                ..LLAMA
            },
        ),
        named("window", with(WINDOW, None, false)),
        named(
            "windows and full layers",
            Config {
                layers: 5,
                position: Position::Sinusoidal,
                ..with(
                    Window {
                        len: 6,
                        keep: 3,
                        full_every: 2,
                    },
                    None,
                    true,
                )
            },
        ),
        named(
            "cap and sinks",
            Config {
                attention: Attention {
                    soft_cap: Some(1.5),
                    sinks: true,
                    window: None,
                },
                biases: Biases {
                    qkv: true,
                    ..Biases::NONE
                },
                ..LLAMA
            },
        ),
        named(
            "window, cap and sinks",
            with(Window { keep: 0, ..WINDOW }, Some(2.0), true),
        ),
    ]
}

/// BERT, tiny.
pub(crate) const BERT: Config = Config {
    architecture: Architecture::Encoder(Reading {
        types: 2,
        embedding_norm: true,
        pooling: Pooling::Mean,
        pooler: false,
        output: Output::Embedding { unit: true },
        patch: 0,
    }),
    kv_heads: 4,
    norm: Norm::Layer,
    norm_place: NormPlace::Post,
    norm_eps: 1e-12,
    final_norm: false,
    ffn: Ffn::GeluErf,
    position: Position::Learned,
    biases: Biases::ALL_BUT_OUTPUT,
    end_of_text: None,
    ..LLAMA
};

/// The original transformer with its encoder, and Marian.
pub(crate) const ORIGINAL: Config = Config {
    architecture: Architecture::EncoderDecoder(Source {
        layers: 3,
        len: 40,
        position: Position::Sinusoidal,
        input: Input::Tokens,
    }),
    kv_heads: 4,
    norm: Norm::Layer,
    norm_place: NormPlace::Post,
    final_norm: false,
    ffn: Ffn::Relu,
    position: Position::Sinusoidal,
    biases: Biases {
        output: true,
        ..Biases::ALL_BUT_OUTPUT
    },
    embedding_scale: 4.898_979_5,
    begin_of_text: Some(7),
    ..LLAMA
};

/// Whisper, tiny: it hears.
pub(crate) const fn listener(bins: usize) -> Config {
    Config {
        architecture: Architecture::EncoderDecoder(Source {
            layers: 2,
            len: 40,
            position: Position::Learned,
            input: Input::Frames { bins },
        }),
        norm_place: NormPlace::Pre,
        final_norm: true,
        ffn: Ffn::GeluErf,
        position: Position::Learned,
        embedding_scale: 1.0,
        biases: Biases::ALL_BUT_OUTPUT,
        ..ORIGINAL
    }
}

/// A window of nine keys and the first two, in every layer.
pub(crate) const WINDOW: Window = Window {
    len: 9,
    keep: 2,
    full_every: 0,
};

/// [`LLAMA`] with another attention.
pub(crate) const fn with(window: Window, soft_cap: Option<f32>, sinks: bool) -> Config {
    Config {
        attention: Attention {
            window: Some(window),
            soft_cap,
            sinks,
        },
        ..LLAMA
    }
}

/// Opens a session for a while.
pub(crate) fn with_session<T>(
    model: &Model<'_>,
    options: &SessionOptions,
    then: impl FnOnce(&mut Session<'_>) -> T,
) -> T {
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut session = Session::new(model, options, memory, Backend::detect()).expect("a session");
    then(&mut session)
}

/// Three cores that are one. Everything is worth cutting.
pub(crate) struct InTurn;

impl Executor for InTurn {
    fn width(&self) -> usize {
        3
    }

    fn join<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        let b = b();
        (a(), b)
    }

    fn grain(&self) -> usize {
        1
    }
}

/// A small generator of reproducible numbers.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In −1..1.
    pub(crate) fn symmetric(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Random values of a tensor's size, scaled so that activations stay near 1; gains are near 1.
pub(crate) fn random_values(shape: &attentive::TensorShape, seed: u64) -> Vec<f32> {
    use attentive::Role;
    let layer = shape.layer.map_or(999, |layer| layer as u64);
    let mut random = Random(seed ^ (u64::from(shape.role as u16) << 32) ^ (layer << 16));
    let (middle, width) = match shape.role {
        Role::AttnNormGain | Role::FfnNormGain | Role::FinalNormGain | Role::EmbeddingNormGain => {
            (1.0, 0.3)
        }
        Role::CrossNormGain | Role::SourceNormGain => (1.0, 0.3),
        Role::TokenEmbedding | Role::PositionEmbedding => (0.0, 1.0),
        Role::TypeEmbedding | Role::SourcePositionEmbedding => (0.0, 1.0),
        Role::AttnSinks => (0.0, 2.0),
        _ if shape.kind == TensorKind::Vector => (0.0, 0.3),
        _ => (0.0, 1.7 / (shape.cols as f32).sqrt()),
    };
    (0..shape.rows * shape.cols)
        .map(|_| middle + width * random.symmetric())
        .collect()
}

/// A file with random weights and a byte tokenizer: matrices in `format`, vectors in f32.
pub(crate) fn pack_variant(config: &Config, format: WeightFormat, seed: u64) -> Vec<Block> {
    pack_with(
        config,
        format,
        TokenizerParts::Bytes { offset: 0 },
        |shape| random_values(shape, seed),
    )
}

pub(crate) fn pack_with(
    config: &Config,
    format: WeightFormat,
    tokenizer: TokenizerParts<'_>,
    values: impl Fn(&attentive::TensorShape) -> Vec<f32>,
) -> Vec<Block> {
    let recipe = Recipe {
        config,
        tokenizer,
        provenance: "data = \"random numbers\"\n",
        format: &|shape| match shape.kind {
            TensorKind::Matrix => format,
            TensorKind::Vector => WeightFormat::F32,
        },
    };
    let mut blocks = vec![Block::ZERO; Block::len_for(recipe.file_bytes().expect("size"))];
    recipe
        .write::<PackError>(Block::bytes_mut(&mut blocks), |mut tensor| {
            let values = values(&tensor.shape);
            tensor.write(&values, ScaleMethod::AbsMax)
        })
        .expect("packed");
    blocks
}

/// The same with a byte-level BPE: bytes, an end of text, and a few merges.
pub(crate) fn pack_bpe_variant(config: &Config, format: WeightFormat, seed: u64) -> Vec<Block> {
    pack_bpe(config, format, seed, Split::Gpt2, small_bpe())
}

/// The same with pieces and merges of choice; token 256 is special.
pub(crate) fn pack_bpe(
    config: &Config,
    format: WeightFormat,
    seed: u64,
    split: Split,
    (pieces, merges): (Vec<Vec<u8>>, Vec<Merge>),
) -> Vec<Block> {
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let tokenizer = TokenizerParts::Bpe {
        split,
        pieces: &pieces,
        merges: &merges,
        specials: &[256],
    };
    pack_with(config, format, tokenizer, |shape| {
        random_values(shape, seed)
    })
}

/// (left, right, token made).
pub(crate) type Merge = (u32, u32, u32);

/// Pieces and merges of a BPE with 267 tokens; token 256 is `<|end|>`.
pub(crate) fn small_bpe() -> (Vec<Vec<u8>>, Vec<Merge>) {
    let mut pieces: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    pieces.push(b"<|end|>".to_vec());
    let mut merges = Vec::new();
    let joined: [(&[u8], &[u8]); 10] = [
        (b"t", b"h"),
        (b"th", b"e"),
        (b" ", b"the"),
        (b"t", b"e"),
        (b"x", b"t"),
        (b"te", b"xt"),
        (b" ", b" "),
        (b"  ", b"  "),
        (b"1", b"2"),
        (
            "\u{e9}".as_bytes().split_at(1).0,
            "\u{e9}".as_bytes().split_at(1).1,
        ),
    ];
    for (left, right) in joined {
        let id = |piece: &[u8]| {
            let at = pieces.iter().position(|p| p == piece);
            at.expect("an earlier piece") as u32
        };
        merges.push((id(left), id(right), pieces.len() as u32));
        pieces.push([left, right].concat());
    }
    (pieces, merges)
}

/// [`small_bpe`] with the tokens of its merges numbered backwards, so that a rank is not a token.
pub(crate) fn ranked_bpe() -> (Vec<Vec<u8>>, Vec<Merge>) {
    let (mut pieces, merges) = small_bpe();
    let last = pieces.len() as u32 - 1;
    let turned = |id: u32| if id > 256 { 257 + last - id } else { id };
    pieces[257..].reverse();
    let merges = merges
        .into_iter()
        .map(|(left, right, made)| (turned(left), turned(right), turned(made)));
    (pieces, merges.collect())
}

/// A WordPiece model without case: five special tokens, `the`, `text`, `s`, `'`, `##s`, `ete`, `!`.
pub(crate) fn pack_word_piece(config: &Config, format: WeightFormat, seed: u64) -> Vec<Block> {
    let pieces: [&[u8]; 12] = [
        b"[PAD]", b"[UNK]", b"[CLS]", b"[SEP]", b"[MASK]", b"the", b"text", b"s", b"'", b"##s",
        b"ete", b"!",
    ];
    let parts = WordPieceParts {
        text: BertText::UNCASED,
        pieces: &pieces,
        unknown: 1,
        specials: &[0, 1, 2, 3, 4],
        template: Template {
            first: Some(2),
            between: Some(3),
            last: Some(3),
            types: true,
            ..Template::NONE
        },
    };
    pack_with(config, format, TokenizerParts::WordPiece(parts), |shape| {
        random_values(shape, seed)
    })
}

/// A unigram model whose token 0 is the unknown one.
pub(crate) fn pack_unigram(
    config: &Config,
    pieces: &[Vec<u8>],
    scores: &[f32],
    spaces: Spaces,
) -> Vec<Block> {
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let parts = UnigramParts {
        spaces,
        charsmap: &[],
        pieces: &pieces,
        scores,
        unmatched: &[0],
        byte_ids: None,
        unknown: Some(0),
        specials: &[],
        template: Template::NONE,
    };
    pack_with(
        config,
        WeightFormat::F32,
        TokenizerParts::Unigram(parts),
        |shape| random_values(shape, 1),
    )
}

/// A unigram model with everything: replacements, bytes, a special token, tokens around a text.
pub(crate) fn pack_unigram_full(config: &Config) -> Vec<Block> {
    let mut pieces: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    pieces.extend(
        ["</s>", " ", "t", "ex", " text", "fi", "th"].map(|piece| piece.as_bytes().to_vec()),
    );
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let scores: Vec<f32> = (0..pieces.len())
        .map(|id| -1.0 - id as f32 / 64.0)
        .collect();
    let byte_ids: [u32; 256] = core::array::from_fn(|byte| byte as u32);
    let unmatched: Vec<u32> = (0..257).collect();
    let parts = UnigramParts {
        spaces: Spaces {
            dummy_prefix: true,
            collapse: true,
        },
        charsmap: include_bytes!("../data/tokenizers/unigram/charsmap.bin"),
        pieces: &pieces,
        scores: &scores,
        unmatched: &unmatched,
        byte_ids: Some(&byte_ids),
        unknown: None,
        specials: &[256],
        template: Template {
            last: Some(256),
            ..Template::NONE
        },
    };
    pack_with(
        config,
        WeightFormat::F32,
        TokenizerParts::Unigram(parts),
        |shape| random_values(shape, 1),
    )
}
