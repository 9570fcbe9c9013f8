//! How a run ends that cannot go on: in words, with a status.

use core::panic::PanicInfo;

use attentive::{ArenaTaken, SessionError};
use semihosting::process;

use crate::command_line::RequestError;

/// Why a run ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host asked for something impossible: status 2.
    Request(RequestError),
    /// The session refused: status 1.
    Session(SessionError),
    /// The arena was taken before: status 1.
    Arena(ArenaTaken),
    /// The processor's peripherals were taken before: status 1.
    Peripherals,
}

impl Failure {
    /// Says what happened, and ends the run.
    pub fn exit(self) -> ! {
        let status = match self {
            Self::Request(error) => {
                defmt::println!("error: {=str}", error.message());
                2
            }
            // defmt's own form: `Display` would bring 12 kB of formatting code to the device.
            Self::Session(error) => {
                defmt::println!("error: the session refused: {}", error);
                1
            }
            Self::Arena(ArenaTaken) => {
                defmt::println!("error: the arena was taken before");
                1
            }
            Self::Peripherals => {
                defmt::println!("error: the peripherals were taken before");
                1
            }
        };
        process::exit(status)
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<ArenaTaken> for Failure {
    fn from(error: ArenaTaken) -> Self {
        Self::Arena(error)
    }
}

/// What a firmware's panic handler calls: says where, and ends with status 101, as on a PC.
///
/// The message itself would bring the formatting machinery along, and it says little that the line does not.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => defmt::println!("error: panic in {=str}, line {=u32}", at.file(), at.line()),
        None => defmt::println!("error: panic"),
    }
    process::exit(101)
}
