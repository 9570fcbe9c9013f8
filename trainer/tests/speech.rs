//! Sound becomes text, with and without times, and the command that writes it.

mod common;

use attentive::kernels::Backend;
use attentive::{Block, Model, Session, SessionOptions};
use attentive_trainer::import::whisper;
use attentive_trainer::package::Formats;
use attentive_trainer::speech::{FRAMES, Frames, RATE, Speech, Writing, Written, read_wav};
use common::ct2::{VOCAB_TIMED, attentive, directory, directory_of, refused};
use hound::{SampleFormat, WavSpec, WavWriter};
use std::fs;
use std::path::Path;

/// A session that has heard a quarter of a second.
fn listening<'m>(
    model: &'m Model<'m>,
    options: &SessionOptions,
    memory: &'m mut [Block],
) -> Session<'m> {
    let session = Session::new(model, options, Block::bytes_mut(memory), Backend::detect());
    let mut session = session.expect("a session");
    let window = Frames::new(&[0.1; 4000]).expect("frames").window(0);
    session.read_frames(&window).expect("frames");
    session
}

fn writing(speech: &Speech, beams: usize, times: bool) -> Writing {
    Writing {
        language: 258,
        task: speech.transcribe,
        beams,
        times,
    }
}

/// Against sums over all logits in f64.
#[test]
fn what_is_written_has_its_probability() {
    let directory = directory("whisper-written");
    let blocks = whisper::import(&directory, "tiny", "a command", Formats::F32).expect("a file");
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let speech = Speech::of(&model).expect("a table");
    let options = SessionOptions::new(12).with_source_len(1500).with_beams(4);
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let mut session = listening(&model, &options, &mut memory);
    let prompt = [257, 258, speech.transcribe, 263];
    for beams in [1, 4] {
        session.reset();
        let how = writing(&speech, beams, false);
        let written = speech.write(&mut session, &how).expect("a text");
        session.reset();
        let mut all: Vec<Vec<f64>> = Vec::new();
        let ids = [&prompt[..], &written.ids].concat();
        let done = session.score(&ids, |_, logits| {
            all.push(logits.iter().map(|x| f64::from(*x)).collect());
        });
        done.expect("scores");
        let share = |logits: &[f64], id: u32, counts: &dyn Fn(usize) -> bool| {
            let powers = logits.iter().enumerate().filter(|(id, _)| counts(*id));
            logits[id as usize].exp() / powers.map(|(_, x)| x.exp()).sum::<f64>()
        };
        assert!((written.silence - share(&all[0], 262, &|_| true)).abs() < 1e-6);
        let ends = written.ids.len() < 6;
        let texts = written.ids.iter().copied().chain(ends.then_some(256));
        let logs = texts.enumerate().map(|(place, id)| {
            let first = place == 0;
            let counts = |id: usize| id <= 256 && id != 65 && !(first && [32, 256].contains(&id));
            let most = (0..all[3 + place].len()).filter(|id| counts(*id));
            let best = most.max_by(|a, b| all[3 + place][*a].total_cmp(&all[3 + place][*b]));
            assert!(counts(id as usize), "{id} may not stand there");
            assert!(beams > 1 || best == Some(id as usize));
            share(&all[3 + place], id, &counts).ln()
        });
        let mean = logs.sum::<f64>() / (written.ids.len() + 1) as f64;
        assert!(
            (written.mean - mean).abs() < 1e-5,
            "{beams} beams: {} {mean}",
            written.mean
        );
    }
    let silent = |silence, mean| {
        Written {
            ids: Vec::new(),
            is_complete: true,
            mean,
            silence,
        }
        .is_silence()
    };
    assert!(silent(0.7, -1.1) && !silent(0.5, -1.1) && !silent(0.7, -0.9));
}

/// A tone of 440 Hz.
fn write_tone(path: &Path, rate: u32, channels: u16, format: SampleFormat, seconds: f32) {
    let spec = WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: if format == SampleFormat::Int { 16 } else { 32 },
        sample_format: format,
    };
    let mut writer = WavWriter::create(path, spec).expect("created");
    for index in 0..(rate as f32 * seconds) as u32 {
        let sample = 0.5 * tone(index, rate);
        for _ in 0..channels {
            match format {
                SampleFormat::Int => writer.write_sample((sample * 32_768.0) as i16),
                SampleFormat::Float => writer.write_sample(sample),
            }
            .expect("written");
        }
    }
    writer.finalize().expect("written");
}

