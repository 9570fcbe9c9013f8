//! `cargo xtask perf --peers`: builds the workers of `benches/peers`, says what is missing, and starts the driver.

use crate::process::{self, command, root, run_quietly, target_dir};
use crate::setup;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// llama.cpp alone takes about ten minutes of two cores.
const BUILD: &str = "the first time, this takes a quarter of an hour and more";
/// gcc before 12.4 and 13.3 takes the stores to a tile configuration for dead (GCC bug 114098), and ggml's products on
/// AMX die of it: these two passes do that.
const GCC_FLAGS: &str = "-fno-tree-dse -fno-dse";
/// The name of the case that the driver has for it.
const TRAINING: &str = "train/austen-1m/2-threads";

/// What belongs to `--peers`.
#[derive(Args)]
pub(crate) struct Options {
    /// Run other people's programs on the same shapes, in turns, and write docs/performance.md (not with a filter)
    #[arg(long)]
    pub(crate) peers: bool,
    /// Which instructions everybody may use
    #[arg(long, value_enum, default_value_t = Instructions::best(), requires = "peers")]
    instructions: Instructions,
    /// SmolLM2-135M-Instruct as GGUF: measured when its imported weights are named too
    #[arg(
        long,
        env = "ATTENTIVE_SMOLLM2_GGUF",
        requires = "peers",
        value_name = "FILE"
    )]
    smollm2_gguf: Option<PathBuf>,
    /// The weights file imported from it
    #[arg(
        long,
        env = "ATTENTIVE_SMOLLM2_ATTN",
        requires = "peers",
        value_name = "FILE"
    )]
    smollm2_attn: Option<PathBuf>,
    /// A published encoder of texts as ONNX (BERT): measured when weights imported from it are named too
    #[arg(
        long,
        env = "ATTENTIVE_ENCODER_ONNX",
        requires = "encoder_attn",
        value_name = "FILE"
    )]
    encoder_onnx: Option<PathBuf>,
    /// A weights file imported from it; may be given once for each format
    #[arg(
        long,
        env = "ATTENTIVE_ENCODER_ATTN",
        requires = "encoder_onnx",
        value_name = "FILE"
    )]
    encoder_attn: Vec<PathBuf>,
    /// Leave out the training step, whose build takes minutes
    #[arg(long, requires = "peers")]
    no_training: bool,
}

/// Which instructions everybody may use.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Instructions {
    /// AVX2 and FMA, as on an edge processor, whatever this one has; writes docs/performance.md
    Avx2,
    /// Whatever the processor has; writes docs/performance-all.md
    All,
}

impl Instructions {
    /// The targets are set for AVX2 on x86-64.
    const fn best() -> Self {
        match cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            true => Self::Avx2,
            false => Self::All,
        }
    }

    /// As the compilers call it.
    fn cpu(self) -> &'static str {
        match self {
            Self::Avx2 => "x86-64-v3",
            Self::All => "native",
        }
    }

    /// For the report.
    fn about(self) -> &'static str {
        match self {
            Self::Avx2 => {
                "AVX2, FMA and F16C, as on an edge processor; wider ones are hidden from all programs"
            }
            Self::All => "all",
        }
    }

    fn doc(self) -> &'static str {
        match self == Self::best() {
            true => "docs/performance.md",
            false => "docs/performance-all.md",
        }
    }
}

