//! The command line and output, including the messages that engines rely on.

pub mod cli;
pub mod engine_words;
pub mod engines;
mod logs;
mod timings;
