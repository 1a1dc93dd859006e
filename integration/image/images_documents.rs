//! Documents and blobs in the forms of other tools: null for empty values, various media types, SHA-512; and
//! names of images.

use crate::images::{Images, base};
use crate::layout::{Archive, Layout, digest, gzip};
use crate::rootless::as_user;
use crate::sandbox::brig_only;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use std::fs;
use std::path::Path;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The manifest of a layout's only tag.
fn manifest(layout: &Path) -> Value {
    let index = read(&layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    read(&layout.join("blobs").join(digest))
}

#[test]
fn null_is_nothing_in_every_document() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base()).layer(Archive::new().file("x", b"1"));
    layout.layers[0]["annotations"] = Value::Null;
    layout.layers[0]["urls"] = Value::Null;
    layout.finish("v1", &json!({}));
    let config = json!({
        "architecture": null, "os": "linux", "created": null, "history": null,
        "config": {
            "Env": null, "Cmd": null, "Volumes": null, "WorkingDir": null, "User": null,
            "Labels": {"": "no name", "of nothing": null}
        },
        "rootfs": read(&layout.path(manifest(&layout.dir)["config"]["digest"].as_str().unwrap()))["rootfs"],
    });
    let config = layout.blob("config.v1+json", config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "config": config, "layers": layout.layers, "annotations": null,
        "subject": null, "artifactType": null
    });
    let manifest = layout.blob("manifest.v1+json", manifest.to_string().as_bytes());
    let index = |manifests: Value| {
        let index = json!({
            "schemaVersion": 2, "mediaType": null, "manifests": manifests, "annotations": null
        });
        fs::write(layout.dir.join("index.json"), index.to_string()).unwrap();
    };
    index(json!([manifest]));
    let image = layout.dir.to_str().unwrap();
    let bundle = images.bundle(image, "image-bundle");
    assert_eq!(images.config(&bundle)["annotations"]["of nothing"], "");
    assert_eq!(images.facts(&bundle, "read /x").get("read /x"), "\"1\"");
    index(Value::Null);
    images.brig(&["bundle", image, "other"]).fails_with("has no images");
}

