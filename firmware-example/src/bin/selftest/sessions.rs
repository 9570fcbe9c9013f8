//! Sessions on the model in flash.

use attentive::kernels::Backend;
use attentive::kernels::layout::KvDtype;
use attentive::tokenizer::ENCODE_SCRATCH_LEN;
use attentive::{Sampler, SamplerOptions, Session, SessionError, SessionOptions, WhenFull};
use firmware_example::MODEL;
use firmware_example::request::{self, LogitsHash};

use crate::{Bench, Fault, ensure};

/// Small enough for the arena with any element type of the cache.
const SMALL: SessionOptions = SessionOptions::new(32).with_prefill_len(8);

/// Options, and what kind of cache they are.
const CACHES: [KvDtype; 4] = [KvDtype::F32, KvDtype::F16, KvDtype::BF16, KvDtype::I8];

fn open<'m>(options: &SessionOptions, memory: &'m mut [u8]) -> Result<Session<'m>, SessionError> {
    Session::new(&MODEL, options, memory, Backend::BASELINE)
}

/// Tokens that look random.
fn ids<const N: usize>() -> [u32; N] {
    let vocab_len = MODEL.config().vocab_len as u32;
    core::array::from_fn(|index| (index as u32).wrapping_mul(2_654_435_761) % vocab_len)
}

fn hash(session: &Session<'_>) -> u64 {
    let mut hash = LogitsHash::EMPTY;
    hash.add(session.logits());
    hash.0
}

pub(crate) fn tokenizer(_: &mut Bench) -> Result<(), Fault> {
    let text = "\u{201c}It is a truth, universally  acknowledged\u{201d} \u{2014} 1813!\n";
    let mut rest = text.as_bytes();
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let tokenizer = MODEL.tokenizer();
    let encoded = tokenizer.encode(text, &mut scratch);
    for id in encoded.map_err(SessionError::from)? {
        let piece = tokenizer.piece(id.map_err(SessionError::from)?);
        match rest.strip_prefix(piece) {
            Some(tail) if !piece.is_empty() => rest = tail,
            _ => return Err(Fault::Seen("a token's piece is not what was encoded")),
        }
    }
    ensure(rest.is_empty(), "the text's end is missing")
}

pub(crate) fn prefill(bench: &mut Bench) -> Result<(), Fault> {
    let ids: [u32; 29] = ids();
    for kv in CACHES {
        let mut session = open(&SMALL.with_kv(kv), bench.session)?;
        session.prompt_tokens(&ids)?;
        let batched = hash(&session);
        session.reset();
        for id in ids {
            session.prompt_tokens(&[id])?;
        }
        ensure(hash(&session) == batched, "the logits differ")?;
    }
    Ok(())
}

pub(crate) fn parts(bench: &mut Bench) -> Result<(), Fault> {
    let ids: [u32; 21] = ids();
    let (first, second) = ids.split_at(10);
    let mut session = open(&SMALL, bench.session)?;
    session.prompt_tokens(&ids)?;
    let whole = hash(&session);
    session.reset();
    session.prompt_tokens(first)?;
    session.prompt_tokens(second)?;
    ensure(session.position() == ids.len(), "the position is another")?;
    ensure(session.tokens() == ids, "the tokens are others")?;
    ensure(hash(&session) == whole, "the logits differ")
}

pub(crate) fn seeds(bench: &mut Bench) -> Result<(), Fault> {
    let mut session = open(&SMALL, bench.session)?;
    let mut draw = |seed| -> Result<[u32; 20], SessionError> {
        let mut sampler = Sampler::new(SamplerOptions {
            // Hot enough that even a sure model would draw something else with another seed.
            temperature: 5.0,
            top_k: 100,
            top_p: 0.99,
            repetition_penalty: 1.1,
            seed,
        });
        session.reset();
        session.prompt_tokens(&[1])?;
        let mut drawn = [0; 20];
        for drawn in &mut drawn {
            session.step(&mut sampler)?;
            *drawn = session.tokens().last().copied().unwrap_or(0);
        }
        Ok(drawn)
    };
    let (one, again, other) = (draw(request::SEED)?, draw(request::SEED)?, draw(7)?);
    ensure(one == again, "the same seed drew another text")?;
    ensure(one != other, "another seed drew the same text")
}

pub(crate) fn full(bench: &mut Bench) -> Result<(), Fault> {
    let mut session = open(&SMALL, bench.session)?;
    let have = session.context_len();
    let mut sampler = Sampler::new(SamplerOptions::GREEDY);
    let too_many: [u32; 33] = ids();
    let refused = session.prompt_tokens(&too_many);
    let full = SessionError::ContextFull { need: 33, have };
    ensure(
        refused == Err(full),
        "a prompt longer than the context was taken",
    )?;
    session.prompt_tokens(&too_many[1..])?;
    ensure(
        session.step(&mut sampler) == Err(full),
        "a step beyond the context was taken",
    )?;
    session.reset();
    session.prompt_tokens(&[1])?;
    session.step(&mut sampler)?;
    Ok(())
}

pub(crate) fn ring(bench: &mut Bench) -> Result<(), Fault> {
    let options = SMALL.with_when_full(WhenFull::Ring);
    for kv in CACHES {
        let mut session = open(&options.with_kv(kv), bench.session)?;
        let mut sampler = Sampler::new(SamplerOptions::DEFAULT);
        session.prompt_tokens(&ids::<50>())?;
        for _ in 0..30 {
            session.step(&mut sampler)?;
        }
        ensure(
            session.tokens().len() == session.context_len(),
            "the context is not full",
        )?;
        let finite = session.logits().iter().all(|logit| logit.is_finite());
        ensure(finite, "a logit is no number")?;
    }
    Ok(())
}

pub(crate) fn memory(bench: &mut Bench) -> Result<(), Fault> {
    let need = MODEL.session_bytes(&SMALL);
    let (head, _) = bench
        .session
        .split_at_mut_checked(need)
        .ok_or(SessionError::Memory { need, have: 0 })?;
    let have = need - 1;
    let short = head.split_at_mut(have).0;
    ensure(
        open(&SMALL, short).err() == Some(SessionError::Memory { need, have }),
        "too little memory was taken",
    )?;
    let askew = head.split_at_mut(8).1;
    ensure(
        open(&SMALL, askew).err() == Some(SessionError::Misaligned { offset: 8 }),
        "memory askew was taken",
    )?;
    open(&SMALL, head)?;
    Ok(())
}

pub(crate) fn nonsense(bench: &mut Bench) -> Result<(), Fault> {
    let refused = |options, memory: &mut [u8]| open(&options, memory).is_err();
    ensure(
        refused(SessionOptions::new(0), bench.session),
        "an empty context was taken",
    )?;
    ensure(
        refused(SMALL.with_prefill_len(33), bench.session),
        "a batch longer than the context was taken",
    )?;
    let mut session = open(&SMALL, bench.session)?;
    let mut sampler = Sampler::new(SamplerOptions::GREEDY);
    ensure(
        session.step(&mut sampler) == Err(SessionError::NoPrompt),
        "a step without a prompt was taken",
    )?;
    let vocab_len = MODEL.config().vocab_len;
    let have = vocab_len as u32;
    ensure(
        session.prompt_tokens(&[0, have]) == Err(SessionError::Token { vocab_len, have }),
        "a token outside the vocabulary was taken",
    )?;
    ensure(session.position() == 0, "a refused prompt was run")
}
