//! Any bytes as a weights file: parsed, and if they pass, prompted, sampled, scored.
//!
//! ```text
//! cargo +nightly fuzz run weights fuzz/corpus/weights tests/ui
//! ```
//! The header's checksum is repaired first, or no change would ever get past it. `tests/ui` seeds the corpus with sound
//! files.
#![no_main]

#[path = "../../tests/common/hostile.rs"]
mod hostile;

use attentive::Block;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut blocks = vec![Block::ZERO; Block::len_for(bytes.len())];
    let file = &mut Block::bytes_mut(&mut blocks)[..bytes.len()];
    file.copy_from_slice(bytes);
    hostile::repair_checksum(file);
    hostile::exercise(file, "hostile\u{e9}  text's 12 <|end|> end");
});
