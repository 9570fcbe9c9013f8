//! Questions whose answers stand in a passage: gradients, the core beside the trainer, and whole runs that begin with a file.

mod common;

use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::pack::{PackError, Recipe, ScaleMethod};
use attentive::tokenizer::BertText;
use attentive::{Block, Config, Encoder, EncoderOptions, Model, Role};
use attentive_trainer::batches::Batch;
use attentive_trainer::import::text_vocabulary::TextVocabulary;
use attentive_trainer::network::Network;
use attentive_trainer::package;
use attentive_trainer::params::{Params, shapes};
use attentive_trainer::prepared::Corpus;
use attentive_trainer::produce::finish;
use attentive_trainer::questions::{Agreement, answers};
use attentive_trainer::random::Random;
use attentive_trainer::task::Task;
use attentive_trainer::train::{Options, Run, train};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const NAMES: [&str; 12] = [
    "anna", "karl", "peter", "maria", "ida", "otto", "lena", "hugo", "nora", "emil", "rosa", "theo",
];
const THINGS: [&str; 12] = [
    "ring", "horse", "lamp", "book", "coat", "sword", "crown", "letter", "map", "key", "boat",
    "drum",
];

fn vocabulary() -> TextVocabulary {
    let marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let words = [
        "who", "what", "has", "is", "it", "the", "one", "old", "?", ".",
    ];
    let lines = marks.iter().chain(&words).chain(&NAMES).chain(&THINGS);
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    TextVocabulary::from_vocab_txt(&text, BertText::UNCASED).expect("a vocabulary")
}

/// Somebody has something, between sentences that tell nothing; each question asks for one of both.
fn lines(passages: usize) -> String {
    let mut random = Random::new(11);
    let mut out = String::new();
    for number in 0..passages {
        let (name, thing) = (NAMES[random.below(12)], THINGS[random.below(12)]);
        let before = random.below(4);
        let rest = |count| "the old one is old. ".repeat(count);
        let shown = name.to_uppercase();
        let passage = format!(
            "{}{shown} has the {thing}. {}{number}",
            rest(before),
            rest(3 - before)
        );
        for (question, answer) in [("Who has it?", name), ("What is it?", thing)] {
            let line = serde_json::json!({
                "question": question, "answer": [answer, "nobody"], "passage": passage,
            });
            out += &format!("{line}\n");
        }
        let line = serde_json::json!({
            "question": "Who is old?", "answer": "somebody else", "passage": passage,
        });
        out += &format!("{line}\n");
    }
    out
}

/// A task file beside its data and the file that it begins with.
fn task(directory: &Path, context: usize, steps: usize) -> (PathBuf, Task) {
    std::fs::write(directory.join("questions.jsonl"), lines(120)).expect("written");
    let path = directory.join("task.toml");
    let here = directory.display();
    let text = format!(
        r#"
name = "asked"
[data]
questions = "{here}/questions.jsonl"
source = "made here"
licence = "CC0-1.0"
test_share = 0.1
validation_share = 0.05
[start]
file = "{here}/start.attn"
[model]
vocab_len = 39
spans = true
types = 2
embedding_norm = true
dim = 32
layers = 2
heads = 2
hidden_dim = 64
context_len = {context}
norm = "layer"
norm_place = "post"
ffn = "gelu_erf"
position = "learned"
biases = ["qkv", "out", "up", "down", "norm"]
[training]
seed = 3
seq_len = {context}
batch = 16
micro_batch = 8
steps = {steps}
learning_rate = 3e-3
final_share = 0.1
warmup_share = 0.1
weight_decay = 0.0
clip = 1.0
evaluate_every = 100
patience = 20
"#
    );
    std::fs::write(&path, &text).expect("written");
    let task = Task::parse(&text).expect("a task");
    (path, task)
}

fn packed(params: &Params) -> Vec<Block> {
    vocabulary().with_parts(|tokenizer| {
        let recipe = Recipe {
            config: &params.config,
            tokenizer,
            provenance: "",
            format: &|_| WeightFormat::F32,
        };
        let mut file = vec![Block::ZERO; Block::len_for(recipe.file_bytes().expect("a size"))];
        let mut tensors = params.tensors.iter();
        let written = recipe.write::<PackError>(Block::bytes_mut(&mut file), |mut tensor| {
            tensor.write(tensors.next().expect("as many"), ScaleMethod::AbsMax)
        });
        written.expect("a file");
        file
    })
}

/// Weights of which none is zero or one.
fn noisy(config: Config) -> Params {
    let mut params = Params::random(config, 7);
    let mut random = Random::new(8);
    for tensor in &mut params.tensors {
        let noise = random.normal(tensor.len(), 0.1);
        tensor
            .iter_mut()
            .zip(noise)
            .for_each(|(x, noise)| *x += noise);
    }
    params
}

