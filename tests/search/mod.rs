//! Searches: against exhaustive and naive ones in f64, and each text's score against its tokens'.

use attentive::kernels::Backend;
use attentive::kernels::layout::{KvDtype, WeightFormat};
use attentive::pack::TokenizerParts;
use attentive::{
    BeamOptions, Block, Config, Hypothesis, LengthPenalty, Model, Sampler, SamplerOptions, Session,
    SessionError, SessionOptions,
};

use crate::common::{
    self, InTurn, ORIGINAL, pack_variant, pack_with, random_values, reference, with_session,
};
use crate::random_ids;
use crate::translator::{self, options, values};

/// A vocabulary of so few tokens that all texts can be tried; the last one ends a text.
const fn small(vocab_len: usize) -> Config {
    Config {
        vocab_len,
        end_of_text: Some(vocab_len as u32 - 1),
        begin_of_text: Some(0),
        ..ORIGINAL
    }
}

/// Logarithmic probabilities after each token.
fn log_probabilities(config: &Config, source: &[u32], ids: &[u32]) -> Vec<f64> {
    let weights = values(config);
    let logits = reference::translate(config, &weights, source, ids).pop();
    let logits = logits.expect("a token");
    let sum: f64 = logits.iter().map(|x| x.exp()).sum();
    logits.iter().map(|x| x - sum.ln()).collect()
}

/// Every text of up to `most` tokens that ends, with its penalised score, best first.
fn exhaustive(
    config: &Config,
    source: &[u32],
    most: usize,
    penalty: LengthPenalty,
) -> Vec<(Vec<u32>, f64)> {
    let mut ended = Vec::new();
    let mut open = vec![(vec![0], 0.0)];
    while let Some((text, score)) = open.pop() {
        for (token, log) in log_probabilities(config, source, &text).iter().enumerate() {
            let score = score + log;
            if config.end_of_text == Some(token as u32) {
                // The token to begin with counts as the one that ends it would.
                let n = text.len() as f64;
                let length = match penalty {
                    LengthPenalty::Wu(alpha) => ((5.0 + n) / 6.0).powf(alpha.into()),
                    LengthPenalty::Mean => (n - 1.0).max(1.0),
                };
                ended.push((text[1..].to_vec(), score / length));
            } else if text.len() <= most {
                let longer = [text.as_slice(), &[token as u32]].concat();
                open.push((longer, score));
            }
        }
    }
    ended.sort_by(|a, b| b.1.total_cmp(&a.1));
    ended
}

fn pack_small(config: &Config) -> Vec<Block> {
    let none = TokenizerParts::None;
    pack_with(config, WeightFormat::F32, none, |shape| {
        random_values(shape, 5)
    })
}

/// Reads a source; the text that follows begins with token 0.
fn begin(session: &mut Session<'_>, source: &[u32]) {
    session.read_tokens(source).expect("a source");
    session
        .prompt_tokens(&[0])
        .expect("the token to begin with");
}

/// With as many beams as there are texts at any time, a search is exhaustive.
#[test]
fn wide_searches_find_the_best_text() {
    let config = small(3);
    let blocks = pack_small(&config);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    for seed in 0..12 {
        let source = random_ids(&config, 1 + seed as usize, seed);
        let lengths = [0.0, 0.6, 1.0].map(LengthPenalty::Wu);
        for length in lengths.into_iter().chain([LengthPenalty::Mean]) {
            // Two tokens that do not end, twice: four texts, and twelve continuations.
            let want = exhaustive(&config, &source, 2, length).swap_remove(0);
            let options = options(12).with_beams(16);
            with_session(&model, &options, |session| {
                begin(session, &source);
                let options = BeamOptions {
                    tokens: 2,
                    length_penalty: length,
                };
                let found = session.search(&options).expect("a text");
                let Hypothesis {
                    tokens,
                    score,
                    is_complete,
                } = found;
                assert!(
                    is_complete && tokens == want.0,
                    "{seed} {length:?}: {found:?} {want:?}"
                );
                assert!(
                    (f64::from(score) - want.1).abs() < 1e-3,
                    "{score} {}",
                    want.1
                );
            });
        }
    }
}

