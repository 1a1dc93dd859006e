//! Images on disk, and the store of their layers: docs/layers.md has its layout and its rules.
//!
//! In the order in which `bundle` walks through it:
//!
//! * [`bundle`]: all of it. [`container`]: the same for `run --image`, in the store.
//! * [`mod@reference`]: how an image is named. [`source`]: where it lies, a directory or a tar.
//! * [`resolve`]: its [`manifest`], config and layers; [`digest`] verifies them.
//! * [`store`]: directories, records, locks.
//! * [`decompress`], [`tar_reader`], [`pax`]: a layer's blob as a stream of entries.
//! * [`unpack`]: the entries become files, below [`dirs`], with [`whiteout`]s in overlayfs's form.
//! * [`layers`]: gets what is missing into the store; [`worker`]: processes that do it, each with a [`stage`] that decompresses; [`progress`]: what a person sees of it.
//! * [`view`]: layers as one tree, without mounting it; [`user`] looks who runs the image up in it;
//!   [`patch`] makes what the layers cannot say alone.
//! * [`convert`]: the config, [`defaults`] and [`capabilities`] in it, and what [`flags`] change. [`init_layer`]: the bundle's own layer.
//! * [`changes`]: what a container has changed; [`commit`]: that as a layer, with [`change`]s of the config.
//! * [`tar_writer`]: an archive of files; [`holes`] are left out. [`walk`]: a tree of layers, directory by directory. [`guard`]: undoes what a commit leaves that is killed.
//! * [`tree`]: removal. [`warnings`]: what is not as the image says.

pub mod bundle;
pub mod capabilities;
pub mod change;
pub mod changes;
pub mod commit;
pub mod container;
pub mod containers;
pub mod convert;
pub mod decompress;
pub mod defaults;
pub mod digest;
pub mod dirs;
pub mod flags;
pub mod guard;
pub mod holes;
pub mod init_layer;
pub mod layers;
pub mod layout;
pub mod manifest;
#[cfg(test)]
mod mutations;
pub mod patch;
pub mod pax;
pub mod progress;
pub mod reference;
pub mod request;
pub mod resolve;
pub mod runtime;
pub mod source;
pub mod stage;
pub mod store;
pub mod tar_reader;
pub mod tar_writer;
pub mod tree;
pub mod unpack;
pub mod upper;
pub mod usage;
pub mod user;
pub mod view;
pub mod walk;
pub mod warnings;
pub mod whiteout;
pub mod worker;

use crate::plan::overlay::{IDMAP, IMAGE, LAYERS, UPPER, WORK};
use crate::state;
use runtime::{Annotations, Runtime};

/// What the store has to know of brig.
pub const RUNTIME: Runtime = Runtime {
    annotations: Annotations {
        layers: LAYERS,
        upper: UPPER,
        work: WORK,
        idmap: IDMAP,
        image: IMAGE,
    },
    has_container: |root, id| state::in_use(root, id).is_some(),
};
