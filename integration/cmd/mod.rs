//! Commands, and the lifecycle of a container.

pub mod doctor;
pub mod exec;
pub mod inspect;
pub mod kill;
pub mod lifecycle;
pub mod lint;
pub mod ps;
pub mod run;
pub mod wait;
