//! Progress for people: a bar on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Progress of a run whose end is a share, so that runs by steps and by the clock look alike.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
}

/// Parts of the bar.
const PARTS: u64 = 10_000;

impl Progress {
    /// Nothing done yet.
    pub fn new() -> Self {
        let plain = !std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some(PARTS),
            match plain {
                true => ProgressDrawTarget::hidden(),
                false => ProgressDrawTarget::stderr(),
            },
        );
        // The template is a constant; one that does not parse would leave the default style.
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {percent:>3} %  {msg}") {
            bar.set_style(style);
        }
        Self { bar, plain }
    }

    /// The state after a step.
    pub fn step(&self, done: f64, loss: f64, sequences_per_s: f64, left: Duration) {
        let left = clock(left);
        let text = format!("loss {loss:.3}  {sequences_per_s:.0} sequences/s  {left} left");
        self.share(done, &text);
    }

    /// The share that is done, and what is to be said beside it.
    pub fn share(&self, done: f64, text: &str) {
        let parts = (done.clamp(0.0, 1.0) * PARTS as f64) as u64;
        self.bar.set_position(parts);
        self.bar.set_message(text.to_owned());
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        if self.plain {
            println!("{text}");
        } else {
            self.bar.suspend(|| println!("{text}"));
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// Minutes and seconds.
pub fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
