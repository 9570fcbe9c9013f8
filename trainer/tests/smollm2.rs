//! SmolLM2-135M-Instruct against llama.cpp: the same tokens of a text, the same logits, the same answers.
//!
//! ```text
//! ATTENTIVE_SMOLLM2=smollm2.gguf cargo test --profile trainer -p attentive-trainer --test smollm2
//! ```
//! README.md tells where the file comes from, `reference/smollm2.py` what llama.cpp was asked; its answers are beside
//! it.

use attentive::kernels::Backend;
use attentive::tokenizer::ENCODE_SCRATCH_LEN;
use attentive::{Block, Model, Session, SessionOptions};
use attentive_trainer::import::gguf::{Gguf, Value};
use attentive_trainer::import::import;
use attentive_trainer::mapped;
use attentive_trainer::package::Formats;
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::sync::Once;

mod common;

/// What llama.cpp said.
const REFERENCE: &str = include_str!("reference/smollm2.txt");

/// The GGUF file, if there is one to test with.
fn gguf() -> Option<impl std::ops::Deref<Target = [u8]>> {
    let Some(path) = std::env::var_os("ATTENTIVE_SMOLLM2") else {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            // Not captured, so that a run without the model says so.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: set ATTENTIVE_SMOLLM2 to the path of SmolLM2-135M-Instruct.Q4_1.gguf to compare with llama.cpp"
            );
        });
        return None;
    };
    Some(mapped::map(Path::new(&path)).expect("the file that ATTENTIVE_SMOLLM2 names"))
}

fn imported(gguf: &[u8], formats: Option<Formats>) -> Vec<Block> {
    match import(gguf, "smollm2.gguf", "a test", formats) {
        Ok(imported) => imported.file,
        Err(error) => panic!("{error:#}"),
    }
}

/// Lines of the reference that begin with that word, without it.
fn reference(word: &str) -> impl Iterator<Item = &'static str> {
    let prefix = format!("{word} ");
    REFERENCE
        .lines()
        .filter_map(move |line| line.strip_prefix(prefix.as_str()))
}

fn encode(model: &Model<'_>, text: &str) -> Vec<u32> {
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let ids = model.tokenizer().encode(text, &mut scratch);
    let ids: Result<_, _> = ids.expect("a tokenizer").collect();
    ids.expect("every byte has a token")
}

/// Path and lines of every text of the reference.
fn texts() -> impl Iterator<Item = (&'static str, Vec<String>, &'static str)> {
    reference("tokens").map(|line| {
        let (path, facts) = line.split_once(' ').expect("a path");
        let text = std::fs::read_to_string(common::root().join(path)).expect("a text");
        let lines = text.strip_suffix('\n').unwrap_or(&text).split('\n');
        (path, lines.map(str::to_owned).collect(), facts)
    })
}

#[test]
fn tokens_are_llama_cpps() {
    let Some(gguf) = gguf() else { return };
    let file = imported(&gguf, None);
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let mut lines_len = 0;
    for (path, lines, facts) in texts() {
        let mut digest = crc.digest();
        let mut count = 0;
        for line in &lines {
            let ids = encode(&model, line);
            ids.iter().for_each(|id| digest.update(&id.to_le_bytes()));
            count += ids.len();
        }
        lines_len += lines.len();
        let have = format!("{} {count} {:08x}", lines.len(), digest.finalize());
        assert_eq!(have, facts, "{path}: lines, tokens and their checksum");
    }
    assert!(lines_len > 70_000, "{lines_len} lines");
}

/// The same by Hugging Face's `tokenizers`, put together as the model's own `tokenizer.json` does.
#[test]
fn tokens_are_those_of_tokenizers() {
    let Some(gguf) = gguf() else { return };
    let file = imported(&gguf, None);
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let tokenizer = tokenizers_twin(&Gguf::parse(&gguf).expect("a sound file"));
    for (path, lines, _) in texts() {
        for line in lines {
            let want = tokenizer.encode(line.as_str(), false).expect("tokens");
            assert_eq!(encode(&model, &line), want.get_ids(), "{path}: {line:?}");
        }
    }
}

