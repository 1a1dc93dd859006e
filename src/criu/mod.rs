//! checkpoint and restore, by CRIU: a program of its own that freezes a container's processes, writes down all that the
//! kernel knows of them, and makes them anew.
//!
//! brig executes `criu swrk` and speaks to it over a socket (`rpc`, messages by `wire`). What CRIU cannot know by
//! itself is what a container is made of that is not the container's: `external` tells which mounts come from
//! outside. `image` is the directory with the checkpoint, where brig's own notes stand beside CRIU's files.
//! [`dump`] is checkpoint, [`restore`] the way back, and `check` looks whether what came back has no rights that the
//! config does not give. `log` finds in CRIU's log why it failed.
//!
//! Nothing on the way of create, start and exec imports this.

pub mod ask;
mod check;
pub mod dump;
mod external;
mod hierarchy;
mod image;
mod log;
pub mod options;
pub mod restore;
mod rpc;
mod stage;
mod wire;
