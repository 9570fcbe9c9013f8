//! Recognizes handwritten digits without a float between input and answer: an encoder of the integer profile, a piece of work at a time.
#![no_std]
#![no_main]

use defmt_semihosting as _;

firmware_example::integer_classifier!("digits-integer.attn", firmware_example::tasks::Digits);
