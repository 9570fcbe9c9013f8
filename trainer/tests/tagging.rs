//! Words and their tags: gradients, the core beside the trainer, and whole runs to the commands that use them.

mod common;

use attentive::kernels::Backend;
use attentive::{Block, Config, Encoder, EncoderOptions, Model, Role};
use attentive_trainer::batches::Batch;
use attentive_trainer::integer::measure::nats;
use attentive_trainer::network::Network;
use attentive_trainer::package::{self, Formats};
use attentive_trainer::params::Params;
use attentive_trainer::prepared::{Corpus, Prepared};
use attentive_trainer::produce::finish;
use attentive_trainer::random::Random;
use attentive_trainer::tagging::{Tagging, tags};
use attentive_trainer::task::Task;
use attentive_trainer::train::Run;
use common::{attentive, trained};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const NAMES: [&str; 8] = [
    "Anna", "Karl", "Peter", "Maria", "Ida", "Otto", "Lena", "Hugo",
];

/// Sentences in which only what stands two words before a name tells whether it is a person or a ship; a person may have two
/// names.
fn conll(sentences: usize) -> String {
    let mut random = Random::new(5);
    let mut out = String::from("-DOCSTART- -X- O\n\n");
    for number in 0..sentences {
        let mut put = |word: &str, tag: &str| out += &format!("{word} NN {tag}\n");
        let mut name = || NAMES[random.below(8)];
        match number % 3 {
            0 => {
                put("the", "O");
                put("ship", "O");
                put("called", "O");
                put(name(), "B-SHIP");
                put("goes", "O");
            }
            1 => {
                put(name(), "B-PER");
                put(name(), "I-PER");
                put("sings", "O");
            }
            _ => {
                put("the", "O");
                put("man", "O");
                put("called", "O");
                put(name(), "B-PER");
                put("goes", "O");
            }
        }
        put(&number.to_string(), "O");
        out.push('\n');
    }
    out
}

/// A task, beside its data.
fn task(directory: &Path, data: &str, tags: usize, steps: usize) -> (PathBuf, Task) {
    let path = directory.join("task.toml");
    let text = format!(
        r#"
name = "tagged"
[data]
{data}
source = "made here"
licence = "CC0-1.0"
test_share = 0.1
validation_share = 0.05
{}
[model]
vocab_len = 400
tags = {tags}
dim = 32
layers = 2
heads = 2
hidden_dim = 64
context_len = 24
[training]
seed = 3
seq_len = 24
batch = 16
micro_batch = 8
steps = {steps}
learning_rate = 5e-3
final_share = 0.1
warmup_share = 0.1
weight_decay = 0.0
dropout = 0.05
clip = 1.0
evaluate_every = 100
patience = 20
"#,
        match data {
            "" => format!(
                "[data.marks]\ntexts = \"{}\"\nwords = 7",
                directory.join("texts").display()
            ),
            _ => String::new(),
        }
    );
    std::fs::write(&path, &text).expect("written");
    (path, Task::parse(&text).expect("a task"))
}

fn tagged(directory: &Path, steps: usize) -> (PathBuf, Task) {
    std::fs::write(directory.join("words.conll"), conll(900)).expect("written");
    let file = directory.join("words.conll");
    task(
        directory,
        &format!("tagged = \"{}\"", file.display()),
        4,
        steps,
    )
}

/// Two windows, of which not every token has a tag.
fn batch() -> Batch {
    Batch {
        inputs: vec![5, 300, 7, 9, 11, 2, 5, 8, 13],
        places: vec![0, 2, 3, 5, 8],
        targets: vec![3, 0, 1, 3, 2],
        lens: vec![5, 4],
        ..Batch::default()
    }
}

fn config() -> Config {
    let directory = common::directory("tagging-config");
    tagged(&directory, 1)
        .1
        .config(None)
        .expect("a configuration")
}

#[test]
fn gradients_are_those_of_the_loss() {
    let params = Params::random(config(), 7);
    let places = [(Role::TokenEmbedding, None), (Role::HeadWeight, None)];
    common::assert_gradients(&params, &batch(), 1e-2, &places);
    let network = Network::new(&params, Backend::SCALAR, false);
    let outside = Batch {
        places: vec![0, 2, 3, 5, 9],
        ..batch()
    };
    let error = network.loss(&outside).expect_err("there is no tenth token");
    assert!(format!("{error:#}").contains("places"), "{error:#}");
}

