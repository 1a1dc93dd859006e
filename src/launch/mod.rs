//! The story: parent → clone3 → child → execve. To be read in this order: [`create`] acquires and
//! serves, [`spawn`] clones, [`child`] becomes the user's process by way of [`execute`]. [`protocol`] is what the
//! two send each other, [`gate`] what start says to the child.
//!
//! Beside the main line: [`exec`], [`start`], [`destroy`] and [`extra_mounts`] are other commands; [`prepare`] has
//! what the parent makes for the child, [`agent`] who decides about its system calls, and [`foreground`] the
//! parent's life after start.

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
