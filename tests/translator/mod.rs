//! Encoder–decoders against a naive f64 one.

use attentive::kernels::Backend;
use attentive::kernels::layout::{KvDtype, WeightFormat};
use attentive::{
    Architecture, Attention, BeamOptions, Biases, Block, Config, Ffn, Input, Model, NormPlace,
    Position, Role, Session, SessionError, SessionOptions, Source, WhenFull, Window,
};

use crate::common::{
    InTurn, LLAMA, ORIGINAL, Random, listener, pack_variant, pack_word_piece, random_values,
    reference, with_session,
};
use crate::{largest_error, random_ids};

const fn from(source: Source) -> Architecture {
    Architecture::EncoderDecoder(source)
}

pub(crate) fn variants() -> Vec<(&'static str, Config)> {
    let whisper = Config {
        architecture: from(Source {
            layers: 2,
            len: 40,
            position: Position::Learned,
            input: Input::Tokens,
        }),
        norm_place: NormPlace::Pre,
        final_norm: true,
        ffn: Ffn::GeluErf,
        position: Position::Learned,
        embedding_scale: 1.0,
        biases: Biases::ALL_BUT_OUTPUT,
        ..ORIGINAL
    };
    let modern = Config {
        architecture: from(Source {
            layers: 1,
            len: 64,
            position: LLAMA.position,
            input: Input::Tokens,
        }),
        attention: Attention {
            soft_cap: Some(3.0),
            ..Attention::PLAIN
        },
        tied: false,
        ..LLAMA
    };
    let none = Config {
        architecture: from(Source {
            layers: 1,
            len: 64,
            position: Position::None,
            input: Input::Tokens,
        }),
        ..whisper
    };
    vec![
        ("original", ORIGINAL),
        ("whisper", whisper),
        ("rotary, grouped, capped", modern),
        ("no positions in the source", none),
    ]
}

pub(crate) fn options(source_len: usize) -> SessionOptions {
    SessionOptions::new(40).with_source_len(source_len)
}

/// Logits after each token of `ids`, of the last of the sources.
fn scores(
    model: &Model<'_>,
    options: &SessionOptions,
    backend: Backend,
    sources: &[&[u32]],
    ids: &[u32],
) -> Vec<Vec<f32>> {
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut session = Session::new(model, options, memory, backend).expect("a session");
    let mut logits = Vec::new();
    for source in sources {
        session.read_tokens(source).expect("a source");
        logits.clear();
        let done = session.score(ids, |_, of_token| logits.push(of_token.to_vec()));
        done.expect("scores");
    }
    logits
}

pub(crate) fn values(config: &Config) -> impl Fn(Role, Option<usize>) -> Vec<f64> {
    let config = *config;
    move |role, layer| {
        let index = config.tensor_index(role, layer).expect("a tensor");
        let shape = config.tensor(index).expect("a shape");
        let values = random_values(&shape, 5);
        values.into_iter().map(f64::from).collect()
    }
}

#[test]
fn translators_equal_the_oracle() {
    for (name, config) in variants() {
        let weights = values(&config);
        for (source_len, len) in [(1, 1), (2, 9), (16, 17), (33, 5), (40, 40)] {
            let source = random_ids(&config, source_len, 3);
            let ids = random_ids(&config, len, 4);
            let want = reference::translate(&config, &weights, &source, &ids);
            for (format, bound) in [
                (WeightFormat::F32, 3e-5),
                (WeightFormat::F16, 2e-2),
                (WeightFormat::I8Row, 0.15),
            ] {
                let blocks = pack_variant(&config, format, 5);
                let model = Model::parse(Block::bytes(&blocks)).expect("a model");
                for backend in Backend::available() {
                    let got = scores(&model, &options(40), backend, &[&source], &ids);
                    let error = largest_error(&got, &want);
                    let backend = backend.name();
                    assert!(
                        error < bound,
                        "{name} {source_len} {len} {format:?} {backend}: {error}"
                    );
                }
            }
        }
    }
}

