//! The container's process and its privileges.

pub mod apparmor;
pub mod command;
pub mod console;
pub mod landlock;
pub mod process;
pub mod sched;
pub mod selinux;
