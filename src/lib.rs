//! llmbatch: a batch runner for LLM calls.
//!
//! *Items in, events out; between them, only attempts.*
//!
//! | room | what it is for |
//! |---|---|
//! | [`cli`] | flags, settings, terminal; makes the rooms and connects them |
//! | [`engine`] | the life of an item: admission, attempts, backoff, stopping |
//! | [`provider`] | what goes onto the wire for an item, and what an answer means |
//! | [`input`] | lines to items or bad lines; the check of a whole file |
//! | [`output`] | rows, errors file, checkpoint, recovery |
//! | [`transport`] | the one door to the network |
//! | [`schema`] | whether an answer is the JSON that was asked for |
//! | [`tokenizer`] | tokens counted before anything is sent |
//! | [`estimate`] | what a file will cost and how long it will take, before it is asked |
//! | [`prices`] | what models cost: a table, files of the user's, and the search in them |
//! | [`sim`] | a made-up endpoint with limits and faults; shares no code with the others |
//! | [`words`] | the plain data that all of them speak |
//!
//! Who may know whom: `cli` knows every room and is the only one that connects them. `engine`
//! knows `provider`'s questions and `transport`'s one send, and no file, flag, terminal or
//! provider's name. `provider`, `schema`, `tokenizer` and `words` are pure: no network, no files;
//! `prices` is too, but for the one file that it is given. `output`, `input` and `prices` know
//! only `words`. `sim` knows nobody.

#![forbid(unsafe_code)]

pub mod cli;
pub mod engine;
pub mod estimate;
pub mod input;
pub mod output;
pub mod prices;
pub mod provider;
pub mod schema;
pub mod sim;
pub mod tokenizer;
pub mod transport;
pub mod words;
