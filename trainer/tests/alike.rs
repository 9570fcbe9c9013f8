//! Texts that mean the same: gradients, the core beside the trainer, and whole runs to the commands that use them.

mod common;

use attentive::Config;
use attentive::kernels::Backend;
use attentive::{EncoderOptions, Model, Role};
use attentive_trainer::alike::embeddings;
use attentive_trainer::batches::Batch;
use attentive_trainer::network::Network;
use attentive_trainer::package;
use attentive_trainer::params::Params;
use attentive_trainer::prepared::Corpus;
use attentive_trainer::produce::{finish, retrieval};
use attentive_trainer::random::Random;
use attentive_trainer::task::Task;
use attentive_trainer::train::Run;
use common::{attentive, trained};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const ENGLISH: [&str; 8] = [
    "dog", "horse", "king", "house", "river", "ship", "book", "bread",
];
const SPANISH: [&str; 8] = [
    "perro", "caballo", "rey", "casa", "agua", "barco", "libro", "pan",
];

/// A task of three words in two languages, the second in reverse order.
fn task(directory: &Path, steps: usize) -> (PathBuf, Task) {
    let mut random = Random::new(9);
    let mut lines = String::new();
    for _ in 0..1500 {
        let words = [0; 3].map(|_| random.below(8));
        let [a, b, c] = words.map(|word| ENGLISH[word]);
        let [x, y, z] = words.map(|word| SPANISH[word]);
        lines += &format!("the {a} and the {b} of the {c}\t{z} {y} {x}\n");
    }
    let file = directory.join("pairs.tsv");
    std::fs::write(&file, lines).expect("written");
    let path = directory.join("task.toml");
    let text = format!(
        r#"
name = "alike"
[data]
source = "made here"
licence = "CC0-1.0"
test_share = 0.1
validation_share = 0.05
[data.alike]
files = ["{}"]
[model]
vocab_len = 320
embedding = true
dim = 32
layers = 1
heads = 2
hidden_dim = 64
context_len = 24
[training]
seed = 3
seq_len = 24
batch = 64
micro_batch = 32
steps = {steps}
learning_rate = 1e-2
final_share = 0.1
warmup_share = 0.1
weight_decay = 0.0
clip = 1.0
evaluate_every = 100
patience = 20
"#,
        file.display()
    );
    std::fs::write(&path, &text).expect("written");
    (path, Task::parse(&text).expect("a task"))
}

fn config() -> Config {
    let directory = common::directory("alike-config");
    task(&directory, 1).1.config(None).expect("a configuration")
}

/// Three pairs.
fn batch() -> Batch {
    Batch {
        inputs: vec![5, 300, 7, 9, 11, 2, 5, 8, 13, 301, 6, 4],
        targets: vec![0, 0, 1, 1, 2, 2],
        lens: vec![3, 2, 1, 2, 3, 1],
        ..Batch::default()
    }
}

/// The loss in plain arithmetic, from the network's vectors.
#[test]
fn the_loss_is_that_of_cosines_both_ways() {
    let params = Params::random(config(), 7);
    let network = Network::new(&params, Backend::detect(), false);
    let vectors = network.logits(&batch()).expect("vectors");
    let values = vectors.into_data().try_into_vec::<f32>().expect("f32");
    let vectors: Vec<&[f32]> = values.chunks_exact(32).collect();
    assert_eq!(vectors.len(), 6);
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let cosine = |a: usize, b: usize| {
        let (a, b) = (vectors[a], vectors[b]);
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let (mut nats, mut right) = (0.0, 0);
    for (from, to) in [(0, 1), (1, 0)] {
        for pair in 0..3 {
            let of = |other: usize| 20.0 * cosine(2 * pair + from, 2 * other + to);
            let logits = [0, 1, 2].map(of);
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            nats += sum.ln() - logits[pair];
            right += usize::from(logits.iter().all(|logit| *logit <= logits[pair]));
        }
    }
    let loss = network.loss(&batch()).expect("a loss");
    assert!(
        (loss.nats - nats).abs() < 1e-4,
        "{} is not {nats}",
        loss.nats
    );
    assert_eq!(loss.right, right);
}

#[test]
fn gradients_are_those_of_the_loss() {
    let params = Params::random(config(), 7);
    let places = [
        (Role::TokenEmbedding, None),
        (Role::DownWeight, Some(0)),
        (Role::FinalNormGain, None),
    ];
    common::assert_gradients(&params, &batch(), 2e-3, &places);
}

#[test]
fn a_text_is_found_by_its_translation() {
    let directory = common::directory("alike");
    let (path, task) = task(&directory, 400);
    let out = directory.join("run");
    finish(trained(&task, &path, &out)).expect("files");
    let Corpus::Alike(pairs) = Corpus::load(&task).expect("pairs") else {
        panic!("the task has texts that are alike");
    };
    let file = out.join("alike-int8.attn");
    let bytes = package::open(&file).expect("a file");
    let model = Model::parse(&bytes).expect("a model");
    assert!(model.provenance().contains("nearest_f32"));
    let options = EncoderOptions::new(24);
    let found = retrieval(&model, &pairs.test, &options, Backend::detect()).expect("vectors");
    assert!(
        found.nearest > 0.9 && found.reciprocal_rank > 0.9,
        "{found:?}"
    );
    let vectors = embeddings(&model, &["the dog"], &options, Backend::detect(), 1);
    let vectors = vectors.expect("vectors");
    let square: f32 = vectors[0].iter().map(|x| x * x).sum();
    assert!((square - 1.0).abs() < 1e-4, "they have unit length");

    let file = file.to_str().expect("a path");
    let english = "the king and the ship of the book";
    let cosine = |other: &str| {
        let (status, said, error) = attentive(&[
            "embed",
            file,
            "--similar",
            "--text",
            english,
            "--text",
            other,
        ]);
        assert_eq!(status, Some(0), "{error}");
        let line: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        line["cosine"].as_f64().expect("a number")
    };
    assert!(cosine("libro barco rey") > cosine("libro perro rey") + 0.05);
    let (status, said, error) = attentive(&["eval", file]);
    assert!(
        status == Some(0) && said.contains("reciprocal"),
        "{said}{error}"
    );

    let run = Run::load(&out).expect("the run");
    let table = attentive_trainer::compare::table(run, &AtomicBool::new(false)).expect("a table");
    let row = |name: &str| {
        let row = table.rows.iter().find(|row| row.name.contains(name));
        row.unwrap_or_else(|| panic!("{name}")).figure
    };
    assert!(
        row("both have") < 20.0,
        "the languages have no word in common: {table:?}"
    );
    assert!(row("word by word") > row("both have"), "{table:?}");
    assert!(row("attention, f32") > 90.0, "{table:?}");
    for rival in ["GRU", "LSTM"] {
        assert!(row(rival) > row("both have") + 20.0, "{table:?}");
    }
    let text = std::fs::read_to_string(&path).expect("the task");
    let error = Task::parse(&text.replace("embedding = true", "")).err();
    assert!(format!("{:#}", error.expect("no vectors")).contains("alike"));
    let error = Task::parse(&text.replace("micro_batch = 32", "micro_batch = 1")).err();
    assert!(format!("{:#}", error.expect("one pair")).contains("micro_batch"));
}
