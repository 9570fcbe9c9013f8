//! What a run costs: instructions, stack, flash, RAM.

use crate::Failure;
use crate::processor::{Counter, paint_value, places};

/// Counts executed instructions: exactly on RISC-V, to the next tick of SysTick, 31 to 50 of them, on Cortex-M.
#[derive(Debug)]
pub struct Instructions(Counter);

impl Instructions {
    /// Starts the counter.
    ///
    /// # Errors
    /// The processor's peripherals were taken before.
    pub fn start() -> Result<Self, Failure> {
        Counter::start().map(Self)
    }

    /// Instructions since the start.
    pub fn now(&self) -> u64 {
        self.0.now()
    }

    /// What `work` returns, and how many instructions it took.
    pub fn of<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let before = self.now();
        let value = work();
        (value, self.now() - before)
    }
}

/// Bytes of flash from the first instruction to the last initial value: code, constants, weights.
pub fn flash_bytes() -> usize {
    places().flash
}

/// Bytes of RAM that statics take, the arena included.
pub fn static_bytes() -> usize {
    places().statics
}

/// The most bytes of stack that were in use since the reset: the stack was painted, and paint that is gone was used.
pub fn stack_bytes() -> usize {
    used_below(places().stack_start)
}

/// Bytes from the lowest word without paint to `top`.
fn used_below(top: *const u32) -> usize {
    let mut word = places().stack_end;
    // SAFETY: all words from the stack's end to its top are RAM, aligned, and belong to no object of Rust's but those on
    // this very stack; a volatile read of those yields some bits, which is all that is asked.
    while word < top && unsafe { word.read_volatile() } == paint_value() {
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
    used_below(top)
}

/// Paints the stack below the caller.
#[cfg(target_arch = "riscv32")]
#[inline(never)]
pub(crate) fn paint_stack() {
    let here = 0u32;
    paint(&raw const here);
}

/// Paints the stack from its end to some words below this function's frame.
#[inline(never)]
fn paint(top: *const u32) {
    /// Bytes of this function's own frame, and more.
    const OWN: usize = 256;
    let mut word = places().stack_end.cast_mut();
    while word.addr() + OWN < top.addr() {
        // SAFETY: the word lies between the end of the stack and a caller's frame, below what this function uses, which
        // calls nothing.
        unsafe { word.write_volatile(paint_value()) };
        word = word.wrapping_add(1);
    }
}
