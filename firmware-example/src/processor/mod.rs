//! What the processors do not have in common: how a program begins, counts what it executed, and finds its memory.

#[cfg(target_arch = "arm")]
mod cortex_m;
#[cfg(target_arch = "riscv32")]
mod riscv;

#[cfg(target_arch = "arm")]
use self::cortex_m as own;
#[cfg(target_arch = "riscv32")]
use self::riscv as own;

#[cfg(target_arch = "riscv32")]
pub use own::ConstStaticCell;
pub(crate) use own::{Counter, paint_value, places};
pub use own::{entry, singleton};

/// Where a program's parts begin and end, as the linker has it; addresses, and the stack's words.
pub(crate) struct Places {
    /// From the first instruction to the last initial value: code, constants, weights.
    pub(crate) flash: usize,
    /// Statics.
    pub(crate) statics: usize,
    /// The lowest word of the stack.
    pub(crate) stack_end: *const u32,
    /// Behind the highest.
    pub(crate) stack_start: *const u32,
}