fn config() -> Config {
    let directory = common::directory("questions-config");
    task(&directory, 24, 1)
        .1
        .config(None)
        .expect("a configuration")
}

/// Two questions, each with its passage.
fn batch() -> Batch {
    Batch {
        inputs: vec![
            2, 5, 7, 9, 3, 12, 6, 20, 3, 2, 5, 8, 3, 14, 6, 7, 10, 25, 9, 3,
        ],
        types: vec![0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1],
        targets: vec![5, 7, 0, 0],
        lens: vec![9, 11],
        ..Batch::default()
    }
}

#[test]
fn gradients_are_those_of_the_loss() {
    let params = noisy(config());
    let places = [
        (Role::TokenEmbedding, None),
        (Role::TypeEmbedding, None),
        (Role::PositionEmbedding, None),
        (Role::EmbeddingNormGain, None),
        (Role::EmbeddingNormBias, None),
        (Role::HeadWeight, None),
        (Role::HeadBias, None),
    ];
    common::assert_gradients(&params, &batch(), 1e-2, &places);
}

#[test]
fn the_core_computes_what_the_trainer_does() {
    let params = noisy(config());
    let batch = batch();
    let network = Network::new(&params, Backend::detect(), false);
    let want = network.logits(&batch).expect("logits");
    let want = want.into_data().try_into_vec::<f32>().expect("f32");
    assert_eq!(want.len(), 2 * batch.inputs.len());
    let file = packed(&params);
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    for backend in Backend::available() {
        let options = EncoderOptions::new(24);
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        let mut encoder = Encoder::new(&model, &options, memory, backend).expect("an encoder");
        let mut at = 0;
        for len in &batch.lens {
            let (ids, types) = (&batch.inputs[at..at + len], &batch.types[at..at + len]);
            encoder.run_tokens(ids, types).expect("a run");
            let have = encoder.span_logits().expect("spans");
            for (have, want) in have.iter().zip(&want[2 * at..]) {
                assert!(
                    (have - want).abs() < 2e-4,
                    "{}: {have}, {want}",
                    backend.name()
                );
            }
            at += len;
        }
    }
}

#[test]
fn a_run_begins_with_a_file_and_learns_to_answer() {
    let directory = common::directory("questions");
    let (path, task) = task(&directory, 24, 400);
    // A start of more positions than the task has, and with another head.
    let longer = Config {
        context_len: 40,
        ..task.config(None).expect("a configuration")
    };
    let start = Params::random(longer, 5);
    package::write(&packed(&start), &directory.join("start.attn")).expect("written");
    let out = directory.join("run");
    let run = common::trained(&task, &path, &out);
    let Corpus::Questions(questions) = Corpus::load(&task).expect("questions") else {
        panic!("the task has questions");
    };
    assert_eq!(questions.unanswered, 120);
    assert_eq!(questions.test.len(), 2 * 12);
    let passages = |part: &[attentive_trainer::questions::Question]| {
        let of = part.iter().map(|question| question.passage.clone());
        of.collect::<std::collections::HashSet<_>>()
    };
    assert!(passages(&questions.train).is_disjoint(&passages(&questions.test)));
    finish(run).expect("files");
    let int8 = package::open(&out.join("asked-int8.attn")).expect("a file");
    let model = Model::parse(&int8).expect("a model");
    assert!(model.provenance().contains("start.attn"));
    assert!(model.provenance().contains("f1_f32"));
    // Passages of 24 tokens beside questions of 4 do not fit: they are read in windows.
    let options = EncoderOptions::new(24);
    let given = answers(&model, &questions.test, &options, Backend::detect(), 2).expect("answers");
    let agreement = Agreement::of(&given, &questions.test);
    assert!(agreement.exact > 0.9, "{agreement:?}");
    // As the passage has it, not as the tokenizer.
    let shown = |answer: &&String| answer.chars().all(char::is_uppercase);
    assert!(given.iter().filter(shown).count() >= 10, "{given:?}");
    let passage = "The old one is old. The old one is old. The old one is old. OTTO has the boat.";
    let file = out.join("asked-f32.attn");
    let answer = |more: &[&str]| {
        let first = ["answer", file.to_str().expect("a path"), "--question"];
        common::attentive(&[&first, more].concat())
    };
    let (status, said, error) = answer(&["Who has it?", "--passage", passage, "--json"]);
    assert_eq!(status, Some(0), "{error}");
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["answer"], "OTTO");
    assert_eq!(said["bytes"], serde_json::json!([60, 64]));
    let (_, said, _) = answer(&["What is it?", "--passage", passage]);
    assert_eq!(said, "boat\n", "without the point");
    let long = "who ".repeat(20);
    let (status, _, error) = answer(&[&long, "--passage", passage]);
    assert!(status == Some(2) && error.contains("shorten"), "{error}");
    let (_, said, _) = common::attentive(&["eval", file.to_str().expect("a path")]);
    assert!(
        said.contains("exact match") && said.contains("24 questions"),
        "{said}"
    );
    // Beside the way by words alone and recurrent networks.
    let run = Run::load(&out).expect("the run");
    let table = attentive_trainer::compare::table(run, &AtomicBool::new(false)).expect("a table");
    assert_eq!(table.rows.len(), 6);
    for row in &table.rows[1..3] {
        assert!(row.name.contains("both directions"), "{row:?}");
        assert!(row.parameters <= table.rows[3].parameters, "{row:?}");
        assert!(row.figure > table.rows[0].figure, "{table:?}");
    }
    let figures: Vec<f64> = table.rows.iter().map(|row| row.figure).collect();
    assert!(figures[3] > 90.0 && figures[0] < figures[3], "{figures:?}");
    let exact: Vec<f64> = table.rows.iter().filter_map(|row| row.also).collect();
    assert!(exact.len() == 6 && exact[0] < exact[3], "{exact:?}");
}

