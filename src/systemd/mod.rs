//! systemd as cgroup manager: the container's cgroup is a transient scope, created by one call with all
//! limits as its properties.
//!
//! [`Unit`] is the scope, and is stored; [`Bus`] is the connection to systemd. The limits of the unit, and
//! everything beyond it (files without a property, the device program, hierarchies that systemd does not
//! manage) are handled by the caller, [`crate::cgroup`].

mod bus;
mod unit;
mod variant;
pub mod wire;

pub use bus::{Bus, BusError, Instance};
pub use unit::{Property, Start, Unit, UnitRequest};
