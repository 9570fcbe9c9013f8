//! A small task in a directory of its own.
#![allow(dead_code, reason = "each test binary uses another part of it")]

pub(crate) mod ct2;
pub(crate) mod gguf;

use attentive::Role;
use attentive::kernels::Backend;
use attentive_trainer::batches::Batch;
use attentive_trainer::network::Network;
use attentive_trainer::params::Params;
use attentive_trainer::task::Task;
use attentive_trainer::train::{Ended, Options, Run, train};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

/// An empty directory of that name.
pub(crate) fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a directory");
    path
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a parent")
}

/// Trains a task to its end, with two threads.
pub(crate) fn trained(task: &Task, path: &Path, out: &Path) -> Run {
    let options = Options {
        task: path.to_owned(),
        out: out.to_owned(),
        fresh: false,
        threads: Some(2),
    };
    match train(task, &options, &AtomicBool::new(false)).expect("a run") {
        Ended::Finished(run) => *run,
        Ended::Stopped { .. } => panic!("nobody stopped it"),
    }
}

/// Compares the steepest elements of some gradients with differences of the loss.
pub(crate) fn assert_gradients(params: &Params, batch: &Batch, step: f32, places: &[Place]) {
    let loss = |params: &Params| {
        let network = Network::new(params, Backend::SCALAR, false);
        network.loss(batch).expect("a loss").nats
    };
    let network = Network::new(params, Backend::SCALAR, true);
    let (whole, gradients) = network.gradients(batch).expect("gradients");
    assert!((whole - loss(params)).abs() < 1e-4);
    for &(role, layer) in places {
        let index = params.config.tensor_index(role, layer);
        let index = index.expect("it is there");
        let gradient = &gradients[index];
        let mut order: Vec<usize> = (0..gradient.len()).collect();
        order.sort_by(|a, b| gradient[*b].abs().total_cmp(&gradient[*a].abs()));
        for &element in order.iter().take(6) {
            let at = |by: f32| {
                let mut moved = params.clone();
                moved.tensors[index][element] += by;
                loss(&moved)
            };
            let want = (at(step) - at(-step)) / f64::from(2.0 * step);
            let have = f64::from(gradient[element]);
            let error = (have - want).abs() / want.abs().max(1e-2);
            assert!(error < 0.02, "{role:?} {element}: {have} is not {want}");
        }
    }
}

/// A tensor of a model: its role and layer.
pub(crate) type Place = (Role, Option<usize>);

/// Runs the command: its status, what it said, what it complained of.
pub(crate) fn attentive(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_attentive"))
        .args(arguments)
        .output()
        .expect("it starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Text of a task: one novel, a tiny model; `rest` goes into `[training]`.
pub(crate) fn task_text(texts: &Path, rest: &str) -> String {
    format!(
        r#"
name = "tiny"
[data]
texts = "{}"
source = "a novel"
licence = "public domain"
test_share = 0.05
validation_share = 0.03
[model]
vocab_len = 300
dim = 16
layers = 1
heads = 2
hidden_dim = 32
context_len = 32
[training]
seed = 5
seq_len = 32
batch = 4
micro_batch = 2
learning_rate = 3e-3
final_share = 0.1
warmup_share = 0.1
weight_decay = 0.1
clip = 1.0
evaluate_every = 10
patience = 10
{rest}
"#,
        texts.display()
    )
}

/// A directory with the shortest novel, and the task on it.
pub(crate) fn task(out: &Path, rest: &str) -> (PathBuf, Task) {
    let texts = out.join("texts");
    std::fs::create_dir_all(&texts).expect("a directory");
    let novel = root().join("data/austen/northanger-abbey.txt");
    std::fs::copy(novel, texts.join("northanger-abbey.txt")).expect("a copy");
    let path = out.join("tiny.toml");
    std::fs::write(&path, task_text(&texts, rest)).expect("a task");
    let task = Task::read(&path).expect("a task");
    (path, task)
}

/// A task of sentences about one of two animals, or of pictures that are light above or below.
pub(crate) fn labelled(
    directory: &Path,
    data: &str,
    rows: &[String],
) -> (std::path::PathBuf, Task) {
    let file = directory.join("rows");
    std::fs::write(&file, rows.concat()).expect("rows");
    let data = data.replace("FILE", &file.display().to_string());
    let text = format!(
        r#"
name = "tiny"
[data]
source = "made up"
licence = "public domain"
test_share = 0.2
validation_share = 0.2
{data}
dim = 16
layers = 1
heads = 2
hidden_dim = 32
context_len = 32
[training]
seed = 5
seq_len = 32
batch = 8
micro_batch = 4
steps = 60
learning_rate = 1e-2
final_share = 0.1
warmup_share = 0.1
weight_decay = 0.1
dropout = 0.1
clip = 1.0
evaluate_every = 20
patience = 10
"#
    );
    let path = directory.join("tiny.toml");
    std::fs::write(&path, text).expect("a task");
    let task = Task::read(&path).expect("a task");
    (path, task)
}

pub(crate) fn sentences() -> Vec<String> {
    let verbs = ["sees", "hears", "likes", "follows", "finds", "calls"];
    let mut rows = Vec::new();
    for (index, (who, label)) in [("cat", "cats"), ("dog", "dogs")]
        .into_iter()
        .cycle()
        .take(120)
        .enumerate()
    {
        let verb = verbs[index / 2 % verbs.len()];
        rows.push(format!(
            "{label}\tOn day {index} the {who} {verb} somebody.\n"
        ));
    }
    rows
}

pub(crate) fn pictures() -> Vec<String> {
    let picture = |index: usize| {
        let above = index.is_multiple_of(2);
        let pixel = |at: usize| match (at < 8) == above {
            true => (9 + (at * 7 + index) % 7).to_string(),
            false => ((at * 5 + index / 2) % 6).to_string(),
        };
        let pixels: Vec<String> = (0..16).map(pixel).collect();
        let label = if above { "above" } else { "below" };
        format!("{},{label}\n", pixels.join(","))
    };
    (0..84).map(picture).collect()
}

pub(crate) const SENTENCES: &str = "sentences = 'FILE'\n[model]\nvocab_len = 300\nclasses = 2";
pub(crate) const PICTURES: &str = "[data.pictures]\nfile = 'FILE'\nheight = 4\nwidth = 4\nlevels = 16\n\
    patch = 2\nmean = 0.4\ndeviation = 0.3\nshift = 1\n[model]\nclasses = 2";

/// Sentences of a language of twelve words, and their translations, in which the verb stands last.
pub(crate) fn translated() -> Vec<String> {
    let whos = [("the cat", "mi"), ("the dog", "wa"), ("a bird", "ti")];
    let verbs = [("sees", "lok"), ("hears", "rin"), ("likes", "sel")];
    let whoms = [("the moon", "lu"), ("the sun", "so"), ("a star", "ke")];
    let mut rows = Vec::new();
    for number in 0..6 {
        for (who, who_is) in whos {
            for (verb, verb_is) in verbs {
                for (whom, whom_is) in whoms {
                    rows.push(format!(
                        "{number}: {who} {verb} {whom}\t{number}: {whom_is} {who_is} {verb_is}\n"
                    ));
                }
            }
        }
    }
    rows
}

pub(crate) const PAIRS: &str =
    "[data.pairs]\nfiles = ['FILE']\n[model]\nvocab_len = 300\nsource_layers = 1";