/// With the tokens that the file's tokenizer puts around a text, as the commands do.
#[test]
fn a_run_that_tells_texts_apart_begins_with_a_file_too() {
    let directory = common::directory("questions-classes");
    let (path, _) = task(&directory, 24, 250);
    let text = std::fs::read_to_string(&path).expect("the task");
    let mut lines = String::new();
    for (label, words) in [("person", NAMES), ("thing", THINGS)] {
        for word in words {
            for rest in ["is the old one", "has it", "is it", ". the one is old"] {
                lines += &format!("{label}\tthe old {word} {rest}\n");
            }
        }
    }
    let file = directory.join("sentences.tsv");
    std::fs::write(&file, lines).expect("written");
    let text = text
        .replace("questions = ", "sentences = ")
        .replace("questions.jsonl", "sentences.tsv")
        .replace("spans = true", "classes = 2\npooling = \"first\"")
        .replace("test_share = 0.1", "test_share = 0.2");
    std::fs::write(&path, &text).expect("written");
    let task = Task::parse(&text).expect("a task");
    let config = task.config(None).expect("a configuration");
    let start = packed(&Params::random(config, 5));
    package::write(&start, &directory.join("start.attn")).expect("written");
    let out = directory.join("run");
    finish(common::trained(&task, &path, &out)).expect("files");
    let file = out.join("asked-int8.attn");
    let bytes = package::open(&file).expect("a file");
    let model = Model::parse(&bytes).expect("a model");
    let record = attentive_trainer::provenance::Provenance::parse(model.provenance());
    let test = record.expect("a record").test.expect("a test");
    assert!(test.f32_figure() > 0.9, "{test:?}");
    let file = file.to_str().expect("a path");
    let (_, said, _) = common::attentive(&["classify", file, "--text", "the old crown has it"]);
    assert!(said.contains("\"thing\""), "{said}");
}

#[test]
fn what_a_run_cannot_begin_with_is_refused() {
    let directory = common::directory("questions-refused");
    let (path, task) = task(&directory, 24, 1);
    let config = task.config(None).expect("a configuration");
    let start = directory.join("start.attn");
    let refused = |words: &[&str]| {
        let options = Options {
            task: path.clone(),
            out: directory.join("run"),
            fresh: true,
            threads: Some(1),
        };
        let error = train(&task, &options, &AtomicBool::new(false)).err();
        let error = format!("{:#}", error.expect("refused"));
        for word in words {
            assert!(error.contains(word), "{error}: no {word}");
        }
    };
    refused(&["start.attn", "first lines"]);
    let put = |config: Config| package::write(&packed(&Params::random(config, 1)), &start);
    put(Config {
        hidden_dim: 72,
        ..config
    })
    .expect("written");
    refused(&["start.attn", "UpWeight", "(72, 32)", "(64, 32)"]);
    put(Config {
        context_len: 20,
        ..config
    })
    .expect("written");
    refused(&["PositionEmbedding", "(20, 32)", "(24, 32)"]);
    put(Config {
        ffn: attentive::Ffn::Relu,
        ..config
    })
    .expect("written");
    refused(&["ffn Relu", "GeluErf"]);
    let text = std::fs::read_to_string(&path).expect("the task");
    let error = |text: String| format!("{:#}", Task::parse(&text).expect_err("refused"));
    let begin = text.find("[start]").expect("it is there");
    let end = text.find("[model]").expect("it is there");
    let without = format!("{}{}", &text[..begin], &text[end..]);
    assert!(error(without).contains("[start]"));
    assert!(error(text.replace("spans = true", "classes = 2")).contains("classes"));
    std::fs::write(directory.join("questions.jsonl"), "{\"question\": 1}\n").expect("written");
    put(config).expect("written");
    refused(&["questions.jsonl, line 1", "passage"]);
    assert_eq!(shapes(&config).count(), config.tensors_len());
}
