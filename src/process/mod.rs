//! What a process gets before execve.

pub mod affinity;
pub mod command;

pub mod ids;
pub mod passwd;
pub mod sched;
pub mod stdio;
