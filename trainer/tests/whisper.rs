//! Whisper from CTranslate2's files: a tiny one with made-up numbers, broken ones, and the published one where it is.

mod common;

use attentive::kernels::ops::embed::dequantize_row;
use attentive::kernels::{Backend, Vector};
use attentive::{Block, Input, Model, Role, Session, SessionOptions};
use attentive_trainer::import::whisper;
use attentive_trainer::package::Formats;
use attentive_trainer::speech::{FRAMES, Frames, RATE, Speech, Writing, Written, read_wav};
use hound::{SampleFormat, WavSpec, WavWriter};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DIM: u32 = 16;
const HIDDEN: u32 = 24;
const BINS: u32 = 80;
const VOCAB: u32 = 270;
/// With the tokens of times behind the last that steers.
const VOCAB_TIMED: u32 = 264 + 1501;
const CONTEXT: u32 = 12;

/// A tensor of a file: name, shape, code of its type, bytes.
type Tensor = (String, Vec<u32>, u8, Vec<u8>);

/// As many floats as a shape has, near 0, no two tensors alike.
fn floats(name: &str, shape: &[u32]) -> Vec<f32> {
    let mut x = name.bytes().fold(7u32, |x, byte| {
        x.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    let middle = if name.ends_with("gamma") { 1.0 } else { 0.0 };
    let len: u32 = shape.iter().product();
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Exact in half precision.
        middle + ((x >> 23) as f32 - 256.0) / 1024.0
    };
    (0..len).map(next).collect()
}

fn float(name: &str, shape: &[u32]) -> Tensor {
    let bytes = floats(name, shape).into_iter();
    let bytes = bytes.flat_map(|x| half::f16::from_f32(x).to_le_bytes());
    (name.to_owned(), shape.to_vec(), 4, bytes.collect())
}

fn integer(name: &str, value: i8) -> Tensor {
    (name.to_owned(), Vec::new(), 1, vec![value as u8])
}

/// The tensors of a model of two layers that read and one that writes.
fn tensors(vocab_len: u32) -> Vec<Tensor> {
    let mut all = vec![
        integer("decoder/activation", 3),
        integer("decoder/alibi", 0),
        integer("decoder/pre_norm", 1),
        integer("decoder/scale_embeddings", 0),
        ("decoder/num_heads".to_owned(), Vec::new(), 2, vec![2, 0]),
        ("encoder/num_heads".to_owned(), Vec::new(), 2, vec![2, 0]),
        float("decoder/embeddings/weight", &[vocab_len, DIM]),
        float("decoder/position_encodings/encodings", &[CONTEXT, DIM]),
        float("encoder/position_encodings/encodings", &[1500, DIM]),
        float("encoder/conv1/weight", &[DIM, BINS, 3]),
        float("encoder/conv1/bias", &[DIM]),
        float("encoder/conv2/weight", &[DIM, DIM, 3]),
        float("encoder/conv2/bias", &[DIM]),
    ];
    let norm = |all: &mut Vec<Tensor>, place: &str| {
        all.push(float(&format!("{place}/layer_norm/gamma"), &[DIM]));
        all.push(float(&format!("{place}/layer_norm/beta"), &[DIM]));
    };
    let linear = |all: &mut Vec<Tensor>, place: &str, rows: u32, cols: u32| {
        all.push(float(&format!("{place}/weight"), &[rows, cols]));
        all.push(float(&format!("{place}/bias"), &[rows]));
    };
    for place in ["encoder/layer_0", "encoder/layer_1", "decoder/layer_0"] {
        norm(&mut all, &format!("{place}/self_attention"));
        linear(
            &mut all,
            &format!("{place}/self_attention/linear_0"),
            3 * DIM,
            DIM,
        );
        linear(
            &mut all,
            &format!("{place}/self_attention/linear_1"),
            DIM,
            DIM,
        );
        norm(&mut all, &format!("{place}/ffn"));
        linear(&mut all, &format!("{place}/ffn/linear_0"), HIDDEN, DIM);
        linear(&mut all, &format!("{place}/ffn/linear_1"), DIM, HIDDEN);
    }
    norm(&mut all, "decoder/layer_0/attention");
    linear(&mut all, "decoder/layer_0/attention/linear_0", DIM, DIM);
    linear(&mut all, "decoder/layer_0/attention/linear_1", 2 * DIM, DIM);
    linear(&mut all, "decoder/layer_0/attention/linear_2", DIM, DIM);
    norm(&mut all, "encoder");
    norm(&mut all, "decoder");
    all
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16 + 1).to_le_bytes());
    out.extend(text.bytes().chain([0]));
}

