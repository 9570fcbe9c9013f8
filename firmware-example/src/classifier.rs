//! A firmware that asks a classifier everything in its [task](crate::tasks), and says what that cost.

use attentive::integer::Progress;
use attentive::{Encoder, Fit, Sequential, SessionError, integer};

use crate::Failure;
use crate::measure::{self, Instructions, Memory};
use crate::request::LogitsHash;
use crate::tasks::{Classifies, Inputs, label};

/// Asks everything and prints answers, logits and costs.
///
/// # Errors
/// What the encoder refuses.
pub fn ask<T: Classifies, F: Fit>(
    encoder: &mut Encoder<'_, Sequential, F>,
    encoder_bytes: usize,
) -> Result<(), Failure> {
    let clock = Instructions::start()?;
    let mut logits = LogitsHash::EMPTY;
    let mut right = 0;
    let mut instructions = 0;
    for index in 0..T::COUNT {
        let (run, spent) = clock.of(|| -> Result<(), SessionError> { T::run(index, encoder) });
        run?;
        instructions += spent;
        let classes = encoder.classes()?;
        logits.add(classes);
        let (wanted, found) = (T::wanted(index), label::<T>(classes));
        right += u32::from(found == wanted);
        defmt::println!("{=str} [{=str}]: {=str}", T::name(index), wanted, found);
    }
    defmt::println!("logits: {=u64:016x}", logits.0);
    defmt::println!("right = {=u32}", right);
    let each = instructions / T::COUNT as u64;
    defmt::println!("instructions_each = {=u64}", each);
    measure::print_sizes(encoder.model().bytes(), Memory::Encoder(encoder_bytes));
    Ok(())
}

/// Multiply-adds between two looks at the clock of a model of the integer profile.
pub const BUDGET: u32 = 2000;

/// The same of the integer profile, in pieces of [`BUDGET`] multiply-adds, of which the longest is told.
///
/// # Errors
/// What the encoder refuses.
pub fn ask_integers<T: Classifies, F: integer::Fit>(
    encoder: &mut integer::Encoder<'_, F>,
    encoder_bytes: usize,
    inputs: Inputs<'_>,
) -> Result<(), Failure> {
    let clock = Instructions::start()?;
    let mut logits = LogitsHash::EMPTY;
    let mut right = 0;
    let mut instructions = 0;
    let mut longest = 0;
    for index in 0..T::COUNT {
        let (begun, spent) = clock.of(|| T::begin(index, inputs, encoder));
        begun?;
        instructions += spent;
        loop {
            let (progress, spent) = clock.of(|| encoder.advance(BUDGET));
            instructions += spent;
            longest = spent.max(longest);
            if progress? == Progress::Done {
                break;
            }
        }
        logits.add_words(encoder.classes()?.iter().map(|x| x.cast_unsigned()));
        let wanted = T::wanted(index);
        let found = encoder.class()?.and_then(|class| T::LABELS.get(class));
        let found = found.copied().unwrap_or("?");
        right += u32::from(found == wanted);
        defmt::println!("{=str} [{=str}]: {=str}", T::name(index), wanted, found);
    }
    defmt::println!("logits: {=u64:016x}", logits.0);
    defmt::println!("right = {=u32}", right);
    let each = instructions / T::COUNT as u64;
    defmt::println!("instructions_each = {=u64}", each);
    defmt::println!("instructions_of_longest_piece = {=u64}", longest);
    measure::print_sizes(encoder.model().bytes(), Memory::Encoder(encoder_bytes));
    Ok(())
}

/// As [`classifier`](crate::classifier!), of the integer profile. Runs on processors without compare-and-swap too.
#[macro_export]
macro_rules! integer_classifier {
    ($file:literal, $task:ty) => {
        static MODEL: attentive::integer::Model<'static> = attentive::include_integer_weights!(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../models/", $file)
        );

        const LEN: usize = <$task as $crate::tasks::Classifies>::OPTIONS.len;
        const BYTES: usize = MODEL.encoder_bytes(LEN);

        static PIXELS: [i8; 256] = $crate::tasks::pixels::<$task>(MODEL.input_scale());
        static MEL: [i32; $crate::tasks::mel_len::<$task>()] = {
            let mut words = [0; $crate::tasks::mel_len::<$task>()];
            $crate::tasks::fill_mel::<$task>(MODEL.input_scale(), &mut words);
            words
        };

        const INPUTS: $crate::tasks::Inputs<'static> = $crate::tasks::Inputs {
            pixels: &PIXELS,
            mel: &MEL,
        };

        struct Fitted;

        impl attentive::integer::Fit for Fitted {
            const NEEDS: attentive::integer::Needs = MODEL.encoder_needs();
        }

        fn run() -> Result<(), $crate::Failure> {
            let memory = $crate::processor::singleton!(: attentive::Aligned<[u8; BYTES]> =
                attentive::Aligned([0; BYTES]));
            let memory = memory.ok_or(attentive::ArenaTaken)?;
            let mut encoder = attentive::integer::Encoder::<Fitted>::fitted(
                &MODEL,
                LEN,
                &mut memory.0,
                attentive::kernels::Backend::BASELINE,
            )?;
            $crate::classifier::ask_integers::<$task, Fitted>(&mut encoder, BYTES, INPUTS)
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

/// The whole of such a firmware: weights of `models/$file` in flash, the encoder in one static arena.
#[macro_export]
macro_rules! classifier {
    ($file:literal, $task:ty) => {
        static MODEL: attentive::Model<'static> =
            attentive::include_weights!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/", $file));

        const OPTIONS: attentive::EncoderOptions = <$task as $crate::tasks::Classifies>::OPTIONS;

        static ARENA: attentive::Arena<{ MODEL.encoder_bytes(&OPTIONS) }> = attentive::Arena::new();

        struct Fitted;

        impl attentive::Fit for Fitted {
            const NEEDS: attentive::Needs = MODEL.encoder_needs(&OPTIONS);
        }

        fn run() -> Result<(), $crate::Failure> {
            let memory = ARENA.take()?;
            let bytes = memory.len();
            let mut encoder = attentive::Encoder::<attentive::Sequential, Fitted>::fitted(
                &MODEL,
                &OPTIONS,
                memory,
                attentive::kernels::Backend::BASELINE,
            )?;
            $crate::classifier::ask::<$task, Fitted>(&mut encoder, bytes)
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
