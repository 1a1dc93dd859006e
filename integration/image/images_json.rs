//! The JSON of images as other tools write and read it: documents of two kinds.

use crate::images::{Images, base};
use crate::sandbox::brig_only;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

impl Images {
    /// An image of the base whose config and manifest are changed as text.
    fn rewritten(
        &self,
        name: &str,
        config: impl FnOnce(String) -> String,
        manifest: impl FnOnce(String) -> String,
    ) -> String {
        let mut layout = self.layout(name);
        layout.layer(base()).finish("v1", &json!({"Entrypoint": ["/init"]}));
        let index = read(&layout.dir.join("index.json"));
        let mut whole = read(&layout.path(index["manifests"][0]["digest"].as_str().unwrap()));
        let text = fs::read(layout.path(whole["config"]["digest"].as_str().unwrap())).unwrap();
        let text = config(String::from_utf8(text).unwrap());
        whole["config"] = layout.blob("config.v1+json", text.as_bytes());
        let text = manifest(whole.to_string());
        let manifest = layout.blob("manifest.v1+json", text.as_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.dir.join("index.json"), index.to_string()).unwrap();
        layout.dir.to_str().unwrap().to_owned()
    }
}

/// Adds members at the end of an object.
fn with(object: &str, members: &str) -> String {
    format!("{}, {members}}}", object.strip_suffix('}').unwrap())
}

#[test]
fn a_document_of_two_kinds_is_refused() {
    brig_only!();
    let images = Images::new();
    for (at, members, error) in [
        (0, r#""manifests": []"#, "a manifest with the field \"manifests\""),
        (1, r#""fsLayers": []"#, "a manifest with the field \"fsLayers\""),
        (
            2,
            r#""mediaType": "application/vnd.oci.image.index.v1+json""#,
            "a manifest of media type",
        ),
    ] {
        let image = images.rewritten(&format!("image-{at}"), |t| t, |text| with(&text, members));
        let said = images.brig(&["bundle", &image, "none"]).fails();
        assert!(said.contains("blob sha256:") && said.contains("ambiguous: "), "{said}");
        assert!(said.contains(error), "{said}");
    }
    let image = images.rewritten("image", |t| t, |text| with(&text, r#""manifests": null"#));
    images.bundle(&image, "bundle-of-image");
    // The same of an index.
    let index = Path::new(&image).join("index.json");
    let whole = fs::read_to_string(&index).unwrap();
    fs::write(&index, with(&whole, r#""layers": []"#)).unwrap();
    let error = "index.json: ambiguous: an index with the field \"layers\"";
    images.brig(&["bundle", &image, "none"]).fails_with(error);
}
