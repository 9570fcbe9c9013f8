//! Sessions: against a naive f64 decoder, batched against one by one, and at the edges of the context.

mod common;
#[path = "encoder/mod.rs"]
mod encoder;
#[path = "search/mod.rs"]
mod search;
#[path = "translator/mod.rs"]
mod translator;
#[path = "watch/mod.rs"]
mod watch;

use attentive::kernels::Backend;
use attentive::kernels::layout::{KvDtype, WeightFormat};
use attentive::pack::TokenizerParts;
use attentive::{
    Block, Config, Model, Role, Sampler, SamplerOptions, Session, SessionError, SessionOptions,
    TensorShape, WhenFull, Window,
};

use common::{
    LLAMA, Random, Variant, pack_variant, pack_with, random_values, reference, variants, with,
};

fn random_ids(config: &Config, len: usize, seed: u64) -> Vec<u32> {
    let mut random = Random(seed);
    (0..len)
        .map(|_| random.below(config.vocab_len) as u32)
        .collect()
}

/// Logits after each token, by one call of `score`.
fn scores(
    model: &Model<'_>,
    options: &SessionOptions,
    backend: Backend,
    ids: &[u32],
) -> Vec<Vec<f32>> {
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(options))];
    let mut session =
        Session::new(model, options, Block::bytes_mut(&mut memory), backend).expect("a session");
    let mut all = Vec::new();
    session
        .score(ids, |index, logits| {
            assert_eq!(index, all.len());
            all.push(logits.to_vec());
        })
        .expect("scores");
    all
}

fn largest_error(got: &[Vec<f32>], want: &[Vec<f64>]) -> f64 {
    assert_eq!(got.len(), want.len());
    let pairs = || got.iter().flatten().zip(want.iter().flatten());
    let largest = pairs().map(|(_, w)| w.abs()).fold(0.0, f64::max);
    pairs()
        .map(|(g, w)| (f64::from(*g) - w).abs())
        .fold(0.0, f64::max)
        / largest
}

#[test]
fn every_variant_equals_the_oracle() {
    for Variant { name, config } in variants() {
        let ids = random_ids(&config, 37, 3);
        let weights = |role, layer: Option<usize>| -> Vec<f64> {
            let index = config.tensor_index(role, layer).expect("a tensor");
            let shape: TensorShape = config.tensor(index).expect("a shape");
            random_values(&shape, 5)
                .into_iter()
                .map(f64::from)
                .collect()
        };
        let want = reference::logits(&config, &weights, &ids);
        for (format, bound) in [(WeightFormat::F32, 2e-5), (WeightFormat::F16, 2e-2)] {
            let blocks = pack_variant(&config, format, 5);
            let model = Model::parse(Block::bytes(&blocks)).expect("a model");
            for backend in Backend::available() {
                for prefill_len in [1, 5, 37] {
                    let options = SessionOptions::new(37).with_prefill_len(prefill_len);
                    let got = scores(&model, &options, backend, &ids);
                    let error = largest_error(&got, &want);
                    assert!(
                        error < bound,
                        "{name} {format:?} {} {prefill_len}: {error}",
                        backend.name()
                    );
                }
            }
        }
    }
}

#[test]
fn rounded_caches_and_weights_stay_close() {
    let ids = random_ids(&LLAMA, 40, 4);
    let blocks = pack_variant(&LLAMA, WeightFormat::F32, 5);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let exact: Vec<Vec<f64>> = scores(&model, &SessionOptions::new(40), Backend::SCALAR, &ids)
        .into_iter()
        .map(|row| row.into_iter().map(f64::from).collect())
        .collect();
    for backend in Backend::available() {
        for (kv, bound) in [(KvDtype::F16, 2e-3), (KvDtype::I8, 3e-2)] {
            let got = scores(&model, &SessionOptions::new(40).with_kv(kv), backend, &ids);
            assert!(largest_error(&got, &exact) < bound, "{kv:?}");
        }
        for (format, bound) in [
            (WeightFormat::I8Row, 0.1),
            (WeightFormat::I8Group32, 0.1),
            (WeightFormat::I4Group32, 0.4),
            (WeightFormat::U4Group32, 0.4),
        ] {
            let blocks = pack_variant(&LLAMA, format, 5);
            let model = Model::parse(Block::bytes(&blocks)).expect("a model");
            let error = largest_error(
                &scores(&model, &SessionOptions::new(40), backend, &ids),
                &exact,
            );
            assert!(error < bound, "{format:?}: {error}");
        }
    }
}

