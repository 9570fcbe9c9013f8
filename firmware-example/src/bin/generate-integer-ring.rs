//! Generates text without a float and without end, in little memory: weights, keys and values of four bits, in a ring.
#![no_std]
#![no_main]

use defmt_semihosting as _;

firmware_example::integer_writer!("austen-1m-integer-int4.attn", LONG);
