//! Changed files with repaired checksums: an `Err` or strange text, never a panic.

mod common;

use attentive::Block;
use attentive::kernels::layout::WeightFormat;
use attentive::tokenizer::Split;
use common::hostile::{exercise, repair_checksum};
use common::{
    BERT, ORIGINAL, Random, Variant, listener, pack_bpe, pack_bpe_variant, pack_unigram_full,
    pack_variant, pack_word_piece, ranked_bpe, variants,
};

#[test]
fn changed_files_with_sound_checksums_never_panic() {
    let formats = [
        WeightFormat::F32,
        WeightFormat::F16,
        WeightFormat::I8Row,
        WeightFormat::I8Group32,
        WeightFormat::I4Group32,
        WeightFormat::U4Group32,
    ];
    // What is parsed is the same everywhere; where an emulator may run this, a few changes of each kind will do.
    let changes = if cfg!(target_arch = "x86_64") {
        150
    } else {
        30
    };
    let mut random = Random(9);
    let (mut passed, mut refused) = (0, 0);
    let of_families = [BERT, ORIGINAL, listener(10)].map(|config| Variant {
        name: "another family",
        config,
    });
    for (number, variant) in variants().into_iter().chain(of_families).enumerate() {
        let format = formats[number % formats.len()];
        for blocks in [
            pack_variant(&variant.config, format, 1),
            pack_bpe_variant(&variant.config, format, 1),
            pack_bpe(&variant.config, format, 1, Split::Gpt2Digits, ranked_bpe()),
            pack_word_piece(&variant.config, format, 1),
            pack_unigram_full(&variant.config),
        ] {
            for _ in 0..changes {
                let mut copy = blocks.clone();
                let file = Block::bytes_mut(&mut copy);
                // A third of the changes each in what is parsed, in the tokenizer and provenance, and anywhere.
                let tables_end = 192 + 32 * variant.config.tensors_len();
                let end = [tables_end, tables_end + 4096, file.len()][random.below(3)];
                for _ in 0..=random.below(4) {
                    let at = random.below(end.min(file.len()));
                    file[at] = random.next() as u8;
                }
                repair_checksum(file);
                match exercise(file, "hostile\u{e9}  text's 12 <|end|> end") {
                    true => passed += 1,
                    false => refused += 1,
                }
            }
        }
    }
    // The test would say nothing if the parser refused or believed everything.
    assert!(
        passed > 200 && refused > 200,
        "{passed} passed, {refused} refused"
    );
}
