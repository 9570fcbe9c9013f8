//! Recognizes spoken words: mel bands of a stream of samples, an encoder of patches, and what a second of sound costs.
#![no_std]
#![no_main]

use defmt_semihosting as _;

firmware_example::classifier!("keywords-int8.attn", firmware_example::tasks::Keywords);
