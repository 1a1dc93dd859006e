//! What the container's process is, and what it may do.

pub mod apparmor;
pub mod command;
pub mod console;
pub mod landlock;
pub mod process;
pub mod sched;
pub mod selinux;
