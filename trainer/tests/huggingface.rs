//! Directories of Hugging Face's: tiny models of every architecture against transformers, and broken ones.
//!
//! `reference/huggingface.py` made `data/huggingface`.

mod common;

use attentive::kernels::Backend;
use attentive::{
    Block, Encoder, EncoderOptions, Model, Sampler, SamplerOptions, Session, SessionOptions,
};
use attentive_trainer::examples::Thing;
use attentive_trainer::frontend::Frontend;
use attentive_trainer::import::directory;
use attentive_trainer::package::Formats;
use attentive_trainer::speech::Speech;
use attentive_trainer::{eval, texts};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    common::root()
        .join("trainer/tests/data/huggingface")
        .join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

fn floats(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list");
    list.iter()
        .map(|x| x.as_f64().expect("a number") as f32)
        .collect()
}

#[track_caller]
fn assert_close(what: &str, have: &[f32], want: &[f32]) {
    assert_eq!(have.len(), want.len(), "{what}");
    let largest = want.iter().fold(0f32, |most, x| most.max(x.abs()));
    for (have, want) in have.iter().zip(want) {
        let error = (have - want).abs() / largest;
        assert!(error <= 2e-5, "{what}: {have} instead of {want}");
    }
}

#[test]
fn decoders_give_the_logits_of_transformers() {
    for name in ["llama", "mistral", "gpt2"] {
        let file = directory(&data(name), name, "import", Formats::F32, None);
        let file = file.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let model = Model::parse(Block::bytes(&file)).expect("a model");
        let expected = json(&data(name).join("expected.json"));
        let ids = eval::encode(
            model.tokenizer(),
            expected["text"].as_str().expect("a text"),
        );
        let ids = ids.expect("tokens");
        let want: Vec<u32> = floats(&expected["tokens"])
            .iter()
            .map(|id| *id as u32)
            .collect();
        assert_eq!(ids, want, "{name}");
        let options = SessionOptions::new(ids.len());
        for backend in Backend::available() {
            let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
            let memory = Block::bytes_mut(&mut memory);
            let mut session = Session::new(&model, &options, memory, backend).expect("a session");
            let mut seen = 0;
            let scored = session.score(&ids, |index, logits| {
                let want = &expected["logits"][index.to_string()];
                if !want.is_null() {
                    let what = format!("{name} {} at {index}", backend.name());
                    assert_close(&what, logits, &floats(want));
                    seen += 1;
                }
            });
            scored.expect("room");
            assert_eq!(seen, 3, "{name}");
        }
    }
}

#[test]
fn pictures_give_the_logits_of_transformers() {
    let file = directory(&data("vit"), "vit", "import", Formats::F32, None).expect("a file");
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let expected = json(&data("vit").join("expected.json"));
    let pixels = floats(&expected["pixels"])
        .iter()
        .map(|x| *x as u8)
        .collect();
    let frontend = Frontend::recorded(model.provenance()).expect("a record");
    let patches = frontend.cut(&Thing::Picture(pixels)).expect("patches");
    assert_eq!(
        texts::labels(model.provenance()).map(|labels| labels.len()),
        Some(5)
    );
    let options = EncoderOptions::new(model.config().context_len);
    for backend in Backend::available() {
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        let mut encoder = Encoder::new(&model, &options, memory, backend).expect("an encoder");
        encoder.run_patches(&patches).expect("a run");
        let logits = encoder.classes().expect("classes");
        assert_close(backend.name(), logits, &floats(&expected["logits"]));
    }
}

#[test]
fn sounds_give_the_logits_of_transformers() {
    let file =
        directory(&data("whisper"), "whisper", "import", Formats::F32, None).expect("a file");
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let expected = json(&data("whisper").join("expected.json"));
    let frames = floats(&expected["frames"]);
    let ids = floats(&expected["tokens"]);
    let ids: Vec<u32> = ids.iter().map(|id| *id as u32).collect();
    let speech = Speech::of(&model).expect("a speech table");
    assert_eq!((speech.start, speech.end), (ids[0], 0));
    assert_eq!(speech.languages["en"], ids[1]);
    assert_eq!(speech.suppress, [1, 2]);
    let options = SessionOptions::new(32).with_source_len(10);
    for backend in Backend::available() {
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        let mut session = Session::new(&model, &options, memory, backend).expect("a session");
        session.read_frames(&frames).expect("frames");
        let mut seen = 0;
        let scored = session.score(&ids, |index, logits| {
            let want = &expected["logits"][index.to_string()];
            if !want.is_null() {
                let what = format!("whisper {} at {index}", backend.name());
                assert_close(&what, logits, &floats(want));
                seen += 1;
            }
        });
        scored.expect("room");
        assert_eq!(seen, 3);
    }
}

