//! `diff` and `commit` beside mounts: what brig creates for them, and what the container does there.

use crate::images::Images;
use crate::images_commit::{shell, top_layer};
use crate::layout::Archive;
use crate::sandbox::brig_only;
use serde_json::json;
use std::fs;

/// The flags for a volume mounted at each of these places: of a directory, or of a file if the name contains a dot.
fn volumes(images: &Images, places: &[&str]) -> Vec<String> {
    let dir = &images.sandbox.dir;
    fs::create_dir_all(dir.join("volume")).unwrap();
    fs::write(dir.join("volume.file"), "v").unwrap();
    let source = |place: &str| dir.join(if place.contains('.') { "volume.file" } else { "volume" });
    let flag = |place: &&str| format!("--volume={}:{place}", source(place).display());
    places.iter().map(flag).collect()
}

/// Adds a bind mount of a directory, or of a file if the name contains a dot.
fn add_mount(images: &Images, place: &str) {
    let name = if place.contains('.') { "volume.file" } else { "volume" };
    let source = images.sandbox.dir.join(name);
    let mounts = json!([{"destination": place, "source": source, "options": ["bind"]}]);
    let file = images.sandbox.dir.join("mounts.json");
    fs::write(&file, mounts.to_string()).unwrap();
    images.brig(&["mounts", "add", &images.sandbox.id, file.to_str().unwrap()]).ok();
}

fn start_with(images: &Images, image: &str, places: &[&str], script: &str) {
    let flags = volumes(images, places);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    images.start(&flags, image, &format!("{script}\necho ready; exec sleep 1000"));
}

#[test]
fn permissions_of_directories_that_lead_to_mounts_are_changes() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    let places = ["/kept/vol", "/opt/a/b", "/quiet/c", "/quiet/d.file"];
    let script = "chmod 700 /kept; chown 5:6 /opt/a; chmod 711 /opt";
    start_with(&images, &image, &places, script);
    assert_eq!(images.diff(&id), ["C /kept", "A /opt", "A /opt/a"]);
    images.brig(&["commit", &id, "out:v2"]).ok();
    let top = top_layer(&images.sandbox.dir.join("out"), "v2");
    let of = |name: &str| (top[name].1, top[name].2, top[name].3);
    assert_eq!(top.keys().collect::<Vec<_>>(), ["kept/", "opt/", "opt/a/"]);
    let found = ["kept/", "opt/", "opt/a/"].map(of);
    assert_eq!(found, [(0o700, 0, 0), (0o711, 0, 0), (0o755, 5, 6)]);
}

#[test]
fn what_the_container_made_stays_its_own_when_something_is_mounted_there() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    let script = "mkdir /srv /srv/x; : >/srv/a.conf; mkdir -m 700 /mine";
    start_with(&images, &image, &["/data"], script);
    let own = ["A /mine", "A /srv", "A /srv/a.conf", "A /srv/x"];
    assert_eq!(images.diff(&id), own);
    for place in ["/srv/x", "/srv/a.conf", "/srv/new/deep", "/other/new", "/mine/b.conf"] {
        add_mount(&images, place);
        assert_eq!(images.diff(&id), own, "{place}");
    }
    let change = ["exec", &id, "/bin/chmod", "711", "/srv/new", "/other"];
    images.sandbox.brig(&change).ok();
    let mut expected = own.to_vec();
    expected.extend(["A /srv/new", "A /other"]);
    expected.sort_by_key(|line| &line[2..]);
    assert_eq!(images.diff(&id), expected);
}

#[test]
fn mount_points_that_links_of_the_image_lead_to_are_not_changes() {
    brig_only!();
    let images = Images::new();
    let Some(base) = shell() else { return };
    let mut layout = images.layout("image");
    let links = Archive::new().dir("real/").symlink("ln", "/real").symlink("run", "real/run");
    layout.layer(base).layer(links);
    let image = layout.finish("v1", &json!({"Env": ["PATH=/bin"]}));
    let id = images.sandbox.id.clone();
    let places = ["/ln/point", "/ln/point.file", "/run/deep/point"];
    start_with(&images, &image, &places, "echo x >/tmp/new");
    let own = ["C /tmp", "A /tmp/new"];
    assert_eq!(images.diff(&id), own);
    add_mount(&images, "/ln/later");
    add_mount(&images, "/run/later.file");
    assert_eq!(images.diff(&id), own);
    images.brig(&["commit", &id, "out:v2"]).ok();
    let top = top_layer(&images.sandbox.dir.join("out"), "v2");
    assert_eq!(top.keys().collect::<Vec<_>>(), ["tmp/", "tmp/new"]);
}

#[test]
fn what_takes_the_place_of_a_file_of_the_init_layer_is_the_containers() {
    brig_only!();
    let images = Images::new();
    let Some(base) = shell() else { return };
    let mut layout = images.layout("image");
    layout.layer(base.file("etc/resolv.conf", b""));
    let image = layout.finish("v1", &json!({"Env": ["PATH=/bin"]}));
    let id = images.sandbox.id.clone();
    // The image has none of the first two, and the third.
    let script = "
        echo y >>/etc/hostname
        rm /etc/hosts /etc/resolv.conf /etc/mtab
        mkdir -p /etc/mtab/x; echo i >/etc/mtab/x/y
    ";
    images.keep(&image, &id, script);
    let expected =
        ["C /etc", "A /etc/mtab", "A /etc/mtab/x", "A /etc/mtab/x/y", "D /etc/resolv.conf"];
    assert_eq!(images.diff(&id), expected);
    images.brig(&["commit", &id, "out:v2"]).ok();
    let top = top_layer(&images.sandbox.dir.join("out"), "v2");
    let names = ["etc/", "etc/.wh.resolv.conf", "etc/mtab/", "etc/mtab/x/", "etc/mtab/x/y"];
    assert_eq!(top.keys().collect::<Vec<_>>(), names);
    assert_eq!(images.prints("out:v2", "cat /etc/mtab/x/y"), "i\n");
    // Deleted with its directory.
    let other = format!("{id}-other");
    images.keep(&image, &other, "rm -r /etc; mkdir /etc");
    let gone =
        ["both", "base", "group", "passwd", "resolv.conf"].map(|name| format!("D /etc/{name}"));
    let mut expected = vec!["C /etc".to_owned()];
    expected.extend(gone);
    expected.sort();
    let mut found = images.diff(&other);
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_directory_that_was_made_again_is_compared_with_that_of_the_image() {
    brig_only!();
    let images = Images::new();
    let Some(base) = shell() else { return };
    let mut layout = images.layout("image");
    let data = Archive::new().dir("data/").file("data/f", b"f").dir("data/sub/");
    layout.layer(base).layer(data.file("data/sub/x", b"x"));
    let image = layout.finish("v1", &json!({"Env": ["PATH=/bin"]}));
    let id = images.sandbox.id.clone();
    images.keep(
        &image,
        &id,
        "rm -r /data; mkdir -p /data/sub; echo new >/data/f; echo 1 >/data/sub/y",
    );
    let expected = ["C /data", "C /data/f", "C /data/sub", "D /data/sub/x", "A /data/sub/y"];
    assert_eq!(images.diff(&id), expected);
    images.brig(&["commit", &id, "out:v2"]).ok();
    let top = top_layer(&images.sandbox.dir.join("out"), "v2");
    let names = ["data/", "data/.wh..wh..opq", "data/f", "data/sub/", "data/sub/y"];
    assert_eq!(top.keys().collect::<Vec<_>>(), names);
}
