//! The integer profile: heads, sampling, sessions, and files that are not what they say.

use attentive::integer::pack::{Recipe, Record, TensorMut};
use attentive::integer::{
    Bits, Encoder, Fit, Kind, Model, Needs, Options, Progress, Sampler, SamplerOptions, Session,
    shapes,
};
use attentive::kernels::Backend;
use attentive::kernels::integer::{pack_quads, pair_sums, quad_sums, stride};
use attentive::pack::{PackError, TokenizerParts};
use attentive::{
    Aligned, Architecture, Attention, Biases, Block, Config, ConfigError, Ffn, Norm, NormPlace,
    Output, Pooling, Position, Reading, Role, RotaryStyle, SessionError, SnapshotFault,
    WeightsError, WhenFull, Window,
};

const READING: Reading = Reading {
    types: 0,
    embedding_norm: false,
    pooling: Pooling::First,
    pooler: false,
    output: Output::Classes(5),
    patch: 0,
};

const DECODER: Config = Config {
    architecture: Architecture::Decoder,
    vocab_len: 256,
    dim: 40,
    layers: 2,
    heads: 3,
    kv_heads: 1,
    head_dim: 8,
    hidden_dim: 70,
    context_len: 100,
    norm: Norm::Rms,
    norm_place: NormPlace::Pre,
    norm_eps: 1e-5,
    final_norm: true,
    ffn: Ffn::GeGlu,
    position: Position::Rotary {
        style: RotaryStyle::Half,
        base: 10_000.0,
    },
    tied: true,
    biases: Biases::NONE,
    attention: Attention::PLAIN,
    embedding_scale: 1.0,
    begin_of_text: None,
    end_of_text: None,
};

const fn encoder(output: Output, pooling: Pooling) -> Config {
    Config {
        architecture: Architecture::Encoder(Reading {
            output,
            pooling,
            ..READING
        }),
        ..DECODER
    }
}

/// Numbers that say nothing, but neither vanish nor saturate everywhere.
fn fill(tensor: TensorMut<'_>, state: &mut u32) -> Result<(), PackError> {
    let mut next = || {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*state >> 16) as i16
    };
    let cols = tensor.shape.cols;
    for row in tensor.bytes.chunks_exact_mut(stride(cols)) {
        row[..cols].fill_with(|| (next() / 256) as i8);
    }
    if tensor.shape.kind == Kind::Quads {
        let mut levels = vec![0; tensor.shape.rows * cols];
        levels.fill_with(|| (next() / 256) as i8 >> 4);
        pack_quads(cols, &levels, tensor.quads).expect("quads");
        quad_sums(cols, tensor.quads, tensor.pairs).expect("sums");
    } else if !tensor.pairs.is_empty() {
        let sums = pair_sums(cols, tensor.bytes, tensor.pairs);
        sums.map_err(|_| PackError::Values { need: 0, have: 0 })?;
    }
    fill_rest(tensor, &mut next);
    Ok(())
}

/// What is no matrix.
fn fill_rest(tensor: TensorMut<'_>, mut next: impl FnMut() -> i16) {
    tensor
        .multipliers
        .fill_with(|| (1 << 24) + i32::from(next()) * 64);
    tensor.biases.fill_with(|| i32::from(next()) / 64);
    tensor.steps.fill_with(|| (1 << 20) + i32::from(next()));
    (tensor.rotary_steps).fill_with(|| u32::from(next().cast_unsigned()) << 13);
    tensor.halves.fill_with(|| next() / 8);
    tensor.half_biases.fill_with(|| next() / 64);
    let scalars = [1 << 22, 1 << 14, 14, 1 << 20, 1 << 22, 1 << 14, 14, 0];
    if !tensor.scalars.is_empty() {
        tensor.scalars.copy_from_slice(&scalars);
    }
}

fn file(config: &Config) -> Vec<Block> {
    file_of(config, Bits::Eight)
}

fn file_of(config: &Config, bits: Bits) -> Vec<Block> {
    let mut state = 1;
    file_with(config, bits, |to| fill(to, &mut state))
}

