//! Prints each hash on RISC-V, under an emulator that knows Linux's system calls.
#![no_std]
#![no_main]

#[cfg(not(target_arch = "riscv32"))]
compile_error!("this binary is for RISC-V; WebAssembly takes the library (run.mjs)");

#[cfg(target_arch = "riscv32")]
mod riscv {
    use core::arch::asm;
    use golden::{NAMES, golden};

    const WRITE: usize = 64;
    const EXIT: usize = 93;

    /// A system call that takes up to three words.
    fn call(number: usize, arguments: [usize; 3]) {
        let [a, b, c] = arguments;
        // SAFETY: both calls read what they are given; a buffer lives until this returns.
        unsafe {
            asm!("ecall", in("a7") number, inlateout("a0") a => _, in("a1") b, in("a2") c);
        }
    }

    fn print(text: &[u8]) {
        call(WRITE, [1, text.as_ptr().addr(), text.len()]);
    }

    #[unsafe(no_mangle)]
    extern "C" fn _start() -> ! {
        for (index, name) in (0..).zip(NAMES) {
            let hash = golden(index);
            print(name.as_bytes());
            print(b" ");
            for shift in (0..16).rev() {
                let digit = (hash >> (4 * shift)) as usize & 15;
                print(&b"0123456789abcdef"[digit..=digit]);
            }
            print(b"\n");
        }
        call(EXIT, [0; 3]);
        loop {
            core::hint::spin_loop();
        }
    }
}
