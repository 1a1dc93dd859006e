//! Unusual images that other engines accept: duplicate layers, absolute names, archives without end blocks,
//! whiteouts of nothing, links of layers below, deep trees, other platforms, other media types.

use crate::images::{Images, base};
use crate::layout::{Archive, Layout, gzip};
use crate::sandbox::brig_only;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

impl Images {
    /// An image of the base and these layers.
    pub fn image_of(&self, name: &str, layers: &[Archive]) -> String {
        let mut layout = self.layout(name);
        layout.layer(base());
        for layer in layers {
            layout.layer(layer.clone());
        }
        layout.finish("v1", &json!({}))
    }

    /// The output of a script of the test process in such an image.
    #[track_caller]
    pub fn said(&self, name: &str, layers: &[Archive], script: &str) -> crate::facts::Facts {
        let image = self.image_of(&format!("image {name}"), layers);
        let bundle = self.bundle(&image, &format!("bundle {name}"));
        self.facts(&bundle, script)
    }
}

#[test]
fn a_layer_may_be_in_an_image_more_than_once() {
    brig_only!();
    let images = Images::new();
    let a = Archive::new().file("x", b"1").dir("d").file("d/a", b"a");
    let b = Archive::new().file(".wh.x", b"").file("d/b", b"b").file("d/.wh.a", b"");
    let none = Archive::new();
    let script = "read /x ; list /d";
    let table = [
        ("empty twice", vec![a.clone(), none.clone(), none.clone()], "\"1\"", vec!["a"]),
        ("adjacent", vec![a.clone(), a.clone()], "\"1\"", vec!["a"]),
        ("removed between", vec![a.clone(), b.clone(), a.clone()], "\"1\"", vec!["a", "b"]),
        (
            "base again",
            vec![a.clone(), base(), b.clone(), base(), a.clone()],
            "\"1\"",
            vec!["a", "b"],
        ),
        (
            "a directory removed between",
            vec![a.clone(), Archive::new().file(".wh.d", b""), a.clone()],
            "\"1\"",
            vec!["a"],
        ),
        (
            "a directory that is a file between",
            vec![a.clone(), Archive::new().file("d", b"file"), a.clone()],
            "\"1\"",
            vec!["a"],
        ),
        (
            "a link between to a file of the first",
            vec![a.clone(), Archive::new().hard_link("d/b", "x"), a],
            "\"1\"",
            vec!["a", "b"],
        ),
    ];
    for (name, layers, x, d) in table {
        let facts = images.said(name, &layers, script);
        assert_eq!((facts.get("read /x"), facts.all("entry /d")), (x, d), "{name}");
    }
    // One diff id with two compressions.
    let mut layout = images.layout("packed twice");
    let plain = Archive::new().file("y", b"2").bytes();
    layout.layer(base()).layer_of(&plain, &plain).layer_of(&plain, &gzip(&plain));
    let image = layout.finish("v1", &json!({}));
    let bundle = images.bundle(&image, "bundle packed twice");
    assert_eq!(images.facts(&bundle, "read /y").get("read /y"), "\"2\"");
}

#[test]
fn names_that_begin_with_a_slash_are_those_without() {
    brig_only!();
    let images = Images::new();
    let low = Archive::new().dir("/usr").file("/usr/gone", b"").file("//usr/./p", b"one");
    let top = Archive::new().hard_link("/usr/q", "/usr/p").file("/usr/.wh.gone", b"");
    let facts = images.said("image", &[low, top], "list /usr ; read /usr/q");
    assert_eq!(facts.all("entry /usr"), ["p", "q"]);
    assert_eq!(facts.get("read /usr/q"), "\"one\"");
}

#[test]
fn a_file_whose_name_ends_with_a_slash_hides_no_entries() {
    brig_only!();
    let images = Images::new();
    let hidden = Archive::new().file("hidden", b"").bytes();
    let layers = [Archive::new().raw(b'0', b"q/", b"", 0o644, &hidden[..512]).file("after", b"")];
    let facts = images.said("image", &layers, "read /after ; read /hidden ; list /q");
    assert_eq!(facts.get("read /after"), "\"\"");
    assert_eq!(facts.get("read /hidden"), "ENOENT");
    assert_eq!(facts.get("list /q"), "ENOTDIR");
}

