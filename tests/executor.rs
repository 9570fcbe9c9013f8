//! Passes cut into parts: the bits of one core, whoever runs the parts and in whatever order.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use attentive::kernels::Backend;
use attentive::kernels::layout::{KvDtype, WeightFormat};
use attentive::{
    Block, Executor, Model, Sampler, SamplerOptions, Sequential, Session, SessionError,
    SessionOptions, WhenFull,
};

use common::{LLAMA, Random, Variant, pack_variant, variants};

/// A thread for each second half. Everything is worth cutting.
struct Threads {
    width: usize,
    joins: AtomicUsize,
}

/// Runs the second half first.
struct Backwards {
    width: usize,
    joins: AtomicUsize,
}

impl Threads {
    fn new(width: usize) -> Self {
        let joins = AtomicUsize::new(0);
        Self { width, joins }
    }
}

impl Backwards {
    fn new(width: usize) -> Self {
        let joins = AtomicUsize::new(0);
        Self { width, joins }
    }
}

impl Executor for Threads {
    fn width(&self) -> usize {
        self.width
    }

    fn join<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        self.joins.fetch_add(1, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let b = scope.spawn(b);
            (a(), b.join().expect("no panic"))
        })
    }

    fn grain(&self) -> usize {
        1
    }
}

impl Executor for Backwards {
    fn width(&self) -> usize {
        self.width
    }

    fn join<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        self.joins.fetch_add(1, Ordering::Relaxed);
        let b = b();
        (a(), b)
    }

    fn grain(&self) -> usize {
        1
    }
}

fn random_ids(vocab_len: usize, len: usize) -> Vec<u32> {
    let mut random = Random(8);
    (0..len).map(|_| random.below(vocab_len) as u32).collect()
}

/// Bits of the logits after each token.
fn bits(
    model: &Model<'_>,
    options: &SessionOptions,
    backend: Backend,
    executor: impl Executor,
    ids: &[u32],
) -> Vec<Vec<u32>> {
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(options))];
    let memory = Block::bytes_mut(&mut memory);
    let session = Session::new(model, options, memory, backend).expect("a session");
    let mut session = session.with_executor(executor);
    let mut all = Vec::new();
    session
        .score(ids, |_, logits| {
            all.push(logits.iter().map(|logit| logit.to_bits()).collect());
        })
        .expect("scores");
    all
}

#[test]
fn parts_give_the_bits_of_the_whole() {
    for Variant { name, config } in variants() {
        let ids = random_ids(config.vocab_len, 23);
        for format in [
            WeightFormat::F32,
            WeightFormat::F16,
            WeightFormat::I8Row,
            WeightFormat::I8Group32,
            WeightFormat::I4Group32,
            WeightFormat::U4Group32,
        ] {
            let blocks = pack_variant(&config, format, 2);
            let model = Model::parse(Block::bytes(&blocks)).expect("a model");
            for backend in Backend::available() {
                for kv in [KvDtype::F32, KvDtype::F16, KvDtype::I8] {
                    let options = SessionOptions::new(24).with_kv(kv);
                    let one = options.with_prefill_len(1);
                    let want = bits(&model, &one, backend, Sequential, &ids);
                    for (prefill_len, parts) in
                        [(1, 2), (1, 3), (1, 5), (8, 2), (23, 2), (23, 3), (23, 5)]
                    {
                        let options = options.with_prefill_len(prefill_len).with_parts(parts);
                        let executor = Backwards::new(parts);
                        let got = bits(&model, &options, backend, &executor, &ids);
                        assert!(
                            got == want,
                            "{name} {format:?} {kv:?} {} {prefill_len} {parts}",
                            backend.name()
                        );
                        assert!(executor.joins.into_inner() > 0, "nothing was cut");
                    }
                }
            }
        }
    }
}

#[test]
fn threads_give_the_bits_of_one_core() {
    for Variant { name, config } in variants() {
        let ids = random_ids(config.vocab_len, 42);
        for format in [WeightFormat::F32, WeightFormat::I4Group32] {
            let blocks = pack_variant(&config, format, 2);
            let model = Model::parse(Block::bytes(&blocks)).expect("a model");
            let backend = Backend::detect();
            // The last two tokens are run alone.
            let options = SessionOptions::new(48).with_prefill_len(40);
            let want = bits(&model, &options, backend, Sequential, &ids);
            for width in [1, 2, 3, 5] {
                let executor = Threads::new(width);
                let options = options.with_parts(width);
                let got = bits(&model, &options, backend, &executor, &ids);
                assert!(got == want, "{name} {format:?} {width}");
                assert_eq!(executor.joins.into_inner() > 0, width > 1);
            }
        }
    }
}

