//! Containers of images: what of them is brig's own. The images, and the store of their layers, are
//! [`brig_layers`]'s.
//!
//! * [`container`]: `--image` of create and run. [`request`]: the bundle that is made for it, or by
//!   `bundle`.
//! * [`flags`]: what the command line changes; [`defaults`] and [`capabilities`]: what it begins with.
//! * [`upper`]: where a container's changes are, for `diff`, `commit` and `export`.

pub mod capabilities;
pub mod container;
pub mod defaults;
pub mod flags;
pub mod request;
pub mod upper;

use crate::plan::overlay::{IDMAP, IMAGE, LAYERS, UPPER, WORK};
use crate::state;
use brig_layers::runtime::{Annotations, Runtime};

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