#[test]
fn an_archive_may_end_with_its_last_byte_of_data() {
    brig_only!();
    let images = Images::new();
    let whole = Archive::new().dir("d").file("d/last", b"hello").bytes();
    let data = whole.windows(5).position(|bytes| bytes == b"hello").unwrap() + 5;
    let mut layout = images.layout("image");
    layout.layer(base()).layer_of(&whole[..data], &gzip(&whole[..data]));
    let bundle = images.bundle(&layout.finish("v1", &json!({})), "bundle-of-image");
    assert_eq!(images.facts(&bundle, "read /d/last").get("read /d/last"), "\"hello\"");
    let mut layout = images.layout("cut");
    layout.layer(base()).layer_of(&whole[..data - 1], &gzip(&whole[..data - 1]));
    let image = layout.finish("v1", &json!({}));
    let bundle = images.sandbox.dir.join("bundle of cut");
    let said = images.brig(&["bundle", &image, bundle.to_str().unwrap()]).fails();
    let offset = format!("truncated: it ends at offset {}", data - 1);
    assert!(said.contains(&offset) && said.contains("d/last"), "{said}");
}

#[test]
fn whiteouts_of_nothing_show_no_name() {
    brig_only!();
    let images = Images::new();
    let nothing = Archive::new().file("x/.wh.gone", b"").file("x/y/.wh.gone", b"");
    let opaque = Archive::new()
        .dir("o")
        .file("o/.wh..wh..opq", b"")
        .file("o/.wh.gone", b"")
        .file("o/kept", b"");
    let script = "list /x ; list /x/y ; list /o";
    for (name, layers) in [
        ("one", vec![nothing.clone().then(&opaque)]),
        ("two", vec![Archive::new().dir("o").file("o/gone", b""), nothing.clone().then(&opaque)]),
        ("twice", vec![nothing.clone(), nothing.then(&opaque)]),
    ] {
        let facts = images.said(name, &layers, script);
        assert_eq!(facts.all("entry /x"), ["y"], "{name}");
        assert_eq!(facts.all("entry /x/y"), [""; 0], "{name}");
        assert_eq!(facts.all("entry /o"), ["kept"], "{name}");
    }
}

#[test]
fn a_directory_that_a_layer_empties_is_still_the_one_below() {
    brig_only!();
    let images = Images::new();
    let Some(shell) = crate::images_commit::shell() else { return };
    let opaque = || Archive::new().file("d/.wh..wh..opq", b"");
    let below = |name: &str| Archive::new().raw(b'5', name.as_bytes(), b"", 0o1777, b"");
    for (name, first, top, facts) in [
        ("attributes", below("d").file("d/old", b""), opaque().file("d/new", b""), "1777 new"),
        ("link", below("r").symlink("d", "r").file("r/old", b""), opaque(), "1777"),
        ("file", Archive::new().file("d", b""), opaque().file("d/.wh.x", b""), "644 d"),
    ] {
        let mut layout = images.layout(name);
        layout.layer(shell.clone()).layer(first).layer(top);
        let image = layout.finish("v1", &json!({"Env": ["PATH=/bin"]}));
        let said = images.prints(&image, "stat -L -c %a /d; cd /; ls d; test ! -e r || test -h d");
        assert_eq!(said.split_whitespace().collect::<Vec<_>>().join(" "), facts, "{name}");
    }
}

#[test]
fn what_a_layer_removes_and_has_things_below_is_a_new_directory() {
    brig_only!();
    let images = Images::new();
    let low = Archive::new().dir("w").file("w/old", b"").file("f", b"file");
    let top = Archive::new()
        .file(".wh.w", b"")
        .file("w/new", b"")
        .file("w/deep/er", b"")
        .file(".wh.f", b"")
        .file("f/x", b"");
    let facts = images.said("image", &[low, top], "list /w ; list /f");
    assert_eq!(facts.all("entry /w"), ["deep", "new"]);
    assert_eq!(facts.all("entry /f"), ["x"]);
}

