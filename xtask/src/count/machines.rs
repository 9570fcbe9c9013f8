//! The emulated machines and how each counts: a program with marks, or what a microcontroller's firmware prints.

use super::Counts;
use crate::{
    firmware::{self, Board},
    process::{self, cargo, command, run_quietly},
    report, setup,
};
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeMap, fs, path::PathBuf};

/// Callgrind and the program `count` (benches/count.rs) agree on this function, and on nothing more. Two patterns for
/// the one name: Callgrind 3.19 obeys only one of two options that have the same pattern.
const CALLGRIND_OPTIONS: [&str; 2] = [
    "--toggle-collect=*between_marks*",
    "--dump-after=*::between_marks*",
];

/// What counts.
pub(super) struct Machine {
    /// The first part of the cases' names.
    name: &'static str,
    kind: Kind,
}

enum Kind {
    Kernels(Emulator),
    Firmware(Board),
}

/// A processor with one of the kernels' backends.
struct Emulator {
    backend: &'static str,
    /// The architecture in Rust's terms.
    arch: &'static str,
    count: fn(&Emulator, &[&str]) -> Result<Vec<u64>>,
}

const X86: Machine = Machine {
    name: "x86",
    kind: Kind::Kernels(Emulator {
        backend: "avx2",
        arch: "x86_64",
        count: under_callgrind,
    }),
};
const AARCH64: Machine = Machine {
    name: "aarch64",
    kind: Kind::Kernels(Emulator {
        backend: "neon",
        arch: "aarch64",
        count: under_qemu,
    }),
};

const fn board(name: &'static str, board: Board) -> Machine {
    Machine {
        name,
        kind: Kind::Firmware(board),
    }
}

const M0: Machine = board("m0", firmware::ARMV6M);
const M4: Machine = board("m4", firmware::AN386);
const M33: Machine = board("m33", firmware::AN505);
const M55: Machine = board("m55", firmware::AN547);
const RV32: Machine = board("rv32", firmware::RV32);

/// The machines that this computer can count for: Callgrind counts for the processor that it runs on.
pub(super) fn all() -> &'static [Machine] {
    match cfg!(target_arch = "x86_64") {
        true => &[X86, AARCH64, M0, M4, M33, M55, RV32],
        false => &[AARCH64, M0, M4, M33, M55, RV32],
    }
}

/// Whether the case is of a machine that this computer counts for.
pub(super) fn counts(case: &str) -> bool {
    let machine = case.split('/').next();
    all().iter().any(|one| Some(one.name) == machine)
}

impl Machine {
    /// The names of its cases. The list of kernels is the same program's on every processor, so this PC is asked.
    pub(super) fn cases(&self) -> Result<Vec<String>> {
        let names: Vec<String> = match &self.kind {
            Kind::Kernels(_) => {
                let output = run_quietly(command(program(std::env::consts::ARCH)?).arg("--list"))?;
                let names = String::from_utf8_lossy(&output.stdout);
                names.lines().map(str::to_owned).collect()
            }
            Kind::Firmware(_) => firmware_cases().map(|case| case.name.to_owned()).collect(),
        };
        let prefixed = names.iter().map(|name| format!("{}/{name}", self.name));
        Ok(prefixed.collect())
    }

    /// Counts those cases.
    pub(super) fn count(&self, cases: &[String]) -> Result<Counts> {
        let prefix = format!("{}/", self.name);
        let names: Vec<&str> = cases
            .iter()
            .filter_map(|case| case.strip_prefix(&prefix))
            .collect();
        eprintln!("counting {} cases on {} …", names.len(), self.name);
        let values = match &self.kind {
            Kind::Kernels(emulator) => (emulator.count)(emulator, &names)?,
            Kind::Firmware(board) => on_board(*board, &names)?,
        };
        ensure!(
            values.len() == cases.len(),
            "{}: {} cases were run and {} counted",
            self.name,
            cases.len(),
            values.len()
        );
        ensure!(
            values.iter().all(|&value| value > 0),
            "{}: nothing was counted between the marks",
            self.name
        );
        Ok(cases.iter().cloned().zip(values).collect())
    }
}

