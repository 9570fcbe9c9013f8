//! Tells the language of a sentence: tokenizer and encoder, their tables in flash, and what a sentence costs.
#![no_std]
#![no_main]

use defmt_semihosting as _;

firmware_example::classifier!("languages-int8.attn", firmware_example::tasks::Languages);
