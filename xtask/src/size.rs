//! Flash, RAM and stack of each firmware binary, and the check that the RAM is what the core promised.

use crate::{firmware, report::Report};
use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, elf};
use serde_json::json;
use std::{fs, path::Path};

/// The firmware's symbol for the session's memory.
const ARENA: &str = "ARENA";

/// What an ELF file says about a binary's memory, in bytes.
#[derive(Debug, PartialEq)]
pub(crate) struct Footprint {
    /// Vectors, code, constants, initial values, weights.
    pub(crate) flash: u64,
    /// All statics, initialised or not; no stack.
    pub(crate) ram: u64,
    /// The part of `ram` that is the session's arena.
    pub(crate) arena: u64,
}

/// Reads the sizes from the ELF file.
pub(crate) fn footprint(path: &Path) -> Result<Footprint> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes)
        .with_context(|| format!("{} is no ELF file", path.display()))?;
    let mut footprint = Footprint {
        flash: 0,
        ram: 0,
        arena: 0,
    };
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else {
            continue;
        };
        if sh_flags & u64::from(elf::SHF_ALLOC) == 0 {
            continue;
        }
        let is_written = sh_flags & u64::from(elf::SHF_WRITE) != 0;
        let is_stored = section.file_range().is_some_and(|(_, len)| len > 0);
        // `.data` is in both: its initial values lie in flash.
        footprint.ram += if is_written { section.size() } else { 0 };
        footprint.flash += if is_stored { section.size() } else { 0 };
    }
    footprint.arena = file
        .symbols()
        .filter(|symbol| symbol.name().is_ok_and(|name| name == ARENA))
        .map(|symbol| symbol.size())
        .sum();
    Ok(footprint)
}

/// The names of all defined functions and objects of an ELF file.
pub(crate) fn symbols(path: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes)?;
    Ok(file
        .symbols()
        .filter(|symbol| symbol.is_definition())
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .collect())
}

/// That the linker gave the arena exactly what the core's `const fn` said.
pub(crate) fn check(footprint: &Footprint, report: &Report) -> Result<()> {
    let promised = report.figure("session_bytes")?;
    ensure!(
        footprint.arena as f64 == promised,
        "the arena takes {} bytes, but the core promised {promised}",
        footprint.arena
    );
    for (name, linked) in [
        ("flash_bytes", footprint.flash),
        ("static_bytes", footprint.ram),
    ] {
        let measured = report.figure(name)?;
        ensure!(
            linked as f64 == measured,
            "the ELF file has {name} = {linked}, but the device says {measured}"
        );
    }
    Ok(())
}

/// Prints the sizes of every binary; for people a table, otherwise one JSON object a line.
pub(crate) fn print(as_json: bool) -> Result<()> {
    if !as_json {
        println!(
            "{:<10} {:>10} {:>10} {:>10} {:>10} {:>8}",
            "binary", "flash", "weights", "RAM", "arena", "stack"
        );
    }
    for binary in firmware::BINARIES {
        let elf = firmware::build(binary, &firmware::default_model())?;
        let run = firmware::run(&elf, &[], |_| ())?;
        ensure!(run.status == 0, "{binary} ended with status {}", run.status);
        let report = Report::parse(run.lines.iter().map(String::as_str))?;
        let footprint = footprint(&elf)?;
        let figure = |name| report.figures.get(name).map(|value| *value as u64);
        if report.figures.contains_key("session_bytes") {
            check(&footprint, &report)?;
        }
        if as_json {
            let line = json!({
                "binary": binary, "flash_bytes": footprint.flash, "weights_bytes": figure("weights_bytes"),
                "ram_bytes": footprint.ram, "arena_bytes": footprint.arena, "stack_bytes": figure("stack_bytes"),
            });
            println!("{line}");
        } else {
            let show = |value: Option<u64>| value.map_or("-".into(), |value| value.to_string());
            println!(
                "{binary:<10} {:>10} {:>10} {:>10} {:>10} {:>8}",
                footprint.flash,
                show(figure("weights_bytes")),
                footprint.ram,
                footprint.arena,
                show(figure("stack_bytes")),
            );
        }
    }
    if !as_json {
        println!(
            "bytes; RAM is all statics, the arena is in it and equals the core's session_bytes to the byte; stack is the measured peak"
        );
    }
    Ok(())
}