/// A file of CTranslate2, version 6.
fn file(spec: &str, tensors: &[Tensor], alias: (&str, &str)) -> Vec<u8> {
    let mut out = 6u32.to_le_bytes().to_vec();
    text(&mut out, spec);
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u32).to_le_bytes());
    for (name, shape, code, bytes) in tensors {
        text(&mut out, name);
        out.push(shape.len() as u8);
        out.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
        out.push(*code);
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
    }
    out.extend(1u32.to_le_bytes());
    text(&mut out, alias.0);
    text(&mut out, alias.1);
    out
}

const ALIAS: (&str, &str) = ("decoder/projection/weight", "decoder/embeddings/weight");

const SPECIALS: [&str; 8] = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|es|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|nospeech|>",
    "<|notimestamps|>",
];

/// A directory with the tiny model.
fn directory(name: &str) -> PathBuf {
    directory_of(name, VOCAB)
}

fn directory_of(name: &str, vocab_len: u32) -> PathBuf {
    let directory = common::directory(name);
    let mut vocab = serde_json::Map::new();
    for byte in 0..=255u8 {
        // GPT-2's alphabet: printable characters are themselves, the others follow from 256 on.
        let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let before = (0..byte).filter(|other| !printable(*other)).count() as u32;
        let character = match printable(byte) {
            true => char::from(byte),
            false => char::from_u32(256 + before).expect("a character"),
        };
        vocab.insert(character.to_string(), json!(byte));
    }
    let added = SPECIALS.iter().zip(256u32..);
    let added: Vec<_> = added
        .map(|(text, id)| json!({ "content": text, "id": id }))
        .collect();
    let tokenizer = json!({
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "use_regex": true },
        "normalizer": null, "added_tokens": added,
    });
    let config = json!({ "lang_ids": [258, 259], "suppress_ids": [-1, 65], "suppress_ids_begin": [32, 256] });
    fs::write(directory.join("tokenizer.json"), tokenizer.to_string()).expect("written");
    fs::write(directory.join("config.json"), config.to_string()).expect("written");
    fs::write(
        directory.join("model.bin"),
        file("WhisperSpec", &tensors(vocab_len), ALIAS),
    )
    .expect("written");
    directory
}

#[test]
fn every_tensor_is_in_its_place() {
    let directory = directory("whisper-tensors");
    let blocks = whisper::import(&directory, "tiny", "a command", Formats::F32).expect("a file");
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let config = model.config();
    let source = config.source().expect("a source");
    assert_eq!((config.layers, source.layers, source.len), (1, 2, 1500));
    assert_eq!(source.input, Input::Frames { bins: 80 });
    assert_eq!(
        (config.begin_of_text, config.end_of_text),
        (Some(257), Some(256))
    );
    let matrix = |role, layer| {
        let matrix = model.matrix(role, layer).expect("a matrix");
        let mut all = Vec::new();
        for row in 0..matrix.rows() {
            let mut out = vec![0.0; matrix.cols()];
            dequantize_row(Backend::SCALAR, &matrix, row, &mut out).expect("a row");
            all.extend(out);
        }
        all
    };
    let vector = |role, layer| match model.vector(role, layer).expect("a vector") {
        Some(Vector::F32(values)) => values.to_vec(),
        other => panic!("{other:?}"),
    };
    let (d, h) = (DIM, HIDDEN);
    for (role, layer, name, shape) in [
        (
            Role::TokenEmbedding,
            None,
            "decoder/embeddings/weight",
            [VOCAB, d],
        ),
        (
            Role::PositionEmbedding,
            None,
            "decoder/position_encodings/encodings",
            [CONTEXT, d],
        ),
        (
            Role::SourcePositionEmbedding,
            None,
            "encoder/position_encodings/encodings",
            [1500, d],
        ),
        (
            Role::QkvWeight,
            Some(0),
            "decoder/layer_0/self_attention/linear_0/weight",
            [3 * d, d],
        ),
        (
            Role::QkvWeight,
            Some(2),
            "encoder/layer_1/self_attention/linear_0/weight",
            [3 * d, d],
        ),
        (
            Role::OutWeight,
            Some(1),
            "encoder/layer_0/self_attention/linear_1/weight",
            [d, d],
        ),
        (
            Role::CrossQWeight,
            Some(0),
            "decoder/layer_0/attention/linear_0/weight",
            [d, d],
        ),
        (
            Role::CrossKvWeight,
            Some(0),
            "decoder/layer_0/attention/linear_1/weight",
            [2 * d, d],
        ),
        (
            Role::CrossOutWeight,
            Some(0),
            "decoder/layer_0/attention/linear_2/weight",
            [d, d],
        ),
        (
            Role::UpWeight,
            Some(1),
            "encoder/layer_0/ffn/linear_0/weight",
            [h, d],
        ),
        (
            Role::DownWeight,
            Some(0),
            "decoder/layer_0/ffn/linear_1/weight",
            [d, h],
        ),
    ] {
        assert_eq!(matrix(role, layer), floats(name, &shape), "{name}");
    }
    for (role, layer, name) in [
        (
            Role::AttnNormGain,
            Some(0),
            "decoder/layer_0/self_attention/layer_norm/gamma",
        ),
        (
            Role::CrossNormBias,
            Some(0),
            "decoder/layer_0/attention/layer_norm/beta",
        ),
        (
            Role::FfnNormGain,
            Some(2),
            "encoder/layer_1/ffn/layer_norm/gamma",
        ),
        (Role::FinalNormGain, None, "decoder/layer_norm/gamma"),
        (Role::SourceNormBias, None, "encoder/layer_norm/beta"),
        (Role::Conv1Bias, None, "encoder/conv1/bias"),
        (Role::Conv2Bias, None, "encoder/conv2/bias"),
    ] {
        assert_eq!(vector(role, layer), floats(name, &[d]), "{name}");
    }
    // There [row][channel][frame], here [row][frame][channel].
    for (role, name, channels) in [
        (Role::Conv1Weight, "encoder/conv1/weight", BINS),
        (Role::Conv2Weight, "encoder/conv2/weight", DIM),
    ] {
        let (there, here) = (floats(name, &[DIM, channels, 3]), matrix(role, None));
        let channels = channels as usize;
        for (at, value) in here.iter().enumerate() {
            let (row, rest) = (at / (3 * channels), at % (3 * channels));
            let (frame, channel) = (rest / channels, rest % channels);
            assert_eq!(
                *value,
                there[(row * channels + channel) * 3 + frame],
                "{name} {at}"
            );
        }
    }
    let speech = Speech::of(&model).expect("a table");
    assert_eq!(speech.no_speech, Some(262));
    assert_eq!(
        (speech.start, speech.end, speech.no_timestamps),
        (257, 256, 263)
    );
    assert_eq!(
        (speech.suppress, speech.suppress_first),
        (vec![65], vec![32, 256])
    );
    assert_eq!(speech.languages.get("es"), Some(&259));
}

