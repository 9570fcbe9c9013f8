//! Starting other programs, always from the root of the workspace and never with a terminal.

use anyhow::{Context, Result, bail};
use std::{
    ffi::OsStr,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    // xtask is a member one directory below the root; cargo fixes this path when it compiles.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// `cargo LINE` in the root, with the toolchain that runs this; no word of the line holds a space.
pub(crate) fn cargo(line: &str) -> Command {
    let mut command = command("cargo");
    command.args(line.split_whitespace());
    command
}

/// `program` in the root, without stdin and without what cargo told this process about xtask itself.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        // These describe the package `xtask` and would make build scripts run again for nothing.
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Where cargo puts what it builds for the PC.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// What a finished program left behind.
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    /// stdout and stderr, one after the other.
    pub(crate) text: String,
    pub(crate) stdout: Vec<u8>,
}

/// Runs to the end and keeps the output; a program that overstays `limit` is killed, which is an error.
pub(crate) fn capture(command: &mut Command, limit: Duration) -> Result<Output> {
    let name = describe(command);
    // Captured text is searched and shown again later: no colours in it.
    command.env("CARGO_TERM_COLOR", "never").env("TERM", "dumb");
    let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    // Both pipes are drained at the same time: a full one would stop the program.
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = wait(&mut child, limit).with_context(|| format!("`{name}`"))?;
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stderr),
        String::from_utf8_lossy(&stdout)
    );
    Ok(Output {
        status,
        text,
        stdout,
    })
}

/// Runs to the end with this process's own output; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = describe(command);
    let status = spawn(command)?
        .wait()
        .with_context(|| format!("`{name}`"))?;
    if !status.success() {
        bail!("`{name}` ended with {status}");
    }
    Ok(())
}

/// Runs silently; on failure the error carries the output's end.
pub(crate) fn run_quietly(command: &mut Command) -> Result<Output> {
    let name = describe(command);
    let output = capture(command, Duration::from_secs(3600))?;
    if !output.status.success() {
        bail!(
            "`{name}` ended with {}:\n{}",
            output.status,
            tail(&output.text, 60)
        );
    }
    Ok(output)
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut unfinished = path.to_path_buf().into_os_string();
    unfinished.push(".unfinished");
    fs::write(&unfinished, bytes)
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Whether `program` can be started at all.
pub(crate) fn is_there(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Starts the program; a missing one is named in the error.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    let name = describe(command);
    command
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))
}

/// Waits for the end, but no longer than `limit`.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("killed after {} s", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The last `lines` lines.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
