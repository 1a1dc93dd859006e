//! systemd as the one who makes the container's cgroup: a transient scope, made by one call with all
//! limits as its properties.
//!
//! [`Unit`] says which, and is stored; [`properties`] says with what limits; [`Bus`] is the way to
//! systemd. Everything beyond the unit itself (files that systemd has no property for, the device
//! program, hierarchies that it leaves alone) is [`crate::cgroup`]'s, as without systemd.

mod bus;
pub mod properties;
mod unit;
mod variant;
pub mod wire;

pub use bus::{Bus, Instance, Refused};
pub use unit::{Asked, Property, Start, Unit};
