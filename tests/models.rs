//! The shipped files: sound, free of f32, and refused once anything of them is missing or changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::tokenizer::ENCODE_SCRATCH_LEN;
use attentive::{
    Attends, AttentionRow, Block, Encoder, EncoderOptions, Model, Sampler, SamplerOptions, Session,
    SessionError, SessionOptions, WeightsError, WhenFull, integer,
};
use tasks::{Classifies, Inputs, Marks, Translation, Writing, label};

/// What the firmware asks its models.
#[allow(unreachable_pub, reason = "public in the firmware")]
#[path = "../firmware-example/src/tasks/mod.rs"]
mod tasks;

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

/// Of either profile.
fn parse(bytes: &[u8]) -> Result<(), WeightsError> {
    match Model::parse(bytes) {
        Err(WeightsError::Profile { integer: true }) => integer::Model::parse(bytes).map(|_| ()),
        model => model.map(|_| ()),
    }
}

fn is_integer(path: &Path) -> bool {
    path.to_string_lossy().contains("integer")
}

#[test]
fn shipped_files_are_sound_and_say_where_they_come_from() {
    for (path, blocks) in shipped() {
        let file = Block::bytes(&blocks);
        let provenance = if is_integer(&path) {
            let model = integer::Model::parse(file).expect("a model");
            model.verify().expect("an undamaged file");
            model.provenance()
        } else {
            let model = Model::parse(file).expect("a model");
            model.verify().expect("an undamaged file");
            assert!(
                model
                    .tensors()
                    .all(|tensor| tensor.format != WeightFormat::F32),
                "{} holds f32",
                path.display()
            );
            model.provenance()
        };
        for word in ["command", "seed", "source", "licence", "[test]"] {
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
        if is_integer(&path) {
            continue;
        }
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        if model.config().reading().is_some() || model.config().source().is_some() {
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

/// Every one near both ends, where the tables are and the last tensor, and every 97th between.
#[test]
fn truncations_of_a_shipped_file_are_refused() {
    for (path, blocks) in shipped() {
        let file = Block::bytes(&blocks);
        let near = |len: &usize| *len < 1 << 16 || file.len() - len < 1 << 12;
        for len in (0..file.len()).filter(|len| near(len) || len.is_multiple_of(97)) {
            assert!(parse(&file[..len]).is_err(), "{}: {len}", path.display());
        }
    }
}

#[test]
fn every_changed_byte_of_header_and_tables_is_noticed() {
    for (path, blocks) in shipped() {
        let mut file = Block::bytes(&blocks).to_vec();
        let is_small = file.len() < 100_000;
        let tables_end = match is_integer(&path) {
            true => {
                let model = integer::Model::parse(&file).expect("sound");
                192 + 32 * model.tensors().count()
            }
            false => 128 + 32 * Model::parse(&file).expect("sound").config().tensors_len(),
        };
        for at in 0..tables_end {
            let original = file[at];
            // All of them in the smallest file, every bit in the others.
            let changes = (1..=255u8).filter(|change| is_small || change.is_power_of_two());
            for change in changes {
                file[at] = original ^ change;
                assert!(
                    parse(&file).is_err(),
                    "{}: byte {at} ^ {change:#04x}",
                    path.display()
                );
            }
            file[at] = original;
        }
    }
}

fn one(name: &str) -> Vec<Block> {
    let file = |(path, file): (PathBuf, _)| path.ends_with(name).then_some(file);
    let found = shipped().into_iter().find_map(file);
    found.unwrap_or_else(|| panic!("no {name}"))
}

/// FNV-1a over the bits, as the firmware has it.
fn add(hash: &mut u64, words: impl Iterator<Item = u32>) {
    for byte in words.flat_map(u32::to_le_bytes) {
        *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
}

/// What a Cortex-M4 said under QEMU, to the bit.
fn assert_said(binary: &str, mut said: Vec<String>, hash: u64) {
    said.push(format!("logits: {hash:016x}"));
    let path = format!("firmware-example/src/bin/{binary}.out");
    let firmware = std::fs::read_to_string(path).expect("output");
    let firmware: Vec<&str> = firmware.lines().take(said.len()).collect();
    assert_eq!(firmware, said);
}

/// The same answers on this PC; `most` of them may be wrong.
fn assert_answers<T: Classifies>(binary: &str, most: usize) {
    let blocks = one(&format!("{binary}-int8.attn"));
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let labels = format!("labels = {:?}", T::LABELS);
    assert!(model.provenance().contains(&labels), "{binary}: {labels}");
    let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&T::OPTIONS))];
    let memory = Block::bytes_mut(&mut memory);
    let encoder = Encoder::new(&model, &T::OPTIONS, memory, Backend::SCALAR);
    let mut encoder = encoder.expect("an encoder");
    let mut said = Vec::new();
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut wrong = 0;
    for index in 0..T::COUNT {
        T::run(index, &mut encoder).expect("a run");
        let classes = encoder.classes().expect("classes");
        add(&mut hash, classes.iter().map(|x| x.to_bits()));
        let (wanted, found) = (T::wanted(index), label::<T>(classes));
        wrong += usize::from(wanted != found);
        said.push(format!("{} [{wanted}]: {found}", T::name(index)));
    }
    assert!(wrong <= most, "{binary}: {said:?}");
    assert_said(binary, said, hash);
}

#[test]
fn answers_are_those_of_the_firmware() {
    assert_answers::<tasks::Digits>("digits", 0);
    assert_answers::<tasks::Fashion>("fashion", 2);
    assert_answers::<tasks::Keywords>("keywords", 0);
    assert_answers::<tasks::Languages>("languages", 1);
    assert_answers::<tasks::Stories>("stories", 0);
}

#[test]
fn translations_are_those_of_the_firmware() {
    let blocks = one("translation-int8.attn");
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = Translation::OPTIONS;
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut session = Session::new(&model, &options, memory, Backend::SCALAR).expect("a session");
    let mut said = Vec::new();
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for (index, sentence) in Translation::SENTENCES.iter().enumerate() {
        let mut text = Vec::new();
        let each = |piece: &[u8], logits: &[f32]| {
            text.extend_from_slice(piece);
            add(&mut hash, logits.iter().map(|x| x.to_bits()));
        };
        Translation::run(index, &mut session, each).expect("a translation");
        said.push(format!("{sentence} {}", String::from_utf8_lossy(&text)));
    }
    assert_said("translation", said, hash);
}

/// What the words' marks are called.
fn assert_labels(provenance: &str) {
    let labels = format!("labels = {:?}", Marks::LABELS);
    assert!(provenance.contains(&labels), "{labels}");
}

#[test]
fn marks_are_those_of_the_firmware() {
    let blocks = one("marks-int8.attn");
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    assert_labels(model.provenance());
    let options = Marks::OPTIONS;
    let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut encoder = Encoder::new(&model, &options, memory, Backend::SCALAR).expect("an encoder");
    let mut said = Vec::new();
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for index in 0..Marks::TEXTS.len() {
        let mut text = String::new();
        let logits = |row: &[f32]| add(&mut hash, row.iter().map(|x| x.to_bits()));
        let run = Marks::run(index, &mut encoder, logits, |piece| text.push_str(piece));
        run.expect("marks");
        said.push(text);
    }
    assert_said("marks", said, hash);

    let blocks = one("marks-integer.attn");
    let model = integer::Model::parse(Block::bytes(&blocks)).expect("a model");
    assert_labels(model.provenance());
    for backend in Backend::available() {
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(options.len))];
        let memory = Block::bytes_mut(&mut memory);
        let encoder = integer::Encoder::new(&model, options.len, memory, backend);
        let mut encoder = encoder.expect("an encoder");
        let mut said = Vec::new();
        let mut hash = 0xcbf2_9ce4_8422_2325;
        for index in 0..Marks::TEXTS.len() {
            let mut text = String::new();
            let logits = |row: &[i32]| add(&mut hash, row.iter().map(|x| x.cast_unsigned()));
            let each = |piece: &str| text.push_str(piece);
            Marks::run_integers(index, &mut encoder, 777, logits, each).expect("marks");
            said.push(text);
        }
        assert_said("marks-integer", said, hash);
    }
}

