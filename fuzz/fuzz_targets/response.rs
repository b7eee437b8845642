//! Any status, headers and body as a response.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "each target tries one of them")]
mod properties;

libfuzzer_sys::fuzz_target!(|content: &[u8]| properties::response_of(content));