fn file_with(
    config: &Config,
    bits: Bits,
    fill: impl FnMut(TensorMut<'_>) -> Result<(), PackError>,
) -> Vec<Block> {
    let recipe = Recipe {
        config,
        tokenizer: TokenizerParts::Bytes { offset: 0 },
        provenance: "",
        record: Record {
            eps: 1000,
            logit_bits: 8,
            pooling: 1 << 16,
            stream_scale: 0.01,
            input_scale: 0.0,
        },
        bits,
    };
    let bytes = recipe.file_bytes().expect("a possible model");
    let mut blocks = vec![Block::ZERO; Block::len_for(bytes)];
    let written = recipe.write(Block::bytes_mut(&mut blocks), fill);
    written.expect("a file");
    blocks
}

/// Runs tokens and hands the encoder over.
fn read<R>(blocks: &[Block], ids: &[u32], then: impl FnOnce(&Encoder<'_>) -> R) -> R {
    let model = Model::parse(Block::bytes(blocks)).expect("a model");
    let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(50))];
    let memory = Block::bytes_mut(&mut memory);
    let mut encoder = Encoder::new(&model, 50, memory, Backend::detect()).expect("an encoder");
    encoder.begin_tokens(ids).expect("tokens");
    encoder.run().expect("a run");
    then(&encoder)
}

/// A file of bytes whose layers' matrices have nothing in their lower halves, and the same with four bits a number.
#[test]
fn four_bits_are_the_upper_halves_of_bytes() {
    let classes = encoder(Output::Classes(5), Pooling::Mean);
    let gated = Config {
        hidden_dim: 37,
        ..classes
    };
    let ids: Vec<u32> = (3..40).collect();
    // Of each layer four, but for rows that are no fours; the head has eight bits.
    for (config, quads) in [
        (classes, 6),
        (gated, 6),
        (
            Config {
                hidden_dim: 72,
                ..classes
            },
            8,
        ),
    ] {
        let narrow = file_of(&config, Bits::Four);
        let levels = |kind| {
            let shapes = shapes(&config).map(|shape| shape.with_bits(Bits::Four));
            shapes.filter(|shape| shape.kind == kind).count()
        };
        assert_eq!(
            (levels(Kind::Quads), levels(Kind::Product)),
            (quads, 9 - quads)
        );
        let mut state = 1;
        let wide = file_with(&config, Bits::Eight, |mut to| {
            let shape = to.shape;
            if shape.with_bits(Bits::Four).kind != Kind::Quads {
                return fill(to, &mut state);
            }
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) as i16
            };
            for row in to.bytes.chunks_exact_mut(stride(shape.cols)) {
                row[..shape.cols].fill_with(|| (next() / 256) as i8 & !15);
            }
            pair_sums(shape.cols, to.bytes, to.pairs).expect("sums");
            to.bytes = &mut [];
            to.pairs = &mut [];
            fill_rest(to, &mut next);
            Ok(())
        });
        let of = |file: &[Block]| read(file, &ids, |it| it.classes().expect("classes").to_vec());
        assert_eq!(of(&wide), of(&narrow));
        assert!(narrow.len() < wide.len());
        let model = Model::parse(Block::bytes(&narrow)).expect("a model");
        let kinds = model
            .tensors()
            .filter(|(shape, _)| shape.kind == Kind::Quads);
        assert_eq!(kinds.count(), quads);
    }
}

#[test]
fn tags_and_spans_are_what_classes_are_of_a_token() {
    let ids: Vec<u32> = (3..40).collect();
    // The same numbers lie in all of these files: their tensors are the same.
    let of = |output, pooling| file(&encoder(output, pooling));
    let classes = read(&of(Output::Classes(2), Pooling::First), &ids, |encoder| {
        assert!(encoder.tags().is_err() && encoder.span_logits().is_err());
        encoder.classes().expect("classes").to_vec()
    });
    let tags = read(&of(Output::Tags(2), Pooling::None), &ids, |encoder| {
        assert!(encoder.classes().is_err() && encoder.span_logits().is_err());
        encoder.tags().expect("tags").to_vec()
    });
    assert_eq!(tags.len(), 2 * ids.len());
    assert_eq!(tags[..2], classes[..]);
    assert!(tags.chunks(2).any(|tags| tags != classes));
    read(&of(Output::Span, Pooling::None), &ids, |encoder| {
        assert_eq!(encoder.span_logits().expect("spans"), tags);
        let best = encoder.span(2..30, 4).expect("spans").expect("a span");
        let score = |first: usize, last: usize| tags[2 * first] + tags[2 * last + 1];
        let all =
            (2..30).flat_map(|first| (first..30.min(first + 4)).map(move |last| (first, last)));
        let most = all.map(|(first, last)| score(first, last)).max();
        assert_eq!(Some(score(best.start, best.end - 1)), most);
        assert!(best.start >= 2 && best.end <= 30 && best.len() <= 4);
        assert_eq!(encoder.span(9..9, 4).expect("spans"), None);
    });
}

