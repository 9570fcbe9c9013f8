//! The subcommands.

pub(crate) mod eval;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod quantize;
pub(crate) mod train;

use anyhow::{Result, bail};
use attentive::kernels::Backend;
use attentive::kernels::layout::KvDtype;
use attentive_trainer::task::Task;
use clap::ValueEnum;
use std::path::Path;

/// Element type of the key-value cache.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kv {
    F32,
    F16,
    I8,
}

impl From<Kv> for KvDtype {
    fn from(kv: Kv) -> Self {
        match kv {
            Kv::F32 => KvDtype::F32,
            Kv::F16 => KvDtype::F16,
            Kv::I8 => KvDtype::I8,
        }
    }
}

/// `native` or the name of a backend.
pub(crate) fn backend(name: &str) -> Result<Backend> {
    if name == "native" {
        return Ok(Backend::detect());
    }
    if let Some(backend) = Backend::by_name(name) {
        return Ok(backend);
    }
    let names: Vec<_> = Backend::available().map(Backend::name).collect();
    bail!(
        "this processor has no backend {name:?}; there are native, {}",
        names.join(", ")
    )
}

/// The task that is named, or the one of the provenance record.
pub(crate) fn task(named: Option<&Path>, recorded: &str) -> Result<Task> {
    match named {
        Some(path) => Task::read(path),
        None if Path::new(recorded).exists() => Task::read(Path::new(recorded)),
        None => bail!(
            "the text to measure on is that of the task {recorded:?}, which is not here: start from the directory that it \
             counts from, or name a task file with --task"
        ),
    }
}