/// What a step of a search in f64 does, by the definition: all beams' continuations, sorted.
fn naive_search(
    config: &Config,
    source: &[u32],
    (width, most): (usize, usize),
    may_stand: impl Fn(usize, u32) -> bool,
) -> (Vec<u32>, bool) {
    let ends = |text: &[u32]| text.last().copied() == config.end_of_text;
    let mut beams = vec![(vec![0u32], 0.0f64)];
    let mut best: Option<(f64, Vec<u32>)> = None;
    let mut ended = 0;
    for len in 0..=most {
        let mut all = Vec::new();
        for (text, score) in &beams {
            let logs = log_probabilities(config, source, text);
            let among = || {
                (0u32..)
                    .zip(&logs)
                    .filter(|(token, _)| may_stand(len, *token))
            };
            let share: f64 = among().map(|(_, log)| log.exp()).sum();
            for (token, log) in among() {
                all.push((
                    [text.as_slice(), &[token]].concat(),
                    score + log - share.ln(),
                ));
            }
        }
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(2 * width);
        let length = (5.0 + (len + 1) as f64) / 6.0;
        for (text, score) in all.iter().take(width).filter(|(text, _)| ends(text)) {
            ended += 1;
            if best.as_ref().is_none_or(|(best, _)| score / length > *best) {
                best = Some((score / length, text[1..text.len() - 1].to_vec()));
            }
        }
        all.retain(|(text, _)| !ends(text));
        all.truncate(width);
        if len == most || ended >= width {
            break;
        }
        beams = all;
    }
    match best {
        Some((_, text)) => (text, true),
        None => (beams[0].0[1..].to_vec(), false),
    }
}

/// Searches end early where nothing can overtake, and share places; the naive one does neither. Both end when as many texts
/// have as there are beams.
#[test]
fn searches_equal_naive_ones() {
    let config = small(5);
    let blocks = pack_small(&config);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let mut lengths = [0; 2];
    for seed in 0..10 {
        let source = random_ids(&config, 3 + seed as usize, 90 + seed);
        for (width, most) in [(1, 6), (2, 7), (3, 9)] {
            let (want, ends) = naive_search(&config, &source, (width, most), |_, _| true);
            let options = options(16).with_beams(width);
            with_session(&model, &options, |session| {
                begin(session, &source);
                let before = session.tokens().to_vec();
                let found = session.search(&BeamOptions::new(most)).expect("a text");
                assert_eq!(found.tokens, want, "{seed} {width}: {found:?}");
                assert_eq!(found.is_complete, ends, "{seed} {width}");
                lengths[usize::from(ends)] += 1;
                let again = found.tokens.to_vec();
                // The session stands where it stood.
                assert_eq!((session.tokens(), session.position()), (&before[..], 0));
                let found = session.search(&BeamOptions::new(most)).expect("a text");
                assert_eq!(found.tokens, again);
                let mut sampler = Sampler::new(SamplerOptions::GREEDY);
                session.step(&mut sampler).expect("a step");
                let first = log_probabilities(&config, &source, &[0]);
                let best =
                    (0..5u32).max_by(|a, b| first[*a as usize].total_cmp(&first[*b as usize]));
                assert_eq!(session.tokens().last().copied(), best);
            });
        }
    }
    assert!(lengths.iter().all(|n| *n > 0), "{lengths:?}");
}

