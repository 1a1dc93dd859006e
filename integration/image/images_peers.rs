//! Images made by other tools can be run, and umoci unpacks the same tree as brig's layers show.

use crate::facts::Facts;
use crate::images::{Images, base};
use crate::layout::Archive;
use crate::sandbox::{brig_only, skip};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a tool on the host; false if it is not installed.
#[track_caller]
pub fn tool(name: &str, args: &[&str], dir: &Path) -> bool {
    let output = match Command::new(name).args(args).current_dir(dir).env("HOME", dir).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{name} {args:?}: {output:?}");
    true
}

/// Everything about a tree that an image contains: descriptions by path.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.mode() & libc::S_IFMT;
        let content = match kind {
            libc::S_IFREG => crate::layout::digest(&fs::read(&path).unwrap()),
            libc::S_IFLNK => format!("{:?}", fs::read_link(&path).unwrap()),
            libc::S_IFCHR | libc::S_IFBLK => format!("{:x}", meta.rdev()),
            libc::S_IFDIR => {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            }
            _ => String::new(),
        };
        let words = format!(
            "{:o} {}:{} {}.{:09} {content} {:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            attributes(&path)
        );
        found.insert(path.strip_prefix(root).unwrap().to_path_buf(), words);
    }
    found
}

pub fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut names = vec![0_u8; 1 << 16];
    // SAFETY: a C string, and a buffer of the given length.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(usize::try_from(length).unwrap_or(0));
    let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0_u8; 1 << 16];
        let c_name = CString::new(name).unwrap();
        // SAFETY: two C strings, and a buffer of the given length.
        let length = unsafe {
            libc::lgetxattr(path.as_ptr(), c_name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        value.truncate(usize::try_from(length).unwrap_or(0));
        (String::from_utf8_lossy(name).into_owned(), value)
    };
    let overlays = |name: &str| name.contains(".overlay.");
    names.map(value).filter(|(name, _)| !overlays(name)).collect()
}

/// The merged tree of the bundle's layers, without the bundle's own.
fn shown(images: &Images, bundle: &Path) -> BTreeMap<PathBuf, String> {
    let layers: Vec<String> =
        images.layers(bundle).iter().rev().map(|layer| layer.display().to_string()).collect();
    if let [only] = &layers[..] {
        return tree(Path::new(only));
    }
    let point = images.sandbox.dir.join("shown");
    fs::create_dir(&point).unwrap();
    let data = format!("lowerdir={}", layers.join(":"));
    mount(Some("overlay"), &point, Some("overlay"), MsFlags::MS_RDONLY, Some(data.as_str()))
        .unwrap();
    let found = tree(&point);
    // A process that another test forks meanwhile holds the files that are open here.
    umount2(&point, MntFlags::MNT_DETACH).unwrap();
    found
}

#[track_caller]
pub fn assert_same(umoci: &BTreeMap<PathBuf, String>, brig: &BTreeMap<PathBuf, String>) {
    let paths = umoci.keys().chain(brig.keys());
    let other = paths.filter(|path| umoci.get(*path) != brig.get(*path));
    let other: Vec<String> = other
        .map(|path| {
            format!("{path:?}\n  umoci {:?}\n  brig  {:?}", umoci.get(path), brig.get(path))
        })
        .collect();
    assert!(other.is_empty(), "{}", other.join("\n"));
}

/// Everything that a layer can contain.
fn rich() -> Archive {
    let long = format!("long/{}", "n".repeat(180));
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    base()
        .raw(b'0', b"setuid", b"", 0o4755, b"su")
        .raw(b'0', b"setgid", b"", 0o2711, b"sg")
        .raw(b'5', b"sticky/", b"", 0o1777, b"")
        .raw(b'5', b"group/", b"", 0o2775, b"")
        .raw(b'5', b"closed/", b"", 0o000, b"")
        .file("group/inside", b"x")
        .raw(b'3', b"null", b"", 0o666, b"")
        .raw(b'6', b"fifo", b"", 0o640, b"")
        .symlink("dangling", "/no/where")
        .symlink("relative", "etc/passwd")
        .hard_link("second", "setuid")
        .raw(b'0', b"bytes-\xff\xfe", b"", 0o600, b"not UTF-8")
        .dir("long/")
        .pax(&[("path", long.as_bytes()), ("mtime", b"1600000000.123456789")])
        .file("short", b"long name, precise time")
        .pax(&[
            ("SCHILY.xattr.user.mine", b"a\nb\0c"),
            ("SCHILY.xattr.security.capability", capability),
        ])
        .program("capable", b"#!")
        .pax(&[("uid", b"70000"), ("gid", b"80000")])
        .file("owned", b"by others")
        .file("zeros", &[0; 300_000])
        .dir("gone/")
        .file("gone/a", b"")
        .dir("hidden/")
        .file("hidden/a", b"")
        .file("replaced", b"file")
        .dir("replaced-dir/")
        .file("replaced-dir/a", b"")
}

