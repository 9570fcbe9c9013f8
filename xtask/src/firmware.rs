//! Builds the firmware, runs it under QEMU and decodes what it logs through defmt.

use crate::process::{self, command, root, spawn};
use anyhow::{Context, Result, bail};
use defmt_decoder::{DecodeError, Table};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The binaries: those with the language model that the firmware is told, of which `no-panic` only has to link and to
/// exit, and one for each task, with a model of its own.
pub(crate) const BINARIES: [&str; 23] = [
    "generate",
    "selftest",
    "digits",
    "fashion",
    "keywords",
    "languages",
    "marks",
    "stories",
    "translation",
    "generate-integer",
    "generate-integer-int4",
    "generate-integer-ring",
    "digits-integer",
    "fashion-integer",
    "keywords-integer",
    "languages-integer",
    "marks-integer",
    "stories-integer",
    "translation-integer",
    "timer",
    "counts",
    "stack",
    "no-panic",
];

/// Those whose output is expected to the bit.
pub(crate) fn expected() -> impl Iterator<Item = &'static str> {
    BINARIES.into_iter().filter(|binary| *binary != "no-panic")
}

/// A run that takes longer than this hangs.
const RUN_LIMIT: Duration = Duration::from_secs(240);

/// One board of QEMU's.
#[derive(Clone, Copy)]
pub(crate) struct Board {
    /// What it is called on the command line.
    pub(crate) id: &'static str,
    /// What it shows, in a word.
    pub(crate) name: &'static str,
    /// The program, and what it is told of the board.
    qemu: &'static str,
    machine: &'static str,
    cpu: &'static str,
    target: &'static str,
    flags: &'static str,
}

pub(crate) const AN386: Board = Board {
    id: "an386",
    name: "Cortex-M4",
    qemu: "qemu-system-arm",
    machine: "mps2-an386",
    cpu: "cortex-m4",
    target: crate::setup::FIRMWARE_TARGET,
    flags: "",
};

/// The Cortex-M4's code on a Cortex-M7.
const AN500: Board = Board {
    id: "an500",
    name: "Cortex-M7",
    machine: "mps2-an500",
    cpu: "cortex-m7",
    ..AN386
};

/// The code of a Cortex-M0+, which has neither floats nor a product of more than 32 bits. QEMU has no board of that kind
/// with room for the weights; every instruction of Armv6-M is one of the Cortex-M4 as well.
pub(crate) const ARMV6M: Board = Board {
    id: "armv6m",
    name: "Armv6-M",
    target: "thumbv6m-none-eabi",
    ..AN386
};

/// With the DSP extension of Armv8-M.
pub(crate) const AN505: Board = Board {
    id: "an505",
    name: "Cortex-M33",
    qemu: AN386.qemu,
    machine: "mps2-an505",
    cpu: "cortex-m33",
    target: "thumbv8m.main-none-eabihf",
    flags: "-Ctarget-cpu=cortex-m33",
};

/// Without it.
pub(crate) const AN505_PLAIN: Board = Board {
    id: "armv8m",
    name: "Armv8-M",
    flags: "",
    ..AN505
};

/// With Helium.
pub(crate) const AN547: Board = Board {
    id: "an547",
    name: "Cortex-M55",
    qemu: AN386.qemu,
    machine: "mps3-an547",
    cpu: "cortex-m55",
    target: AN505.target,
    flags: "-Ctarget-cpu=cortex-m55",
};

/// RISC-V without floats: the binaries of the integer profile, `counts` and `stack`.
pub(crate) const RV32: Board = Board {
    id: "rv32",
    name: "RISC-V",
    qemu: "qemu-system-riscv32",
    machine: "virt",
    cpu: "rv32,f=off,d=off",
    target: "riscv32imac-unknown-none-elf",
    flags: "",
};

/// All of them.
pub(crate) const BOARDS: [Board; 7] = [AN386, AN500, ARMV6M, AN505, AN505_PLAIN, AN547, RV32];

/// The directory of the firmware's own workspace.
pub(crate) fn directory() -> PathBuf {
    root().join("firmware-example")
}

/// The weights that the firmware has unless it is told otherwise.
pub(crate) fn default_model() -> PathBuf {
    root().join("models/austen-1m-int8.attn")
}

/// `cargo LINE` in the firmware's workspace, with `model` in flash.
pub(crate) fn cargo(line: &str, model: &Path) -> Command {
    let mut cargo = process::cargo(line);
    cargo.current_dir(directory()).env("ATTENTIVE_MODEL", model);
    cargo
}

/// Builds `binary` for release and returns a copy of its ELF file that a later build does not replace.
pub(crate) fn build(binary: &str, model: &Path) -> Result<PathBuf> {
    build_for(AN386, binary, model)
}

/// The same for another board.
pub(crate) fn build_for(board: Board, binary: &str, model: &Path) -> Result<PathBuf> {
    let line = format!("build --release --bin {binary} --target {}", board.target);
    let mut cargo = cargo(&line, model);
    if !board.flags.is_empty() {
        cargo.env("RUSTFLAGS", board.flags);
    }
    process::run_quietly(&mut cargo)?;
    let built = target_dir().join(board.target).join("release").join(binary);
    let label = model
        .file_stem()
        .map_or("default".into(), |stem| stem.to_string_lossy());
    let kept = target_dir().join(format!("{binary}-{label}-{}.elf", board.id));
    fs::copy(&built, &kept).with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(kept)
}