fn tone(index: u32, rate: u32) -> f32 {
    let turns = 440.0 * f64::from(index) / f64::from(rate);
    (turns * std::f64::consts::TAU).sin() as f32
}

#[test]
fn sound_of_any_rate_is_the_same_sound() {
    let directory = common::directory("whisper-rates");
    let path = directory.join("tone.wav");
    for (rate, channels, format) in [
        (16_000, 1, SampleFormat::Int),
        (16_000, 2, SampleFormat::Float),
        (44_100, 1, SampleFormat::Float),
        (48_000, 2, SampleFormat::Int),
        (8_000, 1, SampleFormat::Int),
        (11_025, 1, SampleFormat::Float),
        (767_999, 1, SampleFormat::Int),
    ] {
        write_tone(&path, rate, channels, format, 0.7);
        let samples = read_wav(&path).expect("sound");
        let want = (0.7 * RATE as f32) as usize;
        assert!(
            samples.len().abs_diff(want) <= 1,
            "{rate}: {}",
            samples.len()
        );
        // Not at the ends, where the tone begins and ends suddenly.
        let middle = samples.iter().enumerate().skip(2000).take(want - 4000);
        for (index, sample) in middle {
            let want = 0.5 * tone(index as u32, RATE);
            assert!(
                (sample - want).abs() < 2e-3,
                "{rate} {channels} {index}: {sample} {want}"
            );
        }
    }
    // A window of half a minute, filled up with zeros; 31 seconds are two.
    assert_eq!(Frames::new(&[0.1; 8000]).expect("frames").len(), 50);
    let two = Frames::new(&vec![0.1; 31 * 16_000]).expect("frames");
    assert_eq!(two.len(), FRAMES + 100);
    let [first, second] = [0, FRAMES].map(|at| two.window(at));
    assert!(first.len() == FRAMES * 80 && second.len() == FRAMES * 80);
    assert!(second[..100 * 80].iter().any(|x| *x != 0.0));
    assert!(second[100 * 80..].iter().all(|x| *x == 0.0));
    assert!(Frames::new(&[0.1; 16]).is_err());
}

/// By the rules of times, however many texts are pursued; the command tells them.
#[test]
fn times_stand_among_the_tokens_of_every_beam() {
    let directory = directory_of("whisper-times", VOCAB_TIMED);
    let (status, said, text) = attentive(&directory, &["import", ".", "--out", "tiny.attn"]);
    assert_eq!(status, Some(0), "{said} {text}");
    let file = attentive_trainer::package::open(&directory.join("tiny.attn")).expect("a file");
    let model = Model::parse(&file).expect("a model");
    let speech = Speech::of(&model).expect("a table");
    let options = SessionOptions::new(12).with_source_len(1500);
    let mut texts = Vec::new();
    for beams in [1, 2, 5] {
        let options = options.with_beams(beams);
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
        let mut session = listening(&model, &options, &mut memory);
        let how = writing(&speech, beams, true);
        let written = speech.write(&mut session, &how).expect("a text");
        let ids = &written.ids;
        assert!((264..=264 + 50).contains(&ids[0]), "{beams}: {ids:?}");
        let times: Vec<u32> = ids.iter().copied().filter(|id| *id >= 264).collect();
        assert!(times.is_sorted(), "{beams}: {ids:?}");
        let stands = |id: &u32| *id < 256 && *id != 65 || *id >= 264;
        assert!(ids.iter().all(stands), "{beams}: {ids:?}");
        let three = ids
            .windows(3)
            .any(|three| three.iter().all(|id| *id >= 264));
        assert!(!three, "{beams}: {ids:?}");
        texts.push(written);
    }
    assert_ne!(texts[0], texts[2], "more beams have found another text");
    write_tone(&directory.join("a.wav"), 16_000, 1, SampleFormat::Int, 0.3);
    let (status, said, text) = attentive(
        &directory,
        &[
            "transcribe",
            "tiny.attn",
            "a.wav",
            "--times",
            "--json",
            "--beams",
            "5",
        ],
    );
    assert_eq!(status, Some(0), "{text}");
    let line: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert!(line["segments"].is_array(), "{said}");
}

