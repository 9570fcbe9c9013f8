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
