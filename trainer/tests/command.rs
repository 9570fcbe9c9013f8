//! The command on bad input: a sentence, exit status 2, and no file.

mod common;

use attentive_trainer::import::blocks::Dtype;
use common::gguf::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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

/// Every family, of both profiles.
#[test]
fn every_shipped_model_is_shown() {
    let models = common::root().join("models");
    let mut seen = 0;
    for entry in std::fs::read_dir(&models).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "attn") {
            let shown = attentive(&models, &["inspect", path.to_str().expect("a name")]);
            let text = String::from_utf8_lossy(&shown.stdout);
            assert!(shown.status.success(), "{shown:?}");
            assert!(text.contains("RAM while it runs"), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen}");
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
fn bad_imports_and_conversations() {
    let directory = common::directory("bad-imports");
    refused(&directory, &["import", "absent.gguf"], &["absent.gguf"]);
    let good = File::llama(Dtype::Q4_0).bytes();
    let mut missing = File::llama(Dtype::Q4_0);
    missing.tensors.remove(3);
    for (name, bytes, word) in [
        ("empty.gguf", &[][..], "empty.gguf"),
        ("magic.gguf", b"GGUFGGUF", "version"),
        ("truncated.gguf", &good[..good.len() - 64], "truncated"),
        (
            "missing.gguf",
            &missing.bytes(),
            "blk.0.attn_k.weight is missing",
        ),
    ] {
        std::fs::write(directory.join(name), bytes).expect("written");
        refused(&directory, &["import", name], &[name, word]);
        refused(
            &directory,
            &["import", name, "--format", "int8", "-o", "made.attn"],
            &[name],
        );
    }
    let made = |directory: &Path| {
        let entries = std::fs::read_dir(directory).expect("a directory");
        let names = entries.filter_map(Result::ok).map(|entry| entry.path());
        names
            .filter(|path| path.extension().is_some_and(|e| e != "gguf"))
            .count()
    };
    assert_eq!(made(&directory), 0, "a file was left");
    std::fs::write(directory.join("good.gguf"), &good).expect("written");
    refused(
        &directory,
        &["import", "good.gguf", "-o", "no/where.attn"],
        &["no/where.attn"],
    );
    assert_eq!(made(&directory), 0, "a file was left");
    refused(
        &directory,
        &["import", "good.gguf", "-o", "good.gguf"],
        &["good.gguf would be replaced", "--out"],
    );
    let output = attentive(&directory, &["import", "good.gguf"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(made(&directory), 1);
    // Shown, continued, and only rounded by import.
    let shown = attentive(&directory, &["inspect", "good.attn"]);
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("good.gguf"),
        "{shown:?}"
    );
    let continued = attentive(
        &directory,
        &["generate", "good.attn", "--prompt", "ab", "--tokens", "4"],
    );
    assert!(
        continued.status.success() && continued.stdout.starts_with(b"ab"),
        "{continued:?}"
    );
    refused(
        &directory,
        &["quantize", "good.attn", "--format", "int8"],
        &["import --format"],
    );
    // No conversation with a model that has no turns, nor in no room.
    let austen = common::root().join("models/austen-1m-int8.attn");
    let austen = austen.to_str().expect("a path");
    refused(&directory, &["chat", austen], &["no model to talk with"]);
    refused(
        &directory,
        &["chat", "good.attn", "--context", "0"],
        &["context"],
    );
    refused(
        &directory,
        &["chat", "good.attn", "--temperature=-1"],
        &["--temperature"],
    );
}

/// A conversation through pipes: two questions, one that does not fit, a fresh start.
#[test]
fn questions_through_a_pipe_are_answered() {
    let directory = common::directory("pipe");
    std::fs::write(
        directory.join("small.gguf"),
        File::llama(Dtype::Q8_0).bytes(),
    )
    .expect("written");
    assert!(
        attentive(&directory, &["import", "small.gguf"])
            .status
            .success()
    );
    let talk = |questions: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_attentive"))
            .current_dir(&directory)
            .args(["chat", "small.attn", "--temperature", "0", "--tokens", "3"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(questions.as_bytes()).expect("written");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    };
    let once = talk("ab\n");
    assert!(once.status.success() && !once.stdout.is_empty(), "{once:?}");
    let long = "x".repeat(200);
    let twice = talk(&format!("ab\n\n{long}\n/reset\nab\n"));
    assert!(twice.status.success(), "{twice:?}");
    assert_eq!(twice.stdout, [once.stdout.clone(), once.stdout].concat());
    let said = String::from_utf8_lossy(&twice.stderr).into_owned();
    assert!(said.contains("full") && said.contains("/reset"), "{said}");
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

/// The last rows of the digits, as pictures of other sizes and kinds.
#[test]
fn pictures_are_classified() {
    let directory = common::directory("pictures");
    let model = common::root().join("models/digits-int8.attn");
    let model = model.to_str().expect("a path");
    let rows = std::fs::read_to_string(common::root().join("data/digits.csv")).expect("digits");
    let rows: Vec<&str> = rows.lines().collect();
    let (mut args, mut digits) = (vec!["classify".to_owned(), model.to_owned()], Vec::new());
    for (index, row) in rows[rows.len() - 6..].iter().enumerate() {
        let values = row.split(',').map(|value| value.parse().expect("a number"));
        let mut values: Vec<u32> = values.collect();
        digits.push(values.pop().expect("a digit").to_string());
        let pixels = values.iter().map(|level| (level * 255 / 16) as u8);
        let picture = image::GrayImage::from_raw(8, 8, pixels.collect()).expect("a picture");
        let name = ["a.png", "b.pgm", "c.png"][index % 3];
        let path = directory.join(format!("{index}{name}"));
        let side = if name == "c.png" { 32 } else { 8 };
        let nearest = image::imageops::FilterType::Nearest;
        let picture = image::imageops::resize(&picture, side, side, nearest);
        picture.save(&path).expect("written");
        args.extend(["--picture".to_owned(), path.display().to_string()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = attentive(&directory, &args);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let label = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["label"].as_str().expect("a label").to_owned()
    };
    assert_eq!(text.lines().map(label).collect::<Vec<_>>(), digits);
    std::fs::write(directory.join("no.png"), b"not a picture").expect("written");
    let picture = ["classify", model, "--picture", "no.png"];
    refused(&directory, &picture, &["no.png", "PNG"]);
    refused(
        &directory,
        &["classify", model, "--text", "seven"],
        &["--picture"],
    );
    let texts = common::root().join("models/languages-int8.attn");
    let texts = texts.to_str().expect("a path");
    refused(
        &directory,
        &["classify", texts, "--picture", "no.png"],
        &["reads texts"],
    );
    let english = [
        "classify",
        texts,
        "--text",
        "Where did you leave the keys of the car?",
    ];
    let output = attentive(&directory, &english);
    assert_eq!(label(&String::from_utf8_lossy(&output.stdout)), "english");
}

#[test]
fn texts_are_translated() {
    let directory = common::directory("translations");
    let model = common::root().join("models/translation-int8.attn");
    let model = model.to_str().expect("a path");
    for beams in ["1", "4"] {
        let text = "Select the device you want to add.";
        let args = ["translate", model, "--text", text, "--beams", beams];
        let output = attentive(&directory, &args);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            text.trim(),
            "Selecciona el dispositivo que quieres añadir.",
            "{beams} beams: {output:?}"
        );
    }
    refused(&directory, &["translate", model, "--text", " "], &["empty"]);
    refused(&directory, &["translate", model], &["--text or --file"]);
    let long = "the device ".repeat(100);
    refused(
        &directory,
        &["translate", model, "--text", &long],
        &["the device the device"],
    );
    refused(
        &directory,
        &["translate", model, "--text", "a", "--beams", "99"],
        &["99"],
    );
    let decoder = common::root().join("models/austen-1m-int8.attn");
    let decoder = decoder.to_str().expect("a path");
    refused(
        &directory,
        &["translate", decoder, "--text", "a"],
        &["does not translate"],
    );
    let generate = ["generate", model, "--prompt", "a"];
    refused(&directory, &generate, &["encoder–decoder"]);
    let named = ["eval", model, "--text", "a.txt"];
    refused(&directory, &named, &["leave out --text"]);
}

#[test]
fn words_are_heard() {
    let directory = common::directory("words");
    let model = common::root().join("models/keywords-int8.attn");
    let model = model.to_str().expect("a path");
    let clip = common::root().join("firmware-example/inputs/keyword-stop.wav");
    let clip = clip.to_str().expect("a path");
    let output = attentive(&directory, &["classify", model, "--sound", clip]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\"label\":\"stop\""), "{output:?}");
    std::fs::write(directory.join("no.wav"), b"not a recording").expect("written");
    let sound = ["classify", model, "--sound", "no.wav"];
    refused(&directory, &sound, &["no.wav"]);
    refused(
        &directory,
        &["classify", model, "--text", "stop"],
        &["--sound"],
    );
    let pictures = common::root().join("models/digits-int8.attn");
    let pictures = pictures.to_str().expect("a path");
    refused(
        &directory,
        &["classify", pictures, "--sound", clip],
        &["--picture"],
    );
    let word = ["speak", "clips", "--word", "Stop!"];
    refused(&directory, &word, &["small letters", "Stop!"]);
    assert!(!directory.join("clips").exists(), "nothing was made");
}
