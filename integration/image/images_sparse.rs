//! Files with holes keep them when a container is committed or exported.

use crate::images::Images;
use crate::images_commit::top_layer;
use crate::images_peers::tool;
use crate::sandbox::{brig_only, skip};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

const SIZE: u64 = 24 << 20;

/// A sparse file of 24 MiB with data at the beginning, in the middle and at the end, depending on its name.
fn make(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for (name, parts) in [
        ("hole", &[][..]),
        ("middle", &[(9 << 20, "middle")]),
        ("ends", &[(0, "begin"), (SIZE - 3, "end")]),
        // A name too long for a header.
        (&"n".repeat(120), &[(1 << 20, "long")]),
    ] {
        let file = File::create(dir.join(name)).unwrap();
        file.set_len(SIZE).unwrap();
        parts.iter().for_each(|(at, text)| file.write_all_at(text.as_bytes(), *at).unwrap());
    }
    // Its hole is too small to be worth it.
    let file = File::create(dir.join("small")).unwrap();
    file.set_len(512 << 10).unwrap();
}

/// Checks for the same bytes, and for holes.
#[track_caller]
fn assert_same(found: &Path, made: &Path) {
    let mut count = 0;
    for entry in fs::read_dir(made).unwrap() {
        let name = entry.unwrap().file_name();
        let (ours, theirs) = (found.join(&name), made.join(&name));
        let same = fs::read(&ours).unwrap() == fs::read(&theirs).unwrap();
        assert!(same, "{} is another file", ours.display());
        let blocks = fs::metadata(&ours).unwrap().blocks();
        assert!(blocks < 2048, "{}: {blocks} blocks", ours.display());
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn a_file_with_holes_keeps_them_through_commit_and_the_image_made_of_it() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, "true");
    let made = images.own_bundle(&id).join("data/upper/holes");
    make(&made);
    let out = images.sandbox.dir.join("out");
    let target = format!("{}:v2", out.display());
    for packed in ["none", "zstd", "gzip"] {
        images.brig(&["commit", "--compression", packed, &id, &target]).ok();
    }
    // podman can neither push nor save an image with GNU sparse files.
    let layer = top_layer(&out, "v2");
    assert!(layer.contains_key("holes/middle") && layer.contains_key("holes/ends"), "{layer:?}");
    let bundle = images.bundle(&target, "again");
    let layers = images.layers(&bundle);
    let top = layers.iter().map(|layer| layer.join("holes")).find(|holes| holes.exists());
    assert_same(&top.unwrap(), &made);
    images.brig(&["delete", &id]).ok();
}

/// A stopped container with sparse files: its id, these files, and an archive of everything.
fn exported(images: &Images) -> Option<(String, PathBuf, PathBuf)> {
    let image = images.shell()?;
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, "true");
    let made = images.own_bundle(&id).join("data/upper/holes");
    make(&made);
    let archive = images.sandbox.dir.join("exported.tar");
    images.brig(&["export", "-o", archive.to_str().unwrap(), &id]).ok();
    Some((id, made, archive))
}

#[test]
fn an_exported_archive_has_no_holes_and_tar_makes_them_again() {
    brig_only!();
    let images = Images::new();
    let Some((id, made, archive)) = exported(&images) else { return };
    let length = fs::metadata(&archive).unwrap().len();
    assert!(length < SIZE, "{length} bytes");
    let dir = &images.sandbox.dir;
    let exported = dir.join("exported");
    fs::create_dir(&exported).unwrap();
    if !tool("tar", &["-xpf", "exported.tar", "-C", "exported", "holes"], dir) {
        return skip("no tar");
    }
    assert_same(&exported.join("holes"), &made);
    images.brig(&["delete", &id]).ok();
}

#[test]
fn an_exported_archive_with_holes_is_a_layer_that_brig_reads() {
    brig_only!();
    let images = Images::new();
    let Some((id, made, archive)) = exported(&images) else { return };
    let mut layout = images.layout("of-export");
    let plain = fs::read(&archive).unwrap();
    layout.layer_of(&plain, &plain);
    let flat = layout.finish("v1", &serde_json::json!({}));
    let bundle = images.bundle(&flat, "of-export-bundle");
    assert_same(&images.layers(&bundle)[0].join("holes"), &made);
    images.brig(&["delete", &id]).ok();
}
