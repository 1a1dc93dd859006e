//! The settings of a process before execve.

pub(crate) mod activation;
pub(crate) mod affinity;
pub(crate) mod command;
pub(crate) mod console;
pub(crate) mod ids;
pub(crate) mod landlock;
pub(crate) mod limits;
pub(crate) mod lsm;
pub mod passwd;
pub(crate) mod proc;
pub(crate) mod sched;
pub mod signals;
pub(crate) mod socket;
pub(crate) mod stdio;
pub(crate) mod subids;
