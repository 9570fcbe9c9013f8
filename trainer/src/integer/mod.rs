//! From floats to the integer profile: what is calibrated, how it is rounded, what it costs.

mod calibrate;
mod equalize;
mod grid;
pub mod measure;
mod narrow;
mod round;

pub use calibrate::Calibration;
pub use equalize::equalized;
pub use grid::{RowGrid, RowScales};
pub use round::{Rounded, round};
