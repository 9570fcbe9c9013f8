//! The core that is measured on, and how much of it this thread had.

/// Keeps this thread on one core, the `attempt`-th of those it may use, where the system can do that (Linux).
///
/// A migration in the middle of a batch costs the caches. Where pinning is refused, the figures are merely noisier.
#[cfg(target_os = "linux")]
pub fn pin(attempt: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};

    let allowed = allowed_cores();
    let Some(&core) = allowed.get(attempt % allowed.len().max(1)) else {
        return;
    };
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

/// Keeps this thread on any core but that one, of those the process may use, where the system can do that (Linux).
#[cfg(target_os = "linux")]
pub fn keep_off(core: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};

    let mut set = CpuSet::new();
    let others = allowed_cores().iter().filter(|&&other| other != core);
    others.for_each(|&other| set.set(other));
    // A machine of one core has no other: then they share it.
    let _ = sched_setaffinity(None, &set);
}

/// The core that this thread runs on.
#[cfg(target_os = "linux")]
#[must_use]
pub fn core() -> usize {
    rustix::thread::sched_getcpu()
}

/// The cores this process may use, the one it ran on first at the first call, before any pinning.
#[cfg(target_os = "linux")]
fn allowed_cores() -> &'static [usize] {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu};
    use std::sync::OnceLock;

    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    ALLOWED.get_or_init(|| {
        let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let mut cores: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&core| set.is_set(core))
            .collect();
        let current = sched_getcpu();
        cores.sort_by_key(|&core| core != current);
        cores
    })
}

/// Keeps this thread on one core, where the system can do that: it cannot here.
#[cfg(not(target_os = "linux"))]
pub fn pin(_attempt: usize) {}

/// Keeps this thread off a core, where the system can do that: it cannot here.
#[cfg(not(target_os = "linux"))]
pub fn keep_off(_core: usize) {}

/// The core that this thread runs on, where the system tells: it does not here.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn core() -> usize {
    0
}

/// The time that this thread has spent on a core, where the system tells (Linux).
#[cfg(target_os = "linux")]
#[must_use]
pub fn thread_time() -> Option<core::time::Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.try_into().ok()
}

/// The time that this thread has spent on a core, where the system tells: it does not here.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn thread_time() -> Option<core::time::Duration> {
    None
}
