//! Weights that are embedded: good ones parse while compiling, bad ones do not compile and say why.

mod common;

use std::path::Path;

use attentive::kernels::Backend;
use attentive::kernels::layout::{KvDtype, WeightFormat};
use attentive::kernels::ops::attention::Precision;
use attentive::{
    Anything, Architecture, Arena, Block, Config, Encoder, EncoderOptions, Fit, Input, Model,
    Needs, Output, Pooling, Reading, Sequential, Session, SessionError, SessionOptions, Source,
    include_weights,
};
use common::{LLAMA, pack_bpe_variant, pack_unigram_full, pack_variant, pack_word_piece};

static MODEL: Model<'static> = include_weights!("ui/tiny.attn");
const OPTIONS: SessionOptions = SessionOptions::new(16);
static ARENA: Arena<{ MODEL.session_bytes(&OPTIONS) }> = Arena::new();

#[test]
fn embedded_weights_run_from_static_memory() {
    let memory = ARENA.take().expect("first");
    assert_eq!(memory.len(), MODEL.session_bytes(&OPTIONS));
    let mut session = Session::new(&MODEL, &OPTIONS, memory, Backend::BASELINE).expect("a session");
    session.prompt("to").expect("room");
    assert!(session.logits().iter().all(|logit| logit.is_finite()));
    assert!(ARENA.take().is_err());
}

static AUSTEN: Model<'static> = include_weights!("../models/austen-1m-int8.attn");
const BYTES: SessionOptions = SessionOptions::new(32).with_kv(KvDtype::I8);
const FLOATS: SessionOptions = SessionOptions::new(32);

/// One model with one kind of cache.
struct Austen;

impl Fit for Austen {
    const NEEDS: Needs = AUSTEN.needs(&BYTES);
}

/// Two models, two kinds of caches.
struct Both;

impl Fit for Both {
    const NEEDS: Needs = AUSTEN.needs(&BYTES).and(MODEL.needs(&FLOATS));
}

/// A session that fits computes the bits of one that takes anything; one that does not fit is refused before it begins.
#[test]
fn what_is_not_linked_is_refused() {
    fn open<F: Fit>(
        model: &'static Model<'static>,
        options: &SessionOptions,
    ) -> Result<Vec<f32>, SessionError> {
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(options))];
        let memory = Block::bytes_mut(&mut memory);
        let session = Session::<Sequential, F>::fitted(model, options, memory, Backend::SCALAR);
        let mut session = session?;
        session.prompt("to")?;
        Ok(session.logits().to_vec())
    }
    let all = |model: &'static Model<'static>, options: &SessionOptions| {
        open::<Anything>(model, options).expect("anything fits")
    };
    assert_eq!(
        open::<Austen>(&AUSTEN, &BYTES),
        Ok(all(&AUSTEN, &BYTES)),
        "the same bits"
    );
    let accurate = BYTES.with_precision(Precision::Accurate);
    let halves = BYTES.with_kv(KvDtype::F16);
    for options in [FLOATS, accurate, halves] {
        all(&AUSTEN, &options);
        assert_eq!(
            open::<Austen>(&AUSTEN, &options),
            Err(SessionError::NotLinked)
        );
    }
    // Its matrices have another format.
    assert_eq!(open::<Austen>(&MODEL, &BYTES), Err(SessionError::NotLinked));
    for (model, options) in [(&AUSTEN, BYTES), (&MODEL, FLOATS), (&AUSTEN, FLOATS)] {
        assert_eq!(open::<Both>(model, &options), Ok(all(model, &options)));
    }
    assert_eq!(open::<Both>(&MODEL, &halves), Err(SessionError::NotLinked));
}

/// Models that are the embedded decoder's kind but for their family.
#[test]
fn families_that_are_not_linked_are_refused() {
    let reading = Reading {
        types: 0,
        embedding_norm: false,
        pooling: Pooling::Mean,
        pooler: false,
        output: Output::Embedding { unit: true },
        patch: 0,
    };
    let source = Source {
        layers: 1,
        len: 48,
        position: LLAMA.position,
        input: Input::Tokens,
    };
    let pack = |architecture| {
        let config = Config {
            architecture,
            ..LLAMA
        };
        pack_variant(&config, WeightFormat::I8Row, 1)
    };
    let fits = |blocks: &[Block]| {
        let model = Model::parse(Block::bytes(blocks)).expect("a model");
        let mut memory = vec![Block::ZERO; 1 << 12];
        let memory = Block::bytes_mut(&mut memory);
        match model.config().reading() {
            Some(_) => {
                let options = EncoderOptions::new(16).with_kv(KvDtype::I8);
                let encoder = Encoder::<Sequential, Austen>::fitted(
                    &model,
                    &options,
                    memory,
                    Backend::SCALAR,
                );
                encoder.err()
            }
            None => {
                let source_len = 16 * usize::from(model.config().source().is_some());
                let options = BYTES.with_source_len(source_len);
                let session = Session::<Sequential, Austen>::fitted(
                    &model,
                    &options,
                    memory,
                    Backend::SCALAR,
                );
                session.err()
            }
        }
    };
    assert_eq!(fits(&pack(Architecture::Decoder)), None);
    for architecture in [
        Architecture::Encoder(reading),
        Architecture::EncoderDecoder(source),
    ] {
        assert_eq!(fits(&pack(architecture)), Some(SessionError::NotLinked));
    }
}

#[test]
fn bad_weights_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

/// The committed files are what today's packer writes, so the format cannot change unnoticed.
///
/// `ATTENTIVE_BLESS=1` writes them anew.
#[test]
fn the_format_has_not_changed() {
    let config = Config {
        vocab_len: 267,
        dim: 8,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        hidden_dim: 8,
        ..LLAMA
    };
    let blocks = pack_bpe_variant(&config, WeightFormat::I4Group32, 1);
    let tiny = Block::bytes(&blocks);
    let mut damaged = tiny.to_vec();
    damaged[100] ^= 1;
    let word_piece = pack_word_piece(&config, WeightFormat::I4Group32, 1);
    let unigram = pack_unigram_full(&config);
    let files: [(&str, &[u8]); 6] = [
        ("tiny.attn", tiny),
        ("wordpiece.attn", Block::bytes(&word_piece)),
        ("unigram.attn", Block::bytes(&unigram)),
        ("truncated.attn", &tiny[..tiny.len() - 64]),
        ("damaged.attn", &damaged),
        ("not_weights.attn", &[b'#'; 256]),
    ];
    for (name, content) in files {
        let path = Path::new("tests/ui").join(name);
        if std::env::var_os("ATTENTIVE_BLESS").is_some() {
            std::fs::write(&path, content).expect("written");
        }
        let committed = std::fs::read(&path).expect("a committed file");
        assert!(committed == content, "{name} is not what the packer writes");
    }
}
