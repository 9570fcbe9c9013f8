//! Whisper from CTranslate2's files: a tiny one with made-up numbers, broken ones, and the published one where it is.

mod common;

use attentive::kernels::ops::embed::dequantize_row;
use attentive::kernels::{Backend, Vector};
use attentive::{Block, Input, Model, Role};
use attentive_trainer::import::whisper;
use attentive_trainer::package::Formats;
use attentive_trainer::speech::Speech;
use common::ct2::{
    ALIAS, BINS, CONTEXT, DIM, HIDDEN, Tensor, VOCAB, attentive, directory, file, float, floats,
    refused, tensors,
};
use std::fs;
use std::path::Path;

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
