//! Recognizes pieces of clothing: an encoder of patches, its weights in flash, and what a picture costs.
#![no_std]
#![no_main]

use defmt_semihosting as _;

firmware_example::classifier!("fashion-int8.attn", firmware_example::tasks::Fashion);
