//! Whole runs: repeatable, resumable, and files that say what they hold.

mod common;

use attentive::kernels::Backend;
use attentive::{Block, Model, Session};
use attentive_trainer::compare;
use attentive_trainer::examples::Examples;
use attentive_trainer::package;
use attentive_trainer::prepared::Corpus;
use attentive_trainer::produce::finish;
use attentive_trainer::provenance::{Provenance, Test};
use attentive_trainer::task::Task;
use attentive_trainer::train::{CHECKPOINT, Ended, Options, Run, train};
use attentive_trainer::translation::{Search, translate};
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

/// Stopped before it began, then again and again after ever longer moments: wherever that is, nothing may be lost.
fn often_stopped(task: &Task, options: &Options) -> Run {
    let mut stops = 0;
    loop {
        let stop = AtomicBool::new(stops == 0);
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(80) * (stops + 1));
                stop.store(true, Ordering::Relaxed);
            });
            train(task, options, &stop)
        });
        match ended.expect("a run") {
            Ended::Finished(run) => {
                assert!(stops >= 1);
                return *run;
            }
            Ended::Stopped { .. } => stops += 1,
        }
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
    let stopped = often_stopped(&task, &options(&path, &directory.join("stopped"), 2));
    assert!(stopped.state.params == straight.state.params);
    assert!(stopped.state.adam == straight.state.adam);
    let bits = |run: &Run| -> Vec<f64> {
        let measurements = &run.state.position.measurements;
        measurements
            .iter()
            .filter_map(|m| m.bits_per_byte)
            .collect()
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

/// A task of sentences about one of two animals, or of pictures that are light above or below.
fn labelled(directory: &Path, data: &str, rows: &[String]) -> (std::path::PathBuf, Task) {
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

fn sentences() -> Vec<String> {
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

fn pictures() -> Vec<String> {
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

const SENTENCES: &str = "sentences = 'FILE'\n[model]\nvocab_len = 300\nclasses = 2";
const PICTURES: &str = "[data.pictures]\nfile = 'FILE'\nheight = 4\nwidth = 4\nlevels = 16\n\
    patch = 2\nmean = 0.4\ndeviation = 0.3\nshift = 1\n[model]\nclasses = 2";

/// What is learnt is right on examples that no training saw, in every format, through the command's own path; and a run
/// that was stopped ends like one that was not.
#[test]
fn examples_are_told_apart() {
    for (name, data, rows) in [
        ("sentences", SENTENCES, sentences()),
        ("pictures", PICTURES, pictures()),
    ] {
        let directory = common::directory(&format!("labelled-{name}"));
        let (path, task) = labelled(&directory, data, &rows);
        let never = AtomicBool::new(false);
        let out = directory.join("run");
        let ended = train(&task, &options(&path, &out, 2), &never).expect("a run");
        let Ended::Finished(straight) = ended else {
            panic!("nobody stopped it");
        };
        let weights = straight.state.params.clone();
        finish(*straight).expect("files");
        let stopped = often_stopped(&task, &options(&path, &directory.join("again"), 1));
        assert!(stopped.state.params == weights);
        for format in ["f32", "int8", "int4"] {
            let file = package::open(&out.join(format!("tiny-{format}.attn"))).expect("a file");
            let model = Model::parse(&file).expect("a model");
            let record = Provenance::parse(model.provenance()).expect("a record");
            let Some(Test::Classes(test)) = record.test else {
                panic!("{name} {format}: no test");
            };
            assert!(test.examples >= 16, "{name} {format}: {test:?}");
            assert!(test.accuracy >= 0.95, "{name} {format}: {test:?}");
            assert_eq!(record.labels.map(|labels| labels.len()), Some(2));
        }
    }
}

fn finished(directory: &Path, path: &Path, task: &Task) -> Run {
    let never = AtomicBool::new(false);
    let ended = train(task, &options(path, &directory.join("run"), 2), &never);
    let Ended::Finished(run) = ended.expect("a run") else {
        panic!("nobody stopped it");
    };
    *run
}

/// Each rival learns what can be learnt, with no more parameters than the model; the most frequent class is just that.
#[test]
fn rivals_learn() {
    for (name, data, rows) in [
        ("sentences", SENTENCES, sentences()),
        ("pictures", PICTURES, pictures()),
    ] {
        let directory = common::directory(&format!("rivals-{name}"));
        let (path, task) = labelled(&directory, data, &rows);
        let never = AtomicBool::new(false);
        let table = compare::table(finished(&directory, &path, &task), &never).expect("a table");
        assert_eq!(table.rows.len(), 7, "{table:?}");
        assert_eq!(table.thirds.is_some(), name == "sentences");
        let most = table.rows[6].parameters;
        assert!(table.rows[0].figure < 80.0, "{name}: {table:?}");
        assert!(table.rows[1].figure >= 95.0, "{name}: {table:?}");
        for row in &table.rows[2..4] {
            assert!(row.figure >= 80.0, "{name}: {row:?}");
            assert!(row.parameters <= most, "{name}: {row:?} of {most}");
            assert!(row.parameters > most / 2, "{name}: {row:?} of {most}");
        }
        for row in &table.rows[4..] {
            assert!(row.figure >= 95.0, "{name}: {row:?}");
        }
        let stop = AtomicBool::new(true);
        assert!(compare::table(finished(&directory, &path, &task), &stop).is_err());
    }
}

/// Of texts and of translations: every way that learns is better than one that does not, in every third.
#[test]
fn rivals_that_write_learn() {
    let directory = common::directory("rivals-pairs");
    let (path, mut task) = labelled(&directory, PAIRS, &translated());
    task.training.steps = Some(300);
    let never = AtomicBool::new(false);
    let table = compare::table(finished(&directory, &path, &task), &never).expect("a table");
    assert_eq!((table.rows.len(), table.unit), (7, "chrF"));
    for row in &table.rows[1..] {
        assert!(row.figure > table.rows[0].figure + 10.0, "{table:?}");
    }
    assert!(table.rows[4].figure >= 80.0, "{table:?}");
    let directory = common::directory("rivals-texts");
    let (path, task) = common::task(&directory, "steps = 60");
    let table = compare::table(finished(&directory, &path, &task), &never).expect("a table");
    assert_eq!((table.rows.len(), table.unit), (6, "bits per byte"));
    for row in &table.rows {
        let thirds = row.thirds.expect("thirds");
        // Eight bits a byte is what knowing nothing costs.
        assert!(row.figure > 1.0 && row.figure < 6.0, "{table:?}");
        assert!(
            thirds.iter().all(|bits| *bits > 1.0 && *bits < 6.5),
            "{table:?}"
        );
    }
}

/// Sentences of a language of twelve words, and their translations, in which the verb stands last.
fn translated() -> Vec<String> {
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

const PAIRS: &str = "[data.pairs]\nfiles = ['FILE']\n[model]\nvocab_len = 300\nsource_layers = 1";

/// What is learnt translates what no training saw, in every format; and a run that was stopped ends like one that was
/// not.
#[test]
fn translating_is_learnt() {
    let directory = common::directory("pairs");
    let (path, mut task) = labelled(&directory, PAIRS, &translated());
    task.training.steps = Some(400);
    let never = AtomicBool::new(false);
    let out = directory.join("run");
    let ended = train(&task, &options(&path, &out, 2), &never).expect("a run");
    let Ended::Finished(straight) = ended else {
        panic!("nobody stopped it");
    };
    let weights = straight.state.params.clone();
    finish(*straight).expect("files");
    let stopped = often_stopped(&task, &options(&path, &directory.join("again"), 1));
    assert!(stopped.state.params == weights);
    for format in ["f32", "int8", "int4"] {
        let file = package::open(&out.join(format!("tiny-{format}.attn"))).expect("a file");
        let model = Model::parse(&file).expect("a model");
        let record = Provenance::parse(model.provenance()).expect("a record");
        let Some(Test::Translation(test)) = record.test else {
            panic!("{format}: no test");
        };
        assert!(test.sentences >= 30, "{format}: {test:?}");
        assert!(test.chrf >= 80.0, "{format}: {test:?}");
        for beams in [1, 3] {
            let search = Search {
                beams,
                ..Search::GREEDY
            };
            let options = search.options(&model).expect("options");
            let mut memory = package::session_memory(&model, &options).expect("memory");
            let memory = Block::bytes_mut(&mut memory);
            let session = Session::new(&model, &options, memory, Backend::detect());
            let mut session = session.expect("a session");
            let made = translate(&mut session, "2: the dog hears a star", search);
            let made = made.expect("a translation");
            if format == "f32" {
                assert_eq!(made.text, "2: ke wa rin", "{beams} beams");
            }
            assert!(!made.is_cut);
            let long = "a star ".repeat(40);
            assert!(translate(&mut session, &long, search).is_err(), "too long");
            assert!(translate(&mut session, "", search).is_err(), "empty");
        }
    }
}

#[test]
fn rows_that_are_no_pairs_are_refused() {
    let directory = common::directory("no-pairs");
    for (rows, words) in [
        (["a cat\tmi\n", "a dog\n"], "line 2"),
        (["a cat\tmi\n", "a dog\t \n"], "line 2"),
        (["a cat\tmi\n", "a dog\twa\twa\n"], "line 2"),
    ] {
        let rows = rows.map(str::to_owned);
        let (_, task) = labelled(&directory, PAIRS, &rows);
        let error = Corpus::load(&task).err().expect("refused").to_string();
        assert!(error.contains(words), "{error}");
    }
    let text = std::fs::read_to_string(directory.join("tiny.toml")).expect("a task");
    let text = text.replace("source_layers = 1", "classes = 3");
    assert!(Task::parse(&text).is_err());
    let (_, task) = labelled(&directory, PAIRS, &translated());
    let Corpus::Pairs(pairs) = Corpus::load(&task).expect("pairs") else {
        panic!("pairs");
    };
    assert_eq!(
        [&pairs.train, &pairs.validation, &pairs.test].map(Vec::len),
        [96, 33, 33]
    );
    assert!(pairs.test.iter().all(|pair| !pairs.train.contains(pair)));
}

#[test]
fn rows_that_are_no_examples_are_refused() {
    let directory = common::directory("rows");
    let refused = |data: &str, rows: &[String], words: &str| {
        let (_, task) = labelled(&directory, data, rows);
        let error = Examples::load(&task).expect_err("refused").to_string();
        assert!(error.contains(words), "{error}");
    };
    let lines = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<Vec<_>>()
    };
    refused(SENTENCES, &lines(&["cats\ta cat", "a dog"]), "line 2");
    refused(SENTENCES, &lines(&["cats\ta cat", "dogs\t "]), "line 2");
    refused(SENTENCES, &lines(&["cats\ta cat"]), "holds 1 classes");
    refused(PICTURES, &lines(&["1,2,above"]), "16 numbers from 0 to 16");
    let mut white = pictures();
    white[3] = white[3].replacen("1", "117", 1);
    refused(PICTURES, &white, "line 4");
    let (_, task) = labelled(&directory, SENTENCES, &sentences());
    let parts = Examples::load(&task).expect("examples");
    let all = [&parts.train, &parts.validation, &parts.test].map(Vec::len);
    assert_eq!(all, [72, 24, 24]);
    for other in parts.train.iter().chain(&parts.validation) {
        assert!(!parts.test.contains(other), "held out");
    }
}
