//! Hostile or damaged images: an error that names blob and entry, nothing outside the store is touched, no
//! partial layer is visible.

use crate::images::{Images, base};
use crate::layout::{Archive, Layout, gzip};
use crate::sandbox::brig_only;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// Everything below a directory.
fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(path) = open.pop() {
        found.push(path.display().to_string());
        if path.symlink_metadata().unwrap().is_dir() {
            open.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
    }
    found.sort();
    found
}

/// A directory that hostile links lead to, with a short path that fits into a header.
struct Victim(PathBuf);

impl Victim {
    fn path(images: &Images) -> PathBuf {
        std::env::temp_dir().join(format!("victim-{}", images.sandbox.id))
    }

    fn new(images: &Images) -> Victim {
        let victim = Victim(Victim::path(images));
        fs::create_dir(&victim.0).unwrap();
        victim
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        crate::tree::remove(&self.0).unwrap();
    }
}

/// Checks that the image's second layer is refused with this message, its blob is named, and nothing is left.
#[track_caller]
fn refused(images: &Images, layout: &Layout, words: &[&str]) {
    let victim = Victim::new(images);
    fs::write(victim.0.join("file"), "untouched").unwrap();
    let image = layout.finish("v1", &json!({}));
    let before = listing(&victim.0);
    let bundle = images.sandbox.dir.join("bundle-of-image");
    let said = images.brig(&["bundle", &image, bundle.to_str().unwrap()]).fails();
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    assert!(!bundle.exists(), "{said}");
    assert_eq!(listing(&victim.0), before, "{said}");
    assert_eq!(fs::read_to_string(victim.0.join("file")).unwrap(), "untouched");
    let tmp = images.store().join("tmp");
    assert_eq!(fs::read_dir(tmp).unwrap().count(), 0, "{said}");
    let layers = fs::read_dir(images.store().join("layers")).unwrap().flatten();
    for layer in layers {
        assert!(layer.path().join("layer.json").exists(), "half a layer: {said}");
    }
}

#[test]
fn entries_that_lead_out_of_the_image_are_refused() {
    brig_only!();
    let images = Images::new();
    let victim = Victim::path(&images).display().to_string();
    let outside = format!("../../../../../../../../../../..{victim}/file");
    let table: Vec<(&str, Archive, &str)> = vec![
        ("dots", Archive::new().file("a/../../x", b""), "a/../../x"),
        ("hard link", Archive::new().hard_link("x", &outside), "entry x"),
        ("absolute hard link", Archive::new().hard_link("x", "/no/such/file"), "entry x"),
        ("hard link to nothing", Archive::new().hard_link("x", "no/such/file"), "entry x"),
        (
            "hard link by link",
            Archive::new().symlink("evil", &victim).hard_link("x", "evil/file"),
            "entry x",
        ),
        ("hard link to a directory", Archive::new().dir("d").hard_link("x", "d"), "entry x"),
        ("whiteout of nothing", Archive::new().file("a/.wh.", b""), "a/.wh."),
        ("whiteout of the directory above", Archive::new().file("a/.wh...", b""), "a/.wh..."),
        ("unknown", Archive::new().raw(b'V', b"volume", b"", 0o644, b""), "volume"),
        (
            "file as root",
            Archive::new().file("./", b"").raw(b'2', b".", b"x", 0o777, b""),
            "entry .",
        ),
        ("file as directory", Archive::new().file("f", b"").file("f/x", b""), "f/x"),
        ("file below as directory", Archive::new().file("etc/base/x", b""), "etc/base/x"),
        (
            "device as directory",
            Archive::new().raw(b'3', b"d", b"", 0o666, b"").file("d/x", b""),
            "d/x",
        ),
        ("NUL", Archive::new().pax(&[("path", b"a\0b")]).file("x", b""), "NUL"),
        ("header", Archive::new().pax(&[("comment", &[b'x'; 2 << 20])]), "extended header"),
        (
            "hard link to a whiteout",
            Archive::new().file(".wh.etc", b"").hard_link("x", ".wh.etc"),
            "entry x",
        ),
        ("whiteout of itself", Archive::new().file(".wh.", b""), "entry .wh."),
        ("no id", Archive::new().pax(&[("uid", b"4294967295")]).file("x", b""), "entry x"),
    ];
    for (name, archive, entry) in table {
        let mut layout = images.layout(&format!("image {name}"));
        layout.layer(base()).layer(archive);
        refused(&images, &layout, &[&layout.layer_digest(1), entry]);
    }
}