/// The bits, not about the same: what a batch computes is what single steps compute.
#[test]
fn batches_of_any_size_give_the_same_bits() {
    for Variant { name, config } in variants() {
        let ids = random_ids(&config, 41, 8);
        for format in [
            WeightFormat::F32,
            WeightFormat::I8Row,
            WeightFormat::I4Group32,
            WeightFormat::U4Group32,
        ] {
            let blocks = pack_variant(&config, format, 2);
            let model = Model::parse(Block::bytes(&blocks)).expect("a model");
            for backend in Backend::available() {
                for kv in [KvDtype::F32, KvDtype::I8] {
                    let with = |prefill_len| {
                        let options = SessionOptions::new(48).with_kv(kv);
                        scores(
                            &model,
                            &options.with_prefill_len(prefill_len),
                            backend,
                            &ids,
                        )
                    };
                    let single = with(1);
                    for prefill_len in [2, 7, 16, 48] {
                        assert_eq!(
                            with(prefill_len),
                            single,
                            "{name} {format:?} {kv:?} {prefill_len}"
                        );
                    }
                }
            }
        }
    }
}

/// A batch may be smaller than the session's largest, and then need no more memory than it has.
#[test]
fn smaller_batches_have_room() {
    let config = Config {
        head_dim: 32,
        ..LLAMA
    };
    let blocks = pack_variant(&config, WeightFormat::F32, 2);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let ids = random_ids(&config, 24, 8);
    for kv in [KvDtype::F32, KvDtype::F16, KvDtype::I8] {
        for prefill_len in 1..=24 {
            let options = SessionOptions::new(256)
                .with_kv(kv)
                .with_prefill_len(prefill_len);
            let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
            let memory = Block::bytes_mut(&mut memory);
            let session = Session::new(&model, &options, memory, Backend::SCALAR);
            let mut session = session.expect("a session");
            for n in 1..=prefill_len {
                session.reset();
                let done = session.prompt_tokens(&ids[..n]);
                assert_eq!(done, Ok(()), "{kv:?} {prefill_len} {n}");
            }
        }
    }
}

