//! Images on disk, and the store of their layers: docs/layers.md describes its layout and rules. Independent
//! of containers: what it needs to know about its runtime is in [`runtime::Runtime`].
//!
//! In the order in which `bundle` uses them:
//!
//! * [`source`]: where images are, how they are named, what they consist of; every digest is verified.
//! * [`store`]: directories, records, locks; users, and removal of what is unused.
//! * [`archive`]: a layer's blob as a stream of entries, and the reverse.
//! * [`unpack`]: writes entries as files; adds missing layers to the store.
//! * [`tree`]: layers as one tree, without mounting them; a container's changes in it; removal.
//! * [`bundle`]: a config.json from an image's config, and what depends on several layers.
//! * [`commit`]: writes a container's changes as a layer, in an image layout.
//! * [`worker`]: processes that do the work; `stage`: one that decompresses or compresses for another.

pub mod archive;
pub mod bundle;
pub mod commit;
pub mod runtime;
pub mod source;
pub(crate) mod stage;
pub mod store;
pub mod tree;
pub mod unpack;
pub mod worker;