#[test]
fn listeners_equal_the_oracle() {
    for (bins, frames) in [(1, 1usize), (10, 2), (80, 3), (10, 33), (30, 79), (10, 80)] {
        let config = listener(bins);
        let weights = values(&config);
        let mut random = Random(frames as u64);
        let sound: Vec<Vec<f32>> = (0..frames)
            .map(|_| (0..bins).map(|_| random.symmetric()).collect())
            .collect();
        let exact: Vec<Vec<f64>> = sound
            .iter()
            .map(|frame| frame.iter().map(|x| f64::from(*x)).collect())
            .collect();
        let ids = random_ids(&config, 9, 4);
        let want = reference::transcribe(&config, &weights, &exact, &ids);
        for (format, bound) in [(WeightFormat::F32, 3e-5), (WeightFormat::I8Group32, 0.1)] {
            let blocks = pack_variant(&config, format, 5);
            let model = Model::parse(Block::bytes(&blocks)).expect("a model");
            for backend in Backend::available() {
                for source_len in [frames.div_ceil(2), 40] {
                    let options = options(source_len);
                    let bytes = model.session_bytes(&options);
                    let mut memory = vec![Block::ZERO; Block::len_for(bytes)];
                    let memory = Block::bytes_mut(&mut memory);
                    let session = Session::new(&model, &options, memory, backend);
                    let mut session = session.expect("a session");
                    session.read_frames(&sound.concat()).expect("frames");
                    let mut got = Vec::new();
                    let done = session.score(&ids, |_, logits| got.push(logits.to_vec()));
                    done.expect("scores");
                    let error = largest_error(&got, &want);
                    let backend = backend.name();
                    assert!(
                        error < bound,
                        "{bins} {frames} {format:?} {backend}: {error}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_no_sound_is_refused() {
    let blocks = pack_variant(&listener(10), WeightFormat::F32, 5);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    with_session(&model, &options(7), |session| {
        let frames = SessionError::Input { need: "frames" };
        assert_eq!(session.read("a text"), Err(frames));
        assert_eq!(session.read_tokens(&[1]), Err(frames));
        for have in [0, 9, 11] {
            let error = SessionError::Frames { bins: 10, have };
            assert_eq!(session.read_frames(&vec![0.0; have]), Err(error));
        }
        assert_eq!(session.read_frames(&[0.5; 140]), Ok(()));
        let full = SessionError::ContextFull { need: 8, have: 7 };
        assert_eq!(session.read_frames(&[0.5; 150]), Err(full));
        assert_eq!(session.prompt_tokens(&[1]), Err(SessionError::NoSource));
    });
    let blocks = pack_variant(&ORIGINAL, WeightFormat::F32, 5);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    with_session(&model, &options(7), |session| {
        let tokens = SessionError::Input { need: "tokens" };
        assert_eq!(session.read_frames(&[0.5; 10]), Err(tokens));
    });
    for bins in [0, 1025] {
        assert!(listener(bins).check().is_err());
    }
    assert_eq!(listener(1024).check(), Ok(()));
}

/// To the bit: neither the room that a source leaves, nor the source before it, nor the batches of the text, nor the
/// number of cores changes anything.
#[test]
fn a_source_and_its_text_stand_for_themselves() {
    for (name, config) in variants() {
        let blocks = pack_variant(&config, WeightFormat::I8Group32, 9);
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        let (long, short) = (random_ids(&config, 40, 1), random_ids(&config, 13, 2));
        let ids = random_ids(&config, 20, 3);
        for backend in Backend::available() {
            for kv in [KvDtype::F32, KvDtype::F16, KvDtype::I8] {
                let of = |source_len| options(source_len).with_kv(kv);
                let run = |options: SessionOptions, sources: &[&[u32]]| {
                    scores(&model, &options, backend, sources, &ids)
                };
                let tight = run(of(13), &[&short]);
                let backend = backend.name();
                assert!(
                    tight == run(of(40), &[&short]),
                    "{name} {kv:?} {backend}: room"
                );
                let later = run(of(40), &[&long, &short]);
                assert!(tight == later, "{name} {kv:?} {backend}: before");
                let ones = run(of(13).with_prefill_len(1), &[&short]);
                assert!(tight == ones, "{name} {kv:?} {backend}: batches");
            }
        }
        let whole = scores(&model, &options(40), Backend::detect(), &[&long], &ids);
        for parts in [2, 3] {
            let options = options(40).with_prefill_len(20).with_parts(parts);
            let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
            let memory = Block::bytes_mut(&mut memory);
            let session = Session::new(&model, &options, memory, Backend::detect());
            let mut session = session.expect("a session").with_executor(InTurn);
            session.read_tokens(&long).expect("a source");
            let mut got = Vec::new();
            let done = session.score(&ids, |_, logits| got.push(logits.to_vec()));
            done.expect("scores");
            assert!(got == whole, "{name}: {parts} parts");
        }
    }
}

#[test]
fn sources_are_wrapped_and_errors_are_clear() {
    let config = Config {
        vocab_len: 12,
        end_of_text: Some(3),
        begin_of_text: Some(2),
        ..ORIGINAL
    };
    let blocks = pack_word_piece(&config, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let narrow = SessionOptions::new(8).with_source_len(5);
    with_session(&model, &narrow, |session| {
        assert_eq!(session.prompt(""), Err(SessionError::NoSource));
        assert_eq!(session.prompt_tokens(&[2]), Err(SessionError::NoSource));
        assert_eq!(session.read("the text"), Ok(4));
        session.prompt("the").expect("a prompt");
        let wrapped = session.logits().to_vec();
        session.read_tokens(&[2, 5, 6, 3]).expect("a source");
        assert!(session.tokens().is_empty() && session.position() == 0);
        session.prompt("the").expect("a prompt");
        assert!(session.logits() == wrapped);
        let none = SessionError::Beams { most: 16, have: 0 };
        assert_eq!(session.search(&BeamOptions::new(3)), Err(none));
        let empty = SessionError::Text { types: 0, have: 0 };
        assert_eq!(session.read_tokens(&[]), Err(empty));
        assert_eq!(session.prompt(""), Err(SessionError::NoSource));
        let full = SessionError::ContextFull { need: 6, have: 5 };
        assert_eq!(session.read_tokens(&[1; 6]), Err(full));
        let token = SessionError::Token {
            vocab_len: 12,
            have: 12,
        };
        assert_eq!(session.read_tokens(&[12]), Err(token));
        let long = session.read("the text the text the text the text");
        assert!(matches!(long, Err(SessionError::Tokenizer(_))));
        // Six tokens have room in the batch, not in the source.
        let long = session.read("the text the text");
        assert_eq!(long, Err(full));
    });
    let refused = |options: SessionOptions, error: SessionError| {
        assert_eq!(options.check(&config), Err(error));
        assert_eq!(model.session_bytes(&options), usize::MAX);
    };
    let most = Config::CONTEXT_MAX;
    refused(
        SessionOptions::new(8),
        SessionError::SourceLen { most, have: 0 },
    );
    let beams = SessionError::Beams { most: 16, have: 17 };
    refused(narrow.with_beams(17), beams);
    let ring = narrow.with_when_full(WhenFull::Ring).with_beams(1);
    refused(ring, SessionError::Beams { most: 0, have: 1 });
    let learned = variants()[1].1;
    let long = narrow.with_source_len(41).check(&learned);
    assert_eq!(long, Err(SessionError::SourceLen { most: 40, have: 41 }));
    let of_decoder = narrow.check(&LLAMA);
    assert_eq!(
        of_decoder,
        Err(SessionError::SourceLen { most: 0, have: 5 })
    );
    let blocks = pack_variant(&LLAMA, WeightFormat::F32, 1);
    let decoder = Model::parse(Block::bytes(&blocks)).expect("a model");
    with_session(&decoder, &SessionOptions::new(8), |session| {
        assert_eq!(session.read_tokens(&[1]), Err(SessionError::Family));
        let none = SessionError::Beams { most: 16, have: 0 };
        assert_eq!(session.search(&BeamOptions::new(3)), Err(none));
    });
}

/// A configuration that no encoder–decoder can have.
#[test]
fn impossible_sources_are_refused() {
    let Architecture::EncoderDecoder(source) = ORIGINAL.architecture else {
        panic!("an encoder–decoder");
    };
    let with = |source| Config {
        architecture: from(source),
        ..ORIGINAL
    };
    let window = Window {
        len: 4,
        keep: 0,
        full_every: 0,
    };
    let attention = |window, sinks| Config {
        attention: Attention {
            window,
            sinks,
            soft_cap: None,
        },
        ..ORIGINAL
    };
    let position = LLAMA.position;
    for impossible in [
        with(Source {
            layers: 0,
            ..source
        }),
        with(Source {
            layers: 257,
            ..source
        }),
        with(Source { len: 0, ..source }),
        with(Source { position, ..source }),
        Config {
            position,
            ..ORIGINAL
        },
        attention(Some(window), false),
        attention(None, true),
    ] {
        assert!(impossible.check().is_err(), "{impossible:?}");
    }
    assert_eq!(ORIGINAL.check(), Ok(()));
}
