//! A vector intrinsic that was not inlined is a function call for each vector: slower than scalar code,
//! and no test would notice. So the release assembly is read.

use super::Outcome;
use crate::process::{self, cargo, run_quietly};
use anyhow::{Context, Result, ensure};
use std::fs;

/// Fails on any call into `core_arch` in the kernels' release assembly.
pub(super) fn no_core_arch_calls(target: Option<&str>) -> Result<Outcome> {
    let directory = process::target_dir().join("assembly");
    let mut build =
        cargo("rustc --quiet --release --package attentive-kernels --lib --features std");
    if let Some(target) = target {
        build.args(["--target", target]);
    }
    // Without link-time optimisation the crate's own object code is what rustc emits.
    build
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_TARGET_DIR", &directory);
    run_quietly(build.args(["--", "--emit", "asm"]))?;

    let platform = target.map_or_else(|| directory.clone(), |target| directory.join(target));
    let files = fs::read_dir(platform.join("release").join("deps"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    let newest = files
        .filter(|path| path.extension().is_some_and(|ext| ext == "s"))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("attentive_kernels"))
        })
        .max_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok())
        .context("rustc emitted no assembly")?;
    let text = fs::read_to_string(&newest)?;
    let calls: Vec<&str> = text
        .lines()
        .filter(|line| is_call(line) && line.contains("core_arch"))
        .collect();
    ensure!(
        calls.is_empty(),
        "{} calls into core_arch, for example {}",
        calls.len(),
        calls[0].trim()
    );
    Ok(Outcome::Held(format!(
        "{} lines read",
        text.lines().count()
    )))
}

/// Whether an assembly line leaves for another function (x86: call, jmp; Arm: bl, b).
fn is_call(line: &str) -> bool {
    let mnemonic = line.split_whitespace().next().unwrap_or("");
    matches!(mnemonic, "call" | "callq" | "jmp" | "jmpq" | "bl" | "b")
}

#[cfg(test)]
mod tests {
    use super::is_call;

    #[test]
    fn knows_calls() {
        assert!(is_call("\tcallq\t_ZN4core9core_arch3x86"));
        assert!(is_call("\tbl\tcore_arch"));
        assert!(!is_call("\t.section\t.text.core_arch"));
        assert!(!is_call("core_arch_label:"));
    }
}