/// Builds, and measures.
///
/// Returns whether every peer's result was right. Ends the process with status 2 when the driver refuses the filters.
pub(crate) fn run(options: &Options, json: bool, filters: &[String]) -> Result<bool> {
    if options.instructions == Instructions::Avx2 && Instructions::best() != Instructions::Avx2 {
        bail!(
            "--instructions avx2 hides instruction sets by CPUID faulting, which Linux has on x86-64 only"
        );
    }
    let smollm2 = smollm2(options)?;
    let target = absolute(target_dir())?.join("peers");
    fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
    let mut missing = Vec::new();
    let mut workers = Vec::new();
    let narrow = match options.instructions {
        Instructions::Avx2 => Some(narrow(&target)?),
        Instructions::All => None,
    };
    workers.push(vec![text(rust_worker(
        options.instructions,
        &target,
        &mut missing,
    )?)?]);
    let python = python(&target);
    match &python {
        Ok(python) => workers.push(vec![text(python.clone())?, script("worker.py")?]),
        Err(error) => missing.push(format!("torch, onnxruntime: {error:#}")),
    }
    let mut driver = cargo("run --quiet --release --package attentive-peers --target-dir");
    driver
        .arg(&target)
        .arg("--")
        .arg("--scratch")
        .arg(target.join("scratch"));
    for mut words in workers {
        if let Some(narrow) = &narrow {
            words.splice(
                0..0,
                ["env".to_owned(), format!("LD_PRELOAD={}", narrow.display())],
            );
        }
        driver.arg("--worker").arg(serde_json::to_string(&words)?);
    }
    let trains = !options.no_training
        && (filters.is_empty()
            || filters
                .iter()
                .any(|filter| TRAINING.contains(filter.as_str())));
    if let (true, Ok(python)) = (trains, &python) {
        driver
            .arg("--train")
            .arg(serde_json::to_string(&[trainer()?])?);
        driver.arg(serde_json::to_string(&[
            text(python.clone())?,
            script("train.py")?,
        ])?);
        driver.arg("trainer/tasks/austen-1m.toml");
    }
    let has_smollm2 = smollm2.is_some();
    match smollm2 {
        Some([gguf, attn]) => {
            driver.arg("--smollm2").arg(gguf).arg(attn);
        }
        None => missing.push(
            "SmolLM2-135M: name its GGUF file and the weights imported from it with --smollm2-gguf and --smollm2-attn"
                .to_owned(),
        ),
    }
    match &options.encoder_onnx {
        Some(onnx) => {
            driver.arg("--encoder-onnx").arg(present(onnx)?);
            for attn in &options.encoder_attn {
                driver.arg("--encoder-attn").arg(present(attn)?);
            }
        }
        None => missing.push(
            "an encoder: name an ONNX file and the weights imported from it with --encoder-onnx and --encoder-attn"
                .to_owned(),
        ),
    }
    for reason in missing {
        driver.arg("--missing").arg(reason);
    }
    if options.instructions == Instructions::Avx2 {
        driver.args(["--backend", "avx2"]);
    }
    if json {
        driver.arg("--json");
    }
    if filters.is_empty() {
        driver
            .arg("--doc")
            .arg(root().join(options.instructions.doc()));
    }
    let mut said = "cargo xtask perf --peers".to_owned();
    for (flag, given) in [
        (
            " --instructions all",
            options.instructions != Instructions::best(),
        ),
        (" --no-training", options.no_training),
        (" --smollm2-gguf FILE --smollm2-attn FILE", has_smollm2),
        (
            " --encoder-onnx FILE --encoder-attn FILE …",
            options.encoder_onnx.is_some(),
        ),
    ] {
        if given {
            said.push_str(flag);
        }
    }
    driver.args([
        "--command",
        &said,
        "--allowed",
        options.instructions.about(),
    ]);
    // The driver has said what is wrong.
    let status = process::spawn(driver.args(filters))?.wait()?;
    match status.code() {
        Some(2) => std::process::exit(2),
        _ => Ok(status.success()),
    }
}

/// Both files, or neither.
fn smollm2(options: &Options) -> Result<Option<[PathBuf; 2]>> {
    let (gguf, attn) = match (&options.smollm2_gguf, &options.smollm2_attn) {
        (Some(gguf), Some(attn)) => (gguf, attn),
        (None, None) => return Ok(None),
        _ => bail!(
            "--smollm2-gguf and --smollm2-attn belong together: the same model in both formats"
        ),
    };
    Ok(Some([present(gguf)?, present(attn)?]))
}