/// Builds other people's kernels for the Cortex-M4, which print what `counts` prints.
pub(crate) fn build_peers() -> Result<PathBuf> {
    let directory = root().join("benches/peers/device");
    let mut cargo = process::cargo("build --release");
    cargo
        .current_dir(&directory)
        .env("ATTENTIVE_MODEL", default_model());
    process::run_quietly(&mut cargo)?;
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => directory.join(target),
        None => directory.join("target"),
    };
    let built = target.join(AN386.target).join("release");
    Ok(built.join("attentive-peers-device"))
}

/// Where the firmware is built. Without `CARGO_TARGET_DIR` each workspace has its own directory.
fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => directory().join(dir),
        None => directory().join("target"),
    }
}

/// What a run left behind.
pub(crate) struct Run {
    /// The decoded log lines.
    pub(crate) lines: Vec<String>,
    /// The status that the firmware exited with through semihosting.
    pub(crate) status: i32,
    pub(crate) seconds: f64,
}

/// Runs `elf` under QEMU with exact instruction counting and those arguments (the name of the program is not among
/// them); `on_line` sees each log line as it comes.
pub(crate) fn run(elf: &Path, args: &[String], on_line: impl FnMut(&str)) -> Result<Run> {
    run_on(AN386, elf, args, on_line)
}

/// The same on another board.
pub(crate) fn run_on(
    board: Board,
    elf: &Path,
    args: &[String],
    mut on_line: impl FnMut(&str),
) -> Result<Run> {
    let file = fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let table = Table::parse(&file)?;
    let start = Instant::now();
    let mut child = spawn(qemu(board, elf, args).stdout(Stdio::piped()))?;
    let mut pipe = child.stdout.take().context("QEMU has no stdout")?;

    // Reading blocks, so a second thread watches the clock.
    let done = Arc::new(AtomicBool::new(false));
    let watcher = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::Relaxed) && start.elapsed() < RUN_LIMIT {
                thread::sleep(Duration::from_millis(20));
            }
            if !done.load(Ordering::Relaxed) {
                // Already gone is as good as killed.
                let _ = child.kill();
            }
            child.wait()
        }
    });

    let mut lines = Vec::new();
    let mut keep = |line: String| {
        on_line(&line);
        lines.push(line);
    };
    let decoded = match &table {
        Some(table) => decode(table, &mut pipe, &mut keep),
        // Without a defmt table (`no-panic`) whatever comes is plain text.
        None => plain(&mut pipe, &mut keep),
    };
    done.store(true, Ordering::Relaxed);
    let status = watcher
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that watches QEMU died"))??;
    decoded?;
    let seconds = start.elapsed().as_secs_f64();
    match status.code() {
        Some(status) => Ok(Run {
            lines,
            status,
            seconds,
        }),
        None => bail!(
            "QEMU was killed after {seconds:.0} s; the last line was: {}",
            lines.last().map_or("none", String::as_str)
        ),
    }
}

fn qemu(board: Board, elf: &Path, args: &[String]) -> Command {
    let mut qemu = command(board.qemu);
    // Nothing is executed before the firmware.
    qemu.args([
        "-machine",
        board.machine,
        "-cpu",
        board.cpu,
        "-bios",
        "none",
    ]);
    qemu.args(["-display", "none", "-serial", "none", "-monitor", "none"]);
    // shift=0: one instruction takes 1 ns of virtual time, which the processor's counters then count exactly.
    qemu.args(["-icount", "shift=0"]);
    let mut semihosting = "enable=on,target=native".to_owned();
    // Without any argument QEMU would give the ELF file's path, of as many words as it has spaces.
    let name = "firmware".to_owned();
    for arg in std::iter::once(&name).chain(args) {
        // QEMU splits at commas; a doubled one stands for itself.
        semihosting += &format!(",arg={}", arg.replace(',', ",,"));
    }
    qemu.args(["-semihosting-config", &semihosting, "-kernel"])
        .arg(elf);
    qemu
}

fn decode(table: &Table, pipe: &mut impl Read, keep: &mut impl FnMut(String)) -> Result<()> {
    let mut decoder = table.new_stream_decoder();
    let mut buffer = [0; 1024];
    loop {
        let count = pipe.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        decoder.received(&buffer[..count]);
        loop {
            match decoder.decode() {
                Ok(frame) => keep(match frame.level() {
                    Some(level) => format!("{}: {}", level.as_str(), frame.display_message()),
                    None => frame.display_message().to_string(),
                }),
                Err(DecodeError::UnexpectedEof) => break,
                Err(DecodeError::Malformed) => bail!("the firmware sent a frame that is not defmt"),
            }
        }
    }
}

fn plain(pipe: &mut impl Read, keep: &mut impl FnMut(String)) -> Result<()> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes)?;
    String::from_utf8_lossy(&bytes)
        .lines()
        .for_each(|line| keep(line.to_owned()));
    Ok(())
}
