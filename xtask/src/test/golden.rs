//! The integer profile's hashes on processors that have no firmware here: WebAssembly under Node, RISC-V under QEMU.

use super::Outcome;
use crate::{
    firmware,
    process::{self, cargo, command, is_there, root, run_quietly},
};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::process::Command;

/// The firmware's binaries whose hashes `golden/` computes, in its order.
const NAMES: [&str; 6] = [
    "digits-integer",
    "languages-integer",
    "stories-integer",
    "generate-integer",
    "generate-integer-int4",
    "generate-integer-ring",
];

/// A way to run `golden/`.
#[derive(Clone, Copy)]
pub(super) enum Machine {
    /// WebAssembly, with those flags of the compiler.
    Wasm(&'static str),
    /// RV32IMAC.
    RiscV,
}

/// Builds, runs and compares.
pub(super) fn same(machine: Machine) -> Result<Outcome> {
    let (program, target, kind, flags) = match machine {
        Machine::Wasm(flags) => ("node", "wasm32-unknown-unknown", "--lib", flags),
        Machine::RiscV => {
            let target = "riscv32imac-unknown-none-elf";
            ("qemu-riscv32", target, "--bin golden", "")
        }
    };
    if !is_there(program) {
        return Ok(Outcome::Skipped(format!("there is no {program}")));
    }
    let mut build = cargo(&format!("build --quiet --release {kind} --target {target}"));
    build
        .current_dir(root().join("golden"))
        .env("RUSTFLAGS", flags);
    // As in the firmware's workspace, which has the same rule.
    let built = process::target_dir().join("golden");
    build.env("CARGO_TARGET_DIR", &built);
    run_quietly(&mut build)?;
    let built = built.join(target).join("release");
    let mut run: Command = command(program);
    match machine {
        Machine::Wasm(_) => run
            .arg(root().join("golden/run.mjs"))
            .arg(built.join("golden.wasm"))
            .args(NAMES),
        Machine::RiscV => run.arg(built.join("golden")),
    };
    let output = run_quietly(&mut run)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut wanted = String::new();
    for name in NAMES {
        let path = firmware::directory().join(format!("src/bin/{name}.out"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let hash = text.lines().find_map(|line| line.strip_prefix("logits: "));
        let hash = hash.with_context(|| format!("no logits in {}", path.display()))?;
        wanted += &format!("{name} {hash}\n");
    }
    ensure!(said == wanted, "expected\n{wanted}got\n{said}");
    Ok(Outcome::Held(format!("{} hashes", NAMES.len())))
}
