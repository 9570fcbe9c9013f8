//! What a file of the integer profile gives on texts, examples and pairs, as the core computes it.

use crate::eval::{Score, Windows, encode, loss};
use crate::examples::{Example, Thing};
use crate::frontend::Frontend;
use crate::pairs::Pair;
use crate::shares::shares;
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::Block;
use attentive::integer::{
    Bits, Encoder, Model, Options, Progress, Sampler, SamplerOptions, Session,
};
use attentive::kernels::Backend;

/// Options of a session with the longest source that the model reads, and memory for it.
pub fn session_options(model: &Model<'_>, context: usize, kv: Bits) -> (Options, Vec<Block>) {
    let source = model.config().source().map_or(0, |source| source.len);
    let options = Options::new(context).with_source_len(source).with_kv(kv);
    let memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    (options, memory)
}

/// Integer logits as those of a softmax.
pub fn nats(logits: &[i32], bits: u8) -> Vec<f32> {
    let unit = std::f64::consts::LN_2 / f64::from(1u32 << bits);
    logits
        .iter()
        .map(|&l| (f64::from(l) * unit) as f32)
        .collect()
}

/// Scores each document, every one after the token that ends a text, its windows side by side on `threads` threads.
///
/// # Errors
/// When the model has no tokenizer or a window does not fit.
pub fn texts(
    model: &Model<'_>,
    texts: &[impl AsRef<str>],
    windows: Windows,
    kv: Bits,
    backend: Backend,
    threads: usize,
) -> Result<Score> {
    let mut all = Vec::new();
    for text in texts {
        let mut tokens: Vec<u32> = model.config().end_of_text.into_iter().collect();
        tokens.extend(encode(model.tokenizer(), text.as_ref())?);
        for (window, scored) in windows.of(tokens.len()) {
            let targets = tokens.get(window.start + 1..=window.end);
            let targets = targets.context("a window inside the text")?.to_vec();
            let skipped = scored - window.start - 1;
            all.push((tokens[window].to_vec(), targets, skipped));
        }
    }
    let scores = shares(&all, threads, |windows| {
        let (options, mut memory) = session_options(model, window_len(windows), kv);
        let session = Session::new(model, &options, Block::bytes_mut(&mut memory), backend);
        let mut session = session.map_err(|error| anyhow!("the session: {error}"))?;
        let mut scores = Vec::new();
        for (ids, targets, skipped) in windows {
            session.reset();
            let mut score = Score::default();
            for (index, (&id, &target)) in ids.iter().zip(targets).enumerate() {
                let logits = logits(&mut session, id)?;
                if index >= *skipped {
                    score.nats += loss(&logits, target as usize);
                    score.tokens += 1;
                    score.bytes += model.tokenizer().piece(target).len();
                }
            }
            scores.push(score);
        }
        Ok(scores)
    })?;
    Ok(scores.into_iter().sum())
}

fn window_len(windows: &[(Vec<u32>, Vec<u32>, usize)]) -> usize {
    windows.iter().map(|(ids, ..)| ids.len()).max().unwrap_or(1)
}

/// Appends a token; the logits after it.
fn logits(session: &mut Session<'_>, id: u32) -> Result<Vec<f32>> {
    let run = session.prompt_tokens(&[id]);
    run.map_err(|error| anyhow!("scoring: {error}"))?;
    while session
        .advance(u32::MAX)
        .map_err(|error| anyhow!("scoring: {error}"))?
        == Progress::Busy
    {}
    let bits = session.model().logit_bits();
    let logits = session.logits().context("logits after a token")?;
    Ok(nats(logits, bits))
}

/// The classes of examples. Texts are cut to `len` tokens.
///
/// # Errors
/// When the model gives no classes, or an example is not what it reads.
pub fn classes(
    model: &Model<'_>,
    examples: &[Example],
    frontend: Option<Frontend>,
    len: usize,
    backend: Backend,
    threads: usize,
) -> Result<Vec<u32>> {
    shares(examples, threads, |examples| {
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(len))];
        let encoder = Encoder::new(model, len, Block::bytes_mut(&mut memory), backend);
        let mut encoder = encoder.map_err(|error| anyhow!("{error}"))?;
        let mut found = Vec::new();
        for example in examples {
            let begun = match (&example.thing, &frontend) {
                (Thing::Text(text), _) => {
                    let mut tokens = encode(model.tokenizer(), text)?;
                    tokens.truncate(len);
                    encoder.begin_tokens(&tokens)
                }
                (thing, Some(frontend)) => {
                    encoder.begin_patches(&frontend.levels(thing, model.input_scale())?)
                }
                (_, None) => bail!("pictures and sounds need to be cut"),
            };
            begun.map_err(|error| anyhow!("{error}"))?;
            encoder.run().map_err(|error| anyhow!("{error}"))?;
            let class = encoder.class().map_err(|error| anyhow!("{error}"))?;
            found.push(class.context("a model without classes")? as u32);
        }
        Ok(found)
    })
}

/// Translates every source by the likeliest next token. A source that is too long is cut.
///
/// # Errors
/// What a session refuses.
pub fn translations(
    model: &Model<'_>,
    pairs: &[Pair],
    kv: Bits,
    backend: Backend,
    threads: usize,
) -> Result<Vec<String>> {
    let (options, _) = session_options(model, model.config().context_len, kv);
    ensure!(options.source_len > 0, "this model does not translate");
    shares(pairs, threads, |pairs| {
        let (options, mut memory) = session_options(model, model.config().context_len, kv);
        let session = Session::new(model, &options, Block::bytes_mut(&mut memory), backend);
        let mut session = session.map_err(|error| anyhow!("{error}"))?;
        let each = |pair: &Pair| {
            let mut tokens = encode(model.tokenizer(), &pair.source)?;
            ensure!(!tokens.is_empty(), "{:?} has no tokens", pair.source);
            tokens.truncate(options.source_len);
            let read = session.read_tokens(&tokens);
            read.map_err(|error| anyhow!("{error}"))?;
            written(&mut session, options.context_len)
        };
        pairs.iter().map(each).collect()
    })
}

/// Writes what follows from the source that the session was given, by the likeliest next token, up to `len` tokens.
///
/// # Errors
/// What the session refuses.
pub fn written(session: &mut Session<'_>, len: usize) -> Result<String> {
    session.prompt("").map_err(|error| anyhow!("{error}"))?;
    let mut bytes = Vec::new();
    let mut sampler = Sampler::new(SamplerOptions::GREEDY);
    while session.tokens().len() < len {
        let piece = session.step(&mut sampler);
        let Some(piece) = piece.map_err(|error| anyhow!("{error}"))? else {
            break;
        };
        bytes.extend_from_slice(piece);
    }
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
