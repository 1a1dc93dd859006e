//! config.json as it is read, and the specification's sentences that concern no single room.

pub mod config_keys;
pub mod spec;