#[test]
fn the_core_computes_what_the_trainer_does() {
    let params = Params::random(config(), 7);
    let batch = batch();
    let network = Network::new(&params, Backend::detect(), false);
    let want = network.logits(&batch).expect("logits");
    let want = want.into_data().try_into_vec::<f32>().expect("f32");
    assert_eq!(want.len(), 4 * batch.places.len());
    let run = run_of(&params);
    let model = Model::parse(Block::bytes(&run)).expect("a model");
    for backend in Backend::available() {
        let options = EncoderOptions::new(24);
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        let mut encoder = Encoder::new(&model, &options, memory, backend).expect("an encoder");
        let mut have = Vec::new();
        let mut from = 0;
        for len in &batch.lens {
            let ids = &batch.inputs[from..from + len];
            encoder.run_tokens(ids, &[]).expect("a run");
            have.extend_from_slice(encoder.tags().expect("tags"));
            from += len;
        }
        for (place, want) in batch.places.iter().zip(want.chunks_exact(4)) {
            let have = &have[4 * *place as usize..][..4];
            let near = have.iter().zip(want).all(|(a, b)| (a - b).abs() < 2e-4);
            assert!(near, "{}: {have:?}, {want:?}", backend.name());
        }
    }
}

/// A file of these weights, with the tokenizer of the task's words.
fn run_of(params: &Params) -> Vec<Block> {
    let directory = common::directory("tagging-file");
    let (_, task) = tagged(&directory, 1);
    let corpus = Corpus::load(&task).expect("words");
    let prepared = Prepared::new(&task, &corpus, None).expect("prepared");
    let state = attentive_trainer::checkpoint::State::start(params.clone());
    let provenance = attentive_trainer::provenance::Provenance::of(&task, &state, corpus.labels());
    let scales = params.tensors.iter().map(|_| Vec::new()).collect();
    package::pack(
        params,
        prepared.vocabulary.as_ref(),
        &provenance,
        Formats::F32,
        &scales,
    )
    .expect("a file")
}

fn said(arguments: &[&str]) -> serde_json::Value {
    let (status, said, error) = attentive(arguments);
    assert_eq!(status, Some(0), "{error}");
    serde_json::from_str(&said).expect("JSON")
}

#[test]
fn names_are_told_apart_by_their_neighbours() {
    let directory = common::directory("tagging");
    let (path, task) = tagged(&directory, 500);
    let out = directory.join("run");
    finish(trained(&task, &path, &out)).expect("files");
    let Corpus::Tagged(words) = Corpus::load(&task).expect("words") else {
        panic!("the task has tagged words");
    };
    assert_eq!(words.labels, ["B-PER", "B-SHIP", "I-PER", "O"]);
    assert_eq!(words.test.len(), 90);
    let file = out.join("tagged-int8.attn");
    let bytes = package::open(&file).expect("a file");
    let model = Model::parse(&bytes).expect("a model");
    assert!(model.provenance().contains("words = \"plain\""));
    assert!(model.provenance().contains("f1_f32"));
    let options = EncoderOptions::new(24);
    let found = tags(&model, &words.test, &options, Backend::detect(), 2).expect("tags");
    let tagging = Tagging::of(&found, &words.test, &words.labels);
    assert!(tagging.f1 > 0.95, "{tagging:?}");

    let file = file.to_str().expect("a path");
    let line = said(&["classify", file, "--text", "the ship  called Ida goes 7"]);
    let tag = |index: usize| &line["tags"][index];
    assert_eq!(tag(3)["word"], "Ida");
    assert_eq!(tag(3)["tag"], "B-SHIP");
    assert!(tag(3)["probability"].as_f64().expect("a number") > 0.5);
    // Longer than the model reads at once: every word once, the name where its neighbours are read.
    let long = format!(
        "{}Ida Otto sings 7",
        "the man called Karl goes 12 ".repeat(12)
    );
    let line = said(&["classify", file, "--text", &long]);
    let all = line["tags"].as_array().expect("tags");
    assert_eq!(all.len(), 6 * 12 + 4);
    let right = all.iter().skip(3).step_by(6);
    let right = right.filter(|word| word["tag"] == "B-PER").count();
    assert!(right >= 10, "{line}");
    let (_, said_of, error) = attentive(&["eval", file]);
    assert!(
        said_of.contains("F1") && said_of.contains("words"),
        "{said_of}{error}"
    );
    let (status, _, error) = attentive(&["classify", file, "--text", "?", "--second", "!"]);
    assert!(status == Some(2) && error.contains("--second"), "{error}");

    // Beside simpler ways.
    let table = attentive_trainer::compare::table(
        Run::load(&out).expect("the run"),
        &AtomicBool::new(false),
    );
    let table = table.expect("a table");
    let row = |name: &str| {
        let row = table.rows.iter().find(|row| row.name.contains(name));
        row.unwrap_or_else(|| panic!("{name}"))
    };
    assert_eq!(row("most frequent").figure, 0.0, "O has no chunk");
    assert!(row("most frequent").also.expect("accuracy") > 50.0);
    let neighbours = row("neighbours").figure;
    assert!(neighbours > 40.0 && neighbours < 90.0, "{table:?}");
    assert!(row("attention, f32").figure > 95.0, "{table:?}");
    let (most, have) = (task.config(None).expect("a model").parameters(), row("GRU"));
    assert!(have.parameters <= most && have.parameters > most * 9 / 10);
    assert!(have.figure > 90.0 && row("LSTM").figure > 90.0, "{table:?}");
}