/// The file, wherever the driver stands.
fn present(path: &Path) -> Result<PathBuf> {
    if !path.is_file() {
        bail!("{} is not there", path.display());
    }
    absolute(path.to_owned())
}

/// The worker for the peers that are crates; without llama.cpp where it cannot be built.
fn rust_worker(
    instructions: Instructions,
    target: &Path,
    missing: &mut Vec<String>,
) -> Result<PathBuf> {
    // Another processor's instructions are another build: each has its own directory.
    let dir = target.join(instructions.cpu());
    let build = |features: &str| {
        let mut cargo = cargo("build --release --package attentive-peers-worker --target-dir");
        cargo.arg(&dir).args(features.split_whitespace());
        cargo.env("RUSTFLAGS", format!("-C target-cpu={}", instructions.cpu()));
        // With debug lines in the profile, it would build llama.cpp half optimised.
        cargo.env("LLAMA_LIB_PROFILE", "Release");
        if cfg!(target_arch = "x86_64") && instructions == Instructions::All {
            cargo.env("CFLAGS", GCC_FLAGS).env("CXXFLAGS", GCC_FLAGS);
        }
        process::run(&mut cargo)
    };
    eprintln!("building the peers ({BUILD})");
    if let Err(error) = setup::for_llama().and_then(|()| build("")) {
        missing.push(format!("llama.cpp, ggml: {error:#}"));
        build("--no-default-features --features candle,gemm,rten")?;
    }
    Ok(dir.join("release/attentive-peers-worker"))
}

/// The library that hides wider instructions from those who look for them at run time.
fn narrow(target: &Path) -> Result<PathBuf> {
    let library = target.join("narrow.so");
    let mut cc = command("cc");
    cc.args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg("benches/peers/narrow.c");
    run_quietly(&mut cc)
        .context("a C compiler is needed to hide instruction sets (or say --instructions all)")?;
    Ok(library)
}

/// A Python with the packages of `requirements.txt`, in an environment of its own.
fn python(target: &Path) -> Result<PathBuf> {
    let (venv, wanted) = (
        target.join("venv"),
        root().join("benches/peers/python/requirements.txt"),
    );
    let (python, installed) = (venv.join("bin/python"), venv.join("installed.txt"));
    let requirements = fs::read_to_string(&wanted).with_context(|| wanted.display().to_string())?;
    if fs::read_to_string(&installed).is_ok_and(|text| text == requirements) {
        return Ok(python);
    }
    eprintln!("set-up: python3 -m venv, pip install torch onnxruntime (some gigabytes)");
    run_quietly(command("python3").args(["-m", "venv"]).arg(&venv))
        .context("no Python environment can be made (Debian: python3-venv)")?;
    run_quietly(
        command(&python)
            .args(["-m", "pip", "install", "-q", "-r"])
            .arg(&wanted),
    )
    .context("pip could not install them")?;
    fs::write(&installed, requirements)?;
    Ok(python)
}

/// The trainer's program that times steps.
fn trainer() -> Result<String> {
    eprintln!("building the trainer (the first time, this takes minutes)");
    process::run(&mut process::cargo(
        "build --profile trainer -p attentive-trainer --example speed",
    ))?;
    text(absolute(target_dir())?.join("trainer/examples/speed"))
}

/// `cargo LINE` for the workspace of the peers.
fn cargo(line: &str) -> Command {
    let mut cargo = command("cargo");
    let mut words = line.split_whitespace();
    cargo
        .args(words.next())
        .arg("--manifest-path")
        .arg(root().join("benches/peers/Cargo.toml"))
        .args(words);
    cargo
}

fn script(name: &str) -> Result<String> {
    text(root().join("benches/peers/python").join(name))
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    Ok(env::current_dir()?.join(path))
}

fn text(path: PathBuf) -> Result<String> {
    path.into_os_string()
        .into_string()
        .map_err(|path| anyhow::anyhow!("{} is no text", path.display()))
}