#[test]
fn a_tree_of_a_thousand_levels_is_unpacked() {
    brig_only!();
    let images = Images::new();
    let path = "d/".repeat(1000) + "file";
    let deep = Archive::new().pax(&[("path", path.as_bytes())]).file("x", b"deep");
    let image = images.image_of("image", &[deep]);
    let begun = std::time::Instant::now();
    let bundle = images.bundle(&image, "bundle-of-image");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    let layers = images.layers(&bundle);
    assert!(
        layers.iter().any(|layer| fs::read(layer.join(&path)).is_ok_and(|text| text == b"deep"))
    );
}

/// An image for a platform, identified by its file.
fn of_platform(images: &Images, name: &str, platform: Option<&str>, config: &str) -> Value {
    let mut layout = images.layout("all");
    layout.layer(base()).layer(Archive::new().file("name", name.as_bytes()));
    layout.finish("v1", &json!({}));
    let mut index = index(&layout);
    let manifest: Value = {
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        serde_json::from_slice(&fs::read(layout.path(digest)).unwrap()).unwrap()
    };
    let path = layout.path(manifest["config"]["digest"].as_str().unwrap());
    let mut of_image: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    of_image["architecture"] = config.into();
    let blob = layout.blob("config.v1+json", of_image.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "config": blob, "layers": manifest["layers"]});
    let kind = "manifest.v1+json";
    let mut described = layout.blob(kind, manifest.to_string().as_bytes());
    if let Some(platform) = platform {
        let parts: Vec<&str> = platform.split('/').collect();
        described["platform"] = json!({"os": parts[0], "architecture": parts[1]});
        if let Some(variant) = parts.get(2) {
            described["platform"]["variant"] = json!(variant);
        }
    }
    index["manifests"] = json!([]);
    described
}

fn index(layout: &Layout) -> Value {
    serde_json::from_slice(&fs::read(layout.dir.join("index.json")).unwrap()).unwrap()
}

#[test]
fn of_several_platforms_this_one_is_taken_or_the_one_that_is_asked_for() {
    brig_only!();
    let images = Images::new();
    let (own, other) = match std::env::consts::ARCH {
        "aarch64" => ("arm64", "amd64"),
        _ => ("amd64", "arm64"),
    };
    let linux = |architecture: &str| format!("linux/{architecture}");
    let newer = format!("linux/{own}/v9");
    for (kind, named) in [("with platforms", true), ("without", false)] {
        let mut all = vec![
            of_platform(
                &images,
                "other",
                Some(&linux(other)).filter(|_| named).map(String::as_str),
                other,
            ),
            of_platform(
                &images,
                "own",
                Some(&linux(own)).filter(|_| named).map(String::as_str),
                own,
            ),
            of_platform(&images, "attestation", Some("unknown/unknown"), ""),
        ];
        if named {
            all.insert(0, of_platform(&images, "newer", Some(&newer), own));
        }
        let layout = images.layout("all");
        let text = json!({"schemaVersion": 2, "manifests": all}).to_string();
        fs::write(layout.dir.join("index.json"), &text).unwrap();
        let nested = layout.blob("index.v1+json", text.as_bytes());
        for (shape, text) in
            [("flat", text.clone()), ("nested", json!({"manifests": [nested]}).to_string())]
        {
            fs::write(layout.dir.join("index.json"), &text).unwrap();
            let image = layout.dir.to_str().unwrap();
            for (asked, name) in [(None, "own"), (Some(linux(other)), "other")] {
                let bundle = images.sandbox.dir.join(format!("{kind} {shape} {name}"));
                let mut args = vec!["bundle"];
                args.extend(asked.iter().flat_map(|asked| ["--platform", asked.as_str()]));
                args.extend([image, bundle.to_str().unwrap()]);
                images.brig(&args).ok();
                let top = images.layers(&bundle).pop().unwrap();
                assert_eq!(fs::read_to_string(top.join("name")).unwrap(), name, "{kind} {shape}");
            }
            let bundle = images.sandbox.dir.join("none");
            let args = ["bundle", "--platform", "linux/s390x", image, bundle.to_str().unwrap()];
            images.brig(&args).fails_with("no image for platform linux/s390x");
        }
    }
}