fn tokens(value: &Value) -> Vec<u32> {
    floats(value).iter().map(|id| *id as u32).collect()
}

#[test]
fn translations_give_the_tokens_and_the_logits_of_transformers() {
    let file = directory(&data("marian"), "marian", "import", Formats::F32, None);
    let file = file.unwrap_or_else(|error| panic!("{error:#}"));
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let expected = json(&data("marian").join("expected.json"));
    let padding = expected["pad"].as_u64().expect("a token") as usize;
    let options = SessionOptions::new(48).with_source_len(48);
    for backend in Backend::available() {
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        let mut session = Session::new(&model, &options, memory, backend).expect("a session");
        for example in expected["examples"].as_array().expect("examples") {
            let text = example["text"].as_str().expect("a text");
            let what = format!("{} {text:?}", backend.name());
            session.read(text).expect("a source");
            let wrapped = texts::Wrapped::new(model.tokenizer(), text, None, 48).expect("tokens");
            assert_eq!(wrapped.ids, tokens(&example["tokens"]), "{what}");
            let mut seen = 0;
            let scored = session.score(&tokens(&example["forced"]), |index, logits| {
                let want = &example["logits"][index.to_string()];
                if !want.is_null() {
                    let mut logits = logits.to_vec();
                    assert!(logits[padding] < -60_000.0, "{what}");
                    logits[padding] = 0.0;
                    assert_close(&format!("{what} at {index}"), &logits, &floats(want));
                    seen += 1;
                }
            });
            scored.expect("room");
            assert_eq!(seen, 3, "{what}");
            // The likeliest tokens, until there is no room and the end is forced.
            let made = tokens(&example["made"]);
            session.read(text).expect("a source");
            session.prompt("").expect("a beginning");
            let mut sampler = Sampler::new(SamplerOptions::GREEDY);
            let mut written = Vec::new();
            for _ in 2..made.len() {
                let piece = session.step(&mut sampler).expect("room");
                written.extend_from_slice(piece.expect("no end"));
            }
            assert_eq!(session.tokens(), &made[..made.len() - 1], "{what}");
            let written = String::from_utf8(written).expect("a text");
            assert_eq!(example["decoded"], written.trim_start(), "{what}");
        }
    }
}

