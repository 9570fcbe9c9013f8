//! The integer profile against the floats that it was rounded from.

use attentive::integer::{Bits, Encoder, Model, Options, Progress, Session, quantize_input};
use attentive::kernels::Backend;
use attentive::{
    Architecture, Attention, Biases, Block, Config, Ffn, Input, Norm, NormPlace, Output, Pooling,
    Position, Reading, RotaryStyle, Source, Window,
};
use attentive_trainer::batches::Batch;
use attentive_trainer::integer::measure::nats;
use attentive_trainer::integer::{Calibration, RowGrid, round};
use attentive_trainer::network::Network;
use attentive_trainer::params::Params;
use attentive_trainer::quantize::{Grid, importance};
use attentive_trainer::random::Random;
use std::path::Path;
use std::process::Command;

mod common;

/// Random weights whose gains and biases are not 1 and 0, so that they show where they are applied.
fn noisy(config: Config) -> Params {
    let mut params = Params::random(config, 3);
    let mut random = Random::new(4);
    for tensor in &mut params.tensors {
        let noise = random.normal(tensor.len(), 0.1);
        let pairs = tensor.iter_mut().zip(noise);
        pairs.for_each(|(x, noise)| *x += noise);
    }
    params
}

const DECODER: Config = Config {
    architecture: Architecture::Decoder,
    vocab_len: 100,
    dim: 48,
    layers: 2,
    heads: 4,
    kv_heads: 4,
    head_dim: 16,
    hidden_dim: 72,
    context_len: 96,
    norm: Norm::Rms,
    norm_place: NormPlace::Pre,
    norm_eps: 1e-5,
    final_norm: true,
    ffn: Ffn::SwiGlu,
    position: Position::Rotary {
        style: RotaryStyle::Half,
        base: 10_000.0,
    },
    tied: true,
    biases: Biases::NONE,
    attention: Attention::PLAIN,
    embedding_scale: 1.0,
    begin_of_text: None,
    end_of_text: None,
};

const READING: Reading = Reading {
    types: 0,
    embedding_norm: false,
    pooling: Pooling::Mean,
    pooler: false,
    output: Output::Classes(7),
    patch: 0,
};

fn variants() -> Vec<(&'static str, Config)> {
    let gpt2 = Config {
        norm: Norm::Layer,
        ffn: Ffn::GeluTanh,
        position: Position::Learned,
        biases: Biases::ALL_BUT_OUTPUT,
        ..DECODER
    };
    let encoder = Config {
        architecture: Architecture::Encoder(READING),
        ..DECODER
    };
    let source = Source {
        layers: 1,
        len: 80,
        position: DECODER.position,
        input: Input::Tokens,
    };
    vec![
        ("decoder", DECODER),
        ("gpt2", gpt2),
        (
            "sinusoidal, relu, untied, scaled",
            Config {
                ffn: Ffn::Relu,
                position: Position::Sinusoidal,
                tied: false,
                embedding_scale: 3.0,
                ..gpt2
            },
        ),
        (
            "grouped heads, interleaved, a window",
            Config {
                kv_heads: 2,
                ffn: Ffn::GeGlu,
                position: Position::Rotary {
                    style: RotaryStyle::Interleaved,
                    base: 500.0,
                },
                biases: Biases {
                    output: true,
                    norm: false,
                    ..Biases::ALL_BUT_OUTPUT
                },
                attention: Attention {
                    window: Some(Window {
                        len: 20,
                        keep: 0,
                        full_every: 2,
                    }),
                    ..Attention::PLAIN
                },
                ..DECODER
            },
        ),
        (
            "gelu by erf, no positions",
            Config {
                ffn: Ffn::GeluErf,
                position: Position::None,
                head_dim: 8,
                ..DECODER
            },
        ),
        (
            "silu",
            Config {
                ffn: Ffn::Silu,
                head_dim: 40,
                ..DECODER
            },
        ),
        ("encoder, mean", encoder),
        (
            "encoder, first",
            Config {
                architecture: Architecture::Encoder(Reading {
                    pooling: Pooling::First,
                    ..READING
                }),
                biases: Biases::ALL_BUT_OUTPUT,
                ..Config {
                    architecture: encoder.architecture,
                    ..gpt2
                }
            },
        ),
        (
            "encoder of patches",
            Config {
                architecture: Architecture::Encoder(Reading {
                    patch: 12,
                    ..READING
                }),
                vocab_len: 1,
                ..gpt2
            },
        ),
        (
            "encoder–decoder",
            Config {
                architecture: Architecture::EncoderDecoder(source),
                ..DECODER
            },
        ),
        (
            "encoder–decoder, learned",
            Config {
                architecture: Architecture::EncoderDecoder(Source {
                    position: Position::Sinusoidal,
                    ..source
                }),
                kv_heads: 1,
                ..gpt2
            },
        ),
    ]
}

