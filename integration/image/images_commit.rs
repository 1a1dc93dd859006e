//! `commit` and `export`: from a container to an image; `gc`.

use crate::images::{Images, base};
use crate::images_peers::{assert_same, tool, tree};
use crate::layout::Archive;
use crate::sandbox::{brig_only, is_dynamic, skip};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Commands used in the scripts here.
const APPLETS: [&str; 16] = [
    "sh", "rm", "mkdir", "echo", "cat", "ls", "chmod", "chown", "mv", "ln", "sleep", "touch",
    "mkfifo", "rmdir", "find", "cut",
];

/// A base layer with a shell; None if the host has no static busybox.
pub fn shell() -> Option<Archive> {
    let programs = ["/bin/busybox", "/usr/bin/busybox"].map(|path| fs::read(path).ok());
    let program = programs.into_iter().flatten().find(|program| !is_dynamic(program));
    let Some(program) = program else {
        skip("no static busybox");
        return None;
    };
    let archive = base().dir("bin/").program("bin/busybox", &program);
    let archive = APPLETS
        .iter()
        .fold(archive, |archive, name| archive.symlink(&format!("bin/{name}"), "busybox"));
    let archive = archive
        .dir("dir/")
        .dir("dir/sub/")
        .file("dir/sub/x", b"x")
        .file("dir/y", b"y")
        .dir("gone/")
        .file("gone/z", b"z")
        .dir("kept/")
        .file("kept/k", b"k")
        .file("perm", b"p");
    Some(archive)
}

/// The script that most containers here run.
pub const SCRIPT: &str = "
    set -e
    echo new >/etc/new
    echo more >>/etc/both
    rm /etc/base
    chmod 600 /perm
    rm -r /gone; mkdir /gone; echo q >/gone/q
    mv /dir /moved
    ln /etc/new /hard
    ln /perm /perm2
    mkfifo /fifo
    mkdir -p /deep/er
    echo t >/tmp/t; rm /tmp/t
    echo '10.0.0.1 x' >>/etc/hosts
    echo v >/data/inside
    echo n >'/with
newline'
";

