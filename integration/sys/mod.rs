//! System calls that a kernel does not support.

pub mod old_kernel;
