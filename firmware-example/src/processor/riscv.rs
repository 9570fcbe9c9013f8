//! RISC-V: the processor counts what it executes.

use super::Places;
use crate::{Failure, measure};

pub use crate::static_singleton as singleton;
pub use riscv_rt::entry;
pub use static_cell::ConstStaticCell;

/// As `cortex_m::singleton!`, with a value that is a constant; `riscv::singleton!` would build it on the stack first.
#[macro_export]
macro_rules! static_singleton {
    (: $type:ty = $value:expr) => {{
        static VAR: $crate::processor::ConstStaticCell<$type> =
            $crate::processor::ConstStaticCell::new($value);
        VAR.try_take()
    }};
}

/// Counts executed instructions; QEMU's `-icount shift=0` makes it exact.
#[derive(Debug)]
pub(crate) struct Counter {
    start: u64,
}

impl Counter {
    /// Paints the stack, which the start-up code does not, and counts from now on.
    pub(crate) fn start() -> Result<Self, Failure> {
        measure::paint_stack();
        Ok(Self {
            start: riscv::register::minstret::read64(),
        })
    }

    /// Instructions since the start.
    pub(crate) fn now(&self) -> u64 {
        riscv::register::minstret::read64() - self.start
    }
}

/// Symbols of riscv-rt's linker script; only their addresses mean something.
mod linker {
    // SAFETY: the script defines these symbols; nobody reads or writes through them.
    unsafe extern "C" {
        pub(super) static __stext: u32;
        pub(super) static __sidata: u32;
        pub(super) static __sdata: u32;
        pub(super) static __edata: u32;
        pub(super) static __ebss: u32;
        pub(super) static _stack_start: u32;
    }
}

/// From the linker's symbols.
pub(crate) fn places() -> Places {
    let initial_values = (&raw const linker::__edata).addr() - (&raw const linker::__sdata).addr();
    let flash_end = (&raw const linker::__sidata).addr() + initial_values;
    Places {
        flash: flash_end - (&raw const linker::__stext).addr(),
        statics: (&raw const linker::__ebss).addr() - (&raw const linker::__sdata).addr(),
        stack_end: &raw const linker::__ebss,
        stack_start: &raw const linker::_stack_start,
    }
}

/// What a word of the stack holds that was never used.
pub(crate) const fn paint_value() -> u32 {
    0xcccc_cccc
}
