//! Containers of images: brig's part. Reading images and storing layers is [`brig_layers`]'s.
//!
//! * [`container`]: `--image` of create and run. [`request`]: the bundle created for it, or by `bundle`.
//! * [`flags`]: the effect of the command line; [`defaults`] and [`capabilities`]: the defaults.
//! * [`documents`]: how the JSON of images is read.
//! * [`upper`]: where a container's changes are, for `diff`, `commit` and `export`.

pub mod capabilities;
pub mod container;
pub mod defaults;
pub mod documents;
pub mod flags;
pub mod request;
pub mod upper;

use crate::plan::overlay::{IDMAP, IMAGE, LAYERS, UPPER, WORK};
use crate::state;
use brig_layers::runtime::{Annotations, Runtime};
use documents::DOCUMENTS;

/// What the store needs to know about brig.
pub const RUNTIME: Runtime = Runtime {
    annotations: Annotations {
        layers: LAYERS,
        upper: UPPER,
        work: WORK,
        idmap: IDMAP,
        image: IMAGE,
    },
    has_container: |root, id| state::in_use(root, id).is_some(),
    layers: |root, id| {
        let state = state::Dir::open(root, id).and_then(|dir| dir.load()).ok()??;
        Some(state.layers.map(|layers| layers.lower).unwrap_or_default())
    },
    documents: DOCUMENTS,
};
