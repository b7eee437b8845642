//! llmbatch: a batch runner for LLM calls.

pub mod engine;
pub mod input;
pub mod provider;
pub mod sim;
pub mod words;