impl Images {
    /// An image with a shell, in the layout "image".
    pub fn shell(&self) -> Option<String> {
        let mut layout = self.layout("image");
        layout.layer(shell()?).layer(Archive::new().dir("etc/").file("etc/both", b"top\n"));
        let config = json!({"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "Volumes": {"/data": {}}});
        Some(layout.finish("v1", &config))
    }

    /// Runs a script in a container that is kept.
    #[track_caller]
    pub fn keep(&self, image: &str, id: &str, script: &str) {
        self.brig(&["run", "--keep", "--image", image, id, "--", "/bin/sh", "-c", script]).ok();
    }

    /// Starts a script that continues, and waits until it has printed "ready".
    #[track_caller]
    pub fn start(&self, options: &[&str], image: &str, script: &str) {
        let id = &self.sandbox.id;
        let args = ["--detach", "--image", image, id, "--", "/bin/sh", "-c", script];
        self.brig(&[&["run"], options, &args].concat()).ok().wait_for_line("ready");
    }

    /// The output of a script in a container of an image.
    #[track_caller]
    pub fn prints(&self, image: &str, script: &str) -> String {
        let id = format!("{}-prints", self.sandbox.id);
        self.brig(&["run", "--image", image, &id, "--", "/bin/sh", "-c", script]).ok().stdout
    }

    /// The lines of `diff`.
    #[track_caller]
    pub fn diff(&self, id: &str) -> Vec<String> {
        self.brig(&["diff", id]).ok().stdout.lines().map(str::to_owned).collect()
    }

    /// The bundle of a container in the store.
    pub fn own_bundle(&self, id: &str) -> PathBuf {
        self.store().join("containers").join(format!("{id}-0"))
    }

    /// The merged tree of a container: its layers, the store's own, its upper.
    fn merged(&self, id: &str) -> BTreeMap<PathBuf, String> {
        let bundle = self.own_bundle(id);
        let mut layers = self.layers(&bundle);
        layers.extend(["init", "data/upper"].map(|name| bundle.join(name)));
        let point = self.sandbox.dir.join("merged");
        fs::create_dir(&point).unwrap();
        let layers: Vec<_> = layers.iter().rev().map(|layer| layer.display().to_string()).collect();
        let data = format!("lowerdir={}", layers.join(":"));
        mount(Some("overlay"), &point, Some("overlay"), MsFlags::MS_RDONLY, Some(data.as_str()))
            .unwrap();
        let found = tree(&point);
        // A process that another test forks meanwhile holds the files that are open here.
        umount2(&point, MntFlags::MNT_DETACH).unwrap();
        fs::remove_dir(&point).unwrap();
        found
    }
}

/// A JSON blob of a layout.
fn blob(layout: &Path, descriptor: &Value) -> Value {
    serde_json::from_slice(&fs::read(blob_path(layout, descriptor)).unwrap()).unwrap()
}

fn blob_path(layout: &Path, descriptor: &Value) -> PathBuf {
    layout.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
}

/// Manifest and config of an image.
pub fn manifest(layout: &Path, tag: &str) -> (Value, Value) {
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    let named: Vec<&Value> = manifests
        .iter()
        .filter(|known| known["annotations"]["org.opencontainers.image.ref.name"] == tag)
        .collect();
    assert_eq!(named.len(), 1, "{index}");
    let manifest = blob(layout, named[0]);
    let config = blob(layout, &manifest["config"]);
    (manifest, config)
}

/// The metadata of an entry in an archive: type, mode, owner, group.
pub type Entry = (tar::EntryType, u32, u64, u64);

/// The entries of an image's highest layer, by name; checks its diff id.
pub fn top_layer(layout: &Path, tag: &str) -> BTreeMap<String, Entry> {
    let (manifest, config) = manifest(layout, tag);
    let descriptor = manifest["layers"].as_array().unwrap().last().unwrap();
    let packed = fs::read(blob_path(layout, descriptor)).unwrap();
    assert_eq!(packed.len() as u64, descriptor["size"].as_u64().unwrap());
    let mut plain = Vec::new();
    let kind = descriptor["mediaType"].as_str().unwrap();
    match kind.rsplit_once("tar").unwrap().1 {
        "+gzip" => flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap(),
        "+zstd" => ruzstd::decoding::StreamingDecoder::new(&packed[..])
            .unwrap()
            .read_to_end(&mut plain)
            .unwrap(),
        _ => std::io::copy(&mut &packed[..], &mut plain).unwrap().try_into().unwrap(),
    };
    let diff_id = config["rootfs"]["diff_ids"].as_array().unwrap().last().unwrap();
    assert_eq!(*diff_id, crate::layout::digest(&plain));
    entries(&plain)
}

pub fn entries(plain: &[u8]) -> BTreeMap<String, Entry> {
    let mut archive = tar::Archive::new(plain);
    let entry = |entry: tar::Entry<'_, _>| {
        let header = entry.header();
        let of = (
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
        );
        (String::from_utf8_lossy(&entry.path_bytes()).into_owned(), of)
    };
    archive.entries().unwrap().map(|found| entry(found.unwrap())).collect()
}

/// The names in the top layer of a container that has run [`SCRIPT`].
const CHANGED: [&str; 20] = [
    ".wh.dir",
    "deep/",
    "deep/er/",
    "etc/",
    "etc/.wh.base",
    "etc/both",
    "etc/new",
    "fifo",
    "gone/",
    "gone/.wh..wh..opq",
    "gone/q",
    "hard",
    "moved/",
    "moved/sub/",
    "moved/sub/x",
    "moved/y",
    "perm",
    "perm2",
    "tmp/",
    "with\nnewline",
];

#[test]
fn a_committed_image_has_the_changes_and_nothing_else() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, SCRIPT);
    let before = images.merged(&id);
    let args = ["commit", "--message", "hello", "--author", "me", &id, "out:v2"];
    let printed = images.brig(&args).ok().stdout;
    let out = images.sandbox.dir.join("out");
    let (manifest, config) = manifest(&out, "v2");
    let (_, of_image) = self::manifest(&images.sandbox.dir.join("image"), "v1");
    assert!(out.join("blobs").join(printed.trim().replace(':', "/")).exists(), "{printed}");
    assert_eq!(config["config"], of_image["config"]);
    assert_eq!(config["author"], "me");
    assert_eq!(config["history"].as_array().unwrap().last().unwrap()["comment"], "hello");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 3);
    let top = top_layer(&out, "v2");
    let names: Vec<&str> = top.keys().map(String::as_str).collect();
    assert_eq!(names, CHANGED);
    // One of two names is a link to the other.
    let kinds = [top["etc/new"].0, top["hard"].0];
    assert_eq!(kinds.iter().filter(|kind| **kind == tar::EntryType::Link).count(), 1);
    // Deleted files stay deleted, and an opaque directory hides everything below.
    let script = "cd /; ls -d dir etc/base gone/* moved/* kept/*; cat etc/both etc/new perm2";
    let said = images.prints("out:v2", &format!("{script} 2>/dev/null; :"));
    assert_eq!(said, "gone/q\nkept/k\nmoved/sub\nmoved/y\ntop\nmore\nnew\np");
    // The whole tree is the same as the container's, except for what does not belong to the image.
    let other = format!("{id}-again");
    images.keep("out:v2", &other, ":");
    let mut after = images.merged(&other);
    let mut before = before;
    for tree in [&mut before, &mut after] {
        // Times of recreated directories, and a changed file of the init layer.
        ["", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"]
            .iter()
            .for_each(|own| drop(tree.remove(Path::new(own))));
        ["dev", "proc", "sys", "data"].iter().for_each(|own| drop(tree.remove(Path::new(own))));
    }
    assert_same(&before, &after);
}

