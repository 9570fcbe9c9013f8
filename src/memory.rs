//! Aligned memory for weights and sessions, static or not.

#[cfg(target_has_atomic = "ptr")]
use static_cell::ConstStaticCell;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[cfg(target_has_atomic = "ptr")]
use crate::error::ArenaTaken;
#[cfg(target_has_atomic = "ptr")]
use crate::weights::Aligned;

/// 64 bytes at a multiple of 64: memory on a heap is a `Vec` of them.
///
/// ```
/// use attentive::Block;
///
/// let mut blocks = vec![Block::ZERO; Block::len_for(1000)];
/// let memory = Block::bytes_mut(&mut blocks);
/// assert_eq!(memory.len(), 1024);
/// ```
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Block([u8; 64]);

impl Block {
    /// Bytes of a block.
    pub const LEN: usize = 64;
    /// All zeros.
    pub const ZERO: Self = Self([0; 64]);

    /// Blocks that hold `bytes` bytes.
    pub const fn len_for(bytes: usize) -> usize {
        bytes.div_ceil(Self::LEN)
    }

    /// The bytes of the blocks.
    pub fn bytes(blocks: &[Self]) -> &[u8] {
        blocks.as_bytes()
    }

    /// The bytes of the blocks, for writing.
    pub fn bytes_mut(blocks: &mut [Self]) -> &mut [u8] {
        blocks.as_mut_bytes()
    }
}

/// Static memory for a session, claimed once.
///
/// All zeros, so it lies in `.bss` and takes no flash. `N` is [`Model::session_bytes`](crate::Model::session_bytes), so
/// a model that does not fit is known when the firmware is linked. Absent on processors without compare-and-swap
/// (Cortex-M0): there, lend the session an [`Aligned`] array from `cortex_m::singleton!`.
///
/// ```
/// use attentive::Arena;
///
/// static ARENA: Arena<256> = Arena::new();
/// assert_eq!(ARENA.take()?.len(), 256);
/// assert!(ARENA.take().is_err());
/// # Ok::<(), attentive::ArenaTaken>(())
/// ```
#[cfg(target_has_atomic = "ptr")]
pub struct Arena<const N: usize>(ConstStaticCell<Aligned<[u8; N]>>);

#[cfg(target_has_atomic = "ptr")]
impl<const N: usize> Arena<N> {
    /// Unclaimed memory.
    pub const fn new() -> Self {
        Self(ConstStaticCell::new(Aligned([0; N])))
    }

    /// The memory, the first time.
    ///
    /// # Errors
    /// When it was taken before: two sessions must not share it.
    pub fn take(&'static self) -> Result<&'static mut [u8], ArenaTaken> {
        match self.0.try_take() {
            Some(memory) => Ok(&mut memory.0),
            None => Err(ArenaTaken),
        }
    }
}

#[cfg(target_has_atomic = "ptr")]
impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_has_atomic = "ptr")]
impl<const N: usize> core::fmt::Debug for Arena<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Arena<{N}>")
    }
}
