//! The words of a run, as it happens.