/// Every way to write below `evil`, and the resulting name.
fn writes() -> Vec<(&'static str, Archive)> {
    vec![
        ("file", Archive::new().file("evil/new", b"inside")),
        ("directory", Archive::new().dir("evil/new")),
        ("whiteout", Archive::new().file("evil/.wh.file", b"")),
        ("opaque", Archive::new().file("evil/.wh..wh..opq", b"")),
        ("fifo", Archive::new().raw(b'6', b"evil/new", b"", 0o666, b"")),
        ("hard link", Archive::new().file("x", b"").hard_link("evil/new", "x")),
    ]
}

#[test]
fn a_write_through_a_link_lands_inside_the_image() {
    brig_only!();
    let images = Images::new();
    let victim = Victim::new(&images);
    fs::write(victim.0.join("file"), "untouched").unwrap();
    let before = listing(&victim.0);
    let absolute = victim.0.display().to_string();
    let inside = absolute.trim_start_matches('/').to_owned();
    let climbing = format!("../../../../../../../../../../../..{absolute}");
    for (name, to, lands) in [
        ("absolute", absolute.as_str(), inside.as_str()),
        ("climbing", climbing.as_str(), inside.as_str()),
        ("absolute to what the image has", "/etc", "etc"),
        ("climbing back", "../etc", "etc"),
        ("to a link", "on", ""),
    ] {
        let link = |archive: Archive| archive.symlink("evil", to).symlink("on", "../..");
        for (kind, top) in writes() {
            // The link is in a lower layer, or in the same one.
            for same in [false, true] {
                let mut layout = images.layout(&format!("image {name} {kind} {same}"));
                match same {
                    true => layout.layer(base()).layer(link(Archive::new()).then(&top)),
                    false => layout.layer(link(base())).layer(top.clone()),
                };
                let image = layout.finish("v1", &json!({}));
                let bundle = images.bundle(&image, &format!("{name} {kind} {same}"));
                let made = images
                    .layers(&bundle)
                    .into_iter()
                    .any(|layer| layer.join(lands).join("new").symlink_metadata().is_ok());
                let makes = !["whiteout", "opaque"].contains(&kind);
                assert_eq!(made, makes, "{name} {kind} {same}");
                assert_eq!(listing(&victim.0), before, "{name} {kind} {same}");
            }
        }
    }
    assert_eq!(fs::read_to_string(victim.0.join("file")).unwrap(), "untouched");
}

#[test]
fn a_write_through_a_link_that_leads_nowhere_is_refused() {
    brig_only!();
    let images = Images::new();
    for (name, to) in [("to a file", "etc/both"), ("to itself", "evil")] {
        for (kind, top) in writes() {
            if name == "to a file" && ["whiteout", "opaque"].contains(&kind) {
                // Nothing is below a file, so there is nothing to hide.
                continue;
            }
            let mut layout = images.layout(&format!("image {name} {kind}"));
            layout.layer(base().symlink("evil", to)).layer(top);
            refused(&images, &layout, &[&layout.layer_digest(1), "entry evil/"]);
        }
    }
}

#[test]
fn a_hard_link_to_what_a_link_of_an_earlier_layer_leads_to_stays_in_the_image() {
    brig_only!();
    let images = Images::new();
    let victim = Victim::path(&images).display().to_string();
    for (name, to) in [("absolute", victim.as_str()), ("climbing", "../../../../../tmp")] {
        let mut layout = images.layout(&format!("image {name}"));
        layout.layer(base().symlink("evil", to)).layer(Archive::new().hard_link("x", "evil/file"));
        refused(&images, &layout, &[&layout.layer_digest(1), "entry x"]);
    }
}

