//! What a run is measured with.

use crate::{Bench, Fault, ensure};

/// Turns of a loop of two instructions: few, and more than the timer's 24 bits of 40 instructions hold.
const TURNS: [u32; 2] = [10_000, 350_000_000];

/// The counter's step, at the start and at the end, and what surrounds the loop.
const INEXACT: u64 = 120;

pub(crate) fn instructions(bench: &mut Bench) -> Result<(), Fault> {
    for turns in TURNS {
        let ((), spent) = bench.clock.of(|| cortex_m::asm::delay(turns));
        let exact = 2 * u64::from(turns);
        ensure(
            spent.abs_diff(exact) <= INEXACT,
            "the count is not that of the loop",
        )?;
    }
    Ok(())
}
