//! llmbatch: a batch runner for LLM calls.

pub mod cli;
pub mod engine;
pub mod input;
pub mod output;
pub mod provider;
pub mod sim;
pub mod tokenizer;
pub mod transport;
pub mod words;
