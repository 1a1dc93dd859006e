//! gc keeps the layers of containers and bundles, whatever happens to the bundles and to their records.

use crate::images::{Images, base};
use crate::layout::Archive;
use crate::sandbox::brig_only;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

impl Images {
    /// The bundle of an image whose chain has a joined layer or a patch.
    fn patched(&self) -> PathBuf {
        let mut layout = self.layout("image");
        let low = Archive::new().dir("a").file("a/x", b"1").symlink("l", "a");
        layout.layer(base()).layer(low).layer(Archive::new().file("l/y", b"2"));
        let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
        self.bundle(&image, "bundle-of-image")
    }

    fn entries(&self, dir: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.store().join(dir)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn empty(records: &[PathBuf]) {
    let records = records.iter().filter(|path| path.extension().is_some_and(|e| e == "json"));
    records.for_each(|path| fs::write(path, [0; 64]).unwrap());
}

#[test]
fn gc_keeps_a_bundle_whose_record_is_damaged() {
    brig_only!();
    let images = Images::new();
    let bundle = images.patched();
    empty(&images.entries("bundles"));
    empty(&images.entries("images"));
    for _ in 0..2 {
        images.brig(&["gc", "--all"]).ok();
        assert_eq!(images.facts(&bundle, "read /a/y").get("read /a/y"), "\"2\"");
    }
    // Without its config.json nobody knows what it uses.
    empty(&images.entries("bundles"));
    fs::rename(bundle.join("config.json"), bundle.join("config.json.x")).unwrap();
    images.brig(&["gc", "--all"]).ok();
    fs::rename(bundle.join("config.json.x"), bundle.join("config.json")).unwrap();
    assert_eq!(images.facts(&bundle, "read /a/y").get("read /a/y"), "\"2\"");
    fs::remove_dir_all(&bundle).unwrap();
    images.brig(&["gc", "--all"]).ok();
    for dir in ["bundles", "images", "layers", "joined", "patches"] {
        assert!(images.entries(dir).is_empty(), "{dir}: {:?}", images.entries(dir));
    }
}

#[test]
fn gc_keeps_the_layers_of_a_container_whatever_happens_to_its_bundle() {
    brig_only!();
    let images = Images::new();
    let (bundle, id) = (images.patched(), images.sandbox.id.clone());
    images.facts(&bundle, "cwd");
    let mut config = images.config(&bundle);
    config["process"]["args"] = json!(["/init", "sleep", "60"]);
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    images.brig(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), &id]).ok();
    let moved = images.sandbox.dir.join("moved");
    let kept = |what: &str| {
        images.brig(&["gc", "--all"]).ok();
        let said = images.brig(&["exec", &id, "/init", "read", "/a/y"]).ok().stdout;
        assert!(said.contains("\"2\""), "{what}: {said}");
    };
    let file = bundle.join("config.json");
    for text in ["{", "{}", r#"{"annotations": {}}"#] {
        fs::write(&file, text).unwrap();
        kept(text);
    }
    fs::remove_file(&file).unwrap();
    kept("no config.json");
    fs::rename(&bundle, &moved).unwrap();
    kept("moved");
    images.brig(&["delete", "--force", &id]).ok();
    assert_eq!(links(&images.store().join("bundles")), 0);
    images.brig(&["gc", "--all"]).ok();
    for dir in ["bundles", "layers", "joined", "patches"] {
        assert!(images.entries(dir).is_empty(), "{dir}: {:?}", images.entries(dir));
    }
}

/// The number of links to containers.
fn links(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "container")).count()
}
