//! The documents of images, read like config.json: see [`crate::spec::shape`].

use crate::spec::Document;
use crate::spec::shape::Shape::{self, Any, List, Map, Object};
use anyhow::Result;
use brig_layers::runtime::Documents;
use serde::de::DeserializeOwned;

/// Readers of all documents.
pub const DOCUMENTS: Documents = Documents {
    kind: |name, text| read(name, KIND, text),
    entries: |name, text| read(name, INDEX, text),
    descriptor: |name, text| read(name, DESCRIPTOR, text),
    manifest: |name, text| read(name, MANIFEST, text),
    config: |name, text| read(name, CONFIG, text),
    saved: |name, text| read(name, SAVED, text),
};

/// Nobody who runs an image can mend it: there are no warnings.
fn read<T: DeserializeOwned>(
    name: &str,
    shape: &'static Shape,
    text: &[u8],
) -> Result<(T, Option<Vec<u8>>)> {
    Document { name, shape, text }.parse(&mut Vec::new())
}

const STRINGS: &Shape = &List(&Any);

const STRING_MAP: &Shape = &Map(&Any);

const PLATFORM: &Shape = &Object(&[
    ("architecture", &Any),
    ("os", &Any),
    ("os.version", &Any),
    ("os.features", STRINGS),
    ("variant", &Any),
]);

const DESCRIPTOR: &Shape = &Object(&[
    ("mediaType", &Any),
    ("digest", &Any),
    ("size", &Any),
    ("urls", STRINGS),
    ("annotations", STRING_MAP),
    ("data", &Any),
    ("platform", PLATFORM),
    ("artifactType", &Any),
]);

/// The fields by which manifests and indexes differ.
const KIND: &Shape = &Object(&[
    ("mediaType", &Any),
    ("manifests", &Any),
    ("config", &Any),
    ("layers", &Any),
    ("fsLayers", &Any),
    ("history", &Any),
]);

/// An index. Each of the manifests is a [`DESCRIPTOR`], or something that brig does not know.
const INDEX: &Shape = &Object(&[
    ("schemaVersion", &Any),
    ("mediaType", &Any),
    ("artifactType", &Any),
    ("manifests", &List(&Any)),
    ("subject", &Any),
    ("annotations", STRING_MAP),
]);

const MANIFEST: &Shape = &Object(&[
    ("schemaVersion", &Any),
    ("mediaType", &Any),
    ("artifactType", &Any),
    ("config", DESCRIPTOR),
    ("layers", &List(DESCRIPTOR)),
    ("subject", &Any),
    ("annotations", STRING_MAP),
]);

const CONFIG: &Shape = &Object(&[
    ("created", &Any),
    ("author", &Any),
    ("architecture", &Any),
    ("os", &Any),
    ("os.version", &Any),
    ("os.features", STRINGS),
    ("variant", &Any),
    ("config", EXECUTION),
    ("rootfs", &Object(&[("type", &Any), ("diff_ids", STRINGS)])),
    (
        "history",
        &List(&Object(&[
            ("created", &Any),
            ("author", &Any),
            ("created_by", &Any),
            ("comment", &Any),
            ("empty_layer", &Any),
        ])),
    ),
]);

const EXECUTION: &Shape = &Object(&[
    ("User", &Any),
    ("ExposedPorts", STRING_MAP),
    ("Env", STRINGS),
    ("Entrypoint", STRINGS),
    ("Cmd", STRINGS),
    ("Volumes", STRING_MAP),
    ("WorkingDir", &Any),
    ("Labels", STRING_MAP),
    ("StopSignal", &Any),
]);

/// manifest.json of `docker save`.
const SAVED: &Shape =
    &List(&Object(&[("Config", &Any), ("RepoTags", STRINGS), ("Layers", STRINGS)]));
