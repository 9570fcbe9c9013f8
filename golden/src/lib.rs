//! What the firmware's integer binaries are asked, as the hash of all logits: equal hashes are equal bits.
//!
//! WebAssembly's host calls [`golden`].
#![no_std]

/// What the firmware asks, this very file.
#[allow(
    dead_code,
    unused_imports,
    reason = "the firmware asks more of its models"
)]
#[path = "../../firmware-example/src/tasks/mod.rs"]
pub mod tasks;

use attentive::integer::{Encoder, Model, Session};
use attentive::kernels::Backend;
use attentive::{Arena, SessionError, include_integer_weights};
use tasks::{Classifies, Digits, Inputs, Languages, Stories, Writing};

/// The hash of what these binaries of the firmware are asked, in this order: `digits-integer`, `languages-integer`,
/// `stories-integer`, `generate-integer`, `generate-integer-int4`, `generate-integer-ring`; 0 where something was refused, or
/// was asked a second time.
#[unsafe(no_mangle)]
pub extern "C" fn golden(index: u32) -> u64 {
    macro_rules! classifier {
        ($file:literal, $task:ty) => {{
            static MODEL: Model<'static> =
                include_integer_weights!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/", $file));
            const LEN: usize = <$task>::OPTIONS.len;
            static ARENA: Arena<{ MODEL.encoder_bytes(LEN) }> = Arena::new();
            static PIXELS: [i8; 256] = tasks::pixels::<$task>(MODEL.input_scale());
            static MEL: [i32; tasks::mel_len::<$task>()] = {
                let mut words = [0; tasks::mel_len::<$task>()];
                tasks::fill_mel::<$task>(MODEL.input_scale(), &mut words);
                words
            };
            let inputs = Inputs {
                pixels: &PIXELS,
                mel: &MEL,
            };
            match ARENA.take() {
                Ok(memory) => classified::<$task>(&MODEL, LEN, memory, inputs),
                Err(_) => Err(SessionError::NoPrompt),
            }
        }};
    }
    macro_rules! writer {
        ($file:literal, $writing:ident) => {{
            static MODEL: Model<'static> =
                include_integer_weights!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/", $file));
            const WRITING: Writing = Writing::$writing;
            static ARENA: Arena<{ MODEL.session_bytes(&WRITING.options) }> = Arena::new();
            match ARENA.take() {
                Ok(memory) => written(&MODEL, &WRITING, memory),
                Err(_) => Err(SessionError::NoPrompt),
            }
        }};
    }
    let hash = match index {
        0 => classifier!("digits-integer.attn", Digits),
        1 => classifier!("languages-integer.attn", Languages),
        2 => classifier!("stories-integer.attn", Stories),
        3 => writer!("austen-1m-integer.attn", SHORT),
        4 => writer!("austen-1m-integer-int4.attn", SHORT),
        5 => writer!("austen-1m-integer-int4.attn", LONG),
        _ => Err(SessionError::NoPrompt),
    };
    hash.unwrap_or(0)
}

fn classified<T: Classifies>(
    model: &'static Model<'static>,
    len: usize,
    memory: &'static mut [u8],
    inputs: Inputs<'_>,
) -> Result<u64, SessionError> {
    let mut encoder = Encoder::new(model, len, memory, Backend::detect())?;
    let mut hash = EMPTY;
    for index in 0..T::COUNT {
        T::begin(index, inputs, &mut encoder)?;
        encoder.run()?;
        add(&mut hash, encoder.classes()?);
    }
    Ok(hash)
}

fn written(
    model: &'static Model<'static>,
    writing: &Writing,
    memory: &'static mut [u8],
) -> Result<u64, SessionError> {
    let mut session = Session::new(model, &writing.options, memory, Backend::detect())?;
    let mut hash = EMPTY;
    writing.begin(&mut session, 1000)?;
    writing.run(&mut session, 1000, |_, logits| add(&mut hash, logits))?;
    Ok(hash)
}

/// FNV-1a, 64 bits, of nothing.
const EMPTY: u64 = 0xcbf2_9ce4_8422_2325;

fn add(hash: &mut u64, logits: &[i32]) {
    for byte in logits.iter().flat_map(|logit| logit.to_le_bytes()) {
        *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