#[test]
fn commit_takes_layers_of_every_media_type_and_says_what_they_are() {
    brig_only!();
    let images = Images::new();
    let kept = |name: &str, image: &str| {
        let id = format!("{}-{name}", images.sandbox.id);
        images
            .brig(&["run", "--keep", "--image", image, &id, "--", "/init", "write", "/y", "2"])
            .ok();
        let said = images.brig(&["commit", &id, &format!("out-{name}:v1")]);
        images.brig(&["delete", &id]).ok();
        said.ok();
        let out = images.sandbox.dir.join(format!("out-{name}"));
        let bundle = images.bundle(out.to_str().unwrap(), &format!("bundle-{name}"));
        let facts = images.facts(&bundle, "read /x ; read /y");
        assert_eq!((facts.get("read /x"), facts.get("read /y")), ("\"1\"", "\"2\""), "{name}");
        manifest(&out)["layers"].clone()
    };
    let plain = Archive::new().file("x", b"1").bytes();
    let (tar, zipped) = ("application/vnd.oci.image.layer.v1.tar", gzip(&plain));
    for (name, said, blob, expected) in [
        ("foreign", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", &zipped, "+gzip"),
        ("nd", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", &zipped, "+gzip"),
        ("none", "", &plain, ""),
        ("not-gzip", "application/vnd.oci.image.layer.v1.tar+gzip", &plain, ""),
        ("gzip", "application/vnd.docker.image.rootfs.diff.tar", &zipped, "+gzip"),
    ] {
        let mut layout = images.layout(&format!("image-{name}"));
        layout.layer(base()).layer_of(&plain, blob);
        layout.layers[1]["mediaType"] = said.into();
        let layers = kept(name, &layout.finish("v1", &json!({})));
        assert_eq!(layers[1]["mediaType"], format!("{tar}{expected}"), "{name}");
    }
    let mut layout = images.layout("image-sha512");
    layout.layer(base()).layer_of(&plain, &zipped);
    let hex: String = Sha512::digest(&zipped).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::create_dir(layout.dir.join("blobs/sha512")).unwrap();
    fs::rename(layout.path(&digest(&zipped)), layout.dir.join("blobs/sha512").join(&hex)).unwrap();
    layout.layers[1]["digest"] = format!("sha512:{hex}").into();
    let layers = kept("sha512", &layout.finish("v1", &json!({})));
    assert_eq!(layers[1]["digest"], format!("sha512:{hex}"));
}

#[test]
fn a_blob_that_was_cut_off_in_the_layout_is_written_again() {
    brig_only!();
    let images = Images::new();
    let image = images.image_of("image", &[Archive::new().file("x", b"1")]);
    let id = format!("{}-kept", images.sandbox.id);
    images.brig(&["run", "--keep", "--image", &image, &id, "--", "/init", "write", "/y", "2"]).ok();
    let dir = &images.sandbox.dir;
    for entry in fs::read_dir(dir.join("image/blobs/sha256")).unwrap() {
        let name = entry.unwrap().file_name();
        fs::create_dir_all(dir.join("out/blobs/sha256")).unwrap();
        fs::write(dir.join("out/blobs/sha256").join(name), b"cut").unwrap();
    }
    fs::write(dir.join("out/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    images.brig(&["commit", &id, "out:v1"]).ok();
    images.brig(&["delete", &id]).ok();
    images.brig(&["gc", "--all"]).ok();
    let bundle = images.bundle(dir.join("out").to_str().unwrap(), "image-bundle");
    assert_eq!(images.facts(&bundle, "read /y").get("read /y"), "\"2\"");
}

#[test]
fn images_has_a_line_for_each_name_and_a_tag_is_one() {
    brig_only!();
    let images = Images::new();
    let image = images.image_of("image", &[]);
    images.bundle(&image, "image-bundle");
    images.brig(&["tag", &image, "v2"]).ok();
    let dir = images.sandbox.dir.join("image").display().to_string();
    let rows: Value =
        serde_json::from_str(&images.brig(&["images", "--format", "json"]).ok().stdout).unwrap();
    let names: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, [format!("{dir}:v2"), format!("{dir}:v1")]);
    assert_eq!(images.brig(&["images", "--quiet"]).ok().stdout.lines().count(), 1);
    let digest = rows[0]["id"].as_str().unwrap();
    for name in [format!("oci:{dir}:v2"), format!("{dir}@{digest}"), digest[..20].to_owned()] {
        let said = images.brig(&["images", "--inspect", &name]).ok().stdout;
        assert!(said.contains(digest), "{name}: {said}");
    }
    for bad in ["", "a b", "tab\t"] {
        images.brig(&["tag", &image, bad]).fails_with("is not a valid tag");
    }
    let index = read(&images.sandbox.dir.join("image/index.json"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    // Existing images are removed, even if others do not exist.
    let said = images.brig(&["rmi", "none", &format!("{dir}:v2"), "nothing"]);
    assert!(said.stdout.starts_with("untagged"), "{said:?}");
    assert!(said.fails_with("none: no such image").contains("nothing: no such image"));
}

#[test]
fn an_export_that_fails_leaves_the_file_as_it_was() {
    brig_only!();
    let images = Images::new();
    let image = images.image_of("image", &[]);
    let id = format!("{}-kept", images.sandbox.id);
    let upper = ["--upper", "tmpfs", "--keep"];
    images
        .brig(&[&["run"], &upper[..], &["--image", &image, &id, "--", "/init", "true"]].concat())
        .ok();
    fs::write(images.sandbox.dir.join("old.tar"), b"old").unwrap();
    images.brig(&["export", "-o", "old.tar", &id]).fails_with("they are lost");
    assert_eq!(fs::read(images.sandbox.dir.join("old.tar")).unwrap(), b"old");
    images.brig(&["delete", &id]).ok();
}

#[test]
fn what_is_no_layout_is_not_committed_to_and_stays_as_it_is() {
    brig_only!();
    let images = Images::new();
    let image = images.image_of("image", &[]);
    let id = format!("{}-kept", images.sandbox.id);
    images.brig(&["run", "--keep", "--image", &image, &id, "--", "/init", "true"]).ok();
    let out = images.sandbox.dir.join("out");
    fs::create_dir(&out).unwrap();
    let version = r#"{"imageLayoutVersion":"1.0.0"}"#;
    for (layout, index, why) in [
        (version, "[]", "no manifests"),
        (version, r#"{"manifests":{}}"#, "no manifests"),
        (r#"{"imageLayoutVersion":"2.0.0"}"#, r#"{"manifests":[]}"#, "supported is 1.0.0"),
        ("", r#"{"manifests":[]}"#, "EOF while parsing"),
    ] {
        fs::write(out.join("oci-layout"), layout).unwrap();
        fs::write(out.join("index.json"), index).unwrap();
        let said = images.brig(&["commit", &id, "out:v1"]).fails_with(why);
        assert!(!said.contains("internal"), "{said}");
        assert_eq!(fs::read_to_string(out.join("index.json")).unwrap(), index);
        assert!(!out.join("blobs").exists(), "{said}");
    }
    images.brig(&["delete", &id]).ok();
}

#[test]
fn an_archive_of_an_unknown_compression_is_told_as_that() {
    brig_only!();
    let images = Images::new();
    let path = images.sandbox.dir.join("image.tar.xz");
    for (magic, name) in [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh9", "bzip2")] {
        fs::write(&path, [magic, &[0; 600]].concat()).unwrap();
        images.brig(&["bundle", path.to_str().unwrap(), "image-bundle"]).fails_with(name);
    }
    // A block of zeros followed by an entry.
    let broken = [vec![0; 512], Archive::new().file("x", b"1").bytes()].concat();
    let mut layout = images.layout("broken");
    layout.layer(base()).layer_of(&broken, &broken);
    let image = layout.finish("v1", &json!({}));
    images.brig(&["bundle", &image, "image-bundle"]).fails_with("entries follow a block of zeros");
}

#[test]
fn a_layer_whose_files_are_gone_is_unpacked_again() {
    brig_only!();
    let images = Images::new();
    let image = images.image_of("image", &[Archive::new().file("x", b"1")]);
    let bundle = images.bundle(&image, "image-bundle");
    let layers = images.layers(&bundle);
    for layer in &layers {
        crate::tree::remove(layer).unwrap();
    }
    let bundle = images.bundle(&image, "again");
    assert_eq!(images.facts(&bundle, "read /x").get("read /x"), "\"1\"");
}

#[test]
fn commits_into_one_layout_wait_for_each_other() {
    brig_only!();
    let images = Images::new();
    let image = images.image_of("image", &[Archive::new().file("x", &[7; 1 << 20])]);
    let id = format!("{}-kept", images.sandbox.id);
    images.brig(&["run", "--keep", "--image", &image, &id, "--", "/init", "true"]).ok();
    let store = images.store();
    let tags = ["a", "b", "c", "d"];
    let commits = tags.map(|tag| {
        let target = format!("out:{tag}");
        let args = ["--store", store.to_str().unwrap(), "commit", &id, &target];
        images.sandbox.command(&args).spawn().unwrap()
    });
    for mut commit in commits {
        assert!(commit.wait().unwrap().success());
    }
    images.brig(&["delete", &id]).ok();
    let index = read(&images.sandbox.dir.join("out/index.json"));
    let named = index["manifests"].as_array().unwrap().iter();
    let mut named: Vec<&str> = named
        .map(|known| known["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap())
        .collect();
    named.sort_unstable();
    assert_eq!(named, tags);
}

#[test]
fn an_image_whose_root_is_in_groups_runs_without_subordinate_ids() {
    brig_only!();
    as_user(false, |user| {
        let mut layout = Layout::new(Path::new("/mnt/image"));
        // As in Alpine.
        let group = Archive::new().file("etc/group", b"root:x:0:root\nbin:x:1:root,bin\n");
        layout.layer(base()).layer(group);
        let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
        let store = ["--store", "/mnt/store", "--cgroup-manager", "disabled"];
        let run = ["run", "--image", &image, &user.sandbox.id, "--", "say", "runs"];
        let done = user.brig(&[&store[..], &run].concat());
        assert!(done.stderr.contains("groups 1 are left out"), "{done:?}");
        assert_eq!(done.ok().stdout, "runs\n");
    });
}