#[test]
fn prompt_and_step_are_score() {
    let blocks = pack_variant(&LLAMA, WeightFormat::I8Row, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = SessionOptions::new(48);
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let mut session = Session::new(
        &model,
        &options,
        Block::bytes_mut(&mut memory),
        Backend::SCALAR,
    )
    .expect("a session");
    let mut sampler = Sampler::new(SamplerOptions::GREEDY);
    assert_eq!(session.step(&mut sampler), Err(SessionError::NoPrompt));
    session.prompt("a prompt of ").expect("room");
    let mut text = Vec::from(b"a prompt of ");
    for _ in 0..9 {
        // The token 256 ends a text and those above have no text.
        text.extend(
            session
                .step(&mut sampler)
                .expect("a token")
                .unwrap_or_default(),
        );
    }
    // A prompt in the middle runs the pending token first.
    session.prompt("more").expect("room");
    text.extend(b"more");
    session.step(&mut sampler).expect("a token");
    let ids = session.tokens().to_vec();
    let logits = session.logits().to_vec();
    assert_eq!(session.position(), ids.len() - 1);
    let all = scores(&model, &options, Backend::SCALAR, &ids);
    assert_eq!(all[ids.len() - 2], logits);
    for at in (12..21).chain([25]) {
        let best = all[at - 1].iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(
            all[at - 1][ids[at] as usize],
            best,
            "token {at} is not the likeliest"
        );
    }
    // Reset forgets everything.
    session.reset();
    assert_eq!((session.position(), session.tokens()), (0, &[][..]));
    session.prompt_tokens(&ids[..ids.len() - 1]).expect("room");
    assert_eq!(session.logits(), logits);
}

#[test]
fn a_full_context_is_an_error_that_changes_nothing() {
    let blocks = pack_variant(&LLAMA, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = SessionOptions::new(10);
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let mut session = Session::new(
        &model,
        &options,
        Block::bytes_mut(&mut memory),
        Backend::SCALAR,
    )
    .expect("a session");
    let full = |need| Err(SessionError::ContextFull { need, have: 10 });
    assert_eq!(session.prompt("eleven char"), full(11));
    assert_eq!(session.position(), 0);
    session.prompt("nine char").expect("room");
    let logits = session.logits().to_vec();
    let mut sampler = Sampler::new(SamplerOptions::GREEDY);
    session.step(&mut sampler).expect("room for one");
    assert_eq!(session.step(&mut sampler).map(|_| ()), full(11));
    assert_eq!(session.prompt("x"), full(11));
    assert_eq!(session.prompt_tokens(&[1]), full(11));
    assert_eq!((session.position(), session.tokens().len()), (9, 10));
    assert_eq!(session.logits(), logits);
    assert_eq!(
        session.prompt_tokens(&[300]),
        Err(SessionError::Token {
            vocab_len: 300,
            have: 300
        })
    );
}

/// After the ring has turned, a token sees itself and those before it that still have a place, as if the text began
/// there: without positions there is no difference at all, apart from the order of sums.
#[test]
fn a_ring_forgets_the_oldest() {
    let config = Config {
        position: attentive::Position::None,
        layers: 1,
        ..LLAMA
    };
    let blocks = pack_variant(&config, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let ids = random_ids(&config, 60, 5);
    let ring = SessionOptions::new(32).with_when_full(WhenFull::Ring);
    let long = SessionOptions::new(60);
    for backend in Backend::available() {
        for prefill_len in [1, 16, 32] {
            let turned = scores(&model, &ring.with_prefill_len(prefill_len), backend, &ids);
            for at in [0, 31, 32, 45, 59] {
                let seen = &ids[(at + 1usize).saturating_sub(32)..=at];
                let fresh: Vec<f64> = scores(&model, &long, backend, seen)
                    .pop()
                    .into_iter()
                    .flatten()
                    .map(f64::from)
                    .collect();
                let error = largest_error(&turned[at..=at], &[fresh]);
                assert!(
                    error < 1e-5,
                    "{} {prefill_len} {at}: {error}",
                    backend.name()
                );
            }
        }
    }
}

/// Where every layer has a window, what a ring forgets is what no token sees any more: endless memory gives the same,
/// with positions too, and the first keys of the text keep their places.
#[test]
fn a_ring_of_a_windows_keys_is_endless_memory() {
    for (len, keep) in [(9, 0), (9, 2), (16, 0), (14, 2), (31, 1), (1, 0)] {
        let config = with(
            Window {
                len,
                keep,
                full_every: 0,
            },
            Some(3.0),
            true,
        );
        let blocks = pack_variant(&config, WeightFormat::F32, 6);
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        // Several turns of the ring, and every place of a window in it.
        let ids = random_ids(&config, 90, 5);
        let ring = SessionOptions::new(len + keep).with_when_full(WhenFull::Ring);
        for backend in Backend::available() {
            for (kv, bound) in [
                (KvDtype::F32, 1e-5),
                (KvDtype::F16, 1e-4),
                (KvDtype::I8, 5e-2),
            ] {
                let long = SessionOptions::new(90).with_kv(kv);
                let want: Vec<Vec<f64>> = scores(&model, &long, backend, &ids)
                    .into_iter()
                    .map(|row| row.into_iter().map(f64::from).collect())
                    .collect();
                for prefill_len in [1, len + keep] {
                    let ring = ring.with_kv(kv).with_prefill_len(prefill_len);
                    let error = largest_error(&scores(&model, &ring, backend, &ids), &want);
                    let name = backend.name();
                    assert!(
                        error < bound,
                        "{name} {kv:?} {len} {keep} {prefill_len}: {error}"
                    );
                }
            }
        }
    }
}

/// A layer without a window sees in a ring that has turned the kept keys and the newest, all that there are.
#[test]
fn a_ring_keeps_the_first_tokens_for_full_layers_too() {
    let window = Window {
        len: 5,
        keep: 3,
        full_every: 2,
    };
    let config = Config {
        position: attentive::Position::None,
        ..with(window, None, false)
    };
    let values = |role, layer: Option<usize>| -> Vec<f64> {
        let index = config.tensor_index(role, layer).expect("a tensor");
        let shape: TensorShape = config.tensor(index).expect("a shape");
        let values = random_values(&shape, 5).into_iter().map(f64::from);
        values.collect()
    };
    let blocks = pack_variant(&config, WeightFormat::F32, 5);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let ids = random_ids(&config, 40, 5);
    let ring = SessionOptions::new(16).with_when_full(WhenFull::Ring);
    let got = scores(&model, &ring, Backend::SCALAR, &ids);
    // Until the ring turns nothing is forgotten.
    let want = reference::logits(&config, &values, &ids[..16]);
    assert!(largest_error(&got[..16], &want) < 2e-5);
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&ring))];
    let memory = Block::bytes_mut(&mut memory);
    let mut session = Session::new(&model, &ring, memory, Backend::SCALAR).expect("a session");
    session.prompt_tokens(&ids).expect("a ring has room");
    let kept = [&ids[..3], &ids[40 - 13..]].concat();
    assert_eq!(session.tokens(), kept);
    assert_eq!(session.logits(), got[39]);
    // What was forgotten has an influence through the layers below only; what is kept has one of its own.
    let changed = |at: usize| {
        let mut ids = ids.clone();
        ids[at] = (ids[at] + 1) % config.vocab_len as u32;
        let got = scores(&model, &ring, Backend::SCALAR, &ids);
        got[39] != session.logits()
    };
    assert!(changed(0) && changed(2) && changed(30));
}

