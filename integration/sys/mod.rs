//! System calls that a kernel does not have.

pub mod old_kernel;