/// What the firmware prints, as a case.
struct FirmwareCase {
    name: &'static str,
    binary: &'static str,
    figure: &'static str,
}

/// Kernels, and whole models: of an encoder an input, of a decoder a token; and the longest that one call takes.
fn firmware_cases() -> impl Iterator<Item = FirmwareCase> {
    let kernels = [
        "gemv/i8/256x256",
        "gemm/i8/n4/64x256",
        "gemv/i4/256x256",
        "attn/i8/t64h4d16",
        "attn/i8/t64h4d32",
        "qk/i8/t64d16",
        "rmsnorm/256",
        "layernorm/256",
        "gelu/256",
    ];
    let kernels = kernels.map(|name| (name, "counts", name));
    let (each, token) = ("instructions_each", "instructions_per_token");
    let piece = "instructions_of_longest_piece";
    let models = [
        ("model/digits", "digits-integer", each),
        ("model/fashion", "fashion-integer", each),
        ("model/keywords", "keywords-integer", each),
        ("model/languages", "languages-integer", each),
        ("model/marks", "marks-integer", each),
        ("model/stories", "stories-integer", each),
        ("model/translation", "translation-integer", token),
        ("model/austen-1m", "generate-integer", token),
        (
            "model/austen-1m/prompt",
            "generate-integer",
            "instructions_per_prompt_token",
        ),
        ("model/austen-1m-int4", "generate-integer-int4", token),
        (
            "model/austen-1m-int4/prompt",
            "generate-integer-int4",
            "instructions_per_prompt_token",
        ),
        ("model/austen-1m-ring", "generate-integer-ring", token),
        ("piece/digits", "digits-integer", piece),
        ("piece/fashion", "fashion-integer", piece),
        ("piece/keywords", "keywords-integer", piece),
        ("piece/languages", "languages-integer", piece),
        ("piece/stories", "stories-integer", piece),
    ];
    let all = kernels.into_iter().chain(models);
    all.map(|(name, binary, figure)| FirmwareCase {
        name,
        binary,
        figure,
    })
}

/// Each binary is run once for all of its cases.
fn on_board(board: Board, names: &[&str]) -> Result<Vec<u64>> {
    let mut said: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut values = Vec::new();
    for name in names {
        let case = firmware_cases().find(|case| case.name == *name);
        let case = case.with_context(|| format!("no firmware counts {name}"))?;
        if !said.contains_key(case.binary) {
            let model = firmware::default_model();
            let elf = firmware::build_for(board, case.binary, &model)?;
            let run = firmware::run_on(board, &elf, &[], |_| ())?;
            let text = run.lines.join("\n");
            ensure!(run.status == 0, "{}, {}:\n{text}", case.binary, run.status);
            said.insert(case.binary, run.lines);
        }
        let lines = said.get(case.binary).into_iter().flatten();
        let mut figures = lines.filter_map(|line| report::figure(line));
        let figure = figures.find(|(name, _)| *name == case.figure);
        let (_, value) =
            figure.with_context(|| format!("{} printed no `{}`", case.binary, case.figure))?;
        values.push(value as u64);
    }
    Ok(values)
}

/// What other people's kernels take on the Cortex-M4, as `m4/<peer>/<case>`.
pub(super) fn peers() -> Result<Counts> {
    eprintln!("counting other people's kernels on {} …", M4.name);
    let run = firmware::run(&firmware::build_peers()?, &[], |_| ())?;
    ensure!(run.status == 0, "{}:\n{}", run.status, run.lines.join("\n"));
    let figures = run.lines.iter().filter_map(|line| report::figure(line));
    Ok(figures
        .map(|(name, value)| (format!("{}/{name}", M4.name), value as u64))
        .collect())
}

