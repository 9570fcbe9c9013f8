//! The steps, cheapest first: what is likely to fail should fail soon.

use super::{Outcome, Suite, assembly, device, golden};
use crate::{
    count, firmware,
    process::{self, capture, cargo, command, root, run_quietly},
    readme,
    setup::{self, AARCH64, AARCH64_LINKER},
};
use anyhow::{Context, Result, bail, ensure};
use std::{collections::BTreeSet, fs, process::Command, time::Duration};

/// No single step takes longer, unless it hangs.
const STEP_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How cargo runs aarch64 tests on another processor.
const AARCH64_RUNNER: (&str, &str) = (
    "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
    "qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu",
);
/// Miri interprets every instruction; what does not fit is left to the native tests.
const MIRI_SECONDS: u32 = 240;

/// Everything but the trainer, which waits for burn.
const PACKAGES: &str = "--package attentive --package attentive-kernels --package attentive-benches --package xtask --features attentive/rayon";
/// What runs on other processors.
const PORTABLE: &str = "--package attentive --package attentive-kernels --features attentive/std";

pub(super) fn all(suite: &mut Suite, quick: bool) {
    on_this_pc(suite);
    on_the_device(suite);
    if quick {
        return;
    }
    on_other_processors(suite);
    suite.step("instruction counts of the hot kernels", count::check);
    suite.step("Miri on the kernels", miri);
    readme_commands(suite);
    trainer(suite);
}