/// Random sequences of the model's kind, 70 tokens each: more than a tile of keys.
fn batch(config: &Config, seed: u64, sequences: usize) -> Batch {
    let mut random = Random::new(seed);
    let len = 70;
    let mut batch = Batch::default();
    for _ in 0..sequences {
        batch.lens.push(len);
        for _ in 0..len {
            batch.inputs.push(random.below(config.vocab_len) as u32);
        }
        if let Some(source) = config.source() {
            let len = source.len - 3;
            batch.source_lens.push(len);
            for _ in 0..len {
                batch.sources.push(random.below(config.vocab_len) as u32);
            }
        }
        if let Some(reading) = config.reading() {
            let patches = random.normal(reading.patch * (len - 1), 1.0);
            batch.patches.extend(patches);
        }
    }
    batch
}

/// Logits of a batch of one sequence, as the core computes them; in pieces of that many multiply-adds.
fn logits(model: &Model<'_>, batch: &Batch, backend: Backend, budget: u32) -> Vec<f32> {
    let config = model.config();
    let mut out = Vec::new();
    if config.reading().is_some() {
        let len = batch.inputs.len();
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(len))];
        let memory = Block::bytes_mut(&mut memory);
        let mut encoder = Encoder::new(model, len, memory, backend).expect("an encoder");
        match batch.patches.is_empty() {
            true => encoder.begin_tokens(&batch.inputs).expect("tokens"),
            false => {
                let level = |x: &f32| quantize_input(*x, model.input_scale());
                let patches: Vec<i8> = batch.patches.iter().map(level).collect();
                encoder.begin_patches(&patches).expect("patches");
            }
        }
        while encoder.advance(budget).expect("a piece") == Progress::Busy {
            assert!(encoder.classes().is_err(), "work is left");
        }
        return nats(encoder.classes().expect("classes"), model.logit_bits());
    }
    let options = Options::new(batch.inputs.len()).with_source_len(batch.sources.len());
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut session = Session::new(model, &options, memory, backend).expect("a session");
    if !batch.sources.is_empty() {
        session.read_tokens(&batch.sources).expect("a source");
    }
    for &id in &batch.inputs {
        session.prompt_tokens(&[id]).expect("room");
        while session.advance(budget).expect("a piece") == Progress::Busy {
            assert!(session.logits().is_none(), "work is left");
        }
        out.extend(nats(session.logits().expect("logits"), model.logit_bits()));
    }
    out
}

#[test]
fn logits_are_those_of_the_floats_within_a_few_percent() {
    for (name, config) in variants() {
        let params = noisy(config);
        let batches = [batch(&config, 1, 4), batch(&config, 2, 4)];
        let seen = Calibration::new(&params, &batches).expect("a calibration");
        let importance = importance(&params, &batches).expect("a calibration");
        let importance = &importance;
        let fresh = batch(&config, 3, 1);
        let wanted = floats(&params, &fresh);
        // What four bits leave of random weights, and eight.
        for (bits, most) in [(Bits::Eight, 0.08), (Bits::Four, 0.4)] {
            let scales = RowGrid { bits, importance }.scales(&params);
            let scales = scales.expect("scales");
            let rounded = round(&params, &seen, scales.clone(), bits).expect("integers");
            let file = rounded.pack(None, "").expect("a file");
            let model = Model::parse(Block::bytes(&file)).expect("a model");
            model.verify().expect("right checksums");
            let have = logits(&model, &fresh, Backend::SCALAR, u32::MAX);
            let off = distance(&wanted, &have);
            // Of floats that were rounded before, the integers lose what eight bits lose.
            let grid = RowGrid { bits, importance };
            let of_rounded = floats(&grid.rounded(&params, &scales), &fresh);
            let more = distance(&of_rounded, &have);
            println!(
                "{name}: {:.2} % off, {:.2} % of the rounded",
                100.0 * off,
                100.0 * more
            );
            assert!(off < most && more < 0.08, "{name}: {off} {more}");

            for backend in Backend::available() {
                for budget in [1, 1000, 50_000] {
                    let other = logits(&model, &fresh, backend, budget);
                    assert_eq!(have, other, "{name}, {}, {budget}", backend.name());
                }
            }
        }
    }
}

fn floats(params: &Params, batch: &Batch) -> Vec<f32> {
    let network = Network::new(params, Backend::detect(), false);
    let logits = network.logits(batch).expect("logits").into_data();
    logits.try_into_vec().expect("floats")
}

/// How far logits are from others, of what tells these apart.
fn distance(wanted: &[f32], have: &[f32]) -> f64 {
    assert_eq!(wanted.len(), have.len());
    let mean = |x: &[f32]| x.iter().sum::<f32>() / x.len() as f32;
    let (middle, middle_have) = (mean(wanted), mean(have));
    let (mut error, mut square) = (0.0, 0.0);
    for (want, have) in wanted.iter().zip(have) {
        error += f64::from(want - middle - (have - middle_have)).powi(2);
        square += f64::from(want - middle).powi(2);
    }
    (error / square).sqrt()
}

