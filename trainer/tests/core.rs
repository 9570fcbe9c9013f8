//! The trainer against the core: the same logits, the same tokens, the same rounding.

use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::{
    Architecture, Attention, Biases, Block, Config, Encoder, EncoderOptions, Ffn, Input, Model,
    Norm, NormPlace, Output, Pooling, Position, Reading, RotaryStyle, Session, SessionOptions,
    Source, Window,
};
use attentive_trainer::batches::Batch;
use attentive_trainer::network::Network;
use attentive_trainer::package::{self, Formats};
use attentive_trainer::params::Params;
use attentive_trainer::produce::{INT4, INT8};
use attentive_trainer::provenance::Provenance;
use attentive_trainer::quantize::fake_quantized;
use attentive_trainer::random::Random;
use attentive_trainer::task::Task;
use attentive_trainer::vocabulary::Vocabulary;
use attentive_trainer::{checkpoint::State, corpus, eval};

mod common;

fn default_task() -> Task {
    let task = common::root().join("trainer/tasks/austen-1m.toml");
    let mut task = Task::read(&task).expect("the default task");
    task.data.texts = Some(common::root().join("data/austen"));
    task
}

/// One vocabulary for all: 300 tokens of one novel.
fn vocabulary() -> (Vocabulary, corpus::Parts) {
    let documents = corpus::load(&common::root().join("data/austen")).expect("novels");
    let parts = documents[2].split(0.03, 0.05).expect("parts");
    let vocabulary = Vocabulary::train(&[parts.train.as_str()], 300).expect("a vocabulary");
    (vocabulary, parts)
}

fn packed(params: &Params, vocabulary: &Vocabulary, formats: Formats) -> Vec<Block> {
    let scales =
        package::scales(params, formats, &vec![None; params.tensors.len()]).expect("scales");
    let provenance = Provenance::of(&default_task(), &State::start(params.clone()), None);
    package::pack(params, Some(vocabulary), &provenance, formats, &scales).expect("a file")
}

fn core_logits(file: &[Block], ids: &[u32], backend: Backend) -> Vec<f32> {
    let model = Model::parse(Block::bytes(file)).expect("a model");
    let options = SessionOptions::new(ids.len());
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut session = Session::new(&model, &options, memory, backend).expect("a session");
    let mut all = Vec::new();
    session
        .score(ids, |_, logits| all.extend_from_slice(logits))
        .expect("room");
    all
}

/// Random weights whose gains and biases are not 1 and 0, so that they show where they are applied.
fn noisy(config: Config) -> (Params, Random) {
    let mut params = Params::random(config, 3);
    let mut random = Random::new(4);
    for tensor in &mut params.tensors {
        let noise = random.normal(tensor.len(), 0.05);
        let pairs = tensor.iter_mut().zip(noise);
        pairs.for_each(|(x, noise)| *x += noise);
    }
    (params, random)
}

/// The default model's shape, and one of each other choice.
fn variants(base: Config) -> Vec<(&'static str, Config)> {
    let gpt2 = Config {
        norm: Norm::Layer,
        ffn: Ffn::GeluTanh,
        position: Position::Learned,
        biases: Biases::ALL_BUT_OUTPUT,
        ..base
    };
    vec![
        ("default", base),
        ("gpt2", gpt2),
        (
            "original",
            Config {
                norm_place: NormPlace::Post,
                final_norm: false,
                ffn: Ffn::Relu,
                position: Position::Sinusoidal,
                tied: false,
                embedding_scale: 11.3,
                ..gpt2
            },
        ),
        (
            "grouped heads, interleaved",
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
                ..base
            },
        ),
        (
            "post-norm rms, silu, no positions",
            Config {
                norm_place: NormPlace::Post,
                ffn: Ffn::Silu,
                position: Position::None,
                ..base
            },
        ),
        (
            "gelu",
            Config {
                ffn: Ffn::GeluErf,
                ..gpt2
            },
        ),
        (
            "windows, every other layer full",
            Config {
                attention: Attention {
                    window: Some(Window {
                        len: 37,
                        keep: 4,
                        full_every: 2,
                    }),
                    ..Attention::PLAIN
                },
                ..base
            },
        ),
    ]
}

/// Gradients through a soft cap or sinks are not written: a sentence, not a model that learns something else.
#[test]
fn attention_without_gradients_is_refused() {
    let (vocabulary, _) = vocabulary();
    let base = default_task().config(vocabulary.end_of_text());
    let base = base.expect("a configuration");
    let capped = Attention {
        soft_cap: Some(30.0),
        ..Attention::PLAIN
    };
    let sinking = Attention {
        sinks: true,
        ..Attention::PLAIN
    };
    for attention in [capped, sinking] {
        let params = Params::random(Config { attention, ..base }, 3);
        let network = Network::new(&params, Backend::detect(), false);
        let error = network
            .logits(&Batch::of(&[1, 2], 2).expect("a sequence"))
            .expect_err("no gradients");
        assert!(error.to_string().contains("soft cap or sinks"), "{error}");
    }
}

