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

/// What is learnt is right on examples that no training saw, in every format, through the command's own path; and a run
/// that was stopped ends like one that was not.
#[test]
fn examples_are_told_apart() {
    for (name, data, rows) in [
        ("sentences", common::SENTENCES, common::sentences()),
        ("pictures", common::PICTURES, common::pictures()),
    ] {
        let directory = common::directory(&format!("labelled-{name}"));
        let (path, task) = common::labelled(&directory, data, &rows);
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
        ("sentences", common::SENTENCES, common::sentences()),
        ("pictures", common::PICTURES, common::pictures()),
    ] {
        let directory = common::directory(&format!("rivals-{name}"));
        let (path, task) = common::labelled(&directory, data, &rows);
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
        // However often they are stopped, and what is finished is not trained again.
        let again = directory.join("again");
        let mut stops = 0;
        let stopped = loop {
            let stop = AtomicBool::new(stops == 0);
            let run = finished(&again, &path, &task);
            let table = std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(60) * (stops + 1));
                    stop.store(true, Ordering::Relaxed);
                });
                compare::table(run, &stop)
            });
            match table {
                Ok(table) => break table,
                Err(error) => assert!(error.to_string().contains("goes on"), "{error}"),
            }
            stops += 1;
        };
        assert!(stops >= 1);
        let figures = |table: &compare::Table| -> Vec<f64> {
            table.rows.iter().map(|row| row.figure).collect()
        };
        assert_eq!(figures(&stopped), figures(&table));
        for rival in ["gru", "lstm"] {
            let weights = |directory: &Path| {
                let path = directory.join("run").join(format!("{rival}.safetensors"));
                let bytes = std::fs::read(path).expect("a checkpoint");
                let all = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
                let tensors = all.tensors().into_iter();
                let mut tensors: Vec<(String, Vec<u8>)> = tensors
                    .map(|(name, tensor)| (name, tensor.data().to_vec()))
                    .collect();
                tensors.sort();
                tensors
            };
            assert!(weights(&again) == weights(&directory), "{name}: {rival}");
        }
    }
}

/// Of texts and of translations: every way that learns is better than one that does not, in every third.
#[test]
fn rivals_that_write_learn() {
    let directory = common::directory("rivals-pairs");
    let (path, mut task) = common::labelled(&directory, common::PAIRS, &common::translated());
    task.training.steps = Some(300);
    let never = AtomicBool::new(false);
    let table = compare::table(finished(&directory, &path, &task), &never).expect("a table");
    assert_eq!((table.rows.len(), table.unit), (7, "chrF"));
    for row in &table.rows[1..] {
        assert!(row.figure > table.rows[0].figure + 10.0, "{table:?}");
    }
    assert!(table.rows[4].figure >= 80.0, "{table:?}");
    let bleu: Vec<f64> = table.rows.iter().filter_map(|row| row.also).collect();
    assert!(bleu.len() == 7 && bleu[0] < bleu[4], "{bleu:?}");
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

/// What is learnt translates what no training saw, in every format; and a run that was stopped ends like one that was
/// not.
#[test]
fn translating_is_learnt() {
    let directory = common::directory("pairs");
    let (path, mut task) = common::labelled(&directory, common::PAIRS, &common::translated());
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
            let mut short = options.with_prefill_len(4);
            short.context_len = 4;
            let mut memory = package::session_memory(&model, &short).expect("memory");
            let memory = Block::bytes_mut(&mut memory);
            let little = Session::new(&model, &short, memory, Backend::detect());
            let mut little = little.expect("a session");
            let cut = translate(&mut little, "2: the dog hears a star", search);
            assert!(cut.expect("a beginning").is_cut);
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
        let (_, task) = common::labelled(&directory, common::PAIRS, &rows);
        let error = Corpus::load(&task).err().expect("refused").to_string();
        assert!(error.contains(words), "{error}");
    }
    let text = std::fs::read_to_string(directory.join("tiny.toml")).expect("a task");
    let text = text.replace("source_layers = 1", "classes = 3");
    assert!(Task::parse(&text).is_err());
    let (_, task) = common::labelled(&directory, common::PAIRS, &common::translated());
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
        let (_, task) = common::labelled(&directory, data, rows);
        let error = Examples::load(&task).expect_err("refused").to_string();
        assert!(error.contains(words), "{error}");
    };
    let lines = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<Vec<_>>()
    };
    refused(
        common::SENTENCES,
        &lines(&["cats\ta cat", "a dog"]),
        "line 2",
    );
    refused(
        common::SENTENCES,
        &lines(&["cats\ta cat", "dogs\t "]),
        "line 2",
    );
    refused(
        common::SENTENCES,
        &lines(&["cats\ta cat"]),
        "holds 1 classes",
    );
    refused(
        common::PICTURES,
        &lines(&["1,2,above"]),
        "16 numbers from 0 to 16",
    );
    let mut white = common::pictures();
    white[3] = white[3].replacen("1", "117", 1);
    refused(common::PICTURES, &white, "line 4");
    let (_, task) = common::labelled(&directory, common::SENTENCES, &common::sentences());
    let parts = Examples::load(&task).expect("examples");
    let all = [&parts.train, &parts.validation, &parts.test].map(Vec::len);
    assert_eq!(all, [72, 24, 24]);
    for other in parts.train.iter().chain(&parts.validation) {
        assert!(!parts.test.contains(other), "held out");
    }
}

