//! From floats to the integer profile: what is calibrated, how it is rounded, what it costs.

mod calibrate;
mod equalize;
pub mod measure;
mod round;

pub use calibrate::Calibration;
pub use equalize::equalized;
pub use round::{Rounded, round};
