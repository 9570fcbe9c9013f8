//! Checks the core's promises where they have to hold: on the device.
#![no_std]
#![no_main]

mod files;
mod integers;
mod measuring;
mod sessions;

use attentive::pack::PackError;
use attentive::{ArenaTaken, Block, SessionError, WeightsError};
use defmt_semihosting as _;
use firmware_example::measure::{self, Instructions};
use firmware_example::processor::entry;
use firmware_example::{ARENA, Failure};
use semihosting::process;

/// Memory that the checks use one after the other.
struct Bench {
    /// The arena.
    session: &'static mut [u8],
    /// A weights file that may be damaged.
    file: &'static mut [Block],
    /// Numbers of its largest tensor.
    values: &'static mut [f32],
    clock: Instructions,
}

/// Why a check did not hold.
enum Fault {
    /// Something that must work did not.
    Session(SessionError),
    /// Something else was seen than was promised.
    Seen(&'static str),
}

/// What is promised, and the check.
type Check = (&'static str, fn(&mut Bench) -> Result<(), Fault>);

const CHECKS: [Check; 19] = [
    ("the arena is given once", arena_once),
    ("the weights in flash are whole", files::verified),
    ("a torn file is an error", files::torn),
    (
        "any changed byte of header and tables is an error",
        files::changed,
    ),
    ("a damaged tensor is noticed, and harmless", files::damaged),
    ("the tokenizer gives the text back", sessions::tokenizer),
    (
        "a batched prefill has the bits of a step-by-step one",
        sessions::prefill,
    ),
    ("a prompt may come in parts", sessions::parts),
    ("one seed is one text", sessions::seeds),
    (
        "a full context is an error, and a reset ends it",
        sessions::full,
    ),
    ("a ring goes on without end", sessions::ring),
    (
        "memory one byte short, or askew, is an error",
        sessions::memory,
    ),
    ("requests without sense are errors", sessions::nonsense),
    (
        "instructions are counted, past the wrap of the timer",
        measuring::instructions,
    ),
    (
        "integer products have the bits of plain code at every length",
        integers::products,
    ),
    (
        "products of four bits have the bits of plain code",
        integers::quads,
    ),
    (
        "integer attention has the bits of plain code",
        integers::attention,
    ),
    (
        "a torn or changed integer file is an error",
        integers::files,
    ),
    (
        "integer sessions refuse, stop in the middle and go back",
        integers::sessions,
    ),
];

#[entry]
fn main() -> ! {
    // `entry` makes these `&'static mut`.
    static mut FILE: [Block; 256] = [Block::ZERO; 256];
    static mut VALUES: [f32; 2048] = [0.0; 2048];
    let (Ok(session), Ok(clock)) = (ARENA.take(), Instructions::start()) else {
        Failure::Arena(ArenaTaken).exit()
    };
    let mut bench = Bench {
        session,
        file: FILE,
        values: VALUES,
        clock,
    };
    let mut failed = 0;
    for (promise, check) in CHECKS {
        match check(&mut bench) {
            Ok(()) => defmt::println!("ok: {=str}", promise),
            Err(fault) => {
                failed += 1;
                fault.print(promise);
            }
        }
    }
    let passed = CHECKS.len() - failed;
    defmt::println!("stack_bytes = {=usize}", measure::stack_bytes());
    defmt::println!("{=usize} passed, {=usize} failed", passed, failed);
    process::exit(i32::from(failed > 0))
}

fn arena_once(_: &mut Bench) -> Result<(), Fault> {
    // The first time was in `main`.
    match ARENA.take() {
        Err(ArenaTaken) => Ok(()),
        Ok(_) => Err(Fault::Seen("it was given twice")),
    }
}

/// `Ok` if it holds.
fn ensure(holds: bool, otherwise: &'static str) -> Result<(), Fault> {
    if holds {
        Ok(())
    } else {
        Err(Fault::Seen(otherwise))
    }
}

impl Fault {
    fn print(&self, promise: &str) {
        match self {
            Self::Session(error) => defmt::println!("FAILED: {=str}: {}", promise, error),
            Self::Seen(what) => defmt::println!("FAILED: {=str}: {=str}", promise, what),
        }
    }
}

impl From<SessionError> for Fault {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<WeightsError> for Fault {
    fn from(error: WeightsError) -> Self {
        Self::Session(error.into())
    }
}

impl From<PackError> for Fault {
    fn from(_: PackError) -> Self {
        Self::Seen("the file for the check could not be made")
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
