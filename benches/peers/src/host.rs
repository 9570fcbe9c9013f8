//! The machine that is measured on.

use std::fs;

/// What the report says about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// Those instruction sets that matter here.
    pub(crate) flags: Vec<String>,
    /// As the system tells them: level, kind, size.
    pub(crate) caches: Vec<String>,
    pub(crate) memory_gib: f64,
    pub(crate) system: String,
}

/// Of `/proc/cpuinfo`'s, x86-64 and AArch64.
const FLAGS: [&str; 16] = [
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
];

impl Host {
    pub(crate) fn detect() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let flags = field("flags")
            .or_else(|| field("Features"))
            .unwrap_or_default();
        let caches = (0..8).filter_map(|index| {
            let part = |name: &str| {
                let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}");
                fs::read_to_string(path)
                    .ok()
                    .map(|text| text.trim().to_owned())
            };
            let kind = match part("type")?.as_str() {
                "Unified" => "",
                "Data" => "d",
                // Instructions bound none of the cases.
                _ => return None,
            };
            Some(format!("L{}{kind} {}", part("level")?, part("size")?))
        });
        let memory = read("/proc/meminfo");
        let kib = memory
            .split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse::<f64>().ok());
        Self {
            processor: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            // Not those of this thread, which stays on one while it measures.
            cores: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count()
                .max(1),
            flags: FLAGS
                .iter()
                .filter(|flag| flags.split_whitespace().any(|word| word == **flag))
                .map(|flag| (*flag).to_owned())
                .collect(),
            caches: caches.collect(),
            memory_gib: kib.unwrap_or(0.0) / f64::from(1 << 20),
            system: format!(
                "{} {}",
                std::env::consts::OS,
                read("/proc/sys/kernel/osrelease").trim()
            ),
        }
    }
}

/// The cores that a thread may use.
#[cfg(target_os = "linux")]
pub(crate) struct Cores(Option<rustix::thread::CpuSet>);

#[cfg(target_os = "linux")]
impl Cores {
    /// Those of this thread.
    pub(crate) fn current() -> Self {
        Self(rustix::thread::sched_getaffinity(None).ok())
    }

    /// Lets this thread, and the processes that it starts, use them.
    pub(crate) fn restore(&self) {
        if let Some(cores) = &self.0 {
            // It could before.
            let _ = rustix::thread::sched_setaffinity(None, cores);
        }
    }
}

/// The cores that a thread may use: the system does not tell here, and no thread is kept on any.
#[cfg(not(target_os = "linux"))]
pub(crate) struct Cores;

#[cfg(not(target_os = "linux"))]
impl Cores {
    pub(crate) fn current() -> Self {
        Self
    }

    pub(crate) fn restore(&self) {}
}

/// Puts all threads of a process on the cores that this thread is on.
#[cfg(target_os = "linux")]
pub(crate) fn share_cores(process: u32) {
    use rustix::process::Pid;
    use rustix::thread::{sched_getaffinity, sched_setaffinity};

    let Ok(cores) = sched_getaffinity(None) else {
        return;
    };
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return;
    };
    for thread in threads.flatten() {
        let id = thread.file_name().to_string_lossy().parse().ok();
        // A thread that ended meanwhile needs no core.
        if let Some(pid) = id.and_then(Pid::from_raw) {
            let _ = sched_setaffinity(Some(pid), &cores);
        }
    }
}

/// Puts all threads of a process on the cores that this thread is on: the system cannot do that here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn share_cores(_process: u32) {}
