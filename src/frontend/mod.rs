//! What models hear and see, made from what a sensor gives.
//!
//! Everything works in memory that the caller lends, whose size is a constant.

mod integer;
mod mel;
mod patches;
mod spectrum;
mod window;

pub use integer::{IntegerListener, Levels, MelTables};
pub use mel::{Listener, Mel, MelError, MelSpec};
pub use patches::{PatchError, PatchSpec};
