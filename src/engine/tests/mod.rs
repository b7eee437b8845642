//! The engine's promises, each shown on paused time against a scripted endpoint.
//!
//! Nothing here knows a wire shape: the scripted provider reads the words of the scripted
//! transport. Each file holds one kind of promise.

mod chance;
mod flow;
mod guards;
mod mishaps;
mod money;
mod outage;
mod outcomes;
mod push_back;
mod rates;
mod scene;
mod script;
mod stopping;