/// The integer profile has the same bits on every processor: here on every instruction set of this one, cut into pieces
/// of another size, against what the device said.
fn assert_same_integers<T: Classifies>(binary: &str) {
    let blocks = one(&format!("{binary}.attn"));
    let model = integer::Model::parse(Block::bytes(&blocks)).expect("a model");
    let labels = format!("labels = {:?}", T::LABELS);
    assert!(model.provenance().contains(&labels), "{binary}: {labels}");
    let pixels = tasks::pixels::<T>(model.input_scale());
    let mut mel = vec![0; tasks::mel_len::<T>()];
    tasks::fill_mel::<T>(model.input_scale(), &mut mel);
    let inputs = Inputs {
        pixels: &pixels,
        mel: &mel,
    };
    let len = T::OPTIONS.len;
    for backend in Backend::available() {
        for budget in [500, u32::MAX] {
            let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(len))];
            let memory = Block::bytes_mut(&mut memory);
            let encoder = integer::Encoder::new(&model, len, memory, backend);
            let mut encoder = encoder.expect("an encoder");
            let mut said = Vec::new();
            let mut hash = 0xcbf2_9ce4_8422_2325;
            for index in 0..T::COUNT {
                T::begin(index, inputs, &mut encoder).expect("a beginning");
                while encoder.advance(budget).expect("a piece") == integer::Progress::Busy {}
                let classes = encoder.classes().expect("classes");
                add(&mut hash, classes.iter().map(|x| x.cast_unsigned()));
                let (wanted, found) = (T::wanted(index), encoder.class().expect("a class"));
                let found = T::LABELS[found.expect("a class")];
                said.push(format!("{} [{wanted}]: {found}", T::name(index)));
            }
            assert_said(binary, said, hash);
        }
    }
}

