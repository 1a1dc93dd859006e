//! The settings of a process before execve.

pub mod activation;
pub mod affinity;
pub mod command;
pub mod console;
pub mod ids;
pub mod limits;
pub mod lsm;
pub mod passwd;
pub mod proc;
pub mod sched;
pub mod signals;
pub mod socket;
pub mod stdio;
pub mod subids;