fn attentive(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_attentive"))
        .current_dir(common::root())
        .args(args)
        .output()
        .expect("it starts");
    let both = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&both).into_owned(),
    )
}

/// The shipped files' own commands, on data that is in the repository.
#[test]
fn shipped_files_are_made_again() {
    let directory = common::directory("integer");
    for (name, accuracy) in [("digits", "accuracy 98."), ("languages", "accuracy 9")] {
        let from = format!("models/{name}-int8.attn");
        let to = directory.join(format!("{name}.attn")).display().to_string();
        let args = ["quantize", &from, "--profile", "integer", "--out", &to];
        let (status, text) = attentive(&args);
        assert_eq!(status, Some(0), "{text}");
        let (status, text) = attentive(&["eval", &to]);
        assert!(status == Some(0) && text.contains(accuracy), "{text}");
        let (status, text) = attentive(&["inspect", &to]);
        assert!(
            status == Some(0) && text.contains("integer profile"),
            "{text}"
        );
        let shipped = common::root().join(format!("models/{name}-integer.attn"));
        let bytes = |path: &Path| std::fs::metadata(path).expect("a file").len();
        assert_eq!(bytes(Path::new(&to)), bytes(&shipped));
    }
    // Of four bits, fine-tuned for a moment.
    let to = directory.join("four.attn").display().to_string();
    let from = "models/digits-int8.attn";
    let args = [
        "quantize",
        from,
        "--profile",
        "integer",
        "--format",
        "int4",
        "--fine-tune",
        "3",
        "--out",
        &to,
    ];
    let (status, text) = attentive(&args);
    assert_eq!(status, Some(0), "{text}");
    let (status, text) = attentive(&["eval", &to]);
    assert!(status == Some(0) && text.contains("accuracy 9"), "{text}");
    let bytes = |path: &Path| std::fs::metadata(path).expect("a file").len();
    let shipped = common::root().join("models/digits-integer.attn");
    assert!(3 * bytes(Path::new(&to)) < 2 * bytes(&shipped));
}

#[test]
fn the_commands_take_such_files() {
    let works = |args: &[&str], wanted: &str| {
        let (status, text) = attentive(args);
        assert!(
            status == Some(0) && text.contains(wanted),
            "{args:?}: {text}"
        );
    };
    let classify = |name, kind, path| ["classify", name, kind, path];
    let bag = "firmware-example/inputs/fashion-bag.pgm";
    works(
        &classify("models/fashion-integer.attn", "--picture", bag),
        r#""label":"bag""#,
    );
    let stop = "firmware-example/inputs/keyword-stop.wav";
    works(
        &classify("models/keywords-integer.attn", "--sound", stop),
        r#""label":"stop""#,
    );
    let russian = "Где находится ближайшая аптека?";
    works(
        &classify("models/languages-integer.attn", "--text", russian),
        r#""label":"russian""#,
    );
    let translate = "models/translation-integer.attn";
    works(
        &["translate", translate, "--text", "He went up to Jerusalem."],
        "Y subió á Jerusalem.",
    );
    let austen = "models/austen-1m-integer.attn";
    let generate = ["generate", austen, "--prompt", "She was", "--tokens", "8"];
    works(&generate, "8 written");
    let narrow = ["generate", "models/austen-1m-integer-int4.attn"];
    works(&[&narrow[..], &generate[2..]].concat(), "8 written");

    let refused = |args: &[&str], word: &str| {
        let (status, text) = attentive(args);
        assert!(status == Some(2) && text.contains(word), "{args:?}: {text}");
    };
    refused(&["classify", austen, "--text", "a"], "decoder");
    refused(&["embed", austen, "--text", "a"], "integer profile");
    refused(&["translate", austen, "--text", "a"], "does not translate");
    refused(
        &["quantize", austen, "--profile", "integer"],
        "integer profile",
    );
    let halves = [
        "quantize",
        "models/digits-int8.attn",
        "--profile",
        "integer",
    ];
    refused(
        &[&halves[..], &["--format", "f16"]].concat(),
        "int8 or int4, not f16",
    );
    // A ring of 16 positions, with keys of four bits.
    let small = ["--context", "16", "--kv", "i4", "--tokens", "40"];
    let ring = [&generate[..4], &small, &["--repetition-penalty", "1.2"]].concat();
    works(&ring, "40 written");
    refused(
        &[&generate[..], &["--kv", "f16"]].concat(),
        "--kv i8 and i4",
    );
    refused(
        &["eval", "models/digits-integer.attn", "--kv", "i4"],
        "as bytes",
    );
    refused(
        &["eval", "models/austen-1m-int8.attn", "--kv", "i4"],
        "integer profile",
    );
    let long = [&generate[..4], &["--context", "1"]].concat();
    refused(&long, "context");
}
