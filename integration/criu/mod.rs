//! Room of `src/criu/`.

mod checkpoint;
mod checkpoint_flags;
mod checkpoint_mounts;
mod checkpoint_rights;
pub mod with;
