//! checkpoint and restore, with CRIU: a program that freezes a container's processes, writes their state to
//! files, and creates them again.
//!
//! brig executes `criu swrk` and communicates with it over a socket (`rpc`, messages by `wire`). CRIU cannot
//! know which resources do not belong to the container: `external` determines the external mounts. `image` is
//! the directory of the checkpoint, with brig's own data beside CRIU's files. [`dump`] is checkpoint,
//! [`restore`] the reverse, and `check` verifies that restored processes have no privileges beyond the
//! config. `log` finds the reason of a failure in CRIU's log.
//!
//! create, start and exec do not import this.

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
