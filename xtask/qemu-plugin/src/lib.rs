//! A plugin of QEMU (user mode) that counts the instructions a program executes between two calls of `getppid`.
//!
//! ```text
//! qemu-aarch64 -plugin libxtask_qemu_plugin.so PROGRAM      # a line `instructions N` on stderr for each pair of calls
//! ```
//!
//! QEMU calls back at the start of each translated block, which the plugin told it to do when the block was translated;
//! a block has one entry and runs to its end, and a system call ends it, so the sum of the blocks' lengths is exact.
//! What is counted is the second half of the first mark's library function, the work, and the first half of the second
//! mark's.
//!
//! QEMU documents the interface in `include/qemu/qemu-plugin.h`; of it this uses what has not changed since version 1.

use core::cell::Cell;
use core::ffi::{c_char, c_int, c_uint, c_void};

/// The version of the interface that is asked for. QEMU refuses one that it no longer speaks: 9 and later want 2 or
/// more.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "QEMU looks for this name")]
pub static qemu_plugin_version: c_int = if cfg!(feature = "api-2") { 2 } else { 1 };

/// `getppid` of every Linux whose processor came after 2008, aarch64 among them (`asm-generic/unistd.h`).
const GETPPID: i64 = 173;

type PluginId = u64;
/// `qemu_plugin_tb`, a block that is being translated.
type Block = c_void;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(
        id: PluginId,
        callback: extern "C" fn(PluginId, *mut Block),
    );
    fn qemu_plugin_register_vcpu_tb_exec_cb(
        block: *mut Block,
        callback: extern "C" fn(c_uint, *mut c_void),
        // `enum qemu_plugin_cb_flags`: 0 reads no registers.
        flags: c_int,
        user_data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_syscall_cb(id: PluginId, callback: SyscallCallback);
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
}

type SyscallCallback = extern "C" fn(PluginId, c_uint, i64, u64, u64, u64, u64, u64, u64, u64, u64);

thread_local! {
    /// Instructions of this thread of the program so far: each is a thread of QEMU's own.
    static EXECUTED: Cell<u64> = const { Cell::new(0) };
    /// `EXECUTED` at the last mark, if the next one ends what is counted.
    static BEGIN: Cell<Option<u64>> = const { Cell::new(None) };
}

/// QEMU's first call.
#[unsafe(no_mangle)]
pub extern "C" fn qemu_plugin_install(
    id: PluginId,
    _info: *const c_void,
    _argc: c_int,
    _argv: *mut *mut c_char,
) -> c_int {
    // SAFETY: QEMU gave this id for such calls, and functions of a plugin stay where they are until it unloads them.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    // SAFETY: as above.
    unsafe { qemu_plugin_register_vcpu_syscall_cb(id, called) };
    0
}

extern "C" fn translated(_id: PluginId, block: *mut Block) {
    // SAFETY: the block is valid for the time of this call.
    let len = unsafe { qemu_plugin_tb_n_insns(block) };
    // SAFETY: as above. The user data is a number that is never taken for an address.
    unsafe {
        qemu_plugin_register_vcpu_tb_exec_cb(
            block,
            executed,
            0,
            core::ptr::without_provenance_mut(len),
        );
    }
}

extern "C" fn executed(_vcpu: c_uint, len: *mut c_void) {
    EXECUTED.set(EXECUTED.get() + len.addr() as u64);
}

#[allow(clippy::too_many_arguments, reason = "QEMU's signature")]
extern "C" fn called(
    _id: PluginId,
    _vcpu: c_uint,
    number: i64,
    _a1: u64,
    _a2: u64,
    _a3: u64,
    _a4: u64,
    _a5: u64,
    _a6: u64,
    _a7: u64,
    _a8: u64,
) {
    if number != GETPPID {
        return;
    }
    let now = EXECUTED.get();
    match BEGIN.take() {
        None => BEGIN.set(Some(now)),
        Some(begin) => eprintln!("instructions {}", now - begin),
    }
}