/// CTranslate2's own int8 has a scale for each row, its int16 one for a matrix; levels divided by these are the weights.
#[test]
fn levels_are_read_with_their_scales() {
    let directory = directory("whisper-levels");
    let imported = |tensors: &[Tensor]| {
        let bytes = file("WhisperSpec", tensors, ALIAS);
        fs::write(directory.join("model.bin"), bytes).expect("written");
        let blocks = whisper::import(&directory, "tiny", "a command", Formats::F32);
        blocks.unwrap_or_else(|error| panic!("{error:#}"))
    };
    let f32s = |values: &[f32]| {
        values
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    for (code, most) in [(1u8, 127.0f32), (2, 1023.0)] {
        let (mut levels, mut floats_of) = (Vec::new(), Vec::new());
        for tensor in tensors(VOCAB) {
            if !tensor.0.ends_with("/weight") {
                levels.push(tensor.clone());
                floats_of.push(tensor);
                continue;
            }
            let (name, shape) = (tensor.0, tensor.1);
            let values = floats(&name, &shape);
            let rows = if code == 1 { shape[0] as usize } else { 1 };
            let (mut scales, mut bytes, mut plain) = (Vec::new(), Vec::new(), Vec::new());
            for row in values.chunks(values.len() / rows) {
                let largest = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let scale = most / largest;
                for level in row.iter().map(|x| (x * scale).round()) {
                    // Not −0, which no integer is.
                    plain.push((level + 0.0) / scale);
                    match code {
                        1 => bytes.push(level as i8 as u8),
                        _ => bytes.extend((level as i16).to_le_bytes()),
                    }
                }
                scales.push(scale);
            }
            let shape_of_scales = if code == 1 {
                vec![rows as u32]
            } else {
                Vec::new()
            };
            levels.push((name.clone(), shape.clone(), code, bytes));
            levels.push((format!("{name}_scale"), shape_of_scales, 0, f32s(&scales)));
            floats_of.push((name, shape, 0, f32s(&plain)));
        }
        let (got, want) = (imported(&levels), imported(&floats_of));
        assert!(Block::bytes(&got) == Block::bytes(&want), "type {code}");
    }
}

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

fn attentive(directory: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_attentive"))
        .current_dir(directory)
        .args(args)
        .output()
        .expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Status 2, and stderr holds every word.
#[track_caller]
fn refused(directory: &Path, args: &[&str], words: &[&str]) {
    let (status, _, text) = attentive(directory, args);
    assert_eq!(status, Some(2), "{args:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{args:?}: no {word:?} in {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn broken_files_are_refused() {
    let directory = directory("whisper-broken");
    let good = fs::read(directory.join("model.bin")).expect("written");
    let refused_with = |bytes: &[u8], words: &[&str]| {
        fs::write(directory.join("model.bin"), bytes).expect("written");
        refused(&directory, &["import", ".", "--out", "made.attn"], words);
        assert!(!directory.join("made.attn").exists());
    };
    for len in [1, 3, 20, 100, good.len() / 2, good.len() - 1] {
        refused_with(&good[..len], &["model.bin", "truncated"]);
    }
    refused_with(&[good.as_slice(), &[0]].concat(), &["1 bytes follow"]);
    refused_with(&[&[5], &good[1..]].concat(), &["version 6"]);
    refused_with(
        &file("TransformerSpec", &tensors(VOCAB), ALIAS),
        &["TransformerSpec", "WhisperSpec"],
    );
    refused_with(
        &file("WhisperSpec", &tensors(VOCAB), ("a", "b")),
        &["a is b, which is missing"],
    );
    let changed = |name: &str, change: &dyn Fn(&mut Tensor)| {
        let mut all = tensors(VOCAB);
        let tensor = all.iter_mut().find(|tensor| tensor.0 == name);
        change(tensor.expect("a tensor"));
        file("WhisperSpec", &all, ALIAS)
    };
    let bias = "decoder/layer_0/attention/linear_1/bias";
    refused_with(
        &changed(bias, &|tensor| tensor.0 = "other".to_owned()),
        &[bias, "missing", "[32]"],
    );
    let shorter = changed(bias, &|tensor| *tensor = float(bias, &[31]));
    refused_with(&shorter, &[bias, "[31]", "expected [32]"]);
    let quantized = changed(bias, &|tensor| {
        *tensor = (bias.to_owned(), vec![32], 1, vec![0; 32]);
    });
    let scale = format!("{bias}_scale");
    refused_with(&quantized, &[bias, "I8", &scale, "missing"]);
    let mut all = tensors(VOCAB);
    let tensor = all.iter_mut().find(|tensor| tensor.0 == bias);
    *tensor.expect("a tensor") = (bias.to_owned(), vec![32], 1, vec![0; 32]);
    all.push(float(&scale, &[3]));
    let three = file("WhisperSpec", &all, ALIAS);
    refused_with(&three, &[&scale, "3 numbers", "1 or 32"]);
    refused_with(&changed(bias, &|tensor| tensor.2 = 9), &[bias, "type 9"]);
    refused_with(
        &changed(bias, &|tensor| tensor.1 = vec![33]),
        &[bias, "64 bytes cannot be"],
    );
    let relu = changed("decoder/activation", &|tensor| tensor.3 = vec![0]);
    refused_with(&relu, &["decoder/activation is 0; expected 3"]);
    let heads = changed("encoder/num_heads", &|tensor| tensor.3 = vec![4, 0]);
    refused_with(&heads, &["2 heads", "4"]);
    fs::write(directory.join("tokenizer.json"), "{}").expect("written");
    refused_with(&good, &["tokenizer.json", "BPE"]);
    fs::remove_file(directory.join("tokenizer.json")).expect("removed");
    refused_with(&good, &["tokenizer.json"]);
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

/// The published model's texts beside the reference's (`tests/reference/whisper.py` made them); one in which the two
/// differ is a recording of Polish that both take for Czech.
#[test]
fn the_published_model_writes_what_the_reference_writes() {
    let here = std::env::var_os("ATTENTIVE_WHISPER").zip(std::env::var_os("ATTENTIVE_CLIPS"));
    let Some((model, clips)) = here else {
        eprintln!(
            "skipped: ATTENTIVE_WHISPER is the model's directory, ATTENTIVE_CLIPS the clips'"
        );
        return;
    };
    let directory = common::directory("whisper-published");
    let out = directory.join("whisper.attn");
    let [model, clips, out] =
        [Path::new(&model), Path::new(&clips), &out].map(|path| path.to_str().expect("a path"));
    let (status, _, text) = attentive(&directory, &["import", model, "--out", out]);
    assert_eq!(status, Some(0), "{text}");
    let table = include_str!("reference/whisper.tsv");
    let (mut different, mut all) = (Vec::new(), 0);
    for row in table.lines().filter(|row| !row.starts_with('#')) {
        let [clip, language, want] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let clip = format!("{clips}/{clip}");
        let (status, said, text) = attentive(&directory, &["transcribe", out, &clip, "--json"]);
        assert_eq!(status, Some(0), "{text}");
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        all += 1;
        if said["text"] != want || said["language"] != language {
            different.push((clip, said["text"].to_string(), want));
        }
    }
    assert!(all > 30 && different.len() <= 1, "{different:#?}");
}