#[test]
fn logits_are_burns() {
    let (vocabulary, _) = vocabulary();
    let base = default_task()
        .config(vocabulary.end_of_text())
        .expect("a configuration");
    let base = Config {
        vocab_len: vocabulary.len(),
        ..base
    };
    let len = base.context_len;
    assert_eq!(len, 256);
    for (name, config) in variants(base) {
        let (params, mut random) = noisy(config);
        let ids: Vec<u32> = (0..len)
            .map(|_| random.below(vocabulary.len()) as u32)
            .collect();
        let network = Network::new(&params, Backend::detect(), false);
        let burn = network
            .logits(&Batch::of(&ids, len).expect("a sequence"))
            .expect("logits");
        let burn = burn.into_data().try_into_vec::<f32>().expect("f32");
        let largest = burn.iter().fold(0f32, |most, x| most.max(x.abs()));
        let file = packed(&params, &vocabulary, Formats::F32);
        for backend in Backend::available() {
            let core = core_logits(&file, &ids, backend);
            assert_eq!(core.len(), burn.len());
            let error = core
                .iter()
                .zip(&burn)
                .fold(0f32, |most, (a, b)| most.max((a - b).abs()));
            println!("{name} {}: {:.1e}", backend.name(), error / largest);
            assert!(
                error <= 1e-4 * largest,
                "{name} {}: {error} of {largest}",
                backend.name()
            );
        }
    }
}

#[test]
fn tokens_are_those_of_tokenizers() {
    let (vocabulary, parts) = vocabulary();
    let config = default_task()
        .config(vocabulary.end_of_text())
        .expect("a configuration");
    let config = Config {
        vocab_len: vocabulary.len(),
        ..config
    };
    let file = packed(&Params::random(config, 1), &vocabulary, INT8);
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let odd = "Don't  \u{201c}stop\u{201d}\n\n caf\u{e9} 1813's \u{1f409}\u{2003}x <|endoftext|>and on\u{0}";
    for text in [parts.test.as_str(), parts.validation.as_str(), odd, "", " "] {
        let ours = eval::encode(model.tokenizer(), text).expect("tokens");
        assert_eq!(ours, vocabulary.encode(text).expect("tokens"));
        let bytes: Vec<u8> = ours
            .iter()
            .flat_map(|id| model.tokenizer().piece(*id))
            .copied()
            .collect();
        assert_eq!(bytes, text.as_bytes());
    }
}

/// What fine-tuning sees is what the file holds.
#[test]
fn rounding_is_the_packers() {
    let (vocabulary, _) = vocabulary();
    let config = default_task()
        .config(vocabulary.end_of_text())
        .expect("a configuration");
    let config = Config {
        vocab_len: vocabulary.len(),
        dim: 40,
        hidden_dim: 50,
        ..config
    };
    let params = Params::random(config, 9);
    let groups = Formats {
        matrices: WeightFormat::I8Group32,
        embedding: WeightFormat::F16,
        vectors: WeightFormat::F32,
    };
    for formats in [INT8, INT4, groups, Formats::F32] {
        let importance = vec![None; params.tensors.len()];
        let scales = package::scales(&params, formats, &importance).expect("scales");
        let rounded = fake_quantized(&params, formats, &scales);
        let file = packed(&params, &vocabulary, formats);
        let model = Model::parse(Block::bytes(&file)).expect("a model");
        assert!(
            Params::from_model(&model).expect("tensors") == rounded,
            "{formats:?}"
        );
    }
}

