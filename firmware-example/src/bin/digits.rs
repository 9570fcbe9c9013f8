//! Recognizes handwritten digits: an encoder of patches, its weights in flash, and what a picture costs.
#![no_std]
#![no_main]

use defmt_semihosting as _;

firmware_example::classifier!("digits-int8.attn", firmware_example::tasks::Digits);
