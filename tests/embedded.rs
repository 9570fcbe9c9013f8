//! Weights that are embedded: good ones parse while compiling, bad ones do not compile and say why.

mod common;

use std::path::Path;

use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::{Arena, Block, Config, Model, Session, SessionOptions, include_weights};
use common::{LLAMA, pack_bpe_variant, pack_unigram_full, pack_word_piece};

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