/// Classes of texts and of patches, several lengths in one batch.
#[test]
fn encoders_are_burns() {
    let (vocabulary, _) = vocabulary();
    let base = default_task()
        .config(vocabulary.end_of_text())
        .expect("a configuration");
    let reading = |pooling, patch| {
        Architecture::Encoder(Reading {
            types: 0,
            embedding_norm: true,
            pooling,
            pooler: false,
            output: Output::Classes(7),
            patch,
        })
    };
    let reads = Config {
        architecture: reading(Pooling::Mean, 0),
        vocab_len: vocabulary.len(),
        ..base
    };
    let sees = Config {
        architecture: reading(Pooling::First, 12),
        vocab_len: 1,
        norm: Norm::Layer,
        position: Position::Learned,
        biases: Biases::ALL_BUT_OUTPUT,
        embedding_scale: 2.0,
        end_of_text: None,
        ..base
    };
    for config in [reads, sees] {
        let (params, mut random) = noisy(config);
        let lens = vec![3, 17, 1, 50];
        let n: usize = lens.iter().sum();
        let patch = config.reading().expect("an encoder").patch;
        let batch = Batch {
            inputs: (0..n)
                .map(|_| random.below(config.vocab_len) as u32)
                .collect(),
            patches: random.normal((n - lens.len()) * patch, 1.0),
            lens: lens.clone(),
            ..Batch::default()
        };
        // A picture has one patch at least.
        let counted: Vec<bool> = lens.iter().map(|len| patch == 0 || *len > 1).collect();
        let network = Network::new(&params, Backend::detect(), false);
        let burn = network.logits(&batch).expect("logits");
        let burn = burn.into_data().try_into_vec::<f32>().expect("f32");
        let scales = params.tensors.iter().map(|_| Vec::new()).collect();
        let task = default_task();
        let provenance = Provenance::of(&task, &State::start(params.clone()), None);
        let words = (patch == 0).then_some(&vocabulary);
        let file = package::pack(&params, words, &provenance, Formats::F32, &scales);
        let file = file.expect("a file");
        let model = Model::parse(Block::bytes(&file)).expect("a model");
        for backend in Backend::available() {
            let options = EncoderOptions::new(64);
            let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
            let memory = Block::bytes_mut(&mut memory);
            let mut encoder = Encoder::new(&model, &options, memory, backend).expect("an encoder");
            let (mut at, mut patches_at) = (0, 0);
            for ((len, counted), burn) in lens.iter().zip(&counted).zip(burn.chunks_exact(7)) {
                let elements = (len - 1) * patch;
                if *counted {
                    match patch {
                        0 => encoder.run_tokens(&batch.inputs[at..at + len], &[]),
                        _ => encoder.run_patches(&batch.patches[patches_at..][..elements]),
                    }
                    .expect("a run");
                    let core = encoder.classes().expect("classes");
                    let largest = burn.iter().fold(0f32, |most, x| most.max(x.abs()));
                    for (core, burn) in core.iter().zip(burn) {
                        let error = (core - burn).abs() / largest;
                        assert!(error <= 1e-4, "{} {len}: {error}", backend.name());
                    }
                }
                at += len;
                patches_at += elements;
            }
        }
    }
}

/// Texts of several lengths, each with a source of another, in every variant that an encoder–decoder can have.
#[test]
fn translators_are_burns() {
    let (vocabulary, _) = vocabulary();
    let base = default_task()
        .config(vocabulary.end_of_text())
        .expect("a configuration");
    let base = Config {
        vocab_len: vocabulary.len(),
        ..base
    };
    for (name, config) in variants(base) {
        if config.attention.window.is_some() {
            continue;
        }
        let source = Source {
            layers: 2,
            len: 60,
            position: config.position,
            input: Input::Tokens,
        };
        let config = Config {
            architecture: Architecture::EncoderDecoder(source),
            begin_of_text: config.end_of_text,
            ..config
        };
        let (params, mut random) = noisy(config);
        let lens = vec![3, 17, 1, 50];
        let source_lens = vec![20, 1, 60, 7];
        let mut ids = |lens: &[usize]| -> Vec<u32> {
            let n = lens.iter().sum();
            (0..n)
                .map(|_| random.below(config.vocab_len) as u32)
                .collect()
        };
        let batch = Batch {
            inputs: ids(&lens),
            sources: ids(&source_lens),
            lens,
            source_lens,
            ..Batch::default()
        };
        let network = Network::new(&params, Backend::detect(), false);
        let burn = network.logits(&batch).expect("logits");
        let burn = burn.into_data().try_into_vec::<f32>().expect("f32");
        let largest = burn.iter().fold(0f32, |most, x| most.max(x.abs()));
        let file = packed(&params, &vocabulary, Formats::F32);
        let model = Model::parse(Block::bytes(&file)).expect("a model");
        let options = SessionOptions::new(64).with_source_len(60);
        for backend in Backend::available() {
            let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
            let memory = Block::bytes_mut(&mut memory);
            let mut session = Session::new(&model, &options, memory, backend).expect("a session");
            let mut core = Vec::new();
            let (mut at, mut source_at) = (0, 0);
            for (len, source) in batch.lens.iter().zip(&batch.source_lens) {
                let source_ids = &batch.sources[source_at..][..*source];
                session.read_tokens(source_ids).expect("a source");
                let each = |_, logits: &[f32]| core.extend_from_slice(logits);
                session
                    .score(&batch.inputs[at..][..*len], each)
                    .expect("room");
                at += len;
                source_at += source;
            }
            assert_eq!(core.len(), burn.len());
            for (core, burn) in core.iter().zip(&burn) {
                let error = (core - burn).abs() / largest;
                assert!(error <= 1e-4, "{name} {}: {error}", backend.name());
            }
        }
    }
}
