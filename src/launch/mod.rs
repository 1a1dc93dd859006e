//! The story: parent → clone3 → child → execve. To be read in this order: [`parent`] acquires and
//! serves, [`spawn`] clones, [`child`] becomes the user's process. [`sync`] is what the two say to
//! each other, [`gate`] what start says to the child, [`foreground`] the parent's life after start,
//! [`terminal`] what it does with a terminal then. [`agent`]: who decides about system calls, [`courier`]: how it
//! comes to.

pub mod agent;
pub mod child;
pub mod courier;
pub mod destroy;
pub mod exec;
pub mod foreground;
pub mod gate;
mod groups;
pub mod idmap;
pub mod live;
pub mod netdev;
pub mod notify;
mod options;
pub mod parent;
mod peer;
pub mod program;
pub mod rootless;
pub mod spawn;
pub mod start;
pub mod sync;
pub mod terminal;
mod upper;