fn on_this_pc(suite: &mut Suite) {
    suite.step("formatting", || {
        run_quietly(&mut cargo("fmt --all --check"))?;
        run_quietly(&mut cargo("fmt --check --manifest-path golden/Cargo.toml"))?;
        held(&mut firmware::cargo(
            "fmt --check",
            &firmware::default_model(),
        ))
    });
    suite.step("clippy", || {
        held(&mut cargo(&format!(
            "clippy --quiet --all-targets {PACKAGES} --package xtask-qemu-plugin -- -D warnings"
        )))
    });
    suite.step("clippy of the firmware", || {
        let line = "clippy --quiet --release --lib --bins -- -D warnings";
        held(&mut firmware::cargo(line, &firmware::default_model()))
    });
    suite.step("tests and documentation examples on this PC", || {
        tests(&mut cargo(&format!("test --no-fail-fast {PACKAGES}")))
    });
    suite.step("rustdoc", || {
        let mut doc = cargo(&format!("doc --quiet --no-deps {PACKAGES}"));
        held(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
}

fn on_the_device(suite: &mut Suite) {
    suite.step("firmware links without a panic path", device::no_panic);
    suite.step("firmware contains no allocator", device::no_allocator);
    for binary in firmware::expected() {
        let name = format!("firmware under QEMU: {binary}");
        suite.step(&name, || device::expected(binary));
    }
    suite.step("firmware refuses bad requests", device::bad_requests);
    suite.step("firmware's tokens are the PC's", device::same_tokens);
    suite.step(
        "firmware's memory is what was promised",
        device::promised_memory,
    );
}

fn on_other_processors(suite: &mut Suite) {
    // The first is the one that everything else is run on.
    for board in firmware::BOARDS.into_iter().skip(1) {
        let name = format!("integer firmware has the same bits on {}", board.name);
        suite.step(&name, || device::integers_on(board));
        let name = format!("the stack stays below its bounds on {}", board.name);
        suite.step(&name, || device::stack_on(board));
    }
    // Their kernels are their own.
    for board in [firmware::AN505, firmware::AN547] {
        let name = format!("firmware checks itself on {}", board.name);
        suite.step(&name, || device::selftest_on(board));
    }
    for (name, flags) in [
        ("WebAssembly", ""),
        ("WebAssembly with simd128", "-Ctarget-feature=+simd128"),
    ] {
        suite.step(
            &format!("integer models have the same bits on {name}"),
            || golden::same(flags),
        );
    }
    suite.step("clippy of golden", || {
        held(&mut cargo(
            "clippy --quiet --manifest-path golden/Cargo.toml --target wasm32-unknown-unknown -- -D warnings",
        ))
    });
    suite.step("clippy of the firmware for RISC-V", || {
        let line = "clippy --quiet --release --lib --bin stack --bin counts --bin generate-integer --target riscv32imac-unknown-none-elf -- -D warnings";
        held(&mut firmware::cargo(line, &firmware::default_model()))
    });
    // The other targets without an operating system are those of the firmware and of golden, which were built.
    suite.step("no_std build for x86_64-unknown-none", || {
        held(&mut cargo(
            "build --quiet --package attentive --lib --target x86_64-unknown-none --features attentive/defmt",
        ))
    });
    suite.step("fuzz target compiles", || {
        held(&mut cargo(
            "clippy --quiet --manifest-path fuzz/Cargo.toml -- -D warnings",
        ))
    });
    suite.step("no core_arch calls in the assembly, this PC", || {
        assembly::no_core_arch_calls(None)
    });
    // On an aarch64 PC the first tests were these.
    if cfg!(target_arch = "aarch64") {
        return;
    }
    suite.step("no core_arch calls in the assembly, aarch64", || {
        assembly::no_core_arch_calls(Some(AARCH64))
    });
    suite.step("tests on aarch64 under qemu-user", || {
        let mut test = cargo(&format!(
            "test --no-fail-fast --target {AARCH64} --tests {PORTABLE} -- --skip do_not_compile"
        ));
        tests(test.envs([AARCH64_LINKER, AARCH64_RUNNER]))
    });
}

/// Last: building burn takes longer than everything before.
fn trainer(suite: &mut Suite) {
    suite.step("clippy of the trainer", || {
        let line = "clippy --quiet --profile trainer --package attentive-trainer --all-targets -- -D warnings";
        held(&mut cargo(line))
    });
    suite.step("rustdoc of the trainer", || {
        let line = "doc --quiet --no-deps --profile trainer --package attentive-trainer";
        held(cargo(line).env("RUSTDOCFLAGS", "-D warnings"))
    });
    suite.step("tests of the trainer", || {
        tests(&mut cargo(
            "test --no-fail-fast --profile trainer --package attentive-trainer",
        ))
    });
}

/// One check: success is success.
pub(super) fn held(command: &mut Command) -> Result<Outcome> {
    run_quietly(command)?;
    Ok(Outcome::Held(String::new()))
}

/// A run of `cargo test`, its individual tests added up.
fn tests(command: &mut Command) -> Result<Outcome> {
    let output = capture(command, STEP_LIMIT)?;
    let (passed, mut failed) = count(&output.text);
    // A test that does not compile, or a process that dies, has no summary line of its own.
    if !output.status.success() && failed == 0 {
        failed = 1;
    }
    ensure!(passed + failed > 0, "no tests were run");
    Ok(Outcome::Tests {
        passed,
        failed,
        output: output.text,
    })
}

/// Adds up libtest's summary lines.
fn count(text: &str) -> (u32, u32) {
    let number_before = |line: &str, word: &str| -> u32 {
        let before = line.split(word).next().unwrap_or("").trim_end();
        before
            .rsplit(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    let summaries = text.lines().filter(|line| line.starts_with("test result:"));
    summaries.fold((0, 0), |(passed, failed), line| {
        (
            passed + number_before(line, " passed"),
            failed + number_before(line, " failed"),
        )
    })
}

fn miri() -> Result<Outcome> {
    if let Err(why) = setup::miri() {
        return Ok(Outcome::Skipped(why.into()));
    }
    // `timeout` ends the whole process group; killing rustup alone would leave the interpreter behind.
    let mut miri = command("timeout");
    miri.args(["--kill-after=5", &MIRI_SECONDS.to_string()]);
    miri.args("rustup run nightly cargo miri test --no-fail-fast --lib".split(' '));
    // libm's square root is inline assembly otherwise, which Miri cannot run.
    miri.args("--package attentive-kernels --features std,libm/force-soft-floats".split(' '));
    // Packing is safe code off the path of inference, and slow where every float is interpreted.
    miri.args(["--", "--skip", "pack::"]);
    // Miri adds random rounding errors, which the exact comparisons with plain Rust do not expect.
    miri.env("MIRIFLAGS", "-Zmiri-deterministic-floats");
    if cfg!(target_arch = "x86_64") {
        // Miri has no cpuid; what is compiled in is what it finds. (It cannot run F16C.)
        miri.env("RUSTFLAGS", "-Ctarget-feature=+avx2,+fma");
    }
    // cargo's and rustup's own variables point at the stable toolchain that runs this.
    miri.env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTDOC");
    // Its own directory keeps what the stable compiler built.
    miri.env("CARGO_TARGET_DIR", process::target_dir().join("miri"));
    let output = capture(&mut miri, STEP_LIMIT)?;
    if output.status.code() == Some(124) {
        let passed = output
            .text
            .lines()
            .filter(|line| line.starts_with("test ") && line.ends_with("... ok"))
            .count();
        let ok = format!("{passed} tests passed in {MIRI_SECONDS} s, the rest was not reached");
        ensure!(
            passed > 0,
            "no test ended within {MIRI_SECONDS} s:\n{}",
            output.text
        );
        return Ok(Outcome::Held(ok));
    }
    let (passed, mut failed) = count(&output.text);
    failed += u32::from(!output.status.success() && failed == 0);
    Ok(Outcome::Tests {
        passed,
        failed,
        output: output.text,
    })
}

/// Runs each command that the README shows, once.
fn readme_commands(suite: &mut Suite) {
    let Ok(text) = fs::read_to_string(root().join("README.md")) else {
        return suite.step("README.md", || bail!("there is no README.md"));
    };
    let mut seen = BTreeSet::new();
    for line in readme::commands(&text) {
        // The command that is running now would never end.
        if line.starts_with("cargo xtask test") || !seen.insert(line.clone()) {
            continue;
        }
        suite.step(&format!("README: {line}"), || {
            let words = readme::words(&line);
            let (program, args) = words.split_first().context("an empty command")?;
            held(command(program).args(args))
        });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn adds_up_summaries() {
        let text = "test a ... ok\ntest result: ok. 12 passed; 0 failed; 1 ignored; 0 measured\n\
                    test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured\n";
        assert_eq!(super::count(text), (15, 2));
    }
}