#[test]
fn two_commits_give_the_same_layer_however_it_is_packed() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, SCRIPT);
    let mut diff_ids = BTreeSet::new();
    for packed in ["gzip", "zstd", "none"] {
        let mut layers = Vec::new();
        for out in ["one", "two"] {
            let target = format!("{out}:{packed}");
            images.brig(&["commit", "--compression", packed, &id, &target]).ok();
            let out = images.sandbox.dir.join(out);
            top_layer(&out, packed);
            let (manifest, config) = manifest(&out, packed);
            diff_ids.insert(config["rootfs"]["diff_ids"][2].to_string());
            layers.push(manifest["layers"][2].clone());
        }
        assert_eq!(layers[0], layers[1]);
        let said = images.prints(&format!("one:{packed}"), "cat /etc/both /gone/q; ls /gone");
        assert_eq!(said, "top\nmore\nq\nq\n", "{packed}");
    }
    assert_eq!(diff_ids.len(), 1, "{diff_ids:?}");
    // No temporary files are left.
    let blobs = fs::read_dir(images.sandbox.dir.join("one/blobs")).unwrap().count();
    assert_eq!(blobs, 1);
    // A tag refers to one image only.
    images.brig(&["commit", "--message", "another", &id, "one:gzip"]).ok();
    manifest(&images.sandbox.dir.join("one"), "gzip");
}

#[test]
fn a_commit_to_the_images_own_tag_can_be_repeated() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, "echo x >/new");
    for _ in 0..2 {
        images.brig(&["commit", &id, &image]).ok();
    }
    images.brig(&["commit", &id, "image:other"]).ok();
    assert_eq!(images.prints(&image, "cat /new /etc/both"), "x\ntop\n");
    let dir = images.sandbox.dir.join("image");
    assert_eq!(manifest(&dir, "v1").0["layers"], manifest(&dir, "other").0["layers"]);
}

