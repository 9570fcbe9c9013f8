//! Whole runs: repeatable, resumable, and files that say what they hold.

mod common;

use attentive::Model;
use attentive_trainer::package;
use attentive_trainer::produce::finish;
use attentive_trainer::train::{CHECKPOINT, Ended, Options, Run, train};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn options(task: &Path, out: &Path, threads: usize) -> Options {
    Options {
        task: task.to_owned(),
        out: out.to_owned(),
        fresh: false,
        threads: Some(threads),
    }
}

#[test]
fn a_stopped_run_ends_like_one_that_was_not_whatever_the_threads() {
    let directory = common::directory("resume");
    let (path, task) = common::task(&directory, "steps = 40");
    let never = AtomicBool::new(false);
    let straight = options(&path, &directory.join("straight"), 1);
    let Ended::Finished(straight) = train(&task, &straight, &never).expect("a run") else {
        panic!("nobody stopped it");
    };
    let stopped = options(&path, &directory.join("stopped"), 2);
    // Stopped before it began, then again and again after ever longer moments: wherever that is, nothing may be lost.
    let mut stops = 0;
    let stopped = loop {
        let stop = AtomicBool::new(stops == 0);
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100) * (stops + 1));
                stop.store(true, Ordering::Relaxed);
            });
            train(&task, &stopped, &stop)
        });
        match ended.expect("a run") {
            Ended::Finished(run) => break run,
            Ended::Stopped { .. } => stops += 1,
        }
    };
    assert!(stops >= 1);
    assert!(stopped.state.params == straight.state.params);
    assert!(stopped.state.adam == straight.state.adam);
    let bits = |run: &Run| -> Vec<f64> {
        let measurements = &run.state.position.measurements;
        measurements.iter().map(|m| m.bits_per_byte).collect()
    };
    assert_eq!(bits(&stopped), bits(&straight));
    assert!(
        bits(&straight).last() < bits(&straight).first(),
        "it learns"
    );
}

#[test]
fn a_checkpoint_of_another_task_is_refused() {
    let directory = common::directory("other");
    let (path, mut task) = common::task(&directory, "steps = 1");
    let never = AtomicBool::new(false);
    let options = options(&path, &directory.join("run"), 2);
    train(&task, &options, &never).expect("a run");
    task.training.seed += 1;
    let error = train(&task, &options, &never)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("--fresh"), "{error}");
    std::fs::write(directory.join("run").join(CHECKPOINT), b"damaged").expect("written");
    assert!(train(&task, &options, &never).is_err());
}

#[test]
fn a_finished_run_leaves_files_and_a_curve() {
    let directory = common::directory("files");
    let (path, task) = common::task(&directory, "steps = 20");
    let never = AtomicBool::new(false);
    let out = directory.join("run");
    let Ended::Finished(run) = train(&task, &options(&path, &out, 2), &never).expect("a run")
    else {
        panic!("nobody stopped it");
    };
    finish(*run).expect("files");
    for name in ["tiny-f32.attn", "tiny-int8.attn"] {
        let file = package::open(&out.join(name)).expect("a sound file");
        let model = Model::parse(&file).expect("a model");
        for word in [
            "seed = 5",
            "public domain",
            "bits_per_byte",
            "attentive train",
        ] {
            assert!(model.provenance().contains(word), "{name}: no {word:?}");
        }
    }
    let curve = std::fs::read_to_string(out.join("loss.svg")).expect("a curve");
    assert!(curve.contains("<svg") && curve.contains("polyline"));
    let lines = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
    assert_eq!(lines.lines().count(), 2);
    let left = std::fs::read_dir(&out).expect("a directory");
    let unfinished = left
        .filter_map(Result::ok)
        .any(|entry| entry.path().extension().is_some_and(|e| e == "tmp"));
    assert!(!unfinished, "a temporary file was left");
}
