//! Runs that PyTorch trains: on two processes for a few steps, of every family, and then the same logits here.
//!
//! ```text
//! ATTENTIVE_TORCHRUN=venv/bin/torchrun cargo test --profile trainer -p attentive-trainer --test pytorch
//! ```
//! Without PyTorch, what it would read and write is looked at.

mod common;

use attentive::kernels::Backend;
use attentive::{Block, Encoder, EncoderOptions, Model, Session, SessionOptions};
use attentive_trainer::package;
use attentive_trainer::params::{name, shapes};
use attentive_trainer::prepared::{Corpus, Prepared};
use attentive_trainer::produce::finish;
use attentive_trainer::pytorch::{WEIGHTS, adopt, is_here, prepare};
use attentive_trainer::task::{FfnKind, NormKind, Place, PositionKind, Task};
use attentive_trainer::train::Run;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A task of each family, with other norms, positions and blocks each.
fn tasks(prefix: &str) -> Vec<(PathBuf, PathBuf, Task)> {
    let mut out = Vec::new();
    let directory = common::directory(&format!("{prefix}-texts"));
    let (path, task) = common::task(&directory, "steps = 20");
    out.push((directory, path, task));
    for (name, data, rows) in [
        ("sentences", common::SENTENCES, common::sentences()),
        ("pictures", common::PICTURES, common::pictures()),
        ("pairs", common::PAIRS, common::translated()),
    ] {
        let directory = common::directory(&format!("{prefix}-{name}"));
        let (path, mut task) = common::labelled(&directory, data, &rows);
        match name {
            "sentences" => {
                task.model.norm_place = Place::Post;
                task.model.ffn = FfnKind::GeluErf;
                task.model.position = PositionKind::Sinusoidal;
            }
            "pictures" => {
                task.model.norm = NormKind::Layer;
                task.model.ffn = FfnKind::GeluTanh;
                task.model.position = PositionKind::Learned;
            }
            _ => {
                task.model.kv_heads = Some(1);
                task.model.position = PositionKind::RotaryInterleaved;
                task.model.ffn = FfnKind::Geglu;
            }
        }
        out.push((directory, path, task));
    }
    out
}

/// Logits of the first validation sequences, as the core gives them.
fn logits(directory: &Path, run: &Run, count: usize) -> Vec<Vec<f32>> {
    let corpus = Corpus::load(&run.task).expect("data");
    let prepared = Prepared::new(&run.task, &corpus, run.vocabulary.clone()).expect("data");
    let batches = &prepared.validation;
    let file = package::open(&directory.join("tiny-f32.attn")).expect("a file");
    let model = Model::parse(&file).expect("a model");
    let config = model.config();
    let mut out = Vec::new();
    for batch in batches {
        let (mut at, mut source_at, mut patches_at) = (0, 0, 0);
        for (index, len) in batch.lens.iter().enumerate() {
            let ids = &batch.inputs[at..at + len];
            at += len;
            let mut row = Vec::new();
            if let Some(reading) = config.reading() {
                let options = EncoderOptions::new(config.context_len);
                let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
                let memory = Block::bytes_mut(&mut memory);
                let encoder = Encoder::new(&model, &options, memory, Backend::detect());
                let mut encoder = encoder.expect("an encoder");
                let elements = (len - 1) * reading.patch;
                match reading.patch {
                    0 => encoder.run_tokens(ids, &[]),
                    _ => encoder.run_patches(&batch.patches[patches_at..][..elements]),
                }
                .expect("a run");
                patches_at += elements;
                row.extend_from_slice(encoder.classes().expect("classes"));
            } else {
                let options = SessionOptions::new(config.context_len);
                let options = match config.source() {
                    Some(source) => options.with_source_len(source.len),
                    None => options,
                };
                let mut memory = package::session_memory(&model, &options).expect("memory");
                let memory = Block::bytes_mut(&mut memory);
                let session = Session::new(&model, &options, memory, Backend::detect());
                let mut session = session.expect("a session");
                if let Some(source) = batch.source_lens.get(index) {
                    let source_ids = &batch.sources[source_at..][..*source];
                    session.read_tokens(source_ids).expect("a source");
                    source_at += source;
                }
                let each = |_, logits: &[f32]| row.extend_from_slice(logits);
                session.score(ids, each).expect("room");
            }
            out.push(row);
            if out.len() == count {
                return out;
            }
        }
    }
    out
}

