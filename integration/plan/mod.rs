//! What a config asks for, or must not ask for.

pub mod annotations;
pub mod invalid;