#[test]
fn integers_are_those_of_the_firmware() {
    assert_same_integers::<tasks::Digits>("digits-integer");
    assert_same_integers::<tasks::Fashion>("fashion-integer");
    assert_same_integers::<tasks::Keywords>("keywords-integer");
    assert_same_integers::<tasks::Languages>("languages-integer");
    assert_same_integers::<tasks::Stories>("stories-integer");
}

#[test]
fn texts_by_integers_are_those_of_the_firmware() {
    let int4 = "austen-1m-integer-int4.attn";
    assert_same_text(
        "austen-1m-integer.attn",
        &Writing::SHORT,
        "generate-integer",
    );
    assert_same_text(int4, &Writing::SHORT, "generate-integer-int4");
    assert_same_text(int4, &Writing::LONG, "generate-integer-ring");
}

fn assert_same_text(file: &str, writing: &Writing, binary: &str) {
    let blocks = one(file);
    let model = integer::Model::parse(Block::bytes(&blocks)).expect("a model");
    for backend in Backend::available() {
        let options = writing.options;
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        let session = integer::Session::new(&model, &options, memory, backend);
        let mut session = session.expect("a session");
        let mut said = vec![format!("prompt: {}", Writing::PROMPT)];
        let mut hash = 0xcbf2_9ce4_8422_2325;
        let each = |piece: &[u8], logits: &[i32]| {
            add(&mut hash, logits.iter().map(|x| x.cast_unsigned()));
            said.push(format!("token b\"{}\"", piece.escape_ascii()));
        };
        writing.begin(&mut session, 777).expect("a prompt");
        writing.run(&mut session, 777, each).expect("a text");
        assert_said(binary, said, hash);
    }
}

