//! The shipped files: sound, free of f32, and refused once anything of them is missing or changed.

use std::path::PathBuf;

use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::{Block, Model, Sampler, SamplerOptions, Session, SessionOptions};

/// Every `models/*.attn`.
fn shipped() -> Vec<(PathBuf, Vec<Block>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir("models").expect("models/") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "attn")
        {
            let bytes = std::fs::read(&path).expect("a file");
            let mut blocks = vec![Block::ZERO; Block::len_for(bytes.len())];
            Block::bytes_mut(&mut blocks).copy_from_slice(&bytes);
            files.push((path, blocks));
        }
    }
    assert!(files.len() >= 2, "int8 and int4 at least");
    files
}

#[test]
fn shipped_files_are_sound_and_say_where_they_come_from() {
    for (path, blocks) in shipped() {
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        model.verify().expect("an undamaged file");
        assert!(
            model
                .tensors()
                .all(|tensor| tensor.format != WeightFormat::F32),
            "{} holds f32",
            path.display()
        );
        for word in ["command", "seed", "source", "licence", "bits_per_byte"] {
            let provenance = model.provenance();
            assert!(
                provenance.contains(word),
                "{}: no {word} in\n{provenance}",
                path.display()
            );
        }
    }
}

#[test]
fn shipped_files_write_english() {
    for (path, blocks) in shipped() {
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        let options = SessionOptions::new(128);
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        let mut session =
            Session::new(&model, &options, memory, Backend::detect()).expect("a session");
        session.prompt("She was a woman of").expect("room");
        let mut sampler = Sampler::new(SamplerOptions {
            temperature: 0.5,
            ..SamplerOptions::DEFAULT
        });
        let mut text = Vec::new();
        for _ in 0..100 {
            let Some(piece) = session.step(&mut sampler).expect("a token") else {
                break;
            };
            text.extend(piece);
        }
        let text = String::from_utf8_lossy(&text).to_lowercase();
        let common = [
            "the", "of", "and", "to", "a", "her", "in", "was", "she", "it", "not", "be",
        ];
        let words: Vec<&str> = text
            .split(|c: char| !c.is_alphabetic())
            .filter(|word| !word.is_empty())
            .collect();
        let hits = words.iter().filter(|word| common.contains(word)).count();
        // In English about a third of all words are these.
        assert!(
            hits * 8 > words.len() && words.len() > 20,
            "{}: {text}",
            path.display()
        );
    }
}

#[test]
fn every_truncation_of_a_shipped_file_is_refused() {
    for (path, blocks) in shipped() {
        let file = Block::bytes(&blocks);
        for len in 0..file.len() {
            assert!(
                Model::parse(&file[..len]).is_err(),
                "{}: {len}",
                path.display()
            );
        }
    }
}

#[test]
fn every_changed_byte_of_header_and_tables_is_noticed() {
    for (path, blocks) in shipped() {
        let mut file = Block::bytes(&blocks).to_vec();
        let tables_end = 128 + 32 * Model::parse(&file).expect("sound").config().tensors_len();
        for at in 0..tables_end {
            let original = file[at];
            for change in 1..=255 {
                file[at] = original ^ change;
                assert!(
                    Model::parse(&file).is_err(),
                    "{}: byte {at} ^ {change:#04x}",
                    path.display()
                );
            }
            file[at] = original;
        }
    }
}
