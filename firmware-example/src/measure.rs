//! What a run costs: instructions, stack, flash, RAM.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::{Peripherals, SYST, syst::SystClkSource};
use cortex_m_rt::{STACK_PAINT_VALUE, exception};

use crate::Failure;

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
pub struct Instructions(());

impl Instructions {
    /// Starts the counter.
    ///
    /// # Errors
    /// The processor's peripherals were taken before.
    pub fn start() -> Result<Self, Failure> {
        let mut timer = Peripherals::take().ok_or(Failure::Peripherals)?.SYST;
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(RELOAD);
        timer.clear_current();
        timer.enable_counter();
        timer.enable_interrupt();
        Ok(Self(()))
    }

    /// Instructions since the start.
    pub fn now(&self) -> u64 {
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

    /// What `work` returns, and how many instructions it took.
    pub fn of<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let before = self.now();
        let value = work();
        (value, self.now() - before)
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

/// Bytes of flash from the vector table to the last initial value: code, constants, weights.
pub fn flash_bytes() -> usize {
    let initial_values = (&raw const linker::__edata).addr() - (&raw const linker::__sdata).addr();
    (&raw const linker::__sidata).addr() + initial_values
        - (&raw const linker::__vector_table).addr()
}

/// Bytes of RAM that statics take, the arena included.
pub fn static_bytes() -> usize {
    (&raw const linker::_stack_end).addr() - (&raw const linker::_ram_start).addr()
}

/// The most bytes of stack that were in use since the reset: cortex-m-rt painted the stack, and paint that is gone was
/// used.
pub fn stack_bytes() -> usize {
    let (lowest, top) = (
        &raw const linker::_stack_end,
        &raw const linker::_stack_start,
    );
    let mut word = lowest;
    // SAFETY: all words from `_stack_end` to `_stack_start` are RAM, aligned, and belong to no object of Rust's but
    // those on this very stack; a volatile read of those yields some bits, which is all that is asked.
    while word < top && unsafe { word.read_volatile() } == STACK_PAINT_VALUE {
        word = word.wrapping_add(1);
    }
    top.addr() - word.addr()
}

/// Which memory a model borrows.
#[derive(Clone, Copy, Debug)]
pub enum Memory {
    /// A session's bytes.
    Session(usize),
    /// An encoder's.
    Encoder(usize),
}

/// Says what a run took of flash and RAM.
pub fn print_sizes(weights: &[u8], memory: Memory) {
    defmt::println!("flash_bytes = {=usize}", flash_bytes());
    defmt::println!("weights_bytes = {=usize}", weights.len());
    match memory {
        Memory::Session(bytes) => defmt::println!("session_bytes = {=usize}", bytes),
        Memory::Encoder(bytes) => defmt::println!("encoder_bytes = {=usize}", bytes),
    }
    defmt::println!("static_bytes = {=usize}", static_bytes());
    defmt::println!("stack_bytes = {=usize}", stack_bytes());
}

/// The most bytes of stack that `work` used at a time: the stack below is painted before it.
#[inline(never)]
pub fn stack_of(work: &mut dyn FnMut()) -> usize {
    let here = 0u32;
    let top = &raw const here;
    paint(top);
    work();
    let mut word = &raw const linker::_stack_end;
    // SAFETY: as in `stack_bytes`.
    while word < top && unsafe { word.read_volatile() } == STACK_PAINT_VALUE {
        word = word.wrapping_add(1);
    }
    top.addr() - word.addr()
}

/// Paints the stack from its end to some words below this function's frame.
#[inline(never)]
fn paint(top: *const u32) {
    /// Bytes of this function's own frame, and more.
    const OWN: usize = 256;
    let mut word = (&raw const linker::_stack_end).cast_mut();
    while word.addr() + OWN < top.addr() {
        // SAFETY: the word lies between the end of the stack and a caller's frame, below what this function uses, which
        // calls nothing.
        unsafe { word.write_volatile(STACK_PAINT_VALUE) };
        word = word.wrapping_add(1);
    }
}