fn changes() -> Archive {
    Archive::new()
        .file(".wh.gone", b"")
        .dir("hidden/")
        .file("hidden/.wh..wh..opq", b"")
        .file("hidden/b", b"")
        .dir("replaced/")
        .file("replaced/now", b"a directory")
        .file("replaced-dir", b"now a file")
        .file("replaced-dir/.wh.a", b"")
        .file("sticky/new", b"in a directory that has no entry here")
        .file("group/.wh.inside", b"")
        .dir("etc/")
        .file("etc/both", b"top")
}

#[test]
fn umoci_unpacks_to_the_tree_that_the_layers_show() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(rich()).layer(changes()).layer(Archive::new().dir("./").file("gone", b"again"));
    let image = layout.finish("v1", &json!({}));
    let dir = images.sandbox.dir.clone();
    if !tool("umoci", &["unpack", "--image", &image, "umoci"], &dir) {
        return skip("no umoci");
    }
    let bundle = images.bundle(&image, "bundle-of-image");
    assert_same(&tree(&dir.join("umoci/rootfs")), &shown(&images, &bundle));
    let name = OsString::from_vec(b"bytes-\xff\xfe".to_vec());
    assert_eq!(fs::read(images.layers(&bundle)[0].join(name)).unwrap(), b"not UTF-8");
    // Zeros became holes.
    assert!(fs::metadata(images.layers(&bundle)[0].join("zeros")).unwrap().blocks() < 16);
}

/// As in Debian: a former directory is a link to one below usr.
fn merged_usr() -> Archive {
    base()
        .dir("usr/")
        .raw(b'5', b"usr/lib/", b"", 0o1755, b"")
        .dir("usr/lib/deep/")
        .file("usr/lib/low", b"low")
        .file("usr/lib/gone", b"")
        .file("usr/lib/deep/gone", b"")
        .symlink("lib", "usr/lib")
        .symlink("lib64", "lib")
        .dir("opt/")
        .symlink("opt/back", "../lib64/deep")
}

/// Entries whose directories are links of the layer below, and have no entries themselves.
fn through_links() -> Archive {
    Archive::new()
        .file("lib/x", b"x")
        .file("lib64/y", b"y")
        .file("lib/.wh.gone", b"")
        .file("lib/.wh..wh.plnk", b"")
        .file("lib/new/z", b"z")
        .file("opt/back/w", b"w")
        .file("opt/back/.wh.gone", b"")
        .symlink("lib/link", "x")
        .hard_link("lib64/hard", "lib/x")
        .hard_link("lib/lower", "lib64/low")
        .file("usr/lib/x", b"x again")
}

#[test]
fn entries_below_a_link_of_an_earlier_layer_are_where_it_leads_to() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(merged_usr()).layer(through_links()).layer(Archive::new().file("lib/top", b"t"));
    let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
    let bundle = images.bundle(&image, "bundle-of-image");
    let script = "read /usr/lib/x ; read /lib/y ; list /usr/lib ; list /lib/deep ; read /lib/top";
    let facts = images.facts(&bundle, script);
    assert_eq!(facts.get("read /usr/lib/x"), "\"x again\"");
    assert_eq!(facts.get("read /lib/y"), "\"y\"");
    assert_eq!(facts.get("read /lib/top"), "\"t\"");
    let mut names = facts.all("entry /usr/lib");
    names.sort_unstable();
    assert_eq!(names, ["deep", "hard", "link", "low", "lower", "new", "top", "x", "y"]);
    assert_eq!(facts.all("entry /lib/deep"), ["w"]);
    // The same layer on another base has its own contents.
    let mut other = images.layout("other");
    other.layer(base()).layer(Archive::new().file("lib/top", b"t"));
    let other = images.bundle(&other.finish("v1", &json!({})), "other-bundle");
    assert_eq!(images.facts(&other, "read /lib/top").get("read /lib/top"), "\"t\"");
    // It is created once, and removed when it is unused.
    fs::remove_file(layout.path(&layout.layer_digest(1))).unwrap();
    assert_eq!(images.layers(&bundle), images.layers(&images.bundle(&image, "second")));
    for name in ["bundle-of-image", "second", "other-bundle"] {
        fs::remove_dir_all(images.sandbox.dir.join(name)).unwrap();
    }
    images.brig(&["gc", "--all"]).ok();
    for dir in ["layers", "joined", "patches", "tmp"] {
        let left: Vec<_> = fs::read_dir(images.store().join(dir)).unwrap().collect();
        assert!(left.is_empty(), "{dir}: {left:?}");
    }
}