fn tokenizers_twin(gguf: &Gguf<'_>) -> tokenizers::Tokenizer {
    let texts = |key: &str| -> Vec<String> {
        let list = gguf.list(key).expect("a list").expect("that it is there");
        let text = |value: &Value<'_>| match value {
            Value::Text(text) => (*text).to_owned(),
            other => panic!("{other:?}"),
        };
        list.iter().map(text).collect()
    };
    let tokens = texts("tokenizer.ggml.tokens");
    let vocab: serde_json::Map<_, _> = tokens
        .iter()
        .zip(0u32..)
        .map(|(token, id)| (token.clone(), json!(id)))
        .collect();
    let specials: Vec<_> = tokens[..17]
        .iter()
        .map(|token| tokenizers::AddedToken::from(token.as_str(), true))
        .collect();
    let json = json!({
        "version": "1.0",
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "model": {"type": "BPE", "vocab": vocab, "merges": texts("tokenizer.ggml.merges")},
    });
    let mut tokenizer: tokenizers::Tokenizer = json.to_string().parse().expect("a tokenizer");
    tokenizer.add_special_tokens(&specials);
    tokenizer
}

/// A prompt with llama.cpp's greedy continuation: at each step the three highest logits.
struct Answer {
    prompt: String,
    ids: Vec<u32>,
    steps: Vec<Vec<(u32, f32)>>,
}

fn answers(kind: &str) -> Vec<Answer> {
    let prompts = reference("prompt").zip(reference("ids"));
    let answer = |((prompt, ids), steps): ((&str, &str), &str)| Answer {
        prompt: serde_json::from_str(prompt).expect("a text"),
        ids: ids
            .split(' ')
            .map(|id| id.parse().expect("a token"))
            .collect(),
        steps: steps
            .split(' ')
            .map(|step| {
                let pair = |pair: &str| {
                    let (id, logit) = pair.split_once(':').expect("token and logit");
                    (
                        id.parse().expect("a token"),
                        logit.parse().expect("a logit"),
                    )
                };
                step.split(',').map(pair).collect()
            })
            .collect(),
    };
    let answers: Vec<Answer> = prompts.zip(reference(kind)).map(answer).collect();
    assert_eq!(answers.len(), 10);
    assert!(answers.iter().all(|answer| answer.steps.len() == 64));
    answers
}

/// How far this model is from llama.cpp on the same tokens.
#[derive(Debug, Default)]
struct Distance {
    /// Largest difference of a logit that is among the three highest.
    most: f32,
    /// Square root of the mean square of those differences.
    rms: f64,
    /// Steps at which another token is the highest.
    others: usize,
    /// Largest lead that llama.cpp gave its token at such a step.
    lead: f32,
}

fn distance(file: &[Block], answers: &[Answer]) -> Distance {
    let model = Model::parse(Block::bytes(file)).expect("a model");
    let options = SessionOptions::new(256).with_prefill_len(64);
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut session = Session::new(&model, &options, memory, Backend::detect()).expect("room");
    let mut distance = Distance::default();
    let mut squares = Vec::new();
    for answer in answers {
        assert_eq!(
            encode(&model, &answer.prompt),
            answer.ids,
            "{:?}",
            answer.prompt
        );
        session.reset();
        session.prompt_tokens(&answer.ids).expect("room");
        for step in &answer.steps {
            let logits = session.logits();
            for &(id, want) in step {
                let difference = (logits[id as usize] - want).abs();
                assert!(difference.is_finite());
                distance.most = distance.most.max(difference);
                squares.push(f64::from(difference) * f64::from(difference));
            }
            let highest = (0u32..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1));
            let [(best, first), (_, second), ..] = step[..] else {
                panic!("three logits");
            };
            if highest.map(|(id, _)| id) != Some(best) {
                distance.others += 1;
                distance.lead = distance.lead.max(first - second);
            }
            session.prompt_tokens(&[best]).expect("room");
        }
    }
    distance.rms = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
    distance
}

/// Both compute in f32, so only the order of sums differs: 10 × 64 tokens are the same, and so are the logits.
#[test]
fn as_floats_the_answers_are_llama_cpps() {
    let Some(gguf) = gguf() else { return };
    let file = imported(&gguf, Some(Formats::F32));
    let distance = distance(&file, &answers("f32"));
    eprintln!("{distance:?}");
    assert_eq!(distance.others, 0, "{distance:?}");
    // The reference has four decimals.
    assert!(distance.most < 1e-3, "{distance:?}");
}

/// The weights are the same integers and scales in both. Activations are rounded in both, with a scale for each 32
/// columns; what remains is that rounding, which falls where the last bits of the values before it decide.
#[test]
fn as_published_the_logits_are_near_llama_cpps() {
    let Some(gguf) = gguf() else { return };
    let file = imported(&gguf, None);
    let distance = distance(&file, &answers("kept"));
    eprintln!("{distance:?}");
    assert!(distance.most < 2.0 && distance.rms < 0.35, "{distance:?}");
}
