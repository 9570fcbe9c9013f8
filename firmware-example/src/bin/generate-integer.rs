//! Generates text without a float: a decoder of the integer profile.
#![no_std]
#![no_main]

use defmt_semihosting as _;

firmware_example::integer_writer!("austen-1m-integer.attn", SHORT);
