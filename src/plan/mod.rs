//! Decides: the spec becomes validated, resolved, plain data. Reads at most, changes nothing.

pub mod resources;
