//! The command on bad input: a sentence, exit status 2, and no file.

mod common;

use std::path::Path;
use std::process::{Command, Output};

fn attentive(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_attentive"))
        .current_dir(directory)
        .args(args)
        .output()
        .expect("it starts")
}

/// Status 2, and stderr holds every word.
#[track_caller]
fn refused(directory: &Path, args: &[&str], words: &[&str]) {
    let output = attentive(directory, args);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{args:?}: no {word:?} in {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn bad_tasks() {
    let directory = common::directory("bad-tasks");
    refused(&directory, &["train", "absent.toml"], &["absent.toml"]);
    std::fs::write(directory.join("broken.toml"), "name = ").expect("written");
    refused(&directory, &["train", "broken.toml"], &["broken.toml"]);
    let texts = directory.join("texts");
    let good = common::task_text(&texts, "steps = 1");
    let write =
        |name: &str, text: String| std::fs::write(directory.join(name), text).expect("written");
    write("unknown.toml", good.replace("clip", "clipp"));
    refused(&directory, &["train", "unknown.toml"], &["clipp"]);
    write("heads.toml", good.replace("heads = 2", "heads = 3"));
    refused(&directory, &["train", "heads.toml"], &["head"]);
    write("no-texts.toml", good.clone());
    refused(&directory, &["train", "no-texts.toml"], &["texts"]);
    std::fs::create_dir_all(&texts).expect("a directory");
    refused(&directory, &["train", "no-texts.toml"], &["no .txt"]);
    std::fs::write(texts.join("short.txt"), "Chapter 1\n\nToo short.\n").expect("written");
    refused(&directory, &["train", "no-texts.toml"], &["too few"]);
    refused(
        &directory,
        &["train", "no-texts.toml", "--resume"],
        &["no checkpoint"],
    );
}

#[test]
fn bad_weights() {
    let directory = common::directory("bad-weights");
    let good = std::fs::read(common::root().join("models/austen-1m-int8.attn"))
        .expect("the default model");
    let mut damaged = good.clone();
    let last = damaged.len() - 100;
    damaged[last] ^= 1;
    for (name, bytes) in [
        ("truncated.attn", &good[..good.len() - 64]),
        ("odd.attn", &good[..good.len() - 1]),
        ("damaged.attn", damaged.as_slice()),
        ("empty.attn", &[]),
    ] {
        std::fs::write(directory.join(name), bytes).expect("written");
        refused(&directory, &["inspect", name], &[name]);
        refused(&directory, &["generate", name, "--prompt", "x"], &[name]);
        refused(&directory, &["eval", name], &[name]);
        refused(
            &directory,
            &["quantize", name, "--format", "int8", "--out", "made.attn"],
            &[name],
        );
    }
    assert!(!directory.join("made.attn").exists());
    let model = common::root().join("models/austen-1m-int8.attn");
    let model = model.to_str().expect("a path");
    refused(
        &directory,
        &["generate", model, "--prompt", ""],
        &["--prompt"],
    );
    refused(
        &directory,
        &["generate", model, "--prompt", "x", "--temperature=-1"],
        &["--temperature"],
    );
    refused(
        &directory,
        &["generate", model, "--prompt", "x", "--backend", "sse9"],
        &["sse9", "scalar"],
    );
    refused(
        &directory,
        &["generate", model, "--prompt", "x", "--context", "0"],
        &["context"],
    );
    refused(
        &directory,
        &["inspect", model, "--context", "0"],
        &["context"],
    );
    // The task's text is not where the command is started.
    refused(&directory, &["eval", model], &["--task"]);
}

#[test]
fn the_shipped_model_continues_a_text() {
    let args = [
        "generate",
        "models/austen-1m-int8.attn",
        "--prompt",
        "Elizabeth was",
        "--tokens",
        "300",
    ];
    let first = attentive(common::root(), &args);
    assert!(first.status.success());
    let text = String::from_utf8_lossy(&first.stdout);
    assert!(
        text.starts_with("Elizabeth was") && text.len() > 500,
        "{text}"
    );
    assert_eq!(attentive(common::root(), &args).stdout, first.stdout);
}
