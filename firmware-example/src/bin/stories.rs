//! Answers questions about small stories: tokenizer and encoder, their tables in flash, and what an answer costs.
#![no_std]
#![no_main]

use defmt_semihosting as _;

firmware_example::classifier!("stories-int8.attn", firmware_example::tasks::Stories);
