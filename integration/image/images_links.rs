//! Hard links to files of other layers, and several entries of one archive with the same name: the later one
//! counts, as if each were in a separate layer.

use crate::images::{Images, base};
use crate::images_peers::attributes;
use crate::layout::Archive;
use crate::sandbox::brig_only;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use std::fs;

#[test]
fn hard_links_lead_through_each_other_to_a_file_of_a_layer_below() {
    brig_only!();
    let images = Images::new();
    let low = Archive::new().file("low", b"low").file("other", b"other").dir("d").file("d/x", b"x");
    let table = [
        (
            "in one layer, whatever their names",
            vec![Archive::new().hard_link("z/first", "low").hard_link("a", "z/first")],
            vec![("/z/first", "low"), ("/a", "low")],
        ),
        (
            "over three layers",
            vec![
                Archive::new().hard_link("b", "low"),
                Archive::new().hard_link("c", "b"),
                Archive::new().hard_link("a", "c"),
            ],
            vec![("/b", "low"), ("/c", "low"), ("/a", "low")],
        ),
        (
            "in the place of a file, and again of the link",
            vec![
                Archive::new().hard_link("other", "low"),
                Archive::new().hard_link("copy", "other"),
                Archive::new().hard_link("other", "d/x"),
            ],
            vec![("/copy", "low"), ("/other", "x")],
        ),
        (
            "in the place of a directory with links in it",
            vec![Archive::new().hard_link("d/in", "low"), Archive::new().hard_link("d", "other")],
            vec![("/d", "other")],
        ),
    ];
    for (name, layers, expected) in table {
        let layers: Vec<Archive> = [low.clone()].into_iter().chain(layers).collect();
        let script: Vec<String> = expected.iter().map(|(path, _)| format!("read {path}")).collect();
        let facts = images.said(name, &layers, &script.join(" ; "));
        for (path, text) in expected {
            assert_eq!(facts.get(&format!("read {path}")), format!("{text:?}"), "{name}: {path}");
        }
    }
}

#[test]
fn a_later_entry_of_an_archive_replaces_an_earlier_one_and_what_is_below_it() {
    brig_only!();
    let images = Images::new();
    let low = Archive::new().dir("d").file("d/old", b"").dir("e").dir("e/f").file("e/f/old", b"");
    let new = |archive: Archive| archive.dir("d").file("d/new", b"");
    let table = [
        ("a file", new(Archive::new().file("d", b"file"))),
        ("a symbolic link", new(Archive::new().symlink("d", "e"))),
        ("a hard link to a layer below", new(Archive::new().hard_link("d", "etc/both"))),
        ("a whiteout", new(Archive::new().file(".wh.d", b""))),
    ];
    for (name, top) in table {
        let facts = images.said(name, &[low.clone(), top], "list /d");
        assert_eq!(facts.all("entry /d"), ["new"], "{name}");
    }
    // A directory that only contained whiteouts.
    let top = Archive::new().file("e/f/.wh.old", b"").file("e/.wh.f", b"");
    let facts = images.said("whiteouts", &[low.clone(), top], "list /e");
    assert!(facts.all("entry /e").is_empty());
    let named = Archive::new()
        .pax(&[("SCHILY.xattr.trusted.brig-test", b"1")])
        .dir("named")
        .raw(b'5', b"named", b"", 0o700, b"");
    let image = images.image_of("image named", &[named]);
    let layers = images.layers(&images.bundle(&image, "bundle named"));
    let named = layers.iter().map(|layer| layer.join("named")).find(|path| path.exists()).unwrap();
    assert!(attributes(&named).is_empty(), "{:?}", attributes(&named));
}

#[test]
fn what_gc_could_remove_by_half_only_is_made_anew() {
    brig_only!();
    let images = Images::new();
    let low = Archive::new().file("low", b"low").raw(b'5', b"dir", b"", 0o700, b"");
    let top = Archive::new().hard_link("a", "low").file("dir/x", b"x");
    let image = images.image_of("image", &[low, top]);
    let bundle = images.bundle(&image, "image-bundle");
    let patch = images.layers(&bundle).pop().unwrap();
    assert!(patch.starts_with(images.store().join("patches")), "{patch:?}");
    crate::tree::remove(&bundle).unwrap();
    // The removal fails at a mount point, like one that is killed at any point.
    let none = None::<&str>;
    mount(Some("test"), &patch.join("dir"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let said = images.brig(&["gc", "--all"]).fails();
    assert!(!patch.join("a").exists(), "{said}");
    let bundle = images.bundle(&image, "again");
    let facts = images.facts(&bundle, "read /a ; stat /dir");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let store = images.store().display().to_string();
    for line in mounts.lines().filter(|line| line.contains(&store) && line.contains("tmpfs")) {
        let point = line.split(' ').nth(4).unwrap();
        if point != store && point.starts_with(&store) {
            umount2(point, MntFlags::MNT_DETACH).unwrap();
        }
    }
    assert_eq!(facts.get("read /a"), "\"low\"");
}

#[test]
fn a_volume_has_the_hard_links_of_the_image() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    let volume = Archive::new().dir("v").file("v/a", b"1").dir("v/sub").hard_link("v/sub/b", "v/a");
    layout.layer(base()).layer(volume.symlink("v/l", "a").hard_link("v/m", "v/l"));
    let image = layout.finish("v1", &json!({"Volumes": {"/v": {}}}));
    let bundle = images.bundle(&image, "image-bundle");
    let facts = images.facts(&bundle, "append /v/a 2 ; read /v/sub/b ; link /v/m");
    assert_eq!(facts.get("read /v/sub/b"), "\"12\"");
    assert_eq!(facts.get("link /v/m"), "a");
}

#[test]
fn a_hard_link_may_name_its_target_through_a_symbolic_link() {
    brig_only!();
    let images = Images::new();
    let below = Archive::new().dir("a").file("a/y", b"below").symlink("l", "a");
    for (name, top) in [
        ("own link", Archive::new().symlink("d", "/a").hard_link("h", "d/y")),
        ("own file", Archive::new().file("a/y", b"own").hard_link("h", "l/y")),
    ] {
        let facts = images.said(name, &[below.clone(), top], "read /h");
        let expected = if name == "own link" { "\"below\"" } else { "\"own\"" };
        assert_eq!(facts.get("read /h"), expected, "{name}");
    }
}
