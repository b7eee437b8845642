//! Any bytes as the files of an earlier run. A checkpoint that begins with `!` is given the checksum
//! that it needs to be read.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "each target tries one of them")]
mod properties;

libfuzzer_sys::fuzz_target!(|content: &[u8]| properties::recovery_of(content));
