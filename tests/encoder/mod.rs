//! Encoders: against a naive f64 one, and that a text's result is its own.

use attentive::kernels::Backend;
use attentive::kernels::layout::{KvDtype, WeightFormat};
use attentive::pack::TokenizerParts;
use attentive::{
    Answer, Architecture, Block, Config, ConfigError, Encoder, EncoderOptions, Model, NormPlace,
    Output, Pooling, Reading, Session, SessionError, SessionOptions,
};

use crate::common::{
    BERT, InTurn, LLAMA, Random, pack_variant, pack_with, pack_word_piece, random_values, reference,
};
use crate::{largest_error, random_ids};

const READING: Reading = match BERT.architecture {
    Architecture::Encoder(reading) => reading,
    _ => panic!("an encoder"),
};

const fn bert(reading: Reading) -> Config {
    Config {
        architecture: Architecture::Encoder(reading),
        ..BERT
    }
}

fn variants() -> Vec<(&'static str, Config)> {
    let with = |pooling, pooler, output| {
        bert(Reading {
            pooling,
            pooler,
            output,
            ..READING
        })
    };
    let rotary = Config {
        architecture: Architecture::Encoder(Reading {
            types: 0,
            embedding_norm: false,
            pooling: Pooling::First,
            pooler: false,
            output: Output::Embedding { unit: false },
            patch: 0,
        }),
        end_of_text: None,
        ..LLAMA
    };
    vec![
        ("mean", BERT),
        ("classes", with(Pooling::First, true, Output::Classes(5))),
        ("tags", with(Pooling::None, false, Output::Tags(7))),
        ("span", with(Pooling::None, false, Output::Span)),
        ("hidden", with(Pooling::None, false, Output::Hidden)),
        ("pre-norm, rotary, grouped", rotary),
    ]
}

/// Hidden vectors and output of a text.
fn run(
    model: &Model<'_>,
    options: &EncoderOptions,
    backend: Backend,
    texts: &[(&[u32], &[u32])],
) -> (Vec<f32>, Vec<f32>) {
    let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(options))];
    let mut encoder =
        Encoder::new(model, options, Block::bytes_mut(&mut memory), backend).expect("an encoder");
    for (ids, types) in texts {
        encoder.run_tokens(ids, types).expect("a run");
    }
    let output = match model.config().reading().expect("an encoder").output {
        Output::Hidden => Ok(encoder.hidden()),
        Output::Embedding { .. } => encoder.embedding(),
        Output::Classes(_) => encoder.classes(),
        Output::Tags(_) => encoder.tags(),
        Output::Span => encoder.span_logits(),
    };
    (
        encoder.hidden().to_vec(),
        output.expect("an output").to_vec(),
    )
}

#[test]
fn encoders_equal_the_oracle() {
    for (name, config) in variants() {
        let weights = |role, layer: Option<usize>| -> Vec<f64> {
            let index = config.tensor_index(role, layer).expect("a tensor");
            let shape = config.tensor(index).expect("a shape");
            let values = random_values(&shape, 5);
            values.into_iter().map(f64::from).collect()
        };
        for n in [1, 2, 15, 16, 17, 33, 48] {
            let ids = random_ids(&config, n, 3);
            let types: Vec<u32> = match config.reading().is_some_and(|r| r.types > 1) {
                true => (0..n).map(|i| u32::from(i > n / 2)).collect(),
                false => Vec::new(),
            };
            let (want_hidden, want) = reference::encode(&config, &weights, &ids, &types);
            for (format, bound) in [
                (WeightFormat::F32, 3e-5),
                (WeightFormat::F16, 2e-2),
                (WeightFormat::I8Row, 0.15),
                (WeightFormat::I4Group32, 0.8),
            ] {
                let blocks = pack_variant(&config, format, 5);
                let model = Model::parse(Block::bytes(&blocks)).expect("a model");
                for backend in Backend::available() {
                    let options = EncoderOptions::new(48);
                    let (hidden, got) = run(&model, &options, backend, &[(&ids, &types)]);
                    let error = largest_error(&[hidden], &[want_hidden.concat()])
                        .max(largest_error(&[got], std::slice::from_ref(&want)));
                    let backend = backend.name();
                    assert!(error < bound, "{name} n={n} {format:?} {backend}: {error}");
                }
            }
        }
    }
}

