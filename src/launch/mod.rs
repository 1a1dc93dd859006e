//! The main sequence: parent → clone3 → child → execve. Read in this order: [`create`] acquires and serves,
//! [`spawn`] clones, [`child`] becomes the user's process through [`execute`]. [`protocol`] defines the
//! messages between the two, [`gate`] those between start and the child.
//!
//! Beside the main line: [`exec`], [`start`], [`destroy`] and [`extra_mounts`] are other commands,
//! [`prepare`] is what the parent makes for the child, [`agent`] the seccomp agent, and [`foreground`] the
//! parent after start.

pub mod agent;
pub mod child;
pub mod create;
pub mod destroy;
pub mod exec;
pub mod execute;
pub mod extra_mounts;
pub mod foreground;
pub mod gate;
mod options;
#[cfg_attr(not(feature = "images"), path = "without_images.rs")]
pub mod own_bundle;
mod peer;
pub mod prepare;
pub mod protocol;
pub mod spawn;
pub mod start;
