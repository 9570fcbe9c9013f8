//! Generates text without a float: a decoder of the integer profile.
#![no_std]
#![no_main]

use attentive::integer::Model;
use attentive::{Aligned, ArenaTaken, include_integer_weights};
use cortex_m_rt::entry;
use defmt_semihosting as _;
use firmware_example::{Failure, writer};
use semihosting::process;

static MODEL: Model<'static> = include_integer_weights!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/austen-1m-integer.attn"
));

const BYTES: usize = writer::bytes(&MODEL);

#[entry]
fn main() -> ! {
    let memory = cortex_m::singleton!(: Aligned<[u8; BYTES]> = Aligned([0; BYTES]));
    let done = match memory {
        Some(memory) => writer::run(&MODEL, &mut memory.0),
        None => Err(Failure::from(ArenaTaken)),
    };
    match done {
        Ok(()) => process::exit(0),
        Err(failure) => failure.exit(),
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
