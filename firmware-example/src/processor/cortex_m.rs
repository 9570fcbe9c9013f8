//! Cortex-M: SysTick counts, the start-up code paints the stack.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::{Peripherals, SYST, syst::SystClkSource};
use cortex_m_rt::{STACK_PAINT_VALUE, exception};

use super::Places;
use crate::Failure;

pub use cortex_m::singleton;
pub use cortex_m_rt::entry;

/// Instructions in 32 ticks of SysTick, which has 25 MHz on mps2-an386: with `-icount shift=0` QEMU lets 1 ns pass in each.
///
/// On hardware the same counter measures time, in steps that are as coarse: there, replace this by the cycle counter
/// (DWT), which QEMU lacks.
const INSTRUCTIONS_PER_32_TICKS: u64 = match u64::from_str_radix(env!("SYSTICK_KILOHERTZ"), 10) {
    Ok(ticks) => 32_000_000 / ticks,
    Err(_) => panic!("the build script writes a number"),
};

/// SysTick has 24 bits.
const RELOAD: u32 = 0x00ff_ffff;

static WRAPS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    // Nothing else writes it; Armv6-M could not add in one step.
    WRAPS.store(
        WRAPS.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}

/// Counts executed instructions, to the next tick of SysTick: 31 to 50 of them.
#[derive(Debug)]
pub(crate) struct Counter(());

impl Counter {
    /// Starts SysTick.
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut timer = Peripherals::take().ok_or(Failure::Peripherals)?.SYST;
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(RELOAD);
        timer.clear_current();
        timer.enable_counter();
        timer.enable_interrupt();
        Ok(Self(()))
    }

    /// Instructions since the start.
    pub(crate) fn now(&self) -> u64 {
        loop {
            let wraps = WRAPS.load(Ordering::Relaxed);
            let down = SYST::get_current();
            // A wrap in between would be counted for the old value, or not for the new one.
            if WRAPS.load(Ordering::Relaxed) == wraps {
                // The exception comes with the value 0; one tick later the counter is at RELOAD.
                let since_wrap = if down == 0 { 0 } else { RELOAD + 1 - down };
                let ticks = u64::from(wraps) * u64::from(RELOAD + 1) + u64::from(since_wrap);
                return (ticks * INSTRUCTIONS_PER_32_TICKS) >> 5;
            }
        }
    }
}

/// Symbols of cortex-m-rt's linker script; only their addresses mean something.
mod linker {
    // SAFETY: the script defines these symbols; nobody reads or writes through them.
    unsafe extern "C" {
        pub(super) static __vector_table: u32;
        pub(super) static __sidata: u32;
        pub(super) static __sdata: u32;
        pub(super) static __edata: u32;
        pub(super) static _ram_start: u32;
        pub(super) static _stack_end: u32;
        pub(super) static _stack_start: u32;
    }
}

/// From the linker's symbols.
pub(crate) fn places() -> Places {
    let initial_values = (&raw const linker::__edata).addr() - (&raw const linker::__sdata).addr();
    let flash_end = (&raw const linker::__sidata).addr() + initial_values;
    Places {
        flash: flash_end - (&raw const linker::__vector_table).addr(),
        statics: (&raw const linker::_stack_end).addr() - (&raw const linker::_ram_start).addr(),
        stack_end: &raw const linker::_stack_end,
        stack_start: &raw const linker::_stack_start,
    }
}

/// What a word of the stack holds that was never used.
pub(crate) const fn paint_value() -> u32 {
    STACK_PAINT_VALUE
}
