//! A small task in a directory of its own.
#![allow(dead_code, reason = "each test binary uses another part of it")]

pub(crate) mod gguf;

use attentive_trainer::task::Task;
use std::path::{Path, PathBuf};

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