#[test]
fn a_mean_of_equal_tokens_is_one_of_them() {
    // Without positions, and every token the same, all tokens stay the same.
    let config = |pooling| Config {
        position: Position::None,
        ..encoder(Output::Classes(5), pooling)
    };
    let of = |pooling| {
        read(&file(&config(pooling)), &[7; 16], |encoder| {
            encoder.classes().expect("classes").to_vec()
        })
    };
    assert_eq!(of(Pooling::First), of(Pooling::Mean));
}

#[test]
fn sessions_go_on_as_they_were_begun() {
    let blocks = file(&DECODER);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = Options::new(90);
    let bytes = model.session_bytes(&options);
    let mut memory = vec![Block::ZERO; Block::len_for(bytes)];
    let memory = Block::bytes_mut(&mut memory);
    assert!(Session::new(&model, &options, &mut memory[..bytes - 1], Backend::SCALAR).is_err());
    let mut session = Session::new(&model, &options, memory, Backend::detect()).expect("a session");
    let mut sampler = Sampler::new(SamplerOptions::GREEDY);
    assert_eq!(session.draw(&mut sampler), Err(SessionError::NoPrompt));
    let finish = |session: &mut Session<'_>| {
        while session.advance(3000).expect("a piece") == Progress::Busy {}
        session.logits().expect("logits").to_vec()
    };
    session
        .prompt("All at once: a text of more than one tile of keys, of which there are sixty-four")
        .expect("room");
    let wanted = finish(&mut session);
    // In parts, with work in between.
    session.reset();
    session
        .prompt("All at once: a text of more than one")
        .expect("room");
    assert_eq!(session.advance(100), Ok(Progress::Busy));
    session
        .prompt(" tile of keys, of which there are")
        .expect("room");
    finish(&mut session);
    session.prompt(" sixty-four").expect("room");
    assert_eq!(finish(&mut session), wanted);
    // Back to where it was.
    let len = session.tokens().len();
    let drawn = session
        .draw(&mut sampler)
        .expect("a token")
        .expect("no end");
    let best = (0..256).max_by_key(|&id| (wanted[id], 255 - id));
    assert_eq!(Some(drawn as usize), best);
    assert_eq!(
        session.logits(),
        Some(&wanted[..]),
        "those that it drew from"
    );
    session.draw(&mut sampler).expect("a token");
    assert_ne!(session.logits(), Some(&wanted[..]));
    session.truncate(len);
    assert_eq!(finish(&mut session), wanted);
    // What cannot be leaves everything as it was.
    let full = session.prompt("too much of a text, by far");
    assert!(matches!(full, Err(SessionError::ContextFull { .. })));
    let unknown = session.prompt_tokens(&[1, 256]);
    assert!(matches!(
        unknown,
        Err(SessionError::Token { have: 256, .. })
    ));
    assert_eq!(session.tokens().len(), len);
    assert_eq!(session.read("no source"), Err(SessionError::Family));
    assert!(Session::new(&model, &Options::new(101), &mut [], Backend::SCALAR).is_err());
}