#[test]
fn a_damaged_blob_is_refused() {
    brig_only!();
    let images = Images::new();
    let plain = Archive::new().file("file", &vec![b'x'; 100_000]).bytes();
    let whole = gzip(&plain);
    let change = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (name, blob, words) in [
        ("another digest", change(whole.len() / 2), "digest"),
        ("another digest at the end", change(whole.len() - 1), "digest"),
        ("short", whole[..whole.len() - 1].to_vec(), "bytes"),
        ("long", [whole.as_slice(), b"x"].concat(), "bytes"),
        ("empty", Vec::new(), "bytes"),
    ] {
        let mut layout = images.layout(&format!("image {name}"));
        layout.layer(base()).layer_of(&plain, &whole);
        fs::write(layout.path(&layout.layer_digest(1)), blob).unwrap();
        refused(&images, &layout, &[&layout.layer_digest(1), words]);
    }
    // Its digest is valid, its content is not.
    let other = Archive::new().file("other", b"").bytes();
    for (name, plain, blob, words) in [
        ("another diff id", &other, whole.clone(), "without compression"),
        ("cut off", &plain, whole[..whole.len() / 2].to_vec(), ""),
        ("tar cut off", &plain, gzip(&plain[..50_000]), "middle of an entry"),
        ("no tar", &plain, gzip(&[7; 5000]), "not a tar archive"),
        ("bzip2", &plain, b"BZh91AY".to_vec(), "bzip2"),
    ] {
        let mut layout = images.layout(&format!("image {name}"));
        layout.layer(base()).layer_of(plain, &blob);
        refused(&images, &layout, &[&layout.layer_digest(1), words]);
    }
}

#[test]
fn a_bomb_is_refused() {
    brig_only!();
    let images = Images::new();
    // A file of 6 GiB of zeros, in chunks that are compressed once.
    let mut header = Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_size(6 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    let chunk = gzip(&vec![0; 64 << 20]);
    let mut blob = gzip(header.as_bytes());
    (0..96).for_each(|_| blob.extend_from_slice(&chunk));
    blob.extend_from_slice(&gzip(&[0; 1024]));
    let mut layout = images.layout("image");
    layout.layer(base()).layer_of(b"whatever", &blob);
    refused(&images, &layout, &[&layout.layer_digest(1), "bomb", "100 times"]);
}

#[test]
fn holes_without_end_are_refused() {
    brig_only!();
    let images = Images::new();
    // A file of 1 TiB with one byte of data.
    let size = (1_u64 << 40).to_string();
    let mut content = b"1\n0\n1\n".to_vec();
    content.resize(512, 0);
    content.push(b'x');
    let bomb = Archive::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"holes"),
            ("GNU.sparse.realsize", size.as_bytes()),
        ])
        .file("x", &content);
    let mut layout = images.layout("image");
    layout.layer(base()).layer(bomb);
    refused(&images, &layout, &[&layout.layer_digest(1), "holes", "64 GiB"]);
}

#[test]
fn indexes_that_name_each_other_over_and_over_are_refused() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    layout.finish("v1", &json!({}));
    // 50³ indexes, each of which would be read.
    let index = |inner: serde_json::Value| {
        json!({"schemaVersion": 2, "manifests": vec![inner; 50]}).to_string().into_bytes()
    };
    let nothing = layout.blob("index.v1+json", br#"{"schemaVersion":2,"manifests":[]}"#);
    let inner = layout.blob("index.v1+json", &index(nothing));
    let outer = layout.blob("index.v1+json", &index(inner));
    fs::write(layout.dir.join("index.json"), index(outer)).unwrap();
    let image = layout.dir.display().to_string();
    let bundle = images.sandbox.dir.join("bundle-of-image");
    let absent = format!("{image}@sha256:{}", "0".repeat(64));
    for image in [image, absent] {
        images.brig(&["bundle", &image, bundle.to_str().unwrap()]).fails_with("more than 1000");
    }
    assert!(!bundle.exists());
}

