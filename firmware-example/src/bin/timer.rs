//! A timer interrupt of 1 kHz, and a task of the main loop at the same rate, while a model runs: neither is ever late.
//!
//! The interrupt comes whatever the model does. The task shares the main loop with it, and is on time because
//! `advance(budget)` returns after a bounded piece of work. The processor is thought to have 32 MHz and to take a cycle for
//! an instruction, so a millisecond is 32,000 instructions; QEMU lets 1 ns pass in each.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use attentive::integer::{Encoder, Model, Progress};
use attentive::kernels::Backend;
use attentive::{Aligned, ArenaTaken, include_integer_weights};
use cortex_m::peripheral::NVIC;
use cortex_m_rt::exception;
use defmt_semihosting as _;
use firmware_example::Failure;
use firmware_example::classifier::BUDGET;
use firmware_example::measure::Instructions;
use firmware_example::processor::{entry, singleton};
use firmware_example::tasks::{Classifies, Digits, Inputs, pixels};
use semihosting::process;

static MODEL: Model<'static> = include_integer_weights!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/digits-integer.attn"
));

const LEN: usize = Digits::OPTIONS.len;
const BYTES: usize = MODEL.encoder_bytes(LEN);
static PIXELS: [i8; 256] = pixels::<Digits>(MODEL.input_scale());
const INPUTS: Inputs<'static> = Inputs {
    pixels: &PIXELS,
    mel: &[],
};

/// A timer of mps2-an386 (CMSDK APB timer 0), which counts down at 25 MHz.
mod timer {
    use core::ptr;

    /// Its place among the interrupts.
    pub(super) const INTERRUPT: u16 = 8;
    /// From one interrupt to the next: 32,000 instructions.
    pub(super) const TICKS: u32 = 32_000 / INSTRUCTIONS_PER_TICK;
    pub(super) const INSTRUCTIONS_PER_TICK: u32 = 40;

    const CONTROL: *mut u32 = ptr::without_provenance_mut(0x4000_0000);
    const VALUE: *mut u32 = ptr::without_provenance_mut(0x4000_0004);
    const RELOAD: *mut u32 = ptr::without_provenance_mut(0x4000_0008);
    const CLEAR: *mut u32 = ptr::without_provenance_mut(0x4000_000c);

    pub(super) fn start() {
        // SAFETY: the board has these registers there, and nobody else uses them.
        unsafe {
            RELOAD.write_volatile(TICKS - 1);
            VALUE.write_volatile(TICKS - 1);
            // Enabled, with its interrupt.
            CONTROL.write_volatile(0b1001);
        }
    }

    pub(super) fn clear() {
        // SAFETY: as above.
        unsafe { CLEAR.write_volatile(1) };
    }

    /// Instructions since it last began anew.
    pub(super) fn since() -> u32 {
        // SAFETY: as above.
        let value = unsafe { VALUE.read_volatile() };
        // The interrupt comes with the value 0; one tick later it is TICKS − 1.
        let since = if value == 0 { 0 } else { TICKS - value };
        since * INSTRUCTIONS_PER_TICK
    }
}

static TICKS: AtomicU32 = AtomicU32::new(0);
/// Whether the task has not run since the last tick.
static IS_DUE: AtomicBool = AtomicBool::new(false);
/// Ticks that came before the task of the one before had run.
static MISSED: AtomicU32 = AtomicU32::new(0);
static INTERRUPT_WAITED: AtomicU32 = AtomicU32::new(0);
static TASK_WAITED: AtomicU32 = AtomicU32::new(0);

#[exception]
unsafe fn DefaultHandler(_: i16) {
    INTERRUPT_WAITED.fetch_max(timer::since(), Ordering::Relaxed);
    timer::clear();
    TICKS.fetch_add(1, Ordering::Relaxed);
    if IS_DUE.swap(true, Ordering::Relaxed) {
        MISSED.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a machine's control loop might do each millisecond: a low-pass filter, in 2⁻¹⁶.
fn task(filtered: &mut i32) {
    if !IS_DUE.load(Ordering::Relaxed) {
        return;
    }
    TASK_WAITED.fetch_max(timer::since(), Ordering::Relaxed);
    let sample = (TICKS.load(Ordering::Relaxed) % 7) as i32;
    *filtered += ((sample << 16) - *filtered) >> 4;
    IS_DUE.store(false, Ordering::Relaxed);
}

#[entry]
fn main() -> ! {
    match run() {
        Ok(0) => process::exit(0),
        Ok(missed) => {
            defmt::println!("error: the task missed {=u32} ticks", missed);
            process::exit(1)
        }
        Err(failure) => failure.exit(),
    }
}

fn run() -> Result<u32, Failure> {
    let clock = Instructions::start()?;
    let memory = singleton!(: Aligned<[u8; BYTES]> = Aligned([0; BYTES]));
    let memory = memory.ok_or(ArenaTaken)?;
    let mut encoder = Encoder::new(&MODEL, LEN, &mut memory.0, Backend::BASELINE)?;
    let mut filtered = 0;
    let mut right = 0u32;
    // What is printed takes a host's time, not the processor's: after the timer has stopped.
    timer::start();
    // SAFETY: the handler is there, and what it shares is atomic.
    unsafe { NVIC::unmask(Timer) };
    let (answers, spent) = clock.of(|| -> Result<(), Failure> {
        for index in 0..Digits::COUNT {
            Digits::begin(index, INPUTS, &mut encoder)?;
            task(&mut filtered);
            while encoder.advance(BUDGET)? == Progress::Busy {
                task(&mut filtered);
            }
            let class = encoder.class()?.and_then(|class| Digits::LABELS.get(class));
            right += u32::from(class.copied() == Some(Digits::wanted(index)));
        }
        Ok(())
    });
    NVIC::mask(Timer);
    answers?;
    let missed = MISSED.load(Ordering::Relaxed);
    defmt::println!("right = {=u32}", right);
    defmt::println!("instructions = {=u64}", spent);
    defmt::println!("ticks = {=u32}", TICKS.load(Ordering::Relaxed));
    defmt::println!("ticks_missed: {=u32}", missed);
    let waited = |what: &AtomicU32| what.load(Ordering::Relaxed);
    defmt::println!("interrupt_waited = {=u32}", waited(&INTERRUPT_WAITED));
    // Where in a piece a tick falls is chance, so the figure is a round one.
    let task_waited = waited(&TASK_WAITED).next_multiple_of(4000);
    defmt::println!("task_waited_at_most = {=u32}", task_waited);
    // How many samples it has seen depends on every instruction: nothing to expect.
    core::hint::black_box(filtered);
    Ok(missed)
}

/// The timer among the interrupts.
#[derive(Clone, Copy)]
struct Timer;

// SAFETY: the number is the board's, and never another.
unsafe impl cortex_m::interrupt::InterruptNumber for Timer {
    fn number(self) -> u16 {
        timer::INTERRUPT
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
