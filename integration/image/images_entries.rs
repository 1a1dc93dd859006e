//! Entries of an index that brig cannot use do not affect the images beside them, and stay where they are.

use crate::images::{Images, base};
use crate::layout::{Archive, Layout, digest};
use crate::sandbox::brig_only;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const NAME: &str = "org.opencontainers.image.ref.name";

fn index(dir: &Path) -> Vec<Value> {
    let text = fs::read(dir.join("index.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()["manifests"].as_array().unwrap().clone()
}

fn write_index(dir: &Path, manifests: &[Value]) {
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

/// Entries of other tools, or of nobody.
fn foreign() -> Vec<Value> {
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let entry = |kind: &str, digest: &str, size: Value, name: &str| json!({"mediaType": kind, "digest": digest, "size": size, "annotations": {NAME: name}, "data": "e30="});
    let plain = digest(b"nothing");
    vec![
        entry(manifest, &format!("blake3:{}", "a".repeat(64)), 7.into(), "unknown"),
        entry("application/vnd.example.bill+json", &plain, 7.into(), "bill"),
        entry(manifest, "sha256:short", 7.into(), "short"),
        entry(manifest, &plain, (-7).into(), "negative"),
        json!({"mediaType": manifest, "digest": plain, "size": 7, "platform": "linux"}),
        json!({"annotations": {"a": 1, NAME: "numbers"}}),
        json!("text"),
        Value::Null,
    ]
}

/// A layout with an image, tagged v1, between such entries.
fn mixed(images: &Images) -> Layout {
    let mut layout = images.layout("image");
    layout.layer(base()).layer(Archive::new().file("x", b"1"));
    layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
    let (mut entries, image) = (foreign(), index(&layout.dir)[0].clone());
    entries.insert(2, image);
    write_index(&layout.dir, &entries);
    layout
}

#[test]
fn an_entry_that_cannot_be_used_is_only_an_error_itself() {
    brig_only!();
    let images = Images::new();
    let layout = mixed(&images);
    let dir = layout.dir.to_str().unwrap();
    let id = index(&layout.dir)[2]["digest"].as_str().unwrap().to_owned();
    for (at, name) in [":v1", "", &format!("@{id}"), &format!("@{}", &id[7..17])].iter().enumerate()
    {
        let bundle = images.bundle(&format!("{dir}{name}"), &format!("bundle-{at}"));
        assert_eq!(images.facts(&bundle, "read /x").get("read /x"), "\"1\"", "{name}");
    }
    let bill = format!("@{}", digest(b"nothing"));
    for (name, error) in [
        (":unknown", "unknown: \"blake3:aaaa"),
        (":unknown", "unknown digest algorithm \"blake3\": brig supports sha256 and sha512"),
        (":bill", "\"application/vnd.example.bill+json\" is the media type neither of an image"),
        (&bill, "\"application/vnd.example.bill+json\" is the media type neither of an image"),
        (":short", "short: \"sha256:short\" is not a digest: it needs 64"),
        (":negative", "negative: invalid value: integer `-7`"),
        (":numbers", "numbers: "),
        (":other", "no image with tag \"other\"; available: v1"),
    ] {
        images.brig(&["bundle", &format!("{dir}{name}"), "none"]).fails_with(error);
    }
    // Without any image beside them.
    write_index(&layout.dir, &foreign());
    images.brig(&["bundle", dir, "none"]).fails_with("has no images; skipped: \"blake3:aaaa");
}

#[test]
fn entries_in_an_index_of_the_index_are_skipped_as_well() {
    brig_only!();
    let images = Images::new();
    let layout = mixed(&images);
    let nested = |entries: &[Value]| {
        let inner = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        let mut inner = layout.blob("index.v1+json", inner.as_bytes());
        inner["annotations"] = json!({NAME: "many"});
        inner
    };
    let image = index(&layout.dir)[2].clone();
    let missing = json!({
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(b"missing"), "size": 7
    });
    write_index(&layout.dir, &[missing, nested(&index(&layout.dir))]);
    let dir = layout.dir.to_str().unwrap();
    let short = &image["digest"].as_str().unwrap()[7..17];
    // An index whose blob does not exist hides only what is in it.
    for (at, name) in [":many", &format!("@{short}")].iter().enumerate() {
        let bundle = images.bundle(&format!("{dir}{name}"), &format!("bundle-{at}"));
        assert_eq!(images.facts(&bundle, "read /x").get("read /x"), "\"1\"", "{name}");
    }
    images.brig(&["bundle", &format!("{dir}@012345"), "none"]).fails_with("skipped: blob sha256:");
    write_index(&layout.dir, &[nested(&foreign())]);
    let said = images.brig(&["bundle", &format!("{dir}:many"), "none"]).fails();
    assert!(said.contains("no image for platform") && said.contains("blake3"), "{said}");
}

#[test]
fn commit_and_tag_keep_the_entries_of_others() {
    brig_only!();
    let images = Images::new();
    let layout = mixed(&images);
    let dir = layout.dir.to_str().unwrap();
    let id = images.sandbox.id.as_str();
    let image = format!("{dir}:v1");
    images.brig(&["run", "--keep", "--image", &image, id, "--", "write", "/y", "2"]).ok();
    images.brig(&["commit", id, &format!("{dir}:v2")]).ok();
    images.brig(&["tag", &image, "v3"]).ok();
    let mut now = index(&layout.dir);
    now.retain(|entry| !["v1", "v2", "v3"].map(Value::from).contains(&entry["annotations"][NAME]));
    assert_eq!(now, foreign());
    // An entry whose name is given to an image only loses it.
    images.brig(&["commit", id, &format!("{dir}:bill")]).ok();
    images.brig(&["delete", id]).ok();
    images.brig(&["tag", &image, "unknown"]).ok();
    let mut expected = foreign();
    for at in [0, 1] {
        expected[at]["annotations"] = json!({});
    }
    assert_eq!(index(&layout.dir)[..2], expected[..2]);
    for (name, file) in [("v2", "y"), ("bill", "y"), ("v3", "x"), ("unknown", "x")] {
        let bundle = images.bundle(&format!("{dir}:{name}"), &format!("bundle-{name}"));
        let read = format!("read /{file}");
        assert_ne!(images.facts(&bundle, &read).get(&read), "ENOENT", "{name}");
    }
}

#[test]
fn a_tag_prefers_the_image_that_has_exactly_this_name() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    let mut entries = Vec::new();
    layout.layer(base());
    for (name, text) in [("docker.io/library/app:v1", "long"), ("v1", "short")] {
        layout.layer(Archive::new().file("x", text.as_bytes()));
        layout.finish(name, &json!({"Entrypoint": ["/init"]}));
        entries.extend(index(&layout.dir));
    }
    write_index(&layout.dir, &entries);
    let dir = layout.dir.to_str().unwrap();
    for (name, text) in [("v1", "short"), ("app:v1", "long"), ("docker.io/library/app:v1", "long")]
    {
        let bundle = images.bundle(&format!("{dir}:{name}"), &name.replace('/', "-"));
        assert_eq!(images.facts(&bundle, "read /x").get("read /x"), format!("{text:?}"), "{name}");
    }
}

#[test]
fn a_platform_that_is_asked_for_is_that_of_the_image() {
    brig_only!();
    let images = Images::new();
    let layout = mixed(&images);
    let dir = layout.dir.to_str().unwrap();
    let image = index(&layout.dir)[2].clone();
    for wanted in ["linux/s390x", "windows/amd64"] {
        let args = ["bundle", "--platform", wanted, &format!("{dir}:v1"), "none"];
        images.brig(&args).fails_with(&format!("not {wanted} (--platform)"));
    }
    // The digest decides, whatever the tag.
    let pinned = format!("{dir}:other@{}", image["digest"].as_str().unwrap());
    images.bundle(&pinned, "pinned");
    // Those of an index in the index are named.
    let mut other = image;
    other["platform"] = json!({"architecture": "s390x", "os": "linux"});
    let inner = json!({"schemaVersion": 2, "manifests": [other]}).to_string();
    write_index(&layout.dir, &[layout.blob("index.v1+json", inner.as_bytes())]);
    images.brig(&["bundle", dir, "none"]).fails_with("; available: linux/s390x");
}
