//! `count --backend NAME [--list] [CASE…]`: runs each case (or those named) once between two marks, for somebody who
//! counts instructions.
//!
//! The marks are the function [`between_marks`], which Callgrind finds by its name, and within it a system call before
//! and after the work, which the plugin of QEMU finds. `cargo xtask count` does both and knows what comes out.

use attentive_benches::case::{Bound, Case, Outcome, Unit, Workload};
use attentive_benches::cases;
use attentive_benches::data::Rng;
use attentive_kernels::Backend;
use std::hint::black_box;
use std::process::ExitCode;

const USAGE: &str = "usage: count --backend NAME [--list] [CASE…]";

/// Emulated, each lane of a multiply-add takes about 60 ns: products of 768×288 with 128 vectors still fit.
const OPERATIONS_MAX: f64 = 57e6;
/// Drawing the inputs costs more than the work where the work is to read them once.
const BYTES_MAX: usize = 1 << 20;

fn main() -> ExitCode {
    // A thread's stack and heap begin at whole pages. Those of the main thread begin wherever the arguments and the
    // environment end, which would make the count of a copy depend on the name of a directory.
    match std::thread::spawn(|| run(std::env::args().skip(1))).join() {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(message)) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut backend, mut list, mut names) = (None, false, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => list = true,
            "--backend" => {
                let name = arguments.next().ok_or("--backend needs a name")?;
                let found = Backend::by_name(&name);
                backend = Some(found.ok_or(format!("this processor has no backend \"{name}\""))?);
            }
            flag if flag.starts_with('-') => return Err(format!("unknown option {flag}\n{USAGE}")),
            _ => names.push(argument),
        }
    }
    let mut cases = cases::all();
    cases.retain(is_small);
    if let Some(name) = names
        .iter()
        .find(|name| cases.iter().all(|case| case.name != **name))
    {
        return Err(format!("there is no case \"{name}\"; --list shows them"));
    }
    for case in cases
        .iter()
        .filter(|case| names.is_empty() || names.contains(&case.name))
    {
        if !list {
            let backend = backend.ok_or(USAGE)?;
            count(case, backend).map_err(|error| format!("{}: {error}", case.name))?;
        }
        println!("{}", case.name);
    }
    Ok(())
}

/// Whether the case is a kernel, and one that an emulator finishes in a second or so.
fn is_small(case: &Case) -> bool {
    match (case.bound, case.unit) {
        (Bound::Itself | Bound::Cores(_), _) | (_, Unit::Tokens) => false,
        (Bound::Reading, _) => case.bytes <= BYTES_MAX,
        (Bound::Arithmetic(_), _) => case.bound_work <= OPERATIONS_MAX,
    }
}

fn count(case: &Case, backend: Backend) -> Outcome {
    // No run goes before: the linker resolves every symbol at the start (`-z now`), and no kernel remembers anything.
    let mut workload = (case.prepare)(backend, &mut Rng::new(0))?;
    between_marks(workload.as_mut())
}

/// The name, the two system calls and nothing else between them: `cargo xtask count` relies on all three.
#[inline(never)]
fn between_marks(workload: &mut dyn Workload) -> Outcome {
    mark();
    let outcome = workload.run();
    mark();
    // What is used afterwards keeps the last call from becoming a jump, which would end the function before its time.
    black_box(outcome)
}

/// `getppid`, which nothing else calls.
#[cfg(unix)]
fn mark() {
    black_box(std::os::unix::process::parent_id());
}

#[cfg(not(unix))]
fn mark() {}