#[test]
fn the_integer_profile_tags_too() {
    let directory = common::directory("tagging-integer");
    let (path, task) = tagged(&directory, 300);
    let out = directory.join("run");
    finish(trained(&task, &path, &out)).expect("files");
    let out = out.to_str().expect("a path");
    let file = directory.join("integer.attn");
    let file = file.to_str().expect("a path");
    let (status, _, error) = attentive(&["quantize", out, "--profile", "integer", "--out", file]);
    assert_eq!(status, Some(0), "{error}");
    let line = said(&["classify", file, "--text", "the man called Ida goes 7"]);
    assert_eq!(line["tags"][3]["tag"], "B-PER");
    let (status, said, error) = attentive(&["eval", file]);
    assert!(status == Some(0) && said.contains("F1"), "{said}{error}");
    assert!(nats(&[256], 8)[0] > 0.69);
}

#[test]
fn marks_are_put_back_into_what_has_none() {
    let directory = common::directory("tagging-marks");
    let texts = directory.join("texts");
    std::fs::create_dir_all(&texts).expect("a directory");
    let chapter = |number: usize| {
        let sentences = "It is so, says Karl. Is it so? ".repeat(12);
        format!("Chapter {number}\n\n{sentences}\n\n")
    };
    let book: String = (1..=30).map(chapter).collect();
    std::fs::write(texts.join("book.txt"), book).expect("written");
    let (path, task) = task(&directory, "", 5, 300);
    let out = directory.join("run");
    finish(trained(&task, &path, &out)).expect("files");
    let Corpus::Tagged(words) = Corpus::load(&task).expect("words") else {
        panic!("the task has tagged words");
    };
    assert_eq!(words.labels, [",", "?", "A", "A.", "O"]);
    let file = out.join("tagged-f32.attn");
    let file = file.to_str().expect("a path");
    let line = said(&[
        "classify",
        file,
        "--text",
        "is it so it is so says karl IS IT, SO it is so",
    ]);
    let marked = line["marked"].as_str().expect("a text");
    assert!(
        marked.contains("It is so, says Karl. Is it so?"),
        "{marked}"
    );
}

#[test]
fn other_data_is_refused() {
    let directory = common::directory("tagging-errors");
    let (path, task) = tagged(&directory, 1);
    let path = path.to_str().expect("a path");
    let out = directory.join("run");
    let out = out.to_str().expect("a path");
    let (status, _, error) = attentive(&["prepare", path, "--out", out]);
    assert!(status == Some(2) && error.contains("tags"), "{error}");
    let file = directory.join("words.conll");
    std::fs::write(&file, "Anna B-PER\nsings\n").expect("written");
    let error = format!("{:#}", Corpus::load(&task).err().expect("one column"));
    assert!(
        error.contains("words.conll") && error.contains("line 2"),
        "{error}"
    );
    std::fs::write(&file, "Anna B-PER\nsings O\n\n".repeat(3)).expect("written");
    let (status, _, error) = attentive(&["train", path, "--fresh"]);
    assert_eq!(status, Some(2));
    assert!(
        error.contains("few"),
        "one sentence cannot be split: {error}"
    );
    std::fs::write(&file, conll(30).replace("B-SHIP", "O")).expect("written");
    let (status, _, error) = attentive(&["train", path, "--fresh"]);
    assert_eq!(status, Some(2));
    assert!(
        error.contains("3 tags") && error.contains("the model has 4"),
        "{error}"
    );
    let text = std::fs::read_to_string(path).expect("the task");
    let error = Task::parse(&text.replace("tags = 4", "classes = 4")).err();
    let error = format!("{:#}", error.expect("classes of words"));
    assert!(error.contains("classes"), "{error}");
}