/// A program that links what one model needs has its bits, and refuses the rest.
#[test]
fn what_is_not_linked_is_refused() {
    struct Least;
    impl Fit for Least {
        const NEEDS: Needs = {
            static FILE: Aligned<[u8; include_bytes!("../models/austen-1m-integer.attn").len()]> =
                Aligned(*include_bytes!("../models/austen-1m-integer.attn"));
            match Model::parse(&FILE.0) {
                Ok(model) => model.needs(&Options::new(8)),
                Err(_) => panic!(),
            }
        };
    }
    let open = |config: &Config, bits, options: &Options| {
        let model = leaked(file_of(config, bits));
        let memory = vec![Block::ZERO; Block::len_for(model.session_bytes(options))].leak();
        let memory = Block::bytes_mut(memory);
        Session::<Least>::fitted(model, options, memory, Backend::detect())
    };
    let config = Config {
        ffn: Ffn::SwiGlu,
        ..DECODER
    };
    let mut session = open(&config, Bits::Eight, &Options::new(80)).expect("what is linked");
    let mut other = session_of(leaked(file(&config)), &Options::new(80));
    session.prompt_tokens(&[1, 2, 3, 4, 5, 6]).expect("room");
    other.prompt_tokens(&[1, 2, 3, 4, 5, 6]).expect("room");
    while session.advance(3000).expect("a piece") == Progress::Busy {}
    assert_eq!(session.logits(), Some(&*logits(&mut other)));
    let watched = session.watch(&mut [0.0; 80], |_| {});
    assert_eq!(watched, Err(SessionError::NotLinked));

    let refused = |config: &Config, bits, options: &Options| {
        assert!(matches!(
            open(config, bits, options),
            Err(SessionError::NotLinked)
        ));
    };
    let eight = Bits::Eight;
    refused(&config, eight, &Options::new(80).with_kv(Bits::Four));
    let ring = Options::new(80).with_when_full(WhenFull::Ring);
    refused(&config, eight, &ring);
    refused(&config, Bits::Four, &Options::new(80));
    refused(&DECODER, eight, &Options::new(80));
    for position in [
        Position::Learned,
        Position::Rotary {
            style: RotaryStyle::Interleaved,
            base: 10_000.0,
        },
    ] {
        let config = Config { position, ..config };
        refused(&config, eight, &Options::new(80));
    }
    let model = leaked(file(&encoder(Output::Classes(5), Pooling::Mean)));
    let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(8))];
    let memory = Block::bytes_mut(&mut memory);
    let refused = Encoder::<Least>::fitted(model, 8, memory, Backend::SCALAR);
    assert!(matches!(refused, Err(SessionError::NotLinked)));
}

/// A text that a draw has ended is not penalised again by the next.
#[test]
fn an_end_is_drawn_twice() {
    let sampler = || {
        Sampler::new(SamplerOptions {
            repetition_penalty_thousandths: 1300,
            ..SamplerOptions::GREEDY
        })
    };
    let mut session = session_of(leaked(file(&DECODER)), &Options::new(20));
    session.prompt_tokens(&[9, 8, 7]).expect("room");
    let end = session.draw(&mut sampler()).expect("a token");
    let drawn_from = session.logits().expect("logits").to_vec();
    let config = Config {
        end_of_text: end,
        ..DECODER
    };
    let mut session = session_of(leaked(file(&config)), &Options::new(20));
    session.prompt_tokens(&[9, 8, 7]).expect("room");
    for _ in 0..2 {
        assert_eq!(session.draw(&mut sampler()), Ok(None));
        assert_eq!(session.logits(), Some(&*drawn_from));
    }
}

#[test]
fn what_the_profile_has_not_is_named() {
    let field = |config: Config| match attentive::integer::check(&config) {
        Err(ConfigError::Integer { field }) => field,
        other => panic!("{other:?}"),
    };
    let post = NormPlace::Post;
    assert_eq!(
        field(Config {
            norm_place: post,
            ..DECODER
        }),
        "norm_place"
    );
    assert_eq!(
        field(Config {
            final_norm: false,
            ..DECODER
        }),
        "final_norm"
    );
    let attention = Attention {
        soft_cap: Some(30.0),
        ..Attention::PLAIN
    };
    assert_eq!(
        field(Config {
            attention,
            ..DECODER
        }),
        "soft_cap"
    );
    let sinks = Attention {
        sinks: true,
        ..Attention::PLAIN
    };
    assert_eq!(
        field(Config {
            attention: sinks,
            ..DECODER
        }),
        "sinks"
    );
    assert_eq!(field(encoder(Output::Hidden, Pooling::None)), "output");
    assert_eq!(attentive::integer::check(&DECODER), Ok(()));
}

#[test]
fn each_profile_refuses_the_others_files() {
    let blocks = file(&DECODER);
    let bytes = Block::bytes(&blocks);
    let other = attentive::Model::parse(bytes).map(|_| ());
    assert_eq!(other, Err(WeightsError::Profile { integer: true }));
    let float = std::fs::read("models/digits-int8.attn").expect("a file");
    let other = Model::parse(&float).map(|_| ());
    assert_eq!(other, Err(WeightsError::Profile { integer: false }));
}

