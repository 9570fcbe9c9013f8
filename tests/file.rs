//! Files: what is packed is what is read, and nothing hostile gets through.

mod common;

use attentive::kernels::Backend;
use attentive::kernels::layout::{WeightFormat, weight_lens};
use attentive::kernels::ops::embed::dequantize_row;
use attentive::kernels::pack::scale_index;
use attentive::pack::{PackError, Recipe, ScaleMethod, TokenizerParts};
use attentive::{
    Architecture, Block, Config, ConfigError, Model, Role, Source, TensorKind, TensorShape,
    WeightsError,
};
use half::f16;

use common::hostile::repair_checksum;
use common::{ORIGINAL, Random, Variant, WINDOW, pack_variant, variants, with};

#[test]
fn every_variant_is_read_back() {
    for Variant { name, config } in variants() {
        let blocks = pack_variant(&config, WeightFormat::I8Row, 1);
        let model = Model::parse(Block::bytes(&blocks)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(model.config(), &config, "{name}");
        assert_eq!(model.tensors().count(), config.tensors_len(), "{name}");
        for (index, tensor) in model.tensors().enumerate() {
            let shape = tensor.shape;
            assert_eq!(config.tensor(index), Some(shape));
            assert_eq!(config.tensor_index(shape.role, shape.layer), Some(index));
            if shape.rows == 1 {
                assert_eq!(
                    model
                        .vector(shape.role, shape.layer)
                        .map(|v| v.map(|v| v.len())),
                    Ok(Some(shape.cols))
                );
            } else {
                let matrix = model.matrix(shape.role, shape.layer).expect(name);
                assert_eq!((matrix.rows(), matrix.cols()), (shape.rows, shape.cols));
                assert_eq!(matrix.format(), tensor.format);
            }
        }
        model.verify().expect(name);
    }
}

/// Integers, scales and minima that somebody else chose: what is written is what is read, without another rounding.
#[test]
fn given_levels_and_scales_are_read_back() {
    let config = &variants()[0].config;
    for (format, lowest, highest) in [
        (WeightFormat::I8Row, -128, 127),
        (WeightFormat::I8Group32, -128, 127),
        (WeightFormat::I4Group32, -8, 7),
        (WeightFormat::U4Group32, 0, 15),
    ] {
        let recipe = Recipe {
            config,
            tokenizer: TokenizerParts::None,
            provenance: "",
            format: &|shape| match shape.kind {
                TensorKind::Matrix => format,
                TensorKind::Vector => WeightFormat::F32,
            },
        };
        let given = |shape: &TensorShape| {
            let mut random = Random(u64::from(shape.role as u16) + 100);
            let range = (highest - lowest + 1) as usize;
            let levels: Vec<i8> = (0..shape.rows * shape.cols)
                .map(|_| (lowest + random.below(range) as i32) as i8)
                .collect();
            let lens = weight_lens(format, shape.rows, shape.cols).expect("small");
            let scales: Vec<f16> = (0..lens.scales + lens.minima)
                .map(|_| f16::from_f32(random.symmetric()))
                .collect();
            (levels, scales)
        };
        let mut blocks = vec![Block::ZERO; Block::len_for(recipe.file_bytes().expect("size"))];
        let written = recipe.write(Block::bytes_mut(&mut blocks), |mut tensor| {
            if tensor.shape.kind == TensorKind::Vector {
                let len = tensor.shape.cols;
                assert!(tensor.write_levels(&vec![1; len], &[]).is_err());
                return tensor.write(&vec![1.0; len], ScaleMethod::AbsMax);
            }
            let (mut levels, scales) = given(&tensor.shape);
            assert!(tensor.write_levels(&levels[1..], &scales).is_err());
            assert!(tensor.write_levels(&levels, &scales[1..]).is_err());
            tensor.write_levels(&levels, &scales)?;
            if lowest > -128 {
                levels[0] = -9;
                assert!(tensor.write_levels(&levels, &scales).is_err());
            }
            Ok::<_, PackError>(())
        });
        written.expect("written");
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        for tensor in model.tensors() {
            let shape = tensor.shape;
            if shape.kind == TensorKind::Vector {
                continue;
            }
            let matrix = model.matrix(shape.role, shape.layer).expect("a matrix");
            let (levels, scales) = given(&shape);
            let minima = weight_lens(format, shape.rows, shape.cols).map_or(0, |lens| lens.minima);
            let mut row = vec![f32::NAN; shape.cols];
            for (r, levels) in levels.chunks(shape.cols).enumerate() {
                dequantize_row(Backend::SCALAR, &matrix, r, &mut row).expect("a row");
                for (col, (got, level)) in row.iter().zip(levels).enumerate() {
                    let at = scale_index(format, r, col, shape.cols);
                    let minimum = if minima > 0 {
                        scales[minima + at].to_f32()
                    } else {
                        0.0
                    };
                    let want = f32::from(*level) * scales[at].to_f32() + minimum;
                    assert_eq!(*got, want, "{format:?} {:?} ({r}, {col})", shape.role);
                }
            }
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let blocks = pack_variant(&variants()[0].config, WeightFormat::U4Group32, 1);
    let file = Block::bytes(&blocks);
    for len in 0..file.len() {
        assert!(Model::parse(&file[..len]).is_err(), "{len} bytes");
    }
    assert!(matches!(
        Model::parse(&file[..file.len() - 1]),
        Err(WeightsError::FileLen { .. })
    ));
    let mut longer = file.to_vec();
    longer.push(0);
    assert!(matches!(
        Model::parse(&longer),
        Err(WeightsError::FileLen { .. })
    ));
}

/// Every value of every byte of header and tables, and a change of many a byte after them.
#[test]
fn every_changed_byte_is_noticed() {
    let blocks = pack_variant(&variants()[0].config, WeightFormat::I8Group32, 1);
    let mut file = Block::bytes(&blocks).to_vec();
    let tables_end = 128 + 32 * Model::parse(&file).expect("sound").config().tensors_len();
    // The payload is only sampled: its checksum reads the whole file each time.
    for at in (0..tables_end).chain((tables_end..file.len()).step_by(17)) {
        let original = file[at];
        let changes = if at < tables_end { 255 } else { 1 };
        for change in 1..=changes {
            file[at] = original ^ change;
            let refused = match Model::parse(&file) {
                Err(_) => true,
                Ok(model) if at >= tables_end => model.verify().is_err(),
                Ok(_) => false,
            };
            assert!(refused, "byte {at} changed by {change:#04x}");
        }
        file[at] = original;
    }
}

#[test]
fn an_unaligned_file_is_an_error_when_used() {
    let blocks = pack_variant(&variants()[0].config, WeightFormat::F32, 1);
    let file = Block::bytes(&blocks);
    let mut shifted = vec![Block::ZERO; blocks.len() + 1];
    let shifted = &mut Block::bytes_mut(&mut shifted)[1..][..file.len()];
    shifted.copy_from_slice(file);
    let model = Model::parse(shifted).expect("sound");
    assert_eq!(
        model.matrix(Role::TokenEmbedding, None).map(|_| ()),
        Err(WeightsError::Misaligned { offset: 1 })
    );
}

#[test]
fn a_recipe_that_no_file_can_hold_is_refused() {
    let good = variants()[0].config;
    let bytes_of = |config: &Config, tokenizer, provenance: &str, format| {
        Recipe {
            config,
            tokenizer,
            provenance,
            format: &move |_| format,
        }
        .file_bytes()
    };
    assert!(bytes_of(&good, TokenizerParts::None, "", WeightFormat::F32).is_ok());
    // A vector cannot be an integer format.
    assert!(bytes_of(&good, TokenizerParts::None, "", WeightFormat::I8Row).is_err());
    let long = "#".repeat(20_000);
    assert!(bytes_of(&good, TokenizerParts::None, &long, WeightFormat::F32).is_err());
    let offset = good.vocab_len as u32;
    assert!(
        bytes_of(
            &good,
            TokenizerParts::Bytes { offset },
            "",
            WeightFormat::F32
        )
        .is_err()
    );
    let bad = Config {
        kv_heads: 3,
        ..good
    };
    assert!(bytes_of(&bad, TokenizerParts::None, "", WeightFormat::F32).is_err());
}

#[test]
fn a_tokenizer_can_be_that_of_another_file() {
    let bytes = std::fs::read("models/languages-int8.attn").expect("a shipped model");
    let other = Model::parse(&bytes).expect("a model");
    let section = other.tokenizer_section();
    let vocab_len = other.tokenizer().vocab_len();
    let recipe = |section, vocab_len| {
        let config = Config {
            vocab_len,
            ..variants()[0].config
        };
        let recipe = Recipe {
            config: &config,
            tokenizer: TokenizerParts::Section(section),
            provenance: "",
            format: &|_| WeightFormat::F32,
        };
        let mut blocks = vec![Block::ZERO; Block::len_for(recipe.file_bytes()?)];
        recipe.write::<PackError>(Block::bytes_mut(&mut blocks), |mut tensor| {
            let shape = tensor.shape;
            tensor.write(&vec![0.5; shape.rows * shape.cols], ScaleMethod::AbsMax)
        })?;
        Ok::<_, PackError>(blocks)
    };
    let blocks = recipe(section, vocab_len).expect("a file");
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    assert_eq!(model.tokenizer_section(), section);
    assert_eq!(model.tokenizer().vocab_len(), vocab_len);
    let mut scratch = [0; attentive::tokenizer::ENCODE_SCRATCH_LEN];
    let mut tokens = |model: &Model<'_>| {
        let mut ids = [0; 64];
        let text = "Wo steht das Haus? ¿Dónde?";
        let len = model.tokenizer().encode_into(text, &mut scratch, &mut ids);
        ids[..len.expect("tokens")].to_vec()
    };
    assert_eq!(tokens(&model), tokens(&other));
    // More tokens than the model has, half a section, another's bytes.
    assert!(recipe(section, vocab_len - 1).is_err());
    assert!(recipe(&section[..section.len() / 2], vocab_len).is_err());
    assert!(recipe(&[7; 400], vocab_len).is_err());
}

#[test]
fn a_tensor_of_the_wrong_length_is_refused() {
    let config = variants()[0].config;
    let recipe = Recipe {
        config: &config,
        tokenizer: TokenizerParts::None,
        provenance: "",
        format: &|_| WeightFormat::F32,
    };
    let mut blocks = vec![Block::ZERO; Block::len_for(recipe.file_bytes().expect("size"))];
    let result = recipe.write(Block::bytes_mut(&mut blocks), |mut tensor| {
        tensor.write(&[0.0], ScaleMethod::AbsMax)
    });
    assert!(result.is_err());
}

/// A file of a model whose attention is plain has no record of it, and is what it always was; the record of any other
/// is 64 bytes behind the configuration.
#[test]
fn an_attention_record_is_there_when_it_says_something() {
    let table_len = |config: &Config| 32 * config.tensors_len();
    for (config, records_len) in [(variants()[0].config, 64), (with(WINDOW, None, true), 128)] {
        let blocks = pack_variant(&config, WeightFormat::F32, 1);
        let file = Block::bytes(&blocks);
        let provenance_at = u64::from_le_bytes(file[16..24].try_into().expect("8 bytes")) as usize;
        let tables_end = 64 + records_len + table_len(&config);
        assert_eq!(provenance_at, tables_end.next_multiple_of(64));
    }
}

/// A file of a model with a window, a cap and sinks, changed at one place of the attention record, its checksum
/// repaired.
#[test]
fn an_impossible_attention_is_refused() {
    let config = with(WINDOW, Some(30.0), true);
    let blocks = pack_variant(&config, WeightFormat::F32, 1);
    let parse = |changes: &[(usize, [u8; 4])]| {
        let mut blocks = blocks.clone();
        let file = Block::bytes_mut(&mut blocks);
        for (at, bytes) in changes {
            file[*at..][..4].copy_from_slice(bytes);
        }
        repair_checksum(file);
        Model::parse(file).map(|model| *model.config())
    };
    let (len, keep, full_every, cap, flags, reserved) = (128, 132, 136, 140, 144, 188);
    let word = u32::to_le_bytes;
    assert_eq!(parse(&[]), Ok(config));
    let cap_bytes = |x: f32| (cap, x.to_le_bytes());
    let out_of_range = |field, least, most, have| ConfigError::OutOfRange {
        field,
        least,
        most,
        have,
    };
    let number = ConfigError::Number { field: "soft_cap" };
    let unknown = ConfigError::Unknown { field: "attention" };
    let longest = Config::CONTEXT_MAX;
    let most = u32::MAX as usize;
    for (changes, want) in [
        (vec![(len, word(0))], out_of_range("window", 1, longest, 0)),
        (
            vec![(len, word(u32::MAX))],
            out_of_range("window", 1, longest, most),
        ),
        (
            vec![(keep, word(10))],
            out_of_range("window_keep", 0, 9, 10),
        ),
        (
            vec![(full_every, word(1))],
            out_of_range("window_full_every", 2, 256, 1),
        ),
        (
            vec![(full_every, word(257))],
            out_of_range("window_full_every", 2, 256, 257),
        ),
        (vec![cap_bytes(f32::NAN)], number),
        (vec![cap_bytes(f32::INFINITY)], number),
        (vec![cap_bytes(-30.0)], number),
        (vec![cap_bytes(-0.0)], number),
        (vec![cap_bytes(1e-30)], number),
        (vec![(flags, word(3))], unknown),
        (vec![(reserved, word(1))], unknown),
        // A record that says nothing.
        (
            [len, keep, full_every, cap, flags]
                .map(|at| (at, word(0)))
                .to_vec(),
            unknown,
        ),
    ] {
        assert_eq!(
            parse(&changes),
            Err(WeightsError::Config(want)),
            "{changes:?}"
        );
    }
    // Without sinks there is a tensor too many in each layer.
    let need = config.tensors_len() - config.layers;
    let have = config.tensors_len();
    assert_eq!(
        parse(&[(flags, word(0))]),
        Err(WeightsError::TensorsLen { need, have })
    );
    // Without the flag, the record is no entry of the table.
    let plain = u32::from_le_bytes(Block::bytes(&blocks)[96..100].try_into().expect("4 bytes"));
    assert!(parse(&[(96, word(plain & !(1 << 9)))]).is_err());
}

/// A file of an encoder–decoder, changed in its source record or in what says that it has one.
#[test]
fn an_impossible_source_is_refused() {
    let blocks = pack_variant(&ORIGINAL, WeightFormat::F32, 1);
    let flags = u32::from_le_bytes(Block::bytes(&blocks)[96..100].try_into().expect("4 bytes"));
    let parse = |at: usize, bytes: &[u8]| {
        let mut blocks = blocks.clone();
        let file = Block::bytes_mut(&mut blocks);
        file[at..][..bytes.len()].copy_from_slice(bytes);
        repair_checksum(file);
        Model::parse(file).map(|model| *model.config())
    };
    assert_eq!(parse(0, b"ATTN"), Ok(ORIGINAL));
    let refused = |at, bytes: &[u8], want| {
        assert_eq!(parse(at, bytes), Err(WeightsError::Config(want)), "{at}");
    };
    let out_of_range = |field, most, have| ConfigError::OutOfRange {
        field,
        least: 1,
        most,
        have,
    };
    let unknown = |field| ConfigError::Unknown { field };
    let (layers, len, position, reserved) = (128, 132, 136, 191);
    refused(layers, &[0], out_of_range("source_layers", 256, 0));
    let most = Config::CONTEXT_MAX;
    refused(len, &[0], out_of_range("source_len", most, 0));
    refused(position, &[5], unknown("source_position"));
    let rotary = ConfigError::Encoder {
        field: "source_position",
    };
    refused(position, &[3], rotary);
    refused(reserved, &[1], unknown("source"));
    let (input, bins) = (137, 140);
    refused(input, &[1], out_of_range("bins", 1024, 0));
    refused(input, &[2], unknown("input"));
    refused(bins, &[1], unknown("input"));
    // A decoder with the record, an encoder with it, an encoder–decoder without it or with that of an encoder.
    refused(44, &[1], unknown("encoder"));
    refused(44, &[2], unknown("encoder"));
    for other in [flags & !(1 << 11), flags & !(1 << 11) | 1 << 10] {
        let parsed = parse(96, &other.to_le_bytes());
        assert!(parsed.is_err(), "{parsed:?}");
    }
    // A layer less, or more, has other tensors.
    let Architecture::EncoderDecoder(source) = ORIGINAL.architecture else {
        panic!("an encoder–decoder");
    };
    for count in [2u8, 4] {
        let layers_then = usize::from(count);
        let other = Config {
            architecture: Architecture::EncoderDecoder(Source {
                layers: layers_then,
                ..source
            }),
            ..ORIGINAL
        };
        let (need, have) = (other.tensors_len(), ORIGINAL.tensors_len());
        let error = WeightsError::TensorsLen { need, have };
        assert_eq!(parse(layers, &[count]), Err(error));
    }
}

/// Attention reads its sinks in place, as f32.
#[test]
fn sinks_of_another_format_are_refused() {
    let config = with(WINDOW, None, true);
    let recipe = Recipe {
        config: &config,
        tokenizer: TokenizerParts::None,
        provenance: "",
        format: &|_| WeightFormat::F16,
    };
    assert!(matches!(
        recipe.file_bytes(),
        Err(PackError::Format { shape, .. }) if shape.role == Role::AttnSinks
    ));
}
