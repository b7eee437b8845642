//! Any lines as the headers of a refusal, and any text as its message.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "each target tries one of them")]
mod properties;

libfuzzer_sys::fuzz_target!(|content: &[u8]| properties::waits(content));
