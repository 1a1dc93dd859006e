//! Tests of `src/criu/`.

mod checkpoint;
mod checkpoint_broken;
mod checkpoint_flags;
mod checkpoint_hosts;
mod checkpoint_images;
mod checkpoint_kept;
mod checkpoint_killed;
mod checkpoint_memory;
mod checkpoint_mounts;
mod checkpoint_network;
mod checkpoint_pages;
mod checkpoint_peers;
mod checkpoint_rights;
mod checkpoint_terminals;
mod checkpoint_used;
pub mod with;
