//! Images on disk, and the store of their layers: docs/layers.md has its layout and its rules. Knows no
//! containers: what it has to be told of its runtime is [`runtime::Runtime`].
//!
//! In the order in which `bundle` walks through it:
//!
//! * [`source`]: where an image lies, how it is named, what it consists of; every digest verified.
//! * [`store`]: directories, records, locks; who uses what, and the removal of what nobody does.
//! * [`archive`]: a layer's blob as a stream of entries, and the other way round.
//! * [`unpack`]: the entries become files; what is missing gets into the store.
//! * [`tree`]: layers as one tree, without mounting it; what a container has changed in it; removal.
//! * [`bundle`]: a config.json of an image's config, and what the layers cannot say alone.
//! * [`commit`]: what a container has changed as a layer, in an image layout.
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
