//! What the other commands need on this machine: rustup targets and Debian packages, added when missing.

use crate::process::{capture, command, is_there, run_quietly, tail};
use anyhow::{Result, bail};
use std::time::Duration;

/// Targets of the firmware and of the `no_std` builds.
const BARE_TARGETS: [&str; 6] = [
    "thumbv6m-none-eabi",
    "thumbv7em-none-eabihf",
    "thumbv8m.main-none-eabihf",
    "riscv32imac-unknown-none-elf",
    "x86_64-unknown-none",
    "wasm32-unknown-unknown",
];
/// The target of the firmware.
pub(crate) const FIRMWARE_TARGET: &str = "thumbv7em-none-eabihf";
/// The other operating system's processor that the host tests run on, emulated.
pub(crate) const AARCH64: &str = "aarch64-unknown-linux-gnu";

/// How cargo links for it on another processor. Not in `.cargo/config.toml`: there it would also apply on an aarch64
/// PC, which needs no other linker.
pub(crate) const AARCH64_LINKER: (&str, &str) = (
    "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
    "aarch64-linux-gnu-gcc",
);
/// Where the emulator finds that processor's shared libraries.
pub(crate) const AARCH64_SYSROOT: &str = "/usr/aarch64-linux-gnu";

/// The program that proves a package is there, and the package.
const QEMU_SYSTEM: (&str, &str) = ("qemu-system-arm", "qemu-system-arm");
const QEMU_RISCV: (&str, &str) = ("qemu-system-riscv32", "qemu-system-misc");
const QEMU_USER: (&str, &str) = ("qemu-aarch64", "qemu-user");
const VALGRIND: (&str, &str) = ("valgrind", "valgrind");
const CROSS_GCC: (&str, &str) = ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu");
const CMAKE: (&str, &str) = ("cmake", "cmake");
const CXX: (&str, &str) = ("c++", "g++");
/// Comes without a program: the C library that the cross-compiled tests start from.
const CROSS_LIBC: (&str, &str) = (
    "/usr/aarch64-linux-gnu/lib/libc.so.6",
    "libc6-dev-arm64-cross",
);

/// What `demo`, `qemu` and `size` need.
pub(crate) fn for_firmware() -> Result<()> {
    add_targets(&[FIRMWARE_TARGET])?;
    add_packages(&[QEMU_SYSTEM])
}

/// What `test` needs.
pub(crate) fn for_tests() -> Result<()> {
    add_components()?;
    for_counts()
}

/// What `count` needs, and the tests on aarch64 too.
pub(crate) fn for_counts() -> Result<()> {
    add_targets(&BARE_TARGETS)?;
    add_packages(&[QEMU_SYSTEM, QEMU_RISCV])?;
    // On an aarch64 PC QEMU emulates the same processor, and nothing is cross-compiled.
    if cfg!(target_arch = "aarch64") {
        return add_packages(&[QEMU_USER]);
    }
    add_targets(&[AARCH64])?;
    add_packages(&[VALGRIND, QEMU_USER, CROSS_GCC, CROSS_LIBC])
}

/// What llama.cpp is built with.
pub(crate) fn for_llama() -> Result<()> {
    add_packages(&[CMAKE, CXX])?;
    if std::env::var_os("LIBCLANG_PATH").is_some() || has_libclang() {
        return Ok(());
    }
    add_packages(&[("/usr/include/clang-c/Index.h", "libclang-dev")])?;
    match has_libclang() {
        true => Ok(()),
        false => bail!("libclang is missing (Debian: libclang-dev; elsewhere set LIBCLANG_PATH)"),
    }
}

/// Where Debian's and other Linux systems' packages put it.
fn has_libclang() -> bool {
    let holds = |dir: &std::path::Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.any(|name| is_libclang(&name))
    };
    let versions = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    let mut dirs: Vec<_> = versions.map(|entry| entry.path().join("lib")).collect();
    dirs.extend(["/usr/lib", "/usr/lib64"].map(std::path::PathBuf::from));
    dirs.iter().any(|dir| holds(dir))
}

/// The library of C, not that of C++ (`libclang-cpp`), which comes with other packages.
fn is_libclang(name: &str) -> bool {
    name.starts_with("libclang.so")
        || name.starts_with("libclang-") && !name.starts_with("libclang-cpp")
}

/// Whether Miri can run here.
///
/// # Errors
///
/// One sentence: why not.
pub(crate) fn miri() -> Result<(), &'static str> {
    let miri = ["run", "nightly", "cargo", "miri", "--version"];
    match capture(command("rustup").args(miri), Duration::from_secs(60)) {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(
            "no nightly toolchain with miri (rustup toolchain install nightly --component miri,rust-src)",
        ),
    }
}

fn add_targets(wanted: &[&str]) -> Result<()> {
    let have = installed("target")?;
    let missing: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|name| !have.lines().any(|line| line == *name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("set-up: rustup target add {}", missing.join(" "));
    if let Err(error) = run_quietly(command("rustup").args(["target", "add"]).args(&missing)) {
        bail!(
            "these Rust targets are missing and rustup could not add them: {} ({error:#})",
            missing.join(", ")
        );
    }
    Ok(())
}

/// A minimal rustup profile has neither; the toolchain file asks for both, but not every rustup obeys it.
fn add_components() -> Result<()> {
    let have = installed("component")?;
    for component in ["rustfmt", "clippy"] {
        if !have.lines().any(|line| line.starts_with(component)) {
            eprintln!("set-up: rustup component add {component}");
            run_quietly(command("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

fn installed(what: &str) -> Result<String> {
    match run_quietly(command("rustup").args([what, "list", "--installed"])) {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            bail!("rustup is needed to look for the Rust {what}s, and it did not answer: {error:#}")
        }
    }
}

fn add_packages(wanted: &[(&str, &str)]) -> Result<()> {
    let is_missing = |proof: &str| match proof.starts_with('/') {
        true => !std::path::Path::new(proof).exists(),
        false => !is_there(proof),
    };
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(proof, _)| is_missing(proof))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_there("apt-get") {
        bail!("please install what these Debian packages hold, then try again: {list}");
    }
    eprintln!("set-up: apt-get install {list}");
    apt(&["update", "-q"])
        .and_then(|()| {
            apt(&[
                ["install", "-q", "-y", "--no-install-recommends"].as_slice(),
                &missing,
            ]
            .concat())
        })
        .map_err(|error| {
            error.context(format!(
                "these Debian packages are missing and apt-get could not install them: {list}"
            ))
        })
}

/// `apt-get`, through sudo for those who are not root.
fn apt(args: &[&str]) -> Result<()> {
    let root = capture(command("id").arg("-u"), Duration::from_secs(10))?
        .stdout
        .starts_with(b"0\n");
    let mut apt = match root {
        true => command("apt-get"),
        false => command("sudo"),
    };
    if !root {
        // -n: a password prompt would wait forever where there is no terminal.
        apt.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    }
    // Another apt at work (unattended upgrades) is waited for, not an error.
    apt.args(["-o", "DPkg::Lock::Timeout=300"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive");
    let output = capture(&mut apt, Duration::from_secs(900))?;
    if !output.status.success() {
        bail!("apt-get {}: {}", args.join(" "), tail(&output.text, 8));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_libclang;

    #[test]
    fn the_library_of_cpp_is_another() {
        for name in ["libclang.so", "libclang.so.1", "libclang-14.so.14.0.6"] {
            assert!(is_libclang(name), "{name}");
        }
        for name in ["libclang-cpp.so.14", "libclangBasic.a"] {
            assert!(!is_libclang(name), "{name}");
        }
    }
}
