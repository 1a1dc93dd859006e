//! The main sequence: parent → clone3 → child → execve. Read in this order: [`create`] acquires and serves,
//! [`spawn`] clones, [`child`] becomes the user's process through [`execute`]. [`protocol`] defines the
//! messages between the two, [`gate`] those between start and the child.
//!
//! The other modules: [`exec`], [`start`], [`destroy`] and [`extra_mounts`] implement other commands;
//! [`prepare`] is what the parent makes for the child, [`agent`] the seccomp agent, and [`foreground`] the
//! parent after start.

mod account;
pub(crate) mod agent;
pub(crate) mod aside;
pub(crate) mod child;
pub(crate) mod create;
pub(crate) mod destroy;
pub(crate) mod exec;
pub(crate) mod execute;
pub(crate) mod extra_mounts;
pub(crate) mod foreground;
pub(crate) mod gate;
mod options;
#[cfg_attr(not(feature = "images"), path = "without_images.rs")]
pub(crate) mod own_bundle;
mod peer;
pub(crate) mod prepare;
pub mod protocol;
pub(crate) mod spawn;
pub(crate) mod start;