#[test]
fn translations_by_integers_are_those_of_the_firmware() {
    let blocks = one("translation-integer.attn");
    let model = integer::Model::parse(Block::bytes(&blocks)).expect("a model");
    for backend in Backend::available() {
        let options = Translation::INTEGER_OPTIONS;
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        let session = integer::Session::new(&model, &options, memory, backend);
        let mut session = session.expect("a session");
        let mut said = Vec::new();
        let mut hash = 0xcbf2_9ce4_8422_2325;
        for (index, sentence) in Translation::SENTENCES.iter().enumerate() {
            let mut text = Vec::new();
            let each = |piece: &[u8], logits: &[i32]| {
                text.extend_from_slice(piece);
                add(&mut hash, logits.iter().map(|x| x.cast_unsigned()));
            };
            Translation::run_integers(index, &mut session, 777, each).expect("a translation");
            said.push(format!("{sentence} {}", String::from_utf8_lossy(&text)));
        }
        assert_said("translation-integer", said, hash);
    }
}

/// A snapshot holds the source as well: another session goes on with the translation.
#[test]
fn a_translation_goes_on_from_a_snapshot() {
    let blocks = one("translation-integer.attn");
    let model = integer::Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = Translation::INTEGER_OPTIONS;
    let room = || vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let (mut here, mut there) = (room(), room());
    let open = |memory| integer::Session::new(&model, &options, memory, Backend::detect());
    let mut session = open(Block::bytes_mut(&mut here)).expect("a session");
    let mut other = open(Block::bytes_mut(&mut there)).expect("a session");
    let mut greedy = integer::Sampler::new(integer::SamplerOptions::GREEDY);
    session.read(Translation::SENTENCES[1]).expect("a source");
    session.prompt("").expect("room");
    for _ in 0..3 {
        session.draw(&mut greedy).expect("a token").expect("no end");
    }
    let mut snapshot = vec![0; session.snapshot_len()];
    session.snapshot(&mut snapshot).expect("room");
    other.read("Something else.").expect("a source");
    other.restore(&snapshot).expect("a snapshot");
    let rest = |session: &mut integer::Session<'_>| {
        let mut greedy = integer::Sampler::new(integer::SamplerOptions::GREEDY);
        while session.draw(&mut greedy).expect("a token").is_some() {}
        session.tokens().to_vec()
    };
    let wanted = rest(&mut session);
    assert!(wanted.len() > 6, "{wanted:?}");
    assert_eq!(rest(&mut other), wanted);
}

/// Rows of attention by who attends, layer, head and position.
type Rows = BTreeMap<(u8, usize, usize, usize), Vec<f32>>;

fn take(rows: &mut Rows, row: &AttentionRow<'_>) {
    let attends = match row.attends {
        Attends::Text => 0,
        Attends::TextToSource => 1,
        Attends::Source => 2,
    };
    let at = (attends, row.layer, row.head, row.position);
    assert!(rows.insert(at, row.weights.to_vec()).is_none());
}