/// To the bit: neither the room that a text leaves nor the text before it changes anything.
#[test]
fn a_text_stands_for_itself() {
    for (name, config) in variants() {
        let blocks = pack_variant(&config, WeightFormat::I8Row, 9);
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        let (long, short) = (random_ids(&config, 48, 1), random_ids(&config, 13, 2));
        for backend in Backend::available() {
            for kv in [KvDtype::F32, KvDtype::F16, KvDtype::I8] {
                let of = |len| EncoderOptions::new(len).with_kv(kv);
                let tight = run(&model, &of(13), backend, &[(&short, &[])]);
                let roomy = run(&model, &of(48), backend, &[(&short, &[])]);
                let later = run(&model, &of(48), backend, &[(&long, &[]), (&short, &[])]);
                assert!(tight == roomy, "{name} {kv:?} {}: room", backend.name());
                assert!(tight == later, "{name} {kv:?} {}: before", backend.name());
            }
        }
    }
}

#[test]
fn parts_give_the_bits_of_the_whole_text() {
    for (name, config) in variants() {
        let blocks = pack_variant(&config, WeightFormat::I8Group32, 4);
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        for n in [1, 2, 7, 40] {
            let ids = random_ids(&config, n, 8);
            let options = EncoderOptions::new(40);
            let whole = run(&model, &options, Backend::detect(), &[(&ids, &[])]).0;
            for parts in [2, 3] {
                let options = options.with_parts(parts);
                let bytes = model.encoder_bytes(&options);
                let mut memory = vec![Block::ZERO; Block::len_for(bytes)];
                let memory = Block::bytes_mut(&mut memory);
                let encoder = Encoder::new(&model, &options, memory, Backend::detect());
                let mut encoder = encoder.expect("an encoder").with_executor(InTurn);
                encoder.run_tokens(&ids, &[]).expect("a run");
                assert!(encoder.hidden() == whole, "{name} {n} tokens {parts} parts");
            }
        }
    }
}

/// A vision transformer, tiny.
fn sees(patch: usize, pooling: Pooling) -> Config {
    Config {
        architecture: Architecture::Encoder(Reading {
            types: 0,
            embedding_norm: false,
            pooling,
            pooler: false,
            output: Output::Classes(5),
            patch,
        }),
        vocab_len: 1,
        norm_place: NormPlace::Pre,
        final_norm: true,
        context_len: 50,
        ..BERT
    }
}