/// Tones that rise and tones that fall, by speakers of other pitches, as a directory of clips.
fn tones(directory: &Path) -> String {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    for word in ["rise", "fall", "hum", "_silence_"] {
        std::fs::create_dir_all(directory.join(word)).expect("a directory");
        for speaker in 0..20 {
            for take in 0..2 {
                let path = directory.join(word).join(format!("s{speaker}_{take}.wav"));
                let mut file = hound::WavWriter::create(path, spec).expect("a clip");
                let mut phase = 0.0f32;
                for at in 0..1500 {
                    let place = at as f32 / 1500.0;
                    let bend = match word {
                        "rise" => place,
                        "fall" => 1.0 - place,
                        _ => 0.5,
                    };
                    let pitch = (300.0 + 10.0 * speaker as f32) * (1.0 + 3.0 * bend);
                    phase += pitch * std::f32::consts::TAU / 16_000.0;
                    let loud = if word == "_silence_" { 30.0 } else { 9000.0 };
                    let sample = phase.sin() * loud + (take * at % 7) as f32;
                    file.write_sample(sample as i16).expect("a sample");
                }
                file.finalize().expect("a clip");
            }
        }
    }
    format!(
        "[data.sounds]\ndirectory = '{}'\nwords = ['rise', 'fall']\nsamples = 1600\nwindow = 400\nhop = 160\n\
         bins = 12\nframes = 2\nmean = -0.2\ndeviation = 0.6\nshift = 100\ngain = 6.0\nnoise = 0.5\ntilt = 0.2\n\
         speed = 1.1\n[model]\nclasses = 4",
        directory.display()
    )
}

/// Speakers that the training does not hear are understood; other words and silence are classes of their own.
#[test]
fn sounds_are_told_apart() {
    let directory = common::directory("sounds");
    let data = tones(&directory.join("clips"));
    let (path, mut task) = common::labelled(&directory, &data, &[]);
    task.training.steps = Some(150);
    let parts = Examples::load(&task).expect("clips");
    assert_eq!(parts.labels, ["_other_", "_silence_", "fall", "rise"]);
    let all = [&parts.train, &parts.validation, &parts.test].map(Vec::len);
    assert_eq!(all, [96, 32, 32]);
    let run = finished(&directory, &path, &task);
    let weights = run.state.params.clone();
    let again = often_stopped(&task, &options(&path, &directory.join("again"), 1));
    assert!(again.state.params == weights);
    finish(run).expect("files");
    let file = package::open(&directory.join("run/tiny-int8.attn")).expect("a file");
    let model = Model::parse(&file).expect("a model");
    let record = Provenance::parse(model.provenance()).expect("a record");
    assert_eq!(record.sound.map(|sound| sound.patches()), Some(4));
    let Some(Test::Classes(test)) = record.test else {
        panic!("no test");
    };
    assert!(test.accuracy >= 0.9, "{test:?}");
    let mut wrong = task.clone();
    if let Some(sounds) = &mut wrong.data.sounds {
        sounds.directory = directory.join("run");
    }
    let error = Examples::load(&wrong).expect_err("no clips").to_string();
    assert!(error.contains("attentive speak"), "{error}");
}