#[test]
fn layers_and_images_that_are_none_are_refused_by_their_media_type() {
    brig_only!();
    let images = Images::new();
    for (kind, hint) in [
        ("application/vnd.in-toto+json", "attestation"),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "--decryption-key"),
        ("application/vnd.wasm.content.layer.v1+wasm", "tar archives"),
        ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "tar archives"),
    ] {
        let mut layout = images.layout(&format!("image {}", kind.replace('/', "-")));
        layout.layer(base()).layer_of(b"{}", b"{}");
        layout.layers[1]["mediaType"] = kind.into();
        let image = layout.finish("v1", &json!({}));
        let bundle = images.sandbox.dir.join("bundle-of-image");
        let said = images.brig(&["bundle", &image, bundle.to_str().unwrap()]).fails();
        assert!(said.contains(kind) && said.contains(hint), "{said}");
        assert!(!said.contains("damaged") && !bundle.exists(), "{said}");
    }
    // A foreign layer whose blob exists is used.
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let mut layout = images.layout("foreign");
    layout.layer(base()).layer(Archive::new().file("x", b"1"));
    layout.layers[1]["mediaType"] = foreign.into();
    let image = layout.finish("v1", &json!({}));
    fs::remove_file(layout.path(&layout.layer_digest(1))).unwrap();
    let bundle = images.sandbox.dir.join("bundle-of-image");
    let said = images.brig(&["bundle", &image, bundle.to_str().unwrap()]).fails();
    assert!(said.contains(foreign) && said.contains("foreign layer"), "{said}");
}

#[test]
fn only_regular_files_of_a_layout_are_opened() {
    brig_only!();
    let images = Images::new();
    let zero = |path: &std::path::Path| symlink("/dev/zero", path).unwrap();
    let fifo = |path: &std::path::Path| {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    };
    for (name, make) in [("zero", &zero as &dyn Fn(&std::path::Path)), ("fifo", &fifo)] {
        for file in ["oci-layout", "index.json", "layer"] {
            let mut layout = images.layout(&format!("image {name} {file}"));
            layout.layer(base());
            let image = layout.finish("v1", &json!({}));
            let path = match file {
                "layer" => layout.path(&layout.layer_digest(0)),
                file => layout.dir.join(file),
            };
            fs::remove_file(&path).unwrap();
            make(&path);
            let bundle = images.sandbox.dir.join("bundle-of-image");
            let begun = std::time::Instant::now();
            images
                .brig(&["bundle", &image, bundle.to_str().unwrap()])
                .fails_with("is not a regular file");
            assert!(begun.elapsed().as_secs() < 5, "{name} {file}: {:?}", begun.elapsed());
        }
    }
}

#[test]
fn a_users_groups_and_home_are_those_of_its_passwd_entry() {
    brig_only!();
    let images = Images::new();
    let etc = Archive::new()
        .dir("etc")
        .file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n")
        .file("etc/group", b"wheel:x:10:root\ntape:x:7:bin,web\nweb:x:44:web\n");
    for (user, uid, gid, groups, home) in [
        (json!("web"), 33, 44, json!([7, 44]), "/srv"),
        (json!("33"), 33, 44, json!([7, 44]), "/srv"),
        (json!("33:5"), 33, 5, json!([5]), "/srv"),
        (json!("99"), 99, 0, json!([0]), "/"),
        (json!(""), 0, 0, json!([10]), "/root"),
    ] {
        let mut layout = images.layout(&format!("image {user}"));
        layout.layer(base()).layer(etc.clone());
        let image = layout.finish("v1", &json!({"User": user}));
        let config = images.config(&images.bundle(&image, &format!("bundle {user}")));
        let said = &config["process"]["user"];
        assert_eq!((&said["uid"], &said["gid"]), (&json!(uid), &json!(gid)), "{user}");
        assert_eq!(said["additionalGids"], groups, "{user}");
        let env = config["process"]["env"].as_array().unwrap();
        assert!(env.contains(&json!(format!("HOME={home}"))), "{env:?}");
        let terminal = env.iter().any(|variable| variable.as_str().unwrap().starts_with("TERM="));
        assert!(!terminal, "{env:?}");
    }
}
