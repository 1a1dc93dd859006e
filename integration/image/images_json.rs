//! The JSON of images as other tools write and read it: keys in any letter case and more than once, values of
//! wrong types, documents of two kinds.

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

#[test]
fn keys_are_read_as_go_reads_them() {
    brig_only!();
    let images = Images::new();
    let config = |text: &str| text.replace(r#""config":{"#, text_of_config());
    let manifest = |text: &str| {
        let text = text.replace("\"layers\"", "\"LAYERS\"").replace("\"config\"", "\"Config\"");
        with(&text, r#""annotations": {"a": null}, "schemaVersion": null, "SchemaVersion": 2"#)
    };
    let image = images.rewritten("image", |text| config(&text), |text| manifest(&text));
    let index = Path::new(&image).join("index.json");
    let text = fs::read_to_string(&index).unwrap().replace("\"digest\"", "\"Digest\"");
    let text = text.replace("\"manifests\":[{", r#""manifests":[],"Manifests":[{"platform":null,"#);
    fs::write(&index, with(&text, r#""schemaVersion": 2"#)).unwrap();
    let bundle = images.bundle(&image, "bundle-of-image");
    let config = images.config(&bundle);
    assert_eq!(config["process"]["user"]["uid"], 33);
    assert_eq!(config["process"]["cwd"], "/etc");
    let env = config["process"]["env"].as_array().unwrap();
    assert!(env.contains(&json!("A=lower")) && !env.contains(&json!("A=first")), "{env:?}");
    assert_eq!(config["annotations"]["User"], "label");
    assert_eq!(config["annotations"]["user"], "other label");
    assert_eq!(config["process"]["args"], json!(["/init", "read", "/etc/base"]));
}

/// The beginning of an image's config, with the object and some keys twice.
fn text_of_config() -> &'static str {
    r#""config":{"Env":["A=first"],"USER":"web"},"os":"windows","OS":"linux","Config":{"env":["A=lower"],"workingdir":"/","WorkingDir":"/etc","cmd":["read","/etc/base"],"labels":{"User":"label","user":"other label"},"#
}

#[test]
fn errors_name_the_field() {
    brig_only!();
    let images = Images::new();
    for (at, (members, error)) in [
        (r#""Cmd": "sh -c x""#, "config.Cmd (config line 1, column 45): invalid type: string \"sh -c x\", expected an array"),
        (r#""Labels": []"#, "config.Labels (config line 1, column 48): invalid type: array, expected an object"),
        (r#""Env": {}"#, "config.Env (config line 1, column 45): invalid type: object, expected an array"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("{{\"architecture\": \"amd64\", \"config\": {{{members}}}}}");
        let image = images.rewritten(&format!("image-{at}"), |_| text, |text| text);
        let said = images.brig(&["bundle", &image, "none"]).fails();
        assert!(said.contains("blob sha256:") && said.contains(error), "{said}");
    }
}
