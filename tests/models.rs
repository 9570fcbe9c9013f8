//! The shipped files: sound, free of f32, and refused once anything of them is missing or changed.

use std::path::PathBuf;

use attentive::frontend::PatchSpec;
use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::{
    Block, Encoder, EncoderOptions, Model, Sampler, SamplerOptions, Session, SessionOptions,
};

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
        for word in ["command", "seed", "source", "licence", "[test]"] {
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
        if model.config().reading().is_some() {
            continue;
        }
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

/// What a Cortex-M4 said under QEMU, to the bit.
#[test]
fn digits_are_those_of_the_firmware() {
    let mut blocks = Vec::new();
    for (path, file) in shipped() {
        if path.ends_with("digits-int8.attn") {
            blocks = file;
        }
    }
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let spec = PatchSpec {
        height: 8,
        width: 8,
        channels: 1,
        patch: 2,
        mean: [0.3; 4],
        deviation: [0.38; 4],
    };
    let options = EncoderOptions::new(spec.patches() + 1);
    let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut encoder = Encoder::new(&model, &options, memory, Backend::SCALAR).expect("an encoder");
    let rows = std::fs::read_to_string("data/digits.csv").expect("digits");
    let rows: Vec<&str> = rows.lines().collect();
    let mut said = Vec::new();
    // FNV-1a over the bits, as the firmware has it.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for row in &rows[rows.len() - 12..] {
        let values: Vec<u32> = row
            .split(',')
            .map(|x| x.parse().expect("a number"))
            .collect();
        let (digit, levels) = values.split_last().expect("a row");
        let pixels: Vec<u8> = levels
            .iter()
            .map(|level| (level * 255 / 16) as u8)
            .collect();
        let mut patches = vec![0.0; pixels.len()];
        spec.cut(&pixels, &mut patches).expect("patches");
        encoder.run_patches(&patches).expect("a run");
        let classes = encoder.classes().expect("classes");
        for byte in classes.iter().flat_map(|x| x.to_bits().to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let highest = |best: usize, at: usize| {
            if classes[at] > classes[best] {
                at
            } else {
                best
            }
        };
        said.push(format!(
            "digit {digit}: {}",
            (0..classes.len()).fold(0, highest)
        ));
    }
    said.push(format!("logits: {hash:016x}"));
    let firmware = std::fs::read_to_string("firmware-example/src/bin/digits.out").expect("output");
    let firmware: Vec<&str> = firmware.lines().take(said.len()).collect();
    assert_eq!(firmware, said);
}
