//! A decoder of the integer profile writes, and what it costs is printed.

use attentive::integer::{Fit, Model, Session};
use attentive::kernels::Backend;

use crate::Failure;
use crate::classifier::BUDGET;
use crate::measure::{self, Instructions, Memory};
use crate::request::LogitsHash;
use crate::tasks::Writing;

/// Memory of the model's session.
pub const fn bytes(model: &Model<'_>, writing: &Writing) -> usize {
    model.session_bytes(&writing.options)
}

/// Writes behind the prompt.
///
/// # Errors
/// What the session refuses.
// Where it is inlined, the compiler knows the model.
#[inline(always)]
pub fn run<F: Fit>(
    model: &'static Model<'static>,
    writing: &Writing,
    memory: &'static mut [u8],
) -> Result<(), Failure> {
    let clock = Instructions::start()?;
    let bytes = memory.len();
    let mut session = Session::<F>::fitted(model, &writing.options, memory, Backend::BASELINE)?;
    let mut logits = LogitsHash::EMPTY;
    let mut tokens = 0u32;
    defmt::println!("prompt: {=str}", Writing::PROMPT);
    let mut telling = 0;
    let each = |piece: &[u8], row: &[i32]| {
        let tell = || {
            logits.add_words(row.iter().map(|x| x.cast_unsigned()));
            defmt::println!("token {=[u8]:a}", piece);
        };
        telling += clock.of(tell).1;
        tokens += 1;
    };
    let (begun, reading) = clock.of(|| writing.begin(&mut session, BUDGET));
    begun?;
    let read = session.position() as u64;
    let (run, instructions) = clock.of(|| writing.run(&mut session, BUDGET, each));
    run?;
    defmt::println!("logits: {=u64:016x}", logits.0);
    defmt::println!("tokens = {=u32}", tokens);
    let per_prompt_token = reading / read.max(1);
    defmt::println!("instructions_per_prompt_token = {=u64}", per_prompt_token);
    // To hash the logits and to print is no part of writing.
    let per_token = instructions.saturating_sub(telling) / u64::from(tokens.max(1));
    defmt::println!("instructions_per_token = {=u64}", per_token);
    measure::print_sizes(model.bytes(), Memory::Session(bytes));
    Ok(())
}

/// A binary that writes with a model of the integer profile.
#[macro_export]
macro_rules! integer_writer {
    ($file:literal, $writing:ident) => {
        static MODEL: attentive::integer::Model<'static> = attentive::include_integer_weights!(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../models/", $file)
        );

        const WRITING: $crate::tasks::Writing = $crate::tasks::Writing::$writing;

        const BYTES: usize = $crate::writer::bytes(&MODEL, &WRITING);

        struct Fitted;

        impl attentive::integer::Fit for Fitted {
            const NEEDS: attentive::integer::Needs =
                MODEL.needs(&WRITING.options);
        }

        fn run() -> Result<(), $crate::Failure> {
            let memory = $crate::processor::singleton!(: attentive::Aligned<[u8; BYTES]> =
                attentive::Aligned([0; BYTES]));
            let memory = memory.ok_or(attentive::ArenaTaken)?;
            $crate::writer::run::<Fitted>(&MODEL, &WRITING, &mut memory.0)
        }

        #[$crate::processor::entry]
        fn main() -> ! {
            match run() {
                Ok(()) => semihosting::process::exit(0),
                Err(failure) => failure.exit(),
            }
        }

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::panicked(info)
        }
    };
}
