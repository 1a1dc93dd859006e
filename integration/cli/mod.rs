//! What is read from the command line and printed, and the words that engines rely on.

pub mod cli;
pub mod engine_words;
pub mod engines;
mod logs;
mod timings;
