//! Volumes start as copies of what the image has at their place, complete with everything that an image contains.

use crate::images::{Images, base};
use crate::images_peers::{assert_same, tree};
use crate::layout::Archive;
use crate::sandbox::brig_only;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// An ACL (acl(5)): the owner rw, uid 33 r, group r, mask r, others nothing.
fn acl() -> Vec<u8> {
    let entry = |(tag, perm, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let entries = [(1, 6, none), (2, 4, 33), (4, 4, none), (0x10, 4, none), (0x20, 0, none)];
    [2_u32.to_le_bytes().to_vec(), entries.into_iter().flat_map(entry).collect()].concat()
}

fn volume() -> Archive {
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let owned = [("uid", &b"33"[..]), ("gid", b"44")];
    let times = ("mtime", &b"1600000000.123456789"[..]);
    Archive::new()
        .pax(&[owned[0], owned[1], times, ("SCHILY.xattr.user.of", b"the root")])
        .raw(b'5', b"data/", b"", 0o2751, b"")
        .pax(&[("SCHILY.xattr.user.mine", b"a\nb\0c"), times])
        .file("data/noted", b"user attributes")
        .pax(&[("SCHILY.xattr.security.capability", capability), owned[0]])
        .program("data/capable", b"#!")
        .pax(&[("SCHILY.xattr.system.posix_acl_access", &acl())])
        .raw(b'0', b"data/listed", b"", 0o640, b"with an ACL")
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &acl()), times])
        .raw(b'5', b"data/dir/", b"", 0o1700, b"")
        .file("data/dir/inside", b"has no ACL")
        .pax(&owned)
        .raw(b'0', b"data/setuid", b"", 0o6755, b"su")
        .hard_link("data/second", "data/setuid")
        .raw(b'5', b"data/closed/", b"", 0, b"")
        .raw(b'6', b"data/fifo", b"", 0o640, b"")
        .raw(b'3', b"data/null", b"", 0o666, b"")
        .pax(&[times, owned[1]])
        .symlink("data/link", "/no/where")
        .raw(b'0', b"data/bytes-\xff\n", b"", 0o600, b"not UTF-8")
}

/// An image with the volume, and a bundle of it.
fn with_volume(images: &Images) -> (String, PathBuf) {
    let mut layout = images.layout("image");
    layout.layer(base()).layer(volume());
    let image = layout.finish("v1", &json!({"Entrypoint": ["/init"], "Volumes": {"/data": {}}}));
    let bundle = images.bundle(&image, "of-image");
    (image, bundle)
}

/// What a running container has in its volume.
fn copied(images: &Images) -> BTreeMap<PathBuf, String> {
    let found = tree(Path::new(&format!("/proc/{}/root/data", images.sandbox.pid())));
    images.brig(&["delete", "--force", &images.sandbox.id]).ok();
    found
}

#[test]
fn a_volume_has_all_attributes_that_the_image_has_there() {
    brig_only!();
    let images = Images::new();
    let (image, bundle) = with_volume(&images);
    let expected = tree(&images.layers(&bundle)[1].join("data"));
    let noted = &expected[Path::new("noted")];
    assert!(noted.contains("1600000000.123456789") && noted.contains("user.mine"), "{noted}");
    let id = images.sandbox.id.as_str();
    let mark = format!("BRIG_TEST={id}");
    let run = ["run", "--detach", "--env", &mark, "--image", &image];
    let script = ["--", "say", "ready", ";", "sleep", "600"];
    images.brig(&[&run[..], &[id], &script].concat()).ok().wait_for_line("ready");
    assert_same(&expected, &copied(&images));
    // The mode of an option is in force whatever ACL the directory has.
    let flags = ["--tmpfs", "/data:mode=711", id];
    images.brig(&[&run[..], &flags, &script].concat()).ok().wait_for_line("ready");
    let found = copied(&images);
    let root = &found[Path::new("")];
    assert!(root.starts_with("40711 33:44 1600000000.123456789"), "{root}");
    assert_eq!(found[Path::new("capable")], expected[Path::new("capable")]);
}

#[test]
fn a_volume_in_a_user_namespace_has_the_same_without_devices() {
    brig_only!();
    let images = Images::new();
    let (_, bundle) = with_volume(&images);
    let mut config = images.config(&bundle);
    let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let script =
        "stat /data ; stat /data/setuid ; stat /data/null ; stat /data/fifo ; stat /data/closed";
    let facts = images.facts(&bundle, script);
    for (name, found) in [
        ("", "dir 2751 33 44 0:0"),
        ("/setuid", "file 6755 33 44 0:0"),
        ("/null", "ENOENT"),
        ("/fifo", "fifo 0640 0 0 0:0"),
        ("/closed", "dir 0000 0 0 0:0"),
    ] {
        let stat = facts.get(&format!("stat /data{name}"));
        assert!(stat.starts_with(found), "{name}: {facts}");
    }
}
