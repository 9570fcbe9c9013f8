//! Flash, RAM and stack of each firmware binary, and the check that the RAM is what the core promised.

use crate::{firmware, report::Report};
use anyhow::{Context, Result, ensure};
use object::{
    LittleEndian, Object, ObjectSymbol, elf,
    read::elf::{ElfFile32, ProgramHeader},
};
use serde_json::json;
use std::{fs, path::Path};

/// What a firmware's symbol for the model's memory has in it, as the compiler writes names: an `Arena`, or the static of
/// `cortex_m::singleton!`.
const ARENAS: [&str; 2] = ["5ARENA", "3VAR"];
/// What the arena has beside the session's memory: the flag that it was taken, and alignment to 64.
const ARENA_FLAG_BYTES: f64 = 64.0;

/// What an ELF file says about a binary's memory, in bytes. Alignment gaps count: they are occupied too.
#[derive(Debug, PartialEq)]
pub(crate) struct Footprint {
    /// From the vector table to the last initial value: code, constants, weights.
    pub(crate) flash: u64,
    /// All statics, initialised or not; no stack.
    pub(crate) ram: u64,
    /// The part of `ram` that is the session's arena.
    pub(crate) arena: u64,
}

/// Reads the sizes from the ELF file.
pub(crate) fn footprint(path: &Path) -> Result<Footprint> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = ElfFile32::<LittleEndian>::parse(&*bytes)
        .with_context(|| format!("{} is no ELF file of a 32-bit processor", path.display()))?;
    let (mut flash, mut ram) = (Extent::default(), Extent::default());
    for segment in file.elf_program_headers() {
        if segment.p_type(LittleEndian) != elf::PT_LOAD {
            continue;
        }
        // The physical address is where the bytes lie before the start-up code moves `.data`.
        flash.add(
            segment.p_paddr(LittleEndian),
            segment.p_filesz(LittleEndian),
        );
        if segment.p_flags(LittleEndian) & elf::PF_W != 0 {
            ram.add(segment.p_vaddr(LittleEndian), segment.p_memsz(LittleEndian));
        }
    }
    let arena = file
        .symbols()
        .filter(|symbol| {
            let is_arena = |name: &str| ARENAS.iter().any(|arena| name.contains(arena));
            symbol.name().is_ok_and(is_arena)
        })
        .map(|symbol| symbol.size())
        .sum();
    Ok(Footprint {
        flash: flash.bytes(),
        ram: ram.bytes(),
        arena,
    })
}

/// The smallest range of addresses that holds everything added.
#[derive(Default)]
struct Extent(Option<(u32, u32)>);

impl Extent {
    fn add(&mut self, at: u32, len: u32) {
        if len > 0 {
            let (start, end) = self.0.unwrap_or((at, at + len));
            self.0 = Some((start.min(at), end.max(at + len)));
        }
    }

    fn bytes(&self) -> u64 {
        self.0.map_or(0, |(start, end)| u64::from(end - start))
    }
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
    let promised = report
        .figure("session_bytes")
        .or_else(|_| report.figure("encoder_bytes"))?;
    ensure!(
        footprint.arena as f64 == promised + ARENA_FLAG_BYTES,
        "the arena takes {} bytes, but the core promised {promised} and {ARENA_FLAG_BYTES} for its flag",
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
            "{:<21} {:>10} {:>10} {:>10} {:>10} {:>8}",
            "binary", "flash", "weights", "RAM", "arena", "stack"
        );
    }
    for binary in firmware::BINARIES {
        let elf = firmware::build(binary, &firmware::default_model())?;
        let run = firmware::run(&elf, &[], |_| ())?;
        ensure!(run.status == 0, "{binary} ended with status {}", run.status);
        let report = Report::of_figures(run.lines.iter().map(String::as_str));
        let footprint = footprint(&elf)?;
        let figure = |name| report.figures.get(name).map(|value| *value as u64);
        if figure("session_bytes")
            .or(figure("encoder_bytes"))
            .is_some()
        {
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
                "{binary:<21} {:>10} {:>10} {:>10} {:>10} {:>8}",
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
            "bytes; RAM is all statics, the arena is in it: the core's session_bytes or encoder_bytes to the byte, and 64 for its flag; stack is the measured peak"
        );
    }
    Ok(())
}