#[test]
fn what_an_archive_says_twice_is_as_it_says_last() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    let twice = Archive::new()
        .file("file", b"1")
        .hard_link("linked", "file")
        .file("file", b"22")
        .dir("dir/")
        .file("dir/x", b"")
        .file("dir", b"a file")
        .dir("dir/")
        .file("dir/y", b"")
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .dir("etc/")
        .file("tmp/.wh.gone", b"")
        .file("tmp/gone", b"again");
    layout.layer(base().file("tmp/gone", b"")).layer(twice);
    let image = layout.finish("v1", &json!({}));
    let bundle = images.bundle(&image, "bundle-of-image");
    let script = "read /file ; read /linked ; list /dir ; read /etc/base ; read /tmp/gone";
    let facts = images.facts(&bundle, script);
    // Replaced, not written through the other name.
    assert_eq!((facts.get("read /file"), facts.get("read /linked")), ("\"22\"", "\"1\""));
    assert_eq!(facts.all("entry /dir"), ["y"]);
    // No attribute in an archive makes a directory opaque.
    assert_eq!(facts.get("read /etc/base"), "\"base\"");
    assert_eq!(facts.get("read /tmp/gone"), "\"again\"");
}

#[test]
fn an_unpack_that_is_interrupted_is_never_visible() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    // Large enough to be observed while it is unpacked.
    let noise: Vec<u8> =
        (0..24_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    layout.layer(base().file("noise", &noise));
    let image = layout.finish("v1", &json!({}));
    let bundle = images.sandbox.dir.join("bundle-of-image");
    let store = images.store();
    let args = ["--store", store.to_str().unwrap(), "bundle", &image, bundle.to_str().unwrap()];
    let mut interrupted = 0;
    for delay in [5_u64, 20, 40, 80, 150] {
        let mut running = images.sandbox.command(&args).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        running.kill().unwrap();
        interrupted += usize::from(!running.wait().unwrap().success());
        for layer in fs::read_dir(store.join("layers")).into_iter().flatten().flatten() {
            assert!(layer.path().join("layer.json").exists());
            assert_eq!(fs::read(layer.path().join("fs/noise")).unwrap().len(), noise.len());
        }
        if bundle.exists() {
            fs::remove_dir_all(&bundle).unwrap();
        }
    }
    assert!(interrupted > 0, "no delay was short enough");
    // What they left is not an obstacle.
    let bundle = images.bundle(&image, "bundle-of-image");
    assert_eq!(fs::read(images.layers(&bundle)[0].join("noise")).unwrap(), noise);
    assert_eq!(fs::read_dir(store.join("tmp")).unwrap().count(), 0);
}

#[test]
fn labels_that_runtimes_act_on_are_left_out() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    let labels = json!({"Labels": {"run.brig.overlay.work": "/etc", "fine": "yes"}});
    let image = layout.finish("v1", &labels);
    let bundle = images.sandbox.dir.join("bundle-of-image");
    let done = images.brig(&["bundle", &image, bundle.to_str().unwrap()]).ok();
    assert!(done.stderr.contains("run.brig.overlay.work"), "{done:?}");
    let config = images.config(&bundle);
    assert_eq!(config["annotations"]["fine"], "yes");
    assert_ne!(config["annotations"]["run.brig.overlay.work"], "/etc");
}

#[test]
fn a_config_with_another_number_of_layers_is_refused() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base()).layer(Archive::new().file("x", b""));
    layout.layers.pop();
    let image = layout.finish("v1", &json!({}));
    let bundle = images.sandbox.dir.join("bundle-of-image");
    let done = images.brig(&["bundle", &image, bundle.to_str().unwrap()]);
    done.fails_with("the manifest has 1 layers, the config 2");
    assert!(!bundle.exists());
}

#[test]
fn a_user_that_the_image_does_not_have_is_refused() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base());
    let image = layout.finish("v1", &json!({"User": "nobody-there"}));
    let bundle = images.sandbox.dir.join("bundle-of-image");
    let done = images.brig(&["bundle", &image, bundle.to_str().unwrap()]);
    done.fails_with("nobody-there");
    assert!(!bundle.exists());
}