#[cfg(feature = "rayon")]
#[test]
fn rayon_gives_the_bits_of_one_core() {
    use attentive::{Config, Rayon};

    // Wide enough to be worth cutting.
    let config = Config {
        vocab_len: 4000,
        dim: 256,
        hidden_dim: 768,
        head_dim: 64,
        ..LLAMA
    };
    let blocks = pack_variant(&config, WeightFormat::I8Row, 2);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let ids = random_ids(config.vocab_len, 42);
    let options = SessionOptions::new(48).with_prefill_len(40);
    let want = bits(&model, &options, Backend::detect(), Sequential, &ids);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .expect("threads");
    let options = options.with_parts(3);
    let got = bits(&model, &options, Backend::detect(), Rayon::new(&pool), &ids);
    assert!(got == want);
    let got = bits(&model, &options, Backend::detect(), Rayon::current(), &ids);
    assert!(got == want);
    let got = pool.install(|| bits(&model, &options, Backend::detect(), Rayon::current(), &ids));
    assert!(got == want);
    // Sessions that share a pool, some of them on its own threads, neither mix nor wait for each other without end.
    let executor = Rayon::new(&pool);
    let run = || bits(&model, &options, Backend::detect(), executor, &ids);
    std::thread::scope(|scope| {
        let outside = [(); 3].map(|()| scope.spawn(run));
        let inside = pool.broadcast(|_| run());
        let outside = outside.map(|thread| thread.join().expect("no panic"));
        assert!(inside.iter().chain(&outside).all(|got| *got == want));
    });
}

/// A ring that has turned runs tokens one by one, over every key there is.
#[test]
fn a_ring_turns_in_parts() {
    let blocks = pack_variant(&LLAMA, WeightFormat::I8Row, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let ids = random_ids(LLAMA.vocab_len, 70);
    let options = SessionOptions::new(32)
        .with_when_full(WhenFull::Ring)
        .with_kv(KvDtype::I8);
    for backend in Backend::available() {
        let want = bits(&model, &options, backend, Sequential, &ids);
        let options = options.with_parts(2);
        assert!(bits(&model, &options, backend, Threads::new(2), &ids) == want);
    }
}

#[test]
fn a_text_is_the_same_text() {
    let blocks = pack_variant(&LLAMA, WeightFormat::I8Group32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let write = |parts| {
        let options = SessionOptions::new(48).with_parts(parts);
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        let session = Session::new(&model, &options, memory, Backend::detect()).expect("a session");
        let mut session = session.with_executor(Backwards::new(parts));
        let mut sampler = Sampler::new(SamplerOptions::DEFAULT);
        session.prompt("a prompt of several parts").expect("room");
        for _ in 0..20 {
            session.step(&mut sampler).expect("a token");
        }
        session.tokens().to_vec()
    };
    assert_eq!(write(4), write(1));
}

/// Parts cost scratch memory and nothing else, and memory for one part is what it was without parts.
#[test]
fn parts_are_in_the_promised_memory() {
    let blocks = pack_variant(&LLAMA, WeightFormat::I8Row, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = SessionOptions::new(48).with_kv(KvDtype::I8);
    let need = |parts| model.session_bytes(&options.with_parts(parts));
    assert_eq!(need(1), model.session_bytes(&options));
    assert!(need(2) > need(1));
    assert_eq!(need(5) - need(3), need(9) - need(7));
    let options = options.with_parts(2);
    let mut memory = vec![Block::ZERO; Block::len_for(need(2))];
    let memory = &mut Block::bytes_mut(&mut memory)[..need(2) - 1];
    assert_eq!(
        Session::new(&model, &options, memory, Backend::SCALAR).map(|_| ()),
        Err(SessionError::Memory {
            need: need(2),
            have: need(2) - 1
        })
    );
    for have in [0, 257] {
        assert_eq!(need(have), usize::MAX);
        assert_eq!(
            options.with_parts(have).check(&LLAMA),
            Err(SessionError::Parts { most: 256, have })
        );
    }
}