/// Every change is refused by the name of what is wrong.
#[test]
fn what_is_not_supported_is_named() {
    let copy = common::directory("huggingface-broken");
    let refused = |name: &str, change: &dyn Fn(&mut Value), words: &[&str]| {
        for file in fs::read_dir(data(name)).expect("a directory") {
            let path = file.expect("an entry").path();
            let to = copy.join(path.file_name().expect("a name"));
            fs::copy(&path, to).expect("copied");
        }
        let path = copy.join("config.json");
        let mut config = json(&path);
        change(&mut config);
        fs::write(&path, config.to_string()).expect("written");
        let error = directory(&copy, name, "import", Formats::F32, None).err();
        let error = format!("{:#}", error.unwrap_or_else(|| panic!("{name}: {words:?}")));
        for word in words {
            assert!(error.contains(word), "{name}: {error}");
        }
    };
    let set =
        |key: &'static str, value: Value| move |config: &mut Value| config[key] = value.clone();
    let of = |kind: &'static str| set("model_type", kind.into());
    refused(
        "llama",
        &of("rwkv"),
        &["\"rwkv\"", "llama", "bert", "vit", "marian"],
    );
    refused("llama", &of("t5"), &["\"t5\"", "bias by distance"]);
    refused("llama", &of("gpt2"), &["n_embd"]);
    refused(
        "llama",
        &set("hidden_act", "gelu".into()),
        &["hidden_act", "silu"],
    );
    let scaling = serde_json::json!({ "rope_type": "yarn", "factor": 4.0 });
    refused(
        "llama",
        &set("rope_scaling", scaling),
        &["rope_scaling", "yarn"],
    );
    refused(
        "llama",
        &set("num_hidden_layers", 3.into()),
        &["model.layers.2", "missing"],
    );
    refused(
        "llama",
        &set("intermediate_size", 25.into()),
        &["gate_proj", "[24, 16]", "[25, 16]"],
    );
    refused("llama", &set("vocab_size", 270.into()), &["280", "270"]);
    refused(
        "llama",
        &set("tie_word_embeddings", false.into()),
        &["lm_head.weight is missing"],
    );
    refused("gpt2", &set("n_head", 3.into()), &["n_embd 16", "n_head 3"]);
    refused("gpt2", &set("n_positions", 47.into()), &["wpe", "[48, 16]"]);
    let inverse = set("scale_attn_by_inverse_layer_idx", true.into());
    refused("gpt2", &inverse, &["scale_attn_by_inverse_layer_idx"]);
    refused("vit", &set("num_channels", 2.into()), &["num_channels 2"]);
    refused(
        "vit",
        &set("patch_size", 6.into()),
        &["position_embeddings"],
    );
    refused(
        "whisper",
        &set("encoder_ffn_dim", 25.into()),
        &["encoder_ffn_dim 25"],
    );
    refused(
        "whisper",
        &set("num_mel_bins", 9.into()),
        &["conv1", "[16, 8, 3]"],
    );
    let marian = |key: &'static str, value: Value, words: &[&str]| {
        refused("marian", &set(key, value), words);
    };
    marian("vocab_size", 104.into(), &["begin_of_text", "104"]);
    marian(
        "vocab_size",
        106.into(),
        &["shared.weight", "[105, 16]", "[106, 16]"],
    );
    marian("normalize_before", true.into(), &["normalize_before"]);
    let apart = false.into();
    marian(
        "share_encoder_decoder_embeddings",
        apart,
        &["share_encoder_decoder_embeddings"],
    );
    marian(
        "decoder_start_token_id",
        Value::Null,
        &["decoder_start_token_id"],
    );
    for (file, change, words) in [
        (
            "source.spm",
            &b"\x0a\xff\x01"[..],
            ["source.spm", "truncated"],
        ),
        ("source.spm", b"", ["source.spm", "no pieces"]),
        (
            "target.spm",
            b"\x12\x02\x18\x02",
            ["target.spm", "model_type is 2"],
        ),
        (
            "target_vocab.json",
            b"{}",
            ["target_vocab.json", "one vocabulary"],
        ),
    ] {
        for name in ["config.json", "source.spm", "target.spm"] {
            fs::copy(data("marian").join(name), copy.join(name)).expect("copied");
        }
        fs::write(copy.join(file), change).expect("written");
        let error = directory(&copy, "marian", "import", Formats::F32, None).err();
        let error = format!("{:#}", error.expect("refused"));
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    let path = copy.join("model.safetensors");
    let bytes = fs::read(&path).expect("weights");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    let error = directory(&copy, "whisper", "import", Formats::F32, None).err();
    assert!(format!("{:#}", error.expect("refused")).contains("truncated"));
}

/// Weights in several files, as large models are published.
#[test]
fn weights_in_parts_are_put_together() {
    let copy = common::directory("huggingface-parts");
    let whole = directory(&data("gpt2"), "gpt2", "import", Formats::F32, None).expect("a file");
    let bytes = fs::read(data("gpt2").join("model.safetensors")).expect("weights");
    let all = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let mut parts = [Vec::new(), Vec::new()];
    let mut map = serde_json::Map::new();
    for (index, (name, tensor)) in all.tensors().into_iter().enumerate() {
        let part = index % 2;
        map.insert(name.clone(), format!("part-{part}.safetensors").into());
        parts[part].push((name, tensor));
    }
    for (index, part) in parts.into_iter().enumerate() {
        let path = copy.join(format!("part-{index}.safetensors"));
        safetensors::serialize_to_file(part, None, &path).expect("written");
    }
    let index = serde_json::json!({ "weight_map": map });
    fs::write(copy.join("model.safetensors.index.json"), index.to_string()).expect("written");
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(data("gpt2").join(name), copy.join(name)).expect("copied");
    }
    let again = directory(&copy, "gpt2", "import", Formats::F32, None).expect("a file");
    assert!(Block::bytes(&again) == Block::bytes(&whole));
    let outside = index.to_string().replace("part-0", "../part-0");
    fs::write(copy.join("model.safetensors.index.json"), outside).expect("written");
    assert!(directory(&copy, "gpt2", "import", Formats::F32, None).is_err());
}
