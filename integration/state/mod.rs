//! State directories and pid files.

pub mod pid_file;
pub mod records;
pub mod reserved;
pub mod summary;
