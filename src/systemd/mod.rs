//! systemd as the one who makes the container's cgroup: a transient scope, made by one call with all
//! limits as its properties.
//!
//! [`Unit`] says which, and is stored; [`Bus`] is the connection to systemd. Which limits the unit has, and everything
//! beyond it (files that systemd has no property for, the device program, hierarchies that it leaves alone) is up to
//! the caller, [`crate::cgroup`].

mod bus;
mod unit;
mod variant;
pub mod wire;

pub use bus::{Bus, BusError, Instance};
pub use unit::{Property, Start, Unit, UnitRequest};