#[test]
fn with_source_date_epoch_the_whole_image_is_the_same() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, "echo x >/new");
    let store = images.store();
    let commit = |out: &str| {
        let args = ["--store", store.to_str().unwrap(), "commit", &id, out];
        let mut command = images.sandbox.command(&args);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        images.sandbox.spawn(command).wait().ok().stdout
    };
    assert_eq!(commit("one"), commit("two"));
    let (_, config) = manifest(&images.sandbox.dir.join("one"), "latest");
    assert!(config["created"].as_str().unwrap().starts_with("2023-11-14T22:13:20"), "{config}");
}

#[test]
fn umoci_and_skopeo_read_what_brig_commits() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let dir = images.sandbox.dir.clone();
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, SCRIPT);
    for packed in ["gzip", "none"] {
        let target = format!("{packed}:v2");
        images.brig(&["commit", "--compression", packed, &id, &target]).ok();
        let unpacked = format!("umoci-{packed}");
        if !tool("umoci", &["unpack", "--image", &target, &unpacked], &dir) {
            return skip("no umoci");
        }
        let mut theirs = tree(&dir.join(unpacked).join("rootfs"));
        let mut ours = images.merged(&id);
        for tree in [&mut theirs, &mut ours] {
            [
                "",
                "etc/hosts",
                "etc/hostname",
                "etc/resolv.conf",
                "etc/mtab",
                "dev",
                "proc",
                "sys",
                "data",
            ]
            .iter()
            .for_each(|own| drop(tree.remove(Path::new(own))));
        }
        assert_same(&theirs, &ours);
    }
    images.brig(&["commit", "--compression", "zstd", &id, "zstd:v2"]).ok();
    // Docker's formats cannot represent it, so it stays an OCI layout, unpacked.
    for (packed, target, extra) in [
        ("gzip", "docker-archive:gzip.tar:some/name:v2", None),
        ("none", "docker-archive:none.tar:some/name:v2", None),
        ("zstd", "oci:copy:v2", Some("--dest-decompress")),
    ] {
        let from = format!("oci:{packed}:v2");
        let mut args = vec!["copy", "--insecure-policy"];
        args.extend(extra);
        args.extend([from.as_str(), target]);
        if !tool("skopeo", &args, &dir) {
            return skip("no skopeo");
        }
        assert_eq!(images.prints(target, "cat /etc/new; ls /gone"), "new\nq\n", "{packed}");
    }
}

#[test]
fn an_image_of_a_container_with_other_ids_has_the_containers_ids() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let bundle = images.bundle(&image, "bundle-of-image");
    let mut config = images.config(&bundle);
    let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let script =
        "echo x >/mine; echo y >/theirs; chown 33:44 /theirs /etc/both; rm -r /gone; mkdir /gone";
    config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let id = images.sandbox.id.clone();
    images.brig(&["run", "--keep", "--bundle", bundle.to_str().unwrap(), &id]).ok();
    let expected = ["C /etc", "C /etc/both", "C /gone", "D /gone/z", "A /mine", "A /theirs"];
    assert_eq!(images.diff(&id), expected);
    images.brig(&["commit", &id, "out:v2"]).ok();
    let top = top_layer(&images.sandbox.dir.join("out"), "v2");
    let owners = ["mine", "theirs", "etc/both"].map(|name| (top[name].2, top[name].3));
    assert_eq!(owners, [(0, 0), (33, 44), (33, 44)]);
    assert!(top.contains_key("gone/.wh..wh..opq"), "{top:?}");
}

#[test]
fn export_is_the_whole_tree() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let dir = images.sandbox.dir.clone();
    let id = images.sandbox.id.clone();
    images.keep(&image, &id, SCRIPT);
    fs::write(dir.join("exported.tar"), images_export(&images, &id)).unwrap();
    fs::create_dir(dir.join("exported")).unwrap();
    let options = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", "exported.tar"];
    if !tool("tar", &[&options[..], &["-C", "exported"]].concat(), &dir) {
        return skip("no tar");
    }
    let (mut theirs, mut ours) = (tree(&dir.join("exported")), images.merged(&id));
    [&mut theirs, &mut ours].into_iter().for_each(|tree| drop(tree.remove(Path::new(""))));
    assert_same(&theirs, &ours);
}

