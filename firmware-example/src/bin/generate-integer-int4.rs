//! The same with matrices of four bits a number: two fifths less weights.
#![no_std]
#![no_main]

use defmt_semihosting as _;

firmware_example::integer_writer!("austen-1m-integer-int4.attn", SHORT);
