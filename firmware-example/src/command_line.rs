//! What the host asks for, through semihosting: `generate TOKENS TEMPERATURE_THOUSANDTHS SEED PROMPT…`.

use core::mem::MaybeUninit;

use crate::request;

/// The longest command line: a prompt that fills the context, and a little more.
pub const COMMAND_LINE_BYTES_MAX: usize = 1024;

/// What is to be generated.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// How many tokens.
    pub tokens: u32,
    /// 0 is greedy.
    pub temperature_thousandths: u32,
    /// Of the sampler.
    pub seed: u64,
    /// What the text starts with.
    pub prompt: &'a str,
}

/// A command line that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Longer than [`COMMAND_LINE_BYTES_MAX`], or the host has none.
    Unreadable,
    /// Not UTF-8.
    Encoding,
    /// Neither nothing nor all four arguments.
    Arguments,
    /// Not a number from 1 to 4294967295.
    Tokens,
    /// Not a number from 0 to 65000.
    Temperature,
    /// Not a number from 0 to 18446744073709551615.
    Seed,
}

impl RequestError {
    /// What is wrong, in words.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Unreadable => "the command line cannot be read or has more than 1023 bytes",
            Self::Encoding => "the command line is not UTF-8",
            Self::Arguments => "give nothing, or TOKENS TEMPERATURE_THOUSANDTHS SEED PROMPT",
            Self::Tokens => "TOKENS is not a number from 1 to 4294967295",
            Self::Temperature => "TEMPERATURE_THOUSANDTHS is not a number from 0 to 65000",
            Self::Seed => "SEED is not a number from 0 to 18446744073709551615",
        }
    }
}

impl<'a> Request<'a> {
    /// The host's command line.
    ///
    /// # Errors
    /// It does not fit the buffer, or is not of the form above.
    pub fn from_host(buffer: &'a mut [MaybeUninit<u8>]) -> Result<Self, RequestError> {
        match semihosting::sys::arm_compat::sys_get_cmdline_uninit(buffer) {
            Ok(line) => Self::parse(line),
            Err(_) => Err(RequestError::Unreadable),
        }
    }

    /// The first word is the program's name. Only single spaces separate the arguments; the prompt is all the rest.
    ///
    /// # Errors
    /// The first argument that is not as it should be.
    pub fn parse(line: &'a [u8]) -> Result<Self, RequestError> {
        let line = core::str::from_utf8(line).map_err(|_| RequestError::Encoding)?;
        let mut words = line.splitn(5, ' ');
        let _program = words.next();
        let Some(tokens) = words.next() else {
            return Ok(Self {
                tokens: request::TOKENS,
                temperature_thousandths: request::TEMPERATURE_THOUSANDTHS,
                seed: request::SEED,
                prompt: request::PROMPT,
            });
        };
        let (Some(temperature), Some(seed), Some(prompt)) =
            (words.next(), words.next(), words.next())
        else {
            return Err(RequestError::Arguments);
        };
        let request = Self {
            tokens: tokens.parse().map_err(|_| RequestError::Tokens)?,
            temperature_thousandths: temperature.parse().map_err(|_| RequestError::Temperature)?,
            seed: seed.parse().map_err(|_| RequestError::Seed)?,
            prompt,
        };
        if request.tokens == 0 {
            return Err(RequestError::Tokens);
        }
        if request.temperature_thousandths > 65_000 {
            return Err(RequestError::Temperature);
        }
        Ok(request)
    }
}
