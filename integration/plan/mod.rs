//! Valid and invalid settings of a config.

pub mod annotations;
pub mod invalid;
