//! Finds the weights, so that a missing file is one clear sentence, and hands the linker its scripts.

use std::{env, fs, path::PathBuf};

/// The weights that are shipped.
const DEFAULT_MODEL: &str = "models/austen-1m-int8.attn";

/// Those of the other binaries.
const OTHERS: [&str; 16] = [
    "models/digits-int8.attn",
    "models/fashion-int8.attn",
    "models/keywords-int8.attn",
    "models/languages-int8.attn",
    "models/marks-int8.attn",
    "models/stories-int8.attn",
    "models/translation-int8.attn",
    "models/austen-1m-integer.attn",
    "models/austen-1m-integer-int4.attn",
    "models/digits-integer.attn",
    "models/fashion-integer.attn",
    "models/keywords-integer.attn",
    "models/languages-integer.attn",
    "models/marks-integer.attn",
    "models/stories-integer.attn",
    "models/translation-integer.attn",
];

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());

    println!("cargo::rerun-if-env-changed=ATTENTIVE_MODEL");
    let named = env::var("ATTENTIVE_MODEL").unwrap_or_else(|_| DEFAULT_MODEL.into());
    // A relative path begins at the root of the repository, wherever cargo was started.
    let model = here.join("..").join(&named);
    match model.canonicalize() {
        Ok(model) => {
            println!("cargo::rerun-if-changed={}", model.display());
            println!("cargo::rustc-env=ATTENTIVE_MODEL={}", model.display());
        }
        Err(error) => println!(
            "cargo::error=no weights at {named} ({error}): set ATTENTIVE_MODEL to an .attn file"
        ),
    }

    for other in OTHERS {
        println!("cargo::rerun-if-changed=../{other}");
    }

    let board = Board::of_target();
    println!("cargo::rustc-env=SYSTICK_KILOHERTZ={}", board.kilohertz);
    let memory = board.memory;
    println!("cargo::rerun-if-changed={memory}");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    if let Err(error) = fs::copy(here.join(memory), out.join("memory.x")) {
        println!("cargo::error=cannot copy {memory}: {error}");
    }
    println!("cargo::rustc-link-search={}", out.display());
    if env::var("TARGET").is_ok_and(|target| target.starts_with("riscv32")) {
        // cortex-m-rt's script takes it in by itself, riscv-rt's does not.
        println!("cargo::rustc-link-arg-bins=-Tmemory.x");
    }
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
}

/// What QEMU's boards have of their own.
struct Board {
    memory: &'static str,
    /// What SysTick counts.
    kilohertz: u32,
}

impl Board {
    fn of_target() -> Self {
        let target = env::var("TARGET").unwrap_or_default();
        let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
        if flags.contains("target-cpu=cortex-m55") {
            Self {
                memory: "memory-an547.x",
                kilohertz: 32_000,
            }
        } else if target.starts_with("riscv32") {
            // Has no SysTick: the processor counts what it executes.
            Self {
                memory: "memory-virt.x",
                kilohertz: 0,
            }
        } else if target.starts_with("thumbv8m") {
            Self {
                memory: "memory-an505.x",
                kilohertz: 20_000,
            }
        } else {
            Self {
                memory: "memory-mps2.x",
                kilohertz: 25_000,
            }
        }
    }
}
