//! Files mapped into memory, read when they are used.
#![allow(
    unsafe_code,
    reason = "mapping a file is the trainer's only unsafe operation"
)]

use anyhow::{Context, Result};
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// Maps a file for reading. A mapping begins at a page, so weights in it are aligned as a session wants them.
///
/// Nobody should change or shorten the file meanwhile: the program would read other numbers, or be ended by a signal.
/// This program never writes in place (see [`crate::files::write_atomically`]), so a mapping keeps the old content when
/// a file is made anew.
///
/// # Errors
/// When there is no such file, it is empty, or it cannot be mapped.
pub fn map(path: &Path) -> Result<Mmap> {
    let context = || format!("reading {}", path.display());
    let file = File::open(path).with_context(context)?;
    // SAFETY: the mapping is only read, and what it holds is bytes, for which every content is valid; each reader
    // checks what it finds. That others leave the file alone is asked for above: no system can enforce it.
    unsafe { Mmap::map(&file) }.with_context(context)
}