#[test]
fn a_ring_never_ends() {
    let blocks = pack_variant(&LLAMA, WeightFormat::I8Row, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = SessionOptions::new(20)
        .with_when_full(WhenFull::Ring)
        .with_kv(KvDtype::I8);
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let mut session = Session::new(
        &model,
        &options,
        Block::bytes_mut(&mut memory),
        Backend::detect(),
    )
    .expect("a session");
    assert_eq!(session.context_len(), 32);
    let mut sampler = Sampler::new(SamplerOptions {
        seed: 3,
        ..SamplerOptions::DEFAULT
    });
    session
        .prompt(&"a text longer than the ring ".repeat(3))
        .expect("a ring has room");
    let mut drawn = Vec::new();
    for _ in 0..70 {
        session.step(&mut sampler).expect("a ring has room");
        drawn.extend(session.tokens().last());
    }
    assert_eq!(session.tokens(), &drawn[38..]);
    assert_eq!(session.position(), 84 + 69);
}

#[test]
fn memory_is_promised_to_the_byte() {
    for Variant { name, config } in variants() {
        let blocks = pack_variant(&config, WeightFormat::F32, 1);
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        for kv in [KvDtype::F32, KvDtype::F16, KvDtype::I8] {
            let options = SessionOptions::new(33).with_kv(kv).with_prefill_len(3);
            let need = model.session_bytes(&options);
            let mut memory = vec![Block::ZERO; Block::len_for(need)];
            let memory = Block::bytes_mut(&mut memory);
            assert_eq!(memory.len(), need, "{name}: a multiple of 64");
            let have = need - 1;
            let short = Session::new(&model, &options, &mut memory[..have], Backend::SCALAR);
            assert_eq!(short.map(|_| ()), Err(SessionError::Memory { need, have }));
            // What lay in memory before must not matter.
            memory.fill(0xff);
            let mut session =
                Session::new(&model, &options, memory, Backend::SCALAR).expect("a session");
            session.prompt_tokens(&[1, 2, 3, 4]).expect("room");
            assert!(
                session.logits().iter().all(|logit| logit.is_finite()),
                "{name} {kv:?}"
            );
        }
    }
}

#[test]
fn impossible_options_are_refused() {
    let gpt2 = &variants()[1].config;
    let blocks = pack_variant(gpt2, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let mut memory = vec![Block::ZERO; 4096];
    let mut refused = |options: SessionOptions| {
        assert_eq!(model.session_bytes(&options), usize::MAX);
        Session::new(
            &model,
            &options,
            Block::bytes_mut(&mut memory),
            Backend::SCALAR,
        )
        .expect_err("refused")
    };
    assert_eq!(
        refused(SessionOptions::new(49)),
        SessionError::ContextLen { most: 48, have: 49 }
    );
    assert_eq!(
        refused(SessionOptions::new(0)),
        SessionError::ContextLen { most: 48, have: 0 }
    );
    assert_eq!(
        refused(SessionOptions::new(8).with_prefill_len(9)),
        SessionError::PrefillLen { most: 8, have: 9 }
    );
    assert_eq!(
        refused(SessionOptions::new(8).with_when_full(WhenFull::Ring)),
        SessionError::RingNeedsRelativePositions
    );
    let keeping = with(
        Window {
            len: 20,
            keep: 16,
            full_every: 0,
        },
        None,
        false,
    );
    let ring = SessionOptions::new(16).with_when_full(WhenFull::Ring);
    let refusal = SessionError::RingKeeps { keep: 16, have: 16 };
    assert_eq!(ring.check(&keeping), Err(refusal));
    assert_eq!(SessionOptions::new(16).check(&keeping), Ok(()));
    let mut shifted = vec![Block::ZERO; 4096];
    let options = SessionOptions::new(8);
    let refused = Session::new(
        &model,
        &options,
        &mut Block::bytes_mut(&mut shifted)[8..],
        Backend::SCALAR,
    );
    assert_eq!(
        refused.map(|_| ()),
        Err(SessionError::Misaligned { offset: 8 })
    );
}

#[test]
fn a_model_that_asks_for_it_begins_with_its_token() {
    let config = Config {
        begin_of_text: Some(257),
        ..LLAMA
    };
    let blocks = pack_variant(&config, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = SessionOptions::new(16);
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let mut session = Session::new(
        &model,
        &options,
        Block::bytes_mut(&mut memory),
        Backend::SCALAR,
    )
    .expect("a session");
    session.prompt("ab").expect("room");
    session.prompt("c").expect("room");
    assert_eq!(session.tokens(), [257, 97, 98, 99]);
}

/// Weights that are no numbers are no reason to panic.
#[test]
fn weights_that_overflow_give_an_error() {
    let tokenizer = TokenizerParts::Bytes { offset: 0 };
    let blocks = pack_with(&LLAMA, WeightFormat::F32, tokenizer, |shape| {
        let mut values = random_values(shape, 1);
        // The packer refuses what is not finite, so the sums have to overflow.
        if matches!(shape.role, Role::UpWeight | Role::DownWeight) {
            values.iter_mut().for_each(|x| *x *= 1e37);
        }
        values
    });
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = SessionOptions::new(16);
    for backend in Backend::available() {
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
        let mut session = Session::new(&model, &options, Block::bytes_mut(&mut memory), backend)
            .expect("a session");
        for _ in 0..2 {
            session.prompt("ab").expect("room");
            let drawn = session.step(&mut Sampler::new(SamplerOptions::DEFAULT));
            assert_eq!(drawn, Err(SessionError::NoLogit), "{}", backend.name());
            session.reset();
        }
    }
}