#[test]
fn logits_are_those_of_pytorch() {
    let Some(torchrun) = std::env::var_os("ATTENTIVE_TORCHRUN") else {
        println!("ATTENTIVE_TORCHRUN is not set: nothing is compared");
        return;
    };
    for (directory, path, task) in tasks("pytorch") {
        let out = directory.join("run");
        prepare(&task, &path, &out).expect("prepared");
        let script = common::root().join("trainer/pytorch/train.py");
        let status = Command::new(&torchrun)
            .args(["--standalone", "--nproc-per-node", "2"])
            .arg(script)
            .arg(&out)
            .args(["--steps", "12", "--logits", "3"])
            .status();
        assert!(
            status.expect("torchrun").success(),
            "{}",
            directory.display()
        );
        let before = Run::load(&out).expect("a run");
        let run = adopt(&out).expect("a run");
        assert!(run.state.params != before.state.params, "it learnt nothing");
        finish(adopt(&out).expect("a run")).expect("files");
        let text = std::fs::read_to_string(out.join("logits.json")).expect("logits");
        let theirs: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        let ours = logits(&out, &run, theirs.len());
        assert_eq!(ours.len(), 3);
        for (ours, theirs) in ours.iter().zip(theirs) {
            let rows = theirs.as_array().expect("rows").iter();
            let numbers = rows.flat_map(|row| row.as_array().expect("a row"));
            let theirs: Vec<f32> = numbers
                .map(|x| x.as_f64().expect("a number") as f32)
                .collect();
            assert_eq!(ours.len(), theirs.len());
            let largest = theirs.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (ours, theirs) in ours.iter().zip(&theirs) {
                let error = (ours - theirs).abs() / largest;
                assert!(error <= 1e-4, "{}: {ours}, {theirs}", directory.display());
            }
        }
    }
}

/// Weights that come back are measured and packed like those of `train`; what is missing is named.
#[test]
fn weights_from_elsewhere_become_the_runs() {
    for (directory, path, task) in tasks("elsewhere") {
        let out = directory.join("run");
        prepare(&task, &path, &out).expect("prepared");
        assert!(!is_here(&out));
        let run = Run::load(&out).expect("a run");
        let tensors = shapes(&run.state.params.config).zip(&run.state.params.tensors);
        let mut all = Vec::new();
        for (shape, values) in tensors {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|x| (x * 1.5).to_le_bytes())
                .collect();
            let dims = match shape.rows {
                1 if shape.kind == attentive::TensorKind::Vector => vec![shape.cols],
                rows => vec![rows, shape.cols],
            };
            all.push((name(&shape), dims, bytes));
        }
        let save = |count: usize| {
            let views = all[..count].iter().map(|(name, dims, bytes)| {
                let view = TensorView::new(Dtype::F32, dims.clone(), bytes);
                (name, view.expect("a tensor"))
            });
            let steps = HashMap::from([("steps".to_owned(), "7".to_owned())]);
            safetensors::serialize_to_file(views, Some(steps), &out.join(WEIGHTS)).expect("saved");
        };
        save(all.len() - 1);
        let error = format!("{:#}", adopt(&out).err().expect("refused"));
        assert!(error.contains(&all[all.len() - 1].0), "{error}");
        save(all.len());
        let adopted = adopt(&out).expect("a run");
        assert_eq!(adopted.state.position.step, 7);
        let first = run.state.params.tensors[0][0] * 1.5;
        assert_eq!(adopted.state.params.tensors[0][0], first);
        finish(adopted).expect("files");
        let file = package::open(&out.join("tiny-int8.attn")).expect("a file");
        let model = Model::parse(&file).expect("a model");
        assert!(model.provenance().contains("trainer/pytorch/train.py"));
    }
}
