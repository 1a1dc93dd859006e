//! What tests are made of: the sandbox, what the host and the process in the container report, a tracer, terminals,
//! image layouts.

pub mod facts;
pub mod guard;
pub mod host;
pub mod layout;
pub mod sandbox;
pub mod screen;
pub mod stuck;
pub mod tracer;
pub mod tree;
