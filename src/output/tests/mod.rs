//! What a crash, a power cut, a full disk and a failing one leave of an output.

mod accounts;
mod crash;
mod failing;
mod history;
mod names;
mod scene;