#[test]
fn umoci_follows_links_of_earlier_layers_to_the_same_tree() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(merged_usr()).layer(through_links()).layer(Archive::new().dir("./"));
    let image = layout.finish("v1", &json!({}));
    let dir = images.sandbox.dir.clone();
    if !tool("umoci", &["unpack", "--image", &image, "umoci"], &dir) {
        return skip("no umoci");
    }
    let bundle = images.bundle(&image, "bundle-of-image");
    let (mut umoci, mut brig) = (tree(&dir.join("umoci/rootfs")), shown(&images, &bundle));
    // A directory without an entry: its time is that of unpacking. umoci sets the same time for its parent.
    for tree in [&mut umoci, &mut brig] {
        assert!(tree.remove(Path::new("usr/lib/new")).unwrap().starts_with("40755 0:0 "));
        assert!(tree.remove(Path::new("usr/lib")).unwrap().starts_with("41755 0:0 "));
    }
    assert_same(&umoci, &brig);
}

#[test]
fn images_in_all_of_skopeos_forms_run() {
    brig_only!();
    let images = Images::new();
    let mut layout = images.layout("image");
    layout.layer(base()).layer(changes());
    let image =
        layout.finish("v1", &json!({"Entrypoint": ["/init"], "Cmd": ["read", "/etc/both"]}));
    let dir = images.sandbox.dir.clone();
    let from = format!("oci:{image}");
    for (target, copy, extra) in [
        ("docker-archive:saved.tar:some/name:v2", "saved.tar", vec![]),
        ("docker-archive:saved2.tar:some/name:v2", "docker-archive:saved2.tar:name:v2", vec![]),
        ("oci-archive:archive.tar:v3", "archive.tar:v3", vec![]),
        ("oci:zstd:v4", "zstd:v4", vec!["--dest-compress-format", "zstd", "--dest-compress"]),
        ("oci:plain:v5", "oci:plain:v5", vec!["--dest-decompress"]),
    ] {
        let args = [&["copy", "--insecure-policy"], &extra[..], &[&from, target]].concat();
        if !tool("skopeo", &args, &dir) {
            return skip("no skopeo");
        }
        let copy = match copy {
            "docker-archive:saved2.tar:name:v2" => "docker-archive:saved2.tar:some/name:v2",
            copy => copy,
        };
        let done = images.brig(&["run", "--image", copy, &images.sandbox.id]).ok();
        assert_eq!(Facts::parse(&done.stdout).get("read /etc/both"), "\"top\"", "{copy}");
    }
    // All use the same layers.
    assert_eq!(fs::read_dir(images.store().join("layers")).unwrap().count(), 2);
}

#[test]
fn an_image_that_umoci_made_runs() {
    brig_only!();
    let images = Images::new();
    let dir = images.sandbox.dir.clone();
    if !tool("umoci", &["init", "--layout", "made"], &dir) {
        return skip("no umoci");
    }
    for args in [&["new", "--image", "made:v1"][..], &["unpack", "--image", "made:v1", "work"]] {
        tool("umoci", args, &dir);
    }
    let rootfs = dir.join("work/rootfs");
    fs::copy(images.sandbox.rootfs().join("init"), rootfs.join("init")).unwrap();
    fs::create_dir(rootfs.join("sub")).unwrap();
    fs::write(rootfs.join("sub/file"), "by umoci").unwrap();
    tool("umoci", &["repack", "--image", "made:v1", "work"], &dir);
    fs::remove_file(rootfs.join("sub/file")).unwrap();
    fs::write(rootfs.join("sub/other"), "second layer").unwrap();
    tool("umoci", &["repack", "--image", "made:v1", "work"], &dir);
    tool("umoci", &["config", "--image", "made:v1", "--config.entrypoint", "/init"], &dir);
    let args = [
        "run",
        "--image",
        "made:v1",
        &images.sandbox.id,
        "--",
        "stat",
        "/sub/file",
        ";",
        "read",
        "/sub/other",
    ];
    let facts = Facts::parse(&images.brig(&args).ok().stdout);
    assert_eq!(facts.get("stat /sub/file"), "ENOENT");
    assert_eq!(facts.get("read /sub/other"), "\"second layer\"");
    let bundle = images.bundle("made:v1", "bundle-of-image");
    tool("umoci", &["unpack", "--image", "made:v1", "again"], &dir);
    assert_same(&tree(&dir.join("again/rootfs")), &shown(&images, &bundle));
}