/// What `export` writes to stdout.
fn images_export(images: &Images, id: &str) -> Vec<u8> {
    let done = images.brig(&["export", id]).ok();
    fs::read(done.stdout_path).unwrap()
}

#[test]
fn a_commit_that_fails_leaves_nothing() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let (id, dir) = (images.sandbox.id.clone(), images.sandbox.dir.clone());
    images.keep(&image, &id, "echo x >/new");
    // Not a layout.
    fs::create_dir(dir.join("other")).unwrap();
    fs::write(dir.join("other/file"), "mine").unwrap();
    images.brig(&["commit", &id, "other:v2"]).fails_with("neither empty nor an OCI image layout");
    assert_eq!(fs::read_dir(dir.join("other")).unwrap().count(), 1);
    images
        .brig(&["commit", &id, "docker-archive:x.tar"])
        .fails_with("brig only writes OCI image layouts");
    images.brig(&["commit", &id, "out:a b"]).fails_with("is not a valid tag");
    // The image was removed.
    fs::rename(dir.join("image"), dir.join("elsewhere")).unwrap();
    let said = images.brig(&["commit", &id, "out:v2"]).fails();
    assert!(said.contains("must still exist"), "{said}");
    assert!(!dir.join("out").exists(), "{said}");
    fs::rename(dir.join("elsewhere"), dir.join("image")).unwrap();
    images.brig(&["commit", &id, "out:v2"]).ok();
}

#[test]
fn gc_removes_what_nobody_uses_and_nothing_else() {
    brig_only!();
    let images = Images::new();
    let dir = images.sandbox.dir.clone();
    let image = |name: &str| {
        let mut layout = images.layout(name);
        layout.layer(base()).layer(Archive::new().file(name, name.as_bytes()));
        layout.finish("v1", &json!({"Entrypoint": ["/init"]}))
    };
    let [bundled, contained, unused] = ["bundled", "contained", "unused"].map(image);
    let bundle = images.bundle(&bundled, "bundle-of-image");
    images.bundle(&unused, "short-lived");
    let id = format!("{}-kept", images.sandbox.id);
    images.brig(&["run", "--keep", "--image", &contained, &id, "--", "true"]).ok();
    let store = images.store();
    let count = |name: &str| fs::read_dir(store.join(name)).unwrap().count();
    fs::create_dir_all(store.join(format!("tmp/sha256-{}/fs", "0".repeat(64)))).unwrap();
    fs::create_dir_all(store.join("containers/gone-0/rootfs")).unwrap();
    crate::tree::remove(&dir.join("short-lived")).unwrap();
    let counts = || ["layers", "images", "bundles", "containers", "tmp"].map(count);
    assert_eq!(counts(), [4, 3, 4, 2, 1]);
    let said = images.brig(&["gc", "--all", "--dry-run"]).ok().stdout;
    for word in ["would be removed", "layer sha256:", "image sha256:", "short-lived", "gone-0"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(counts(), [4, 3, 4, 2, 1], "{said}");
    // An image is kept unless its removal is requested.
    images.brig(&["gc"]).ok();
    assert_eq!(counts(), [4, 3, 2, 1, 0]);
    images.brig(&["gc", "--all"]).ok();
    assert_eq!(counts(), [3, 2, 2, 1, 0]);
    assert_eq!(images.facts(&bundle, "read /bundled").get("read /bundled"), "\"bundled\"");
    assert_eq!(images.diff(&id), [""; 0]);
    let rows: Value =
        serde_json::from_str(&images.brig(&["layers", "--format", "json"]).ok().stdout).unwrap();
    let users: BTreeSet<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row["users"].as_array().unwrap())
        .map(|user| user.as_str().unwrap())
        .collect();
    assert_eq!(users, BTreeSet::from([id.as_str(), bundle.to_str().unwrap()]));
    let listed = images.brig(&["images"]).ok().stdout;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    images.brig(&["delete", &id]).ok();
    crate::tree::remove(&bundle).unwrap();
    images.brig(&["gc", "--all"]).ok();
    assert_eq!(counts(), [0; 5]);
}