/// A prompt goes in batches of tokens, with windows that begin at another key for each, as well as token by token.
#[test]
fn a_batch_of_tokens_is_its_tokens() {
    let window = Window {
        len: 21,
        keep: 0,
        full_every: 2,
    };
    for window in [None, Some(window)] {
        let attention = Attention {
            window,
            ..Attention::PLAIN
        };
        let blocks = file(&Config {
            attention,
            ..DECODER
        });
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        let options = Options::new(100);
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
        for backend in Backend::available() {
            let memory = Block::bytes_mut(&mut memory);
            let mut session = Session::new(&model, &options, memory, backend).expect("a session");
            let ids: Vec<u32> = (0..100).map(|i| i * 7 % 256).collect();
            let run = |session: &mut Session<'_>| {
                while session.advance(500).expect("a piece") == Progress::Busy {}
                session.logits().expect("logits").to_vec()
            };
            let mut one_by_one = Vec::new();
            for id in &ids {
                session.prompt_tokens(&[*id]).expect("room");
                one_by_one.push(run(&mut session));
            }
            for len in [2, 3, 4, 5, 21, 23, 64, 66, 99, 100] {
                session.reset();
                session.prompt_tokens(&ids[..len]).expect("room");
                assert_eq!(run(&mut session), one_by_one[len - 1], "{len}");
            }
        }
    }
}

/// A session on memory of its own, which is never given back.
fn session_of(model: &'static Model<'static>, options: &Options) -> Session<'static> {
    let memory = vec![Block::ZERO; Block::len_for(model.session_bytes(options))].leak();
    Session::new(model, options, Block::bytes_mut(memory), Backend::detect()).expect("a session")
}

fn leaked(blocks: Vec<Block>) -> &'static Model<'static> {
    let model = Model::parse(Block::bytes(blocks.leak())).expect("a model");
    Box::leak(Box::new(model))
}

fn logits(session: &mut Session<'_>) -> Vec<i32> {
    while session.advance(5000).expect("a piece") == Progress::Busy {}
    session.logits().expect("logits").to_vec()
}

/// Layers of which some see the last `len` keys alone.
fn windowed(len: usize, full_every: usize) -> Config {
    let window = Window {
        len,
        keep: 0,
        full_every,
    };
    Config {
        attention: Attention {
            window: Some(window),
            ..Attention::PLAIN
        },
        ..DECODER
    }
}

/// A ring gives what endless memory and a window give, however far it turns and however its text is cut.
#[test]
fn a_ring_is_a_window_without_end() {
    let model = leaked(file(&DECODER));
    let ids: Vec<u32> = (0..300).map(|i| i * 7 % 251).collect();
    for len in [1, 4, 61, 64, 70, 128] {
        let endless = leaked(file(&windowed(len, 0)));
        let mut wanted = session_of(endless, &Options::new(ids.len()));
        let wanted: Vec<Vec<i32>> = (ids.iter())
            .map(|id| {
                wanted.prompt_tokens(&[*id]).expect("room");
                logits(&mut wanted)
            })
            .collect();
        let options = Options::new(len).with_when_full(WhenFull::Ring);
        let mut ring = session_of(model, &options);
        for piece in [1, 3, 7, 64] {
            ring.reset();
            for piece in ids.chunks(piece.min(len)) {
                ring.prompt_tokens(piece).expect("room");
                let have = logits(&mut ring);
                let run = ring.position();
                assert!(have == wanted[run - 1], "{len}: {run}");
                let newest = run.saturating_sub(len);
                assert_eq!(ring.tokens(), &ids[newest..run]);
            }
            // Some tokens back: the cache has places for three more than a token sees.
            let back = ids.len() - 3.min(len - 1);
            ring.truncate(ring.tokens().len() - 3.min(len - 1));
            assert!(logits(&mut ring) == wanted[back - 1], "{len}");
            let mut snapshot = vec![0; ring.snapshot_len()];
            assert!(snapshot.len() <= model.snapshot_bytes(&options, ids.len(), 0));
            ring.snapshot(&mut snapshot).expect("room");
            let mut other = session_of(model, &options);
            other.restore(&snapshot).expect("a snapshot");
            for session in [&mut ring, &mut other] {
                session.prompt_tokens(&ids[back..]).expect("room");
                assert!(logits(session) == wanted[ids.len() - 1], "{len}");
            }
            // A text that does not fit leaves the ring where it was.
            let mut other = session_of(model, &options);
            other.restore(&snapshot).expect("a snapshot");
            let long = "a".repeat(len);
            let refused = other.prompt(&long);
            assert_eq!(
                refused,
                Err(SessionError::ContextFull {
                    need: len + 1,
                    have: len
                })
            );
            other.prompt_tokens(&ids[back..back]).expect("nothing");
            assert!(logits(&mut other) == wanted[back - 1], "{len}");
        }
    }
    let table = Config {
        position: Position::Sinusoidal,
        ..DECODER
    };
    let table = leaked(file(&table));
    let options = Options::new(10).with_when_full(WhenFull::Ring);
    let mut memory = vec![Block::ZERO; Block::len_for(table.session_bytes(&options))];
    let refused = Session::new(
        table,
        &options,
        Block::bytes_mut(&mut memory),
        Backend::SCALAR,
    );
    assert!(matches!(
        refused,
        Err(SessionError::RingNeedsRelativePositions)
    ));
    // And a snapshot of one cache is not for another.
    let mut snapshot = vec![0; 100_000];
    let mut full = session_of(model, &Options::new(10));
    full.prompt_tokens(&[1, 2]).expect("room");
    full.snapshot(&mut snapshot).expect("room");
    let refused = session_of(model, &options).restore(&snapshot);
    assert_eq!(refused, Err(SessionError::Snapshot(SnapshotFault::Cache)));
}

