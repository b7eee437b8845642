//! The words every room speaks: plain data, no I/O, no async, no clock.

pub mod event;
pub mod fields;
pub mod human;
pub mod item;
pub mod lengths;
pub mod money;
pub mod price;
pub mod record;
pub mod tokens;
pub mod verdict;
pub mod wire;