#[test]
fn the_command_writes_or_says_why_not() {
    let directory = directory("whisper-command");
    let (status, said, text) = attentive(&directory, &["import", ".", "--out", "tiny.attn"]);
    assert_eq!(status, Some(0), "{said} {text}");
    let path = |name: &str| directory.join(name);
    write_tone(&path("a.wav"), 16_000, 1, SampleFormat::Int, 0.3);
    write_tone(&path("b.wav"), 44_100, 2, SampleFormat::Float, 0.3);
    let run = ["transcribe", "tiny.attn", "a.wav", "b.wav", "--json"];
    let (status, said, text) = attentive(&directory, &run);
    assert_eq!(status, Some(0), "{text}");
    let lines: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert!(["en", "es"].contains(&line["language"].as_str().expect("a language")));
        // What is suppressed is not written.
        assert!(!line["text"].as_str().expect("a text").contains('A'));
    }
    let named = [&run[..], &["--language", "es"]].concat();
    let (_, said, _) = attentive(&directory, &named);
    assert_eq!(said.matches("\"language\":\"es\"").count(), 2, "{said}");
    // The tiny model has no tokens of times.
    let timed = |args: &[&'static str]| [&["transcribe", "tiny.attn", "a.wav"], args].concat();
    refused(
        &directory,
        &timed(&["--times"]),
        &["a.wav", "no tokens of times"],
    );
    refused(
        &directory,
        &timed(&["--times", "--beams", "2"]),
        &["a.wav", "no tokens of times"],
    );
    for (args, words) in [
        (&["--subtitles", "a.txt"][..], ".srt or .vtt"),
        (&["b.wav", "--subtitles", "a.srt"], "one clip, not 2"),
        (&["--subtitles", "a.srt"], "no tokens of times"),
    ] {
        refused(&directory, &timed(args), &[words]);
    }
    assert!(!path("a.srt").exists() && !path("a.txt").exists());
    // Beside what is said: of a clip that is not named, nothing is known.
    fs::write(path("said.tsv"), "a.wav\tone two three\nb.wav\tfour\n").expect("written");
    let beside = [&run[..], &["--expected", "said.tsv"]].concat();
    let (status, said, text) = attentive(&directory, &beside);
    assert_eq!(status, Some(0), "{text}");
    assert!(
        said.contains("\"words\":3") && said.contains("\"words\":1"),
        "{said}"
    );
    assert!(
        text.contains("of 4 words") && text.contains("word error rate"),
        "{text}"
    );
    for (content, words) in [
        ("a.wav\tone\n", ["said.tsv", "b.wav"]),
        ("a.wav\tone\nb.wav two\n", ["said.tsv", "line 2"]),
    ] {
        fs::write(path("said.tsv"), content).expect("written");
        refused(&directory, &beside, &words);
    }
    fs::write(path("none.wav"), "no sound").expect("written");
    fs::write(path("empty.wav"), "").expect("written");
    write_tone(&path("short.wav"), 16_000, 1, SampleFormat::Int, 0.0);
    for rate in [999, 768_001, 100_000_007] {
        let spec = WavSpec {
            channels: 1,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut writer = WavWriter::create(path("odd.wav"), spec).expect("created");
        (0..1600i16).for_each(|x| writer.write_sample(x).expect("written"));
        writer.finalize().expect("written");
        let words = [&format!("{rate} samples a second")[..], "1000 to 768000"];
        refused(&directory, &["transcribe", "tiny.attn", "odd.wav"], &words);
    }
    let decoder = common::root().join("models/austen-1m-int8.attn");
    let decoder = decoder.to_str().expect("a path");
    let transcribe = |args: &[&'static str]| [&["transcribe", "tiny.attn"], args].concat();
    refused(&directory, &transcribe(&["none.wav"]), &["none.wav"]);
    refused(&directory, &transcribe(&["empty.wav"]), &["empty.wav"]);
    refused(&directory, &transcribe(&["absent.wav"]), &["absent.wav"]);
    refused(
        &directory,
        &transcribe(&["short.wav"]),
        &["short.wav", "no sound"],
    );
    refused(
        &directory,
        &transcribe(&["a.wav", "--language", "xx"]),
        &["\"xx\"", "en, es"],
    );
    refused(
        &directory,
        &["transcribe", decoder, "a.wav"],
        &["does not hear"],
    );
    refused(
        &directory,
        &["generate", "tiny.attn", "--prompt", "x"],
        &["encoder–decoder"],
    );
}
