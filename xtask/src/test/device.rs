//! The firmware's checks: what it links, what it says under QEMU, and that it says the same as the PC.

use super::Outcome;
use crate::{
    demo, firmware,
    process::{self, cargo, command, run_quietly},
    report::{self, Report},
    size,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The expected outputs hold figures of one compiler and one QEMU; others may differ by this much.
const FIGURE_TOLERANCE: f64 = 0.02;

/// The binary's panic handler calls a function that exists nowhere: one reachable panic, and it does not link.
pub(super) fn no_panic() -> Result<Outcome> {
    let elf = firmware::build("no-panic", &firmware::default_model())?;
    let run = firmware::run(&elf, &[], |_| ())?;
    ensure!(
        run.status == 0,
        "it links, but it ends with status {}",
        run.status
    );
    Ok(Outcome::Held("linked and run".into()))
}

/// No symbol of an allocator, in any of the binaries.
pub(super) fn no_allocator() -> Result<Outcome> {
    for binary in firmware::BINARIES {
        let symbols = size::symbols(&firmware::build(binary, &firmware::default_model())?)?;
        ensure!(symbols.len() > 10, "{binary} has no symbols to look at");
        for needle in [
            "__rust_alloc",
            "__rust_realloc",
            "__rg_",
            "__rdl_",
            "malloc",
            "5alloc",
        ] {
            let found = symbols.iter().find(|name| name.contains(needle));
            ensure!(
                found.is_none(),
                "{binary} has {}",
                found.map_or("", String::as_str)
            );
        }
    }
    Ok(Outcome::Held(String::new()))
}

/// Writes the expected outputs anew, from what the firmware says now.
pub(crate) fn bless() -> Result<()> {
    for binary in firmware::expected() {
        let run = run_successfully(binary)?;
        let path = out_file(binary);
        fs::write(&path, run.lines.join("\n") + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}: {} lines", path.display(), run.lines.len());
    }
    Ok(())
}

fn run_successfully(binary: &str) -> Result<firmware::Run> {
    let elf = firmware::build(binary, &firmware::default_model())?;
    let run = firmware::run(&elf, &[], |_| ())?;
    ensure!(
        run.status == 0,
        "{binary}, status {}:\n{}",
        run.status,
        run.lines.join("\n")
    );
    Ok(run)
}

/// The expected output lies beside the binary.
fn out_file(binary: &str) -> PathBuf {
    let path = firmware::directory().join("src/bin").join(binary);
    path.with_extension("out")
}

/// What the binary says, the bits of its logits among it, equals the file beside it, and its answers those of the PC,
/// which `tests/models.rs` compares with that file.
pub(super) fn expected(binary: &str) -> Result<Outcome> {
    let run = run_successfully(binary)?;
    let path = out_file(binary);
    let said = run.lines.join("\n");
    let wanted =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    compare(&wanted, &run.lines).with_context(|| {
        format!("{binary} said what follows; `cargo xtask test --bless` makes it the expectation:\n{said}")
    })?;
    Ok(Outcome::Held(format!(
        "{} lines as expected",
        run.lines.len()
    )))
}

/// Binaries of the integer profile, which have no float anywhere.
const INTEGERS: [&str; 10] = [
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
];

/// The firmware's own checks on another processor, whose kernels have code of their own.
pub(super) fn selftest_on(board: firmware::Board) -> Result<Outcome> {
    let lines = says_the_same(board, "selftest")?;
    Ok(Outcome::Held(format!("{lines} lines as expected")))
}

/// The stack's bounds hold on another processor.
pub(super) fn stack_on(board: firmware::Board) -> Result<Outcome> {
    says_the_same(board, "stack")?;
    Ok(Outcome::Held("all calls are an eighth below".to_owned()))
}

/// Runs a binary; its lines but for figures must be those that are expected of the Cortex-M4. Their number.
fn says_the_same(board: firmware::Board, binary: &str) -> Result<usize> {
    let elf = firmware::build_for(board, binary, &firmware::default_model())?;
    let run = firmware::run_on(board, &elf, &[], |_| ())?;
    let path = out_file(binary);
    let wanted =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let texts = |line: &&str| report::figure(line).is_none();
    let wanted: Vec<&str> = wanted.lines().filter(texts).collect();
    let said: Vec<&str> = run.lines.iter().map(String::as_str).filter(texts).collect();
    ensure!(
        run.status == 0 && wanted == said,
        "{binary}, status {}: expected {wanted:?}, got {said:?}",
        run.status
    );
    Ok(said.len())
}

/// The integer profile says on another processor what it said on the Cortex-M4, but for figures; and no routine that
/// emulates floats is linked.
pub(super) fn integers_on(board: firmware::Board) -> Result<Outcome> {
    let mut lines = 0;
    for binary in INTEGERS {
        let elf = firmware::build_for(board, binary, &firmware::default_model())?;
        let symbols = size::symbols(&elf)?;
        let is_float = |name: &&String| {
            let routine = [
                "__aeabi_f",
                "__aeabi_d",
                "__addsf3",
                "__mulsf3",
                "__adddf3",
                "__muldf3",
                "__float",
                "__fix",
            ];
            let conversions =
                ["2f", "2d"].map(|end| name.starts_with("__aeabi_") && name.ends_with(end));
            routine.iter().any(|prefix| name.starts_with(prefix)) || conversions.contains(&true)
        };
        let found = symbols.iter().find(is_float);
        ensure!(
            found.is_none(),
            "{binary} has {}",
            found.map_or("", String::as_str)
        );
        lines += says_the_same(board, binary)?;
    }
    Ok(Outcome::Held(format!(
        "{lines} lines, the bits of the logits among them"
    )))
}

/// Lines must be equal; `name = value` lines within [`FIGURE_TOLERANCE`].
fn compare(wanted: &str, said: &[String]) -> Result<()> {
    let wanted: Vec<&str> = wanted.lines().collect();
    for (number, (want, have)) in wanted.iter().zip(said).enumerate() {
        let close = match (report::figure(want), report::figure(have)) {
            (Some((a, x)), Some((b, y))) => a == b && (x - y).abs() <= FIGURE_TOLERANCE * x.abs(),
            _ => want == have,
        };
        ensure!(
            close,
            "line {}: expected `{want}`, got `{have}`",
            number + 1
        );
    }
    ensure!(
        wanted.len() == said.len(),
        "expected {} lines, got {}",
        wanted.len(),
        said.len()
    );
    Ok(())
}

/// A request that cannot be met is told in words and by the status, not by a panic or silence.
pub(super) fn bad_requests() -> Result<Outcome> {
    let elf = firmware::build("generate", &firmware::default_model())?;
    let requests: [(&[&str], i32, &str); 6] = [
        (&["8", "700", "1"], 2, "give nothing, or"),
        (&["many", "700", "1", "a"], 2, "TOKENS"),
        (&["8", "warm", "1", "a"], 2, "TEMPERATURE_THOUSANDTHS"),
        (&["8", "700", "-1", "a"], 2, "SEED"),
        (&["8", "700", "1", &"a ".repeat(600)], 2, "command line"),
        (&["8", "700", "1", ""], 1, "NoPrompt"),
    ];
    for (words, status, message) in &requests {
        let args: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let run = firmware::run(&elf, &args, |_| ())?;
        let last = run.lines.last().map_or("nothing", String::as_str);
        ensure!(
            run.status == *status && last.starts_with("error: ") && last.contains(message),
            "{words:?}: status {} and `{last}`, expected {status} and an error about {message}",
            run.status
        );
    }
    Ok(Outcome::Held(format!("{} refused", requests.len())))
}

/// One sampled request on both: not one token may differ.
pub(super) fn same_tokens() -> Result<Outcome> {
    let example = "build --quiet --release --package attentive --features std --example generate";
    run_quietly(&mut cargo(example))?;
    let mut count = 0;
    for weights in ["int8", "int4"] {
        let model = demo::shipped(weights)?;
        for (tokens, thousandths, seed, prompt) in [
            ("24", "800", "7", "She was, in short,"),
            ("8", "0", "1", "E"),
        ] {
            let pc = on_pc(&model, &[tokens, thousandths, seed, prompt])?;
            let elf = firmware::build("generate", &model)?;
            let request = [tokens, thousandths, seed, prompt].map(str::to_owned);
            let run = firmware::run(&elf, &request, |_| ())?;
            ensure!(
                run.status == 0,
                "status {}: {:?}",
                run.status,
                run.lines.last()
            );
            let device = Report::parse(run.lines.iter().map(String::as_str))?;
            ensure!(
                pc.tokens == device.tokens,
                "{weights}, {prompt:?}: PC {:?}, device {:?}",
                pc.tokens,
                device.tokens
            );
            ensure!(
                pc.logits == device.logits && pc.logits.is_some(),
                "{weights}: other logits on the device"
            );
            count += device.tokens.len();
        }
    }
    Ok(Outcome::Held(format!(
        "{count} tokens and the bits of the logits, int8 and int4"
    )))
}

fn on_pc(model: &Path, [tokens, thousandths, seed, prompt]: &[&str; 4]) -> Result<Report> {
    let mut generate = command(process::target_dir().join("release/examples/generate"));
    generate.args([
        "--backend",
        "scalar",
        "--tokens",
        tokens,
        "--temperature-thousandths",
        thousandths,
    ]);
    generate
        .args(["--seed", seed, "--prompt", prompt, "--model"])
        .arg(model);
    let output = run_quietly(&mut generate)?;
    Report::parse(String::from_utf8_lossy(&output.stdout).lines())
}

/// Flash of a firmware of the integer profile without its weights, in bytes, unless sounds are in it.
const FLASH_MAX: f64 = 49_152.0;

/// Flash, statics and arena in the ELF files against what the device and the core say, and against the flash that there
/// may be.
pub(super) fn promised_memory() -> Result<Outcome> {
    let mut most = 0.0;
    for binary in ["generate"].into_iter().chain(INTEGERS) {
        let elf = firmware::build(binary, &firmware::default_model())?;
        let run = firmware::run(&elf, &[], |_| ())?;
        let report = Report::of_figures(run.lines.iter().map(String::as_str));
        size::check(&size::footprint(&elf)?, &report).with_context(|| binary.to_owned())?;
        if INTEGERS.contains(&binary) && binary != "keywords-integer" {
            let flash = report.figure("flash_bytes")? - report.figure("weights_bytes")?;
            ensure!(
                flash <= FLASH_MAX,
                "{binary} takes {flash} bytes of flash beside its weights, more than {FLASH_MAX}"
            );
            most = flash.max(most);
        }
    }
    Ok(Outcome::Held(format!(
        "RAM to the byte; {most} bytes of flash at most beside the weights"
    )))
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn figures_have_a_tolerance_and_texts_none() {
        let said = |lines: &[&str]| {
            lines
                .iter()
                .map(|line| (*line).to_owned())
                .collect::<Vec<_>>()
        };
        let wanted = "token 1 b\"a\"\nspeed = 1000\n";
        assert!(compare(wanted, &said(&["token 1 b\"a\"", "speed = 1015"])).is_ok());
        assert!(compare(wanted, &said(&["token 1 b\"a\"", "speed = 1030"])).is_err());
        assert!(compare(wanted, &said(&["token 2 b\"a\"", "speed = 1000"])).is_err());
        assert!(compare(wanted, &said(&["token 1 b\"a\""])).is_err());
        assert!(compare(wanted, &said(&["token 1 b\"a\"", "speed = 1000", "more"])).is_err());
    }
}