/// Where all values are multiples of 16, and keys of 8 within ±56, a cache of four bits is one of eight.
#[test]
fn keys_and_values_of_four_bits_are_rounded_ones() {
    let config = Config {
        position: Position::None,
        ..windowed(100, 2)
    };
    let mut state = 1;
    let blocks = file_with(&config, Bits::Eight, |to| {
        let shape = to.shape;
        if shape.role == Role::AttnNormGain {
            // Within ±√40.
            to.halves.fill(64);
            to.half_biases.fill(0);
            return Ok(());
        }
        if shape.role != Role::QkvWeight {
            return fill(to, &mut state);
        }
        let rows = to.bytes.chunks_exact_mut(stride(shape.cols));
        for (index, row) in rows.enumerate() {
            row.fill(0);
            row[index * 3 % shape.cols] = 127;
        }
        pair_sums(shape.cols, to.bytes, to.pairs).expect("sums");
        // 16 / 127, and half of it for the keys behind the queries of three heads.
        to.multipliers.fill(541_098_892);
        to.multipliers[24..32].fill(270_549_446);
        to.biases.fill(0);
        Ok(())
    });
    let model = leaked(blocks);
    let ids: Vec<u32> = (0..200).map(|i| i * i % 251).collect();
    let mut sizes = Vec::new();
    for when_full in [WhenFull::Error, WhenFull::Ring] {
        let of = |bits| {
            let options = Options::new(200).with_when_full(when_full).with_kv(bits);
            (session_of(model, &options), options)
        };
        let ((mut eight, _), (mut four, options)) = (of(Bits::Eight), of(Bits::Four));
        sizes.push(
            eight
                .model()
                .session_bytes(&Options::new(200).with_when_full(when_full)),
        );
        sizes.push(model.session_bytes(&options));
        for id in &ids {
            for session in [&mut eight, &mut four] {
                session.prompt_tokens(&[*id]).expect("room");
            }
            assert!(logits(&mut eight) == logits(&mut four));
        }
        let len = model.snapshot_bytes(&options, 150, 0);
        four.truncate(150);
        logits(&mut four);
        let mut snapshot = vec![0; four.snapshot_len()];
        assert_eq!(snapshot.len(), len);
        four.snapshot(&mut snapshot).expect("room");
        let (mut other, _) = of(Bits::Four);
        other.restore(&snapshot).expect("a snapshot");
        other.prompt_tokens(&ids[150..]).expect("room");
        assert!(logits(&mut other) == logits(&mut eight));
        let refused = of(Bits::Eight).0.restore(&snapshot);
        assert_eq!(refused, Err(SessionError::Snapshot(SnapshotFault::Cache)));
    }
    // Half of the keys and values, and a tile of a head.
    assert_eq!(sizes[0] - sizes[1], 2 * 200 * 8 - 2 * 64 * 8);
}

