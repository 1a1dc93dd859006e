//! Room of `src/criu/`.

mod checkpoint;
mod checkpoint_flags;
mod checkpoint_images;
mod checkpoint_killed;
mod checkpoint_mounts;
mod checkpoint_peers;
mod checkpoint_rights;
pub mod with;