#[test]
fn patches_equal_the_oracle() {
    // 200 is wider than anything else in the model.
    for (patch, pooling) in [
        (9, Pooling::First),
        (200, Pooling::Mean),
        (1, Pooling::Mean),
    ] {
        let config = sees(patch, pooling);
        let weights = |role, layer: Option<usize>| -> Vec<f64> {
            let index = config.tensor_index(role, layer).expect("a tensor");
            let shape = config.tensor(index).expect("a shape");
            let values = random_values(&shape, 5);
            values.into_iter().map(f64::from).collect()
        };
        for n in [1, 2, 15, 16, 49] {
            let mut random = Random(n as u64);
            let patches: Vec<f32> = (0..n * patch).map(|_| random.symmetric()).collect();
            let exact: Vec<Vec<f64>> = patches
                .chunks(patch)
                .map(|patch| patch.iter().map(|x| f64::from(*x)).collect())
                .collect();
            let (want_hidden, want) = reference::encode_patches(&config, &weights, &exact);
            for (format, bound) in [(WeightFormat::F32, 3e-5), (WeightFormat::I8Row, 0.15)] {
                let none = TokenizerParts::None;
                let blocks = pack_with(&config, format, none, |shape| random_values(shape, 5));
                let model = Model::parse(Block::bytes(&blocks)).expect("a model");
                for backend in Backend::available() {
                    let run = |parts| {
                        let options = EncoderOptions::new(50).with_parts(parts);
                        let bytes = model.encoder_bytes(&options);
                        let mut memory = vec![Block::ZERO; Block::len_for(bytes)];
                        let memory = Block::bytes_mut(&mut memory);
                        let encoder = Encoder::new(&model, &options, memory, backend);
                        let mut encoder = encoder.expect("an encoder").with_executor(InTurn);
                        encoder.run_patches(&patches).expect("a run");
                        assert_eq!(encoder.len(), n + 1);
                        let classes = encoder.classes().expect("classes").to_vec();
                        (encoder.hidden().to_vec(), classes)
                    };
                    let (hidden, got) = run(1);
                    assert!((hidden.clone(), got.clone()) == run(3), "parts");
                    let error = largest_error(&[hidden], &[want_hidden.concat()])
                        .max(largest_error(&[got], std::slice::from_ref(&want)));
                    let backend = backend.name();
                    assert!(error < bound, "{patch} n={n} {format:?} {backend}: {error}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_patch_is_refused() {
    let config = sees(9, Pooling::First);
    let pack = |config| {
        pack_with(config, WeightFormat::F32, TokenizerParts::None, |shape| {
            random_values(shape, 5)
        })
    };
    let blocks = pack(&config);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = EncoderOptions::new(4);
    let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut encoder = Encoder::new(&model, &options, memory, Backend::SCALAR).expect("an encoder");
    for have in [0, 8, 10] {
        let error = SessionError::Patches { patch: 9, have };
        assert_eq!(encoder.run_patches(&vec![0.5; have]), Err(error));
    }
    let full = SessionError::ContextFull { need: 5, have: 4 };
    assert_eq!(encoder.run_patches(&[0.5; 36]), Err(full));
    let need = SessionError::Input { need: "patches" };
    assert_eq!(encoder.run_tokens(&[0], &[]), Err(need));
    assert_eq!(encoder.run_text("0", None), Err(need));
    assert!(encoder.is_empty());
    assert_eq!(encoder.run_patches(&[0.5; 27]), Ok(()));
    let mut rows = 0;
    let mut weights = [0.0; 4];
    let watched = encoder.watch_patches(&[0.5; 27], &mut weights, |row| {
        let sum: f32 = row.weights.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5);
        rows += 1;
    });
    assert_eq!(watched, Ok(()));
    assert_eq!(rows, config.layers * config.heads * 4);
    let vocab_len = ConfigError::Encoder { field: "vocab_len" };
    let wide = Config {
        vocab_len: 2,
        ..config
    };
    assert_eq!(wide.check(), Err(vocab_len));
    let blocks = pack_variant(&BERT, WeightFormat::F32, 5);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut encoder = Encoder::new(&model, &options, memory, Backend::SCALAR).expect("an encoder");
    let need = SessionError::Input { need: "tokens" };
    assert_eq!(encoder.run_patches(&[0.5; 27]), Err(need));
}

#[test]
fn texts_are_wrapped_and_errors_are_clear() {
    let config = Config {
        vocab_len: 12,
        ..bert(Reading {
            pooling: Pooling::None,
            output: Output::Span,
            ..READING
        })
    };
    let blocks = pack_word_piece(&config, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = EncoderOptions::new(7);
    let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut encoder = Encoder::new(&model, &options, memory, Backend::SCALAR).expect("an encoder");
    let need = "spans";
    assert_eq!(encoder.span(0..9, 3), Err(SessionError::Output { need }));
    assert_eq!(encoder.run_text("the", Some("text")), Ok(5));
    assert_eq!(encoder.tokens(), [2, 5, 3, 6, 3]);
    let whole = encoder.span_logits().expect("logits").to_vec();
    encoder
        .run_tokens(&[2, 5, 3, 6, 3], &[0, 0, 0, 1, 1])
        .expect("a run");
    assert_eq!(encoder.span_logits().expect("logits"), whole);
    let Answer { first, last, score } = encoder.span(3..5, 1).expect("a span").expect("one");
    let sums: Vec<f32> = whole.chunks(2).map(|pair| pair[0] + pair[1]).collect();
    assert!(first == last && first >= 3 && score == sums[3].max(sums[4]));
    assert_eq!(encoder.span(5..9, 3), Ok(None));
    let only = encoder.span(3..4, 3).expect("a span").expect("one");
    assert_eq!((only.first, only.last), (3, 3));
    let need = "classes";
    assert_eq!(encoder.classes(), Err(SessionError::Output { need }));
    let empty = SessionError::Text { types: 0, have: 0 };
    assert_eq!(encoder.run_tokens(&[], &[]), Err(empty));
    assert!(encoder.is_empty() && encoder.span_logits().is_err());
    let few = SessionError::Text { types: 1, have: 2 };
    assert_eq!(encoder.run_tokens(&[1, 1], &[0]), Err(few));
    let kind = SessionError::Type { types: 2, have: 2 };
    assert_eq!(encoder.run_tokens(&[1], &[2]), Err(kind));
    let token = SessionError::Token {
        vocab_len: 12,
        have: 12,
    };
    assert_eq!(encoder.run_tokens(&[12], &[]), Err(token));
    let full = SessionError::ContextFull { need: 8, have: 7 };
    assert_eq!(encoder.run_tokens(&[1; 8], &[]), Err(full));
    assert!(matches!(
        encoder.run_text("the text the text the text", None),
        Err(SessionError::Tokenizer(_))
    ));
    let mut memory = vec![Block::ZERO; 1 << 12];
    let memory = Block::bytes_mut(&mut memory);
    let session = Session::new(&model, &SessionOptions::new(4), memory, Backend::SCALAR);
    assert_eq!(session.err(), Some(SessionError::Family));
    let blocks = pack_variant(&LLAMA, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let mut memory = vec![Block::ZERO; 1 << 12];
    let memory = Block::bytes_mut(&mut memory);
    let encoder = Encoder::new(&model, &options, memory, Backend::SCALAR);
    assert_eq!(encoder.err(), Some(SessionError::Family));
}