/// A text goes on from a snapshot as it would have; what is no whole snapshot of this model changes nothing.
#[test]
fn a_snapshot_is_where_it_was_taken() {
    let blocks = file(&DECODER);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let room = |model: &Model<'_>, options: &Options| {
        vec![Block::ZERO; Block::len_for(model.session_bytes(options))]
    };
    let options = Options::new(100);
    let mut memory = room(&model, &options);
    let memory = Block::bytes_mut(&mut memory);
    let mut session = Session::new(&model, &options, memory, Backend::detect()).expect("a session");
    let finish = |session: &mut Session<'_>| {
        while session.advance(3000).expect("a piece") == Progress::Busy {}
        session.logits().expect("logits").to_vec()
    };
    for len in [1, 5, 64, 77] {
        let ids: Vec<u32> = (0..90).map(|i| i * 11 % 256).collect();
        session.reset();
        session.prompt_tokens(&ids[..len]).expect("room");
        let first = finish(&mut session);
        let mut snapshot = vec![0; model.snapshot_bytes(&options, len, 0) + 9];
        let written = session.snapshot(&mut snapshot).expect("room");
        assert_eq!(written, model.snapshot_bytes(&options, len, 0));
        assert_eq!(written, session.snapshot_len());
        let short = session.snapshot(&mut [0; 40]);
        assert!(matches!(short, Err(SessionError::Memory { have: 40, .. })));
        session.prompt_tokens(&ids[len..]).expect("room");
        let wanted = finish(&mut session);

        // In another session, of another length, in the middle of something else; what is behind is not read.
        let options = Options::new(95);
        let mut memory = room(&model, &options);
        let memory = Block::bytes_mut(&mut memory);
        let mut other = Session::new(&model, &options, memory, Backend::SCALAR).expect("a session");
        other.prompt_tokens(&[3; 80]).expect("room");
        assert_eq!(other.advance(100), Ok(Progress::Busy));
        other.restore(&snapshot).expect("a snapshot");
        assert_eq!(other.tokens(), &ids[..len]);
        assert_eq!(finish(&mut other), first);
        other.prompt_tokens(&ids[len..]).expect("room");
        assert_eq!(finish(&mut other), wanted);

        let tokens = other.tokens().to_vec();
        for torn in (0..written).step_by(97) {
            let refused = other.restore(&snapshot[..torn]);
            assert!(matches!(
                refused,
                Err(SessionError::Snapshot(SnapshotFault::Torn { .. }))
            ));
        }
        for at in (0..written).step_by(61) {
            let mut changed = snapshot.clone();
            changed[at] ^= 4;
            assert!(
                matches!(other.restore(&changed), Err(SessionError::Snapshot(_))),
                "{at}"
            );
        }
        assert_eq!((other.tokens(), other.logits()), (&*tokens, Some(&*wanted)));
    }
    // Another model's, and a longer text than there is room for.
    let mut snapshot = vec![0; session.snapshot_len()];
    session.snapshot(&mut snapshot).expect("room");
    let blocks = file(&Config {
        tied: false,
        ..DECODER
    });
    let other = Model::parse(Block::bytes(&blocks)).expect("a model");
    let mut memory = room(&other, &options);
    let memory = Block::bytes_mut(&mut memory);
    let mut other = Session::new(&other, &options, memory, Backend::SCALAR).expect("a session");
    let refused = Err(SessionError::Snapshot(SnapshotFault::Model));
    assert_eq!(other.restore(&snapshot), refused);
    let options = Options::new(60);
    let mut memory = room(&model, &options);
    let memory = Block::bytes_mut(&mut memory);
    let mut other = Session::new(&model, &options, memory, Backend::SCALAR).expect("a session");
    let refused = Err(SessionError::ContextFull { need: 90, have: 60 });
    assert_eq!(other.restore(&snapshot), refused);
}

/// Whatever the numbers in it are, a file that parses runs to its end.
#[test]
fn hostile_numbers_are_harmless() {
    let blocks = file(&DECODER);
    let mut file = blocks;
    let tensors_at = 192
        + 32 * Model::parse(Block::bytes(&file))
            .expect("a model")
            .tensors()
            .count();
    for pattern in [0x00, 0x7f, 0x80, 0xff] {
        Block::bytes_mut(&mut file)[tensors_at + 128..].fill(pattern);
        let model = Model::parse(Block::bytes(&file)).expect("its header is right");
        assert!(model.verify().is_err());
        let options = Options::new(80);
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
        for backend in Backend::available() {
            let memory = Block::bytes_mut(&mut memory);
            let mut session = Session::new(&model, &options, memory, backend).expect("a session");
            session.prompt_tokens(&[1; 70]).expect("room");
            while session.advance(u32::MAX).expect("a piece") == Progress::Busy {}
            assert!(session.logits().is_some());
        }
    }
}