/// Builds `count` for that architecture.
fn program(arch: &str) -> Result<PathBuf> {
    let mut build = cargo("build --release --package attentive-benches --bin count");
    let mut directory = process::target_dir();
    if arch != std::env::consts::ARCH {
        let target = setup::AARCH64;
        build
            .args(["--target", target])
            .envs([setup::AARCH64_LINKER]);
        directory.push(target);
    }
    run_quietly(&mut build)?;
    Ok(directory.join("release").join("count"))
}

/// The whole program runs under Callgrind, which collects inside the function only and writes a file after each call:
/// `part.1`, `part.2` and so on, and a last one, `part`, at the program's end.
fn under_callgrind(machine: &Emulator, names: &[&str]) -> Result<Vec<u64>> {
    let directory = process::target_dir().join("callgrind");
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())?;
    }
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let part = directory.join("part");
    let mut valgrind = command("valgrind");
    valgrind.args(["--tool=callgrind", "--collect-atstart=no"]);
    valgrind.args(CALLGRIND_OPTIONS);
    valgrind.arg(format!("--callgrind-out-file={}", part.display()));
    valgrind.arg(program(machine.arch)?);
    run_quietly(valgrind.args(["--backend", machine.backend]).args(names))?;
    (1..=names.len())
        .map(|number| {
            let path = part.with_extension(number.to_string());
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            callgrind_total(&text).with_context(|| path.display().to_string())
        })
        .collect()
}

/// The total of one part.
fn callgrind_total(text: &str) -> Result<u64> {
    let mut lines = text.lines();
    let total = lines.find_map(|line| line.strip_prefix("totals: "));
    let total = total.context("Callgrind wrote no totals")?;
    total.trim().parse().with_context(|| total.to_owned())
}

/// A plugin of QEMU counts between the marks and prints a line each time.
fn under_qemu(machine: &Emulator, names: &[&str]) -> Result<Vec<u64>> {
    let plugin = qemu_plugin()?;
    let mut qemu = command("qemu-aarch64");
    qemu.args(["-cpu", "max", "-plugin"]).arg(plugin);
    if machine.arch != std::env::consts::ARCH {
        qemu.args(["-L", setup::AARCH64_SYSROOT]);
    }
    qemu.arg(program(machine.arch)?);
    let output = run_quietly(qemu.args(["--backend", machine.backend]).args(names))?;
    let counts = output
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("instructions "));
    counts
        .map(|number| number.parse().with_context(|| number.to_owned()))
        .collect()
}

fn qemu_plugin() -> Result<PathBuf> {
    let mut build = cargo("build --release --package xtask-qemu-plugin");
    let version = run_quietly(command("qemu-aarch64").arg("--version"))?;
    if qemu_major(&String::from_utf8_lossy(&version.stdout))? >= 9 {
        build.args(["--features", "api-2"]);
    }
    run_quietly(&mut build)?;
    let name = format!(
        "{}xtask_qemu_plugin{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    Ok(process::target_dir().join("release").join(name))
}

/// 7 of `qemu-aarch64 version 7.2.22 (Debian …)`.
fn qemu_major(version: &str) -> Result<u32> {
    let number = version.split_once("version ").map(|(_, rest)| rest);
    let major = number.and_then(|number| number.split('.').next());
    major
        .and_then(|major| major.parse().ok())
        .with_context(|| format!("QEMU's version is not understood: {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_a_part() {
        let text =
            "part: 1\ndesc: Trigger: --dump-after=count::between_marks\nfn=(1)\n7 1\ntotals: 17\n";
        assert_eq!(callgrind_total(text).unwrap(), 17);
        assert!(callgrind_total("part: 1\n").is_err());
    }

    #[test]
    fn versions_of_qemu() {
        let debian = "qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright (c)";
        assert_eq!(qemu_major(debian).unwrap(), 7);
        assert_eq!(qemu_major("qemu-aarch64 version 10.0.2").unwrap(), 10);
        assert!(qemu_major("qemu").is_err());
    }
}