/// The mean over rows of half of what they differ by in all: 0 for equal ones, 1 for ones without a common key.
fn distance(floats: &Rows, integers: &Rows) -> f32 {
    assert!(floats.keys().eq(integers.keys()));
    let rows = floats.values().zip(integers.values());
    let mut sum = 0.0;
    for (a, b) in rows {
        assert!((b.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        // Batches end elsewhere: keys behind them are those that no query sees.
        let longest = a.len().max(b.len());
        let at = |row: &[f32], key| row.get(key).copied().unwrap_or(0.0);
        let differ = (0..longest).map(|key| (at(a, key) - at(b, key)).abs());
        let hidden = |key: &usize| at(a, *key) == 0.0;
        assert!((0..longest).filter(hidden).all(|key| at(b, key) == 0.0));
        sum += differ.sum::<f32>() / 2.0;
    }
    sum / floats.len() as f32
}

#[test]
fn attention_by_integers_is_about_that_of_floats() {
    let backend = Backend::detect();
    let ids: Vec<u32> = (0..90).map(|i| 256 + i * 37 % 700).collect();
    let mut weights = [0.0; 128];
    let with_float = |name: &str, then: &mut dyn FnMut(&Model<'_>, &mut [u8])| {
        let blocks = one(name);
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        let mut memory = vec![Block::ZERO; 1 << 17];
        then(&model, Block::bytes_mut(&mut memory));
    };
    let with_integers = |name: &str, then: &mut dyn FnMut(&integer::Model<'_>, &mut [u8])| {
        let blocks = one(name);
        let model = integer::Model::parse(Block::bytes(&blocks)).expect("a model");
        let mut memory = vec![Block::ZERO; 1 << 17];
        then(&model, Block::bytes_mut(&mut memory));
    };

    let mut floats = Rows::new();
    with_float("austen-1m-int8.attn", &mut |model, memory| {
        let options = SessionOptions::new(96);
        let mut session = Session::new(model, &options, memory, backend).expect("a session");
        let done = session.watch(&ids, &mut weights, |row| take(&mut floats, row));
        done.expect("room");
    });
    for (options, most) in [
        (integer::Options::new(96), 0.05),
        (
            integer::Options::new(96).with_when_full(WhenFull::Ring),
            0.05,
        ),
        (integer::Options::new(96).with_kv(integer::Bits::Four), 0.15),
    ] {
        let mut integers = Rows::new();
        with_integers("austen-1m-integer.attn", &mut |model, memory| {
            let session = integer::Session::new(model, &options, memory, backend);
            let mut session = session.expect("a session");
            session.prompt_tokens(&ids).expect("room");
            let refused = session.watch(&mut [0.0; 3], |_| {});
            assert!(matches!(refused, Err(SessionError::Memory { .. })));
            session.reset();
            session.prompt_tokens(&ids).expect("room");
            let done = session.watch(&mut weights, |row| take(&mut integers, row));
            done.expect("room");
            assert!(session.logits().is_some());
        });
        let distance = distance(&floats, &integers);
        assert!(distance < most, "{options:?}: {distance}");
    }

    let (source, target) = (&ids[..20], &ids[20..33]);
    let (mut floats, mut integers) = (Rows::new(), Rows::new());
    with_float("translation-int8.attn", &mut |model, memory| {
        let options = SessionOptions::new(32).with_source_len(32);
        let mut session = Session::new(model, &options, memory, backend).expect("a session");
        let done = session.watch_source(source, &mut weights, |row| take(&mut floats, row));
        done.expect("room");
        let done = session.watch(target, &mut weights, |row| take(&mut floats, row));
        done.expect("room");
    });
    with_integers("translation-integer.attn", &mut |model, memory| {
        let options = integer::Options::new(32).with_source_len(32);
        let session = integer::Session::new(model, &options, memory, backend);
        let mut session = session.expect("a session");
        session.read_tokens(source).expect("room");
        session.prompt_tokens(target).expect("room");
        let done = session.watch(&mut weights, |row| take(&mut integers, row));
        done.expect("room");
    });
    let of_translation = distance(&floats, &integers);
    assert!(of_translation < 0.05, "{of_translation}");

    let (mut floats, mut integers) = (Rows::new(), Rows::new());
    let mut ids = [0; 96];
    let mut len = 0;
    with_float("stories-int8.attn", &mut |model, memory| {
        let encoder = Encoder::new(model, &EncoderOptions::new(96), memory, backend);
        let mut encoder = encoder.expect("an encoder");
        let mut scratch = [0; ENCODE_SCRATCH_LEN];
        let text = <tasks::Stories as Classifies>::name(0);
        let wrapped = (model.tokenizer()).encode_wrapped(text, None, &mut scratch, &mut ids);
        len = wrapped.expect("room").len;
        let done = encoder.watch(&ids[..len], &[], &mut weights, |row| take(&mut floats, row));
        done.expect("room");
    });
    with_integers("stories-integer.attn", &mut |model, memory| {
        let mut encoder = integer::Encoder::new(model, 96, memory, backend).expect("an encoder");
        encoder.begin_tokens(&ids[..len]).expect("room");
        let done = encoder.watch(&mut weights, |row| take(&mut integers, row));
        done.expect("room");
    });
    let of_stories = distance(&floats, &integers);
    assert!(of_stories < 0.05, "{of_stories}");
}