/// Tokens that may not stand, everywhere or as the first, take no part; where none may, that is an error.
#[test]
fn searches_among_some_equal_naive_ones() {
    let config = small(6);
    let blocks = pack_small(&config);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let end = config.end_of_text.expect("a token that ends a text");
    let may_stand = |at: usize, token: u32| token != 2 && (at > 0 || token != end && token != 4);
    let mut others = 0;
    for seed in 0..10 {
        let source = random_ids(&config, 3 + seed as usize, 70 + seed);
        for (width, most) in [(1, 6), (2, 7), (3, 9)] {
            let (want, ends) = naive_search(&config, &source, (width, most), may_stand);
            let all = naive_search(&config, &source, (width, most), |_, _| true);
            others += usize::from(all.0 != want);
            let options = options(16).with_beams(width);
            with_session(&model, &options, |session| {
                begin(session, &source);
                let among = |tokens: &[u32], logits: &mut [f32]| {
                    for (logit, token) in logits.iter_mut().zip(0..) {
                        if !may_stand(tokens.len(), token) {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                };
                let found = session.search_with(&BeamOptions::new(most), among);
                let found = found.expect("a text");
                assert_eq!(found.tokens, want, "{seed} {width}: {found:?}");
                assert_eq!(found.is_complete, ends, "{seed} {width}");
                let none = session.search_with(&BeamOptions::new(most), |_, logits| {
                    logits.fill(f32::NEG_INFINITY);
                });
                assert_eq!(none, Err(SessionError::NoLogit));
            });
        }
    }
    assert!(others > 0, "they would have stood nowhere");
}

/// The logarithmic probability of `ids` after `prompt`, token by token, in a session that searches nothing.
fn summed(
    model: &Model<'_>,
    options: &SessionOptions,
    source: &[u32],
    prompt: &[u32],
    ids: &[u32],
) -> f64 {
    with_session(model, options, |session| {
        if !source.is_empty() {
            session.read_tokens(source).expect("a source");
        }
        let all = [prompt, ids].concat();
        let mut sum = 0.0;
        let scored = session.score(&all, |index, logits| {
            if let Some(next) = all.get(index + 1).filter(|_| index + 1 >= prompt.len()) {
                let total: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
                sum += f64::from(logits[*next as usize]) - total.ln();
            }
        });
        scored.expect("logits");
        sum
    })
}

/// Every variety of model, every type of cache, texts over several blocks of it: what a search pursues side by side is what
/// each text is alone. On several cores it is the same to the bit.
#[test]
fn scores_are_those_of_the_tokens() {
    let of_decoders = common::variants()
        .into_iter()
        .map(|variant| (variant.name, variant.config));
    let mut forked = 0;
    for (name, config) in of_decoders.chain(translator::variants()) {
        let blocks = pack_variant(&config, WeightFormat::F32, 3);
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        let source = match config.source() {
            Some(_) => random_ids(&config, 9, 4),
            None => Vec::new(),
        };
        let prompt = random_ids(&config, 11, 5);
        for kv in [KvDtype::F32, KvDtype::F16, KvDtype::BF16, KvDtype::I8] {
            let alone = SessionOptions::new(32)
                .with_kv(kv)
                .with_source_len(source.len());
            let mut texts = Vec::new();
            for parts in [1, 2, 3] {
                let options = alone.with_beams(5).with_parts(parts);
                let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
                let memory = Block::bytes_mut(&mut memory);
                let session = Session::new(&model, &options, memory, Backend::detect());
                let mut session = session.expect("a session").with_executor(InTurn);
                if !source.is_empty() {
                    session.read_tokens(&source).expect("a source");
                }
                session.prompt_tokens(&prompt).expect("a prompt");
                let mut asked = Vec::new();
                let found = session.search_with(&BeamOptions::new(20), |tokens, _| {
                    asked.push(tokens.to_vec())
                });
                let found = found.expect("a text");
                let mut ids = found.tokens.to_vec();
                // A text that was pursued and is not how the best one begins.
                forked += usize::from(asked.iter().any(|text| !ids.starts_with(text)));
                ids.extend(config.end_of_text.filter(|_| found.is_complete));
                let want =
                    summed(&model, &alone, &source, &prompt, &ids) * 6.0 / (5.0 + ids.len() as f64);
                let score = f64::from(found.score);
                assert!(
                    (score - want).abs() < 2e-4,
                    "{name} {kv:?}: {score}, alone {want}"
                );
                texts.push((ids, found.score.to_bits()));
            }
            assert!(
                texts.iter().all(|text| *text == texts[0]),
                "{name} {kv:?}: {texts:?}"
            );
        }
    }
    assert!(forked > 100, "{forked}");
}
