//! Helpers: the sandbox, reports of the host and of the process in the container, a tracer, terminals, image
//! layouts.

pub mod facts;
pub mod guard;
pub mod host;
pub mod layout;
pub mod sandbox;
pub mod screen;
pub mod stuck;
pub mod tracer;
pub mod tree;
