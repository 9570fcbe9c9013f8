//! The integer profile's hashes as WebAssembly, under Node.

use super::Outcome;
use crate::{
    firmware,
    process::{self, cargo, command, is_there, root, run_quietly},
};
use anyhow::{Context, Result, ensure};
use std::fs;

/// The firmware's binaries whose hashes `golden/` computes, in its order.
const NAMES: [&str; 6] = [
    "digits-integer",
    "languages-integer",
    "stories-integer",
    "generate-integer",
    "generate-integer-int4",
    "generate-integer-ring",
];

/// Builds with those flags of the compiler, runs and compares.
pub(super) fn same(flags: &str) -> Result<Outcome> {
    let (program, target) = ("node", "wasm32-unknown-unknown");
    if !is_there(program) {
        return Ok(Outcome::Skipped(format!("there is no {program}")));
    }
    let mut build = cargo(&format!("build --quiet --release --target {target}"));
    build
        .current_dir(root().join("golden"))
        .env("RUSTFLAGS", flags);
    // As in the firmware's workspace, which has the same rule.
    let built = process::target_dir().join("golden");
    build.env("CARGO_TARGET_DIR", &built);
    run_quietly(&mut build)?;
    let built = built.join(target).join("release");
    let mut run = command(program);
    run.arg(root().join("golden/run.mjs"))
        .arg(built.join("golden.wasm"))
        .args(NAMES);
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
