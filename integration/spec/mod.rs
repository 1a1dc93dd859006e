//! Reading config.json, and sentences of the specification that concern no single module.

pub mod config_keys;
pub mod spec;
