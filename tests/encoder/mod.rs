//! Encoders: against a naive f64 one, and that a text's result is its own.

use attentive::kernels::Backend;
use attentive::kernels::layout::{KvDtype, WeightFormat};
use attentive::{
    Answer, Architecture, Block, Config, Encoder, EncoderOptions, Model, Output, Pooling, Reading,
    Session, SessionError, SessionOptions,
};

use crate::common::{BERT, InTurn, LLAMA, pack_variant, pack_word_piece, random_values, reference};
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
