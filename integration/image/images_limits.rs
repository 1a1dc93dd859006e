//! Small images that would need much: memory, time, or a full disk.

use crate::images::{Images, base};
use crate::layout::{Archive, gzip};
use crate::sandbox::{before_exec, brig_only};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::resource::{Resource, setrlimit};
use serde_json::json;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// The exit status and resource usage of brig.
#[derive(Debug)]
struct Needed {
    code: i32,
    time: Duration,
    said: String,
}

/// Runs brig with the store, each of its processes limited to this many MiB of memory: exceeding it is fatal.
/// wait4's maximum RSS cannot be used, because it begins with this process's memory.
fn needed(images: &Images, args: &[&str], mebibytes: u64) -> Needed {
    let store = images.store();
    let args = [&["--store", store.to_str().unwrap()], args].concat();
    let said = images.sandbox.dir.join("said");
    let begun = Instant::now();
    let mut command = images.sandbox.command(&args);
    command.stderr(File::create(&said).unwrap());
    before_exec(&mut command, move || {
        Ok(setrlimit(Resource::RLIMIT_DATA, mebibytes << 20, mebibytes << 20)?)
    });
    let status = command.status().unwrap();
    let said = fs::read_to_string(said).unwrap();
    let code = status.code().unwrap_or_else(|| panic!("{status}: {said}"));
    Needed { code, time: begun.elapsed(), said }
}

/// Writes a compressed archive of parts that are generated one by one.
fn compressed(path: &Path, parts: impl Iterator<Item = Archive>) {
    let mut encoder = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
    for part in parts {
        // Without the end blocks of each part.
        let bytes = part.bytes();
        encoder.write_all(&bytes[..bytes.len() - 1024]).unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    encoder.finish().unwrap();
}

#[test]
fn names_and_links_of_an_archive_take_no_memory() {
    brig_only!();
    let images = Images::new();
    let archive = images.sandbox.dir.join("image.tar.gz");
    for key in ["path", "linkpath"] {
        let entry = |number: u32| {
            let mut name = format!("{number}/").into_bytes();
            name.resize((1 << 20) - 600, b'a');
            let archive = Archive::new().pax(&[(key, &name)]);
            match key {
                "path" => archive.file("x", b""),
                _ => archive.symlink(&format!("blobs/sha256/{number}"), "x"),
            }
        };
        let version = Archive::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        compressed(&archive, std::iter::once(version).chain((0..300).map(entry)));
        let needed = needed(&images, &["run", "--image", archive.to_str().unwrap(), "x"], 100);
        assert_eq!(needed.code, 1, "{key}: {}", needed.said);
    }
}

#[test]
fn users_and_groups_of_millions_of_lines_take_little_memory() {
    brig_only!();
    let images = Images::new();
    for (name, line) in [("empty", &b"\n"[..]), ("short", b"a:::\n"), ("none", b"a")] {
        let path = images.sandbox.dir.join("layer");
        let digest = {
            let long = |first: &[u8]| [first, &line.repeat((8 << 20) / line.len())].concat();
            let passwd = long(b"nobody:x:99:99::/:/bin/sh\n");
            let layer = base().file("etc/passwd", &passwd);
            let layer = layer.file("etc/group", &long(b"nogroup:x:99:nobody\n"));
            let plain = layer.bytes();
            fs::write(&path, gzip(&plain)).unwrap();
            crate::layout::digest(&plain)
        };
        let mut layout = images.layout(name);
        layout.layer_known(&digest, &fs::read(&path).unwrap());
        let config = json!({"Entrypoint": ["/init"], "User": "nobody:nogroup"});
        let image = layout.finish("v1", &config);
        let id = format!("{}-{name}", images.sandbox.id);
        let needed = needed(&images, &["run", "--image", &image, &id, "--", "true"], 150);
        // They are read, or refused as too long.
        assert!([0, 1].contains(&needed.code), "{needed:?}");
    }
}

#[test]
fn global_headers_take_time_by_their_length() {
    brig_only!();
    let images = Images::new();
    let mut number = 0;
    let header = |number: &mut u32| {
        let mut text = Vec::new();
        while text.len() < (1 << 20) - 64 {
            let key = format!("SCHILY.xattr.u{number:x}=\n");
            // The length of a record includes itself.
            text.extend_from_slice(format!("{} {key}", key.len() + 3).as_bytes());
            *number += 1;
        }
        Archive::new().raw(b'g', b"pax", b"", 0o644, &text)
    };
    let mut layer = Archive::new();
    for _ in 0..3 {
        layer = layer.then(&header(&mut number));
    }
    let mut layout = images.layout("image");
    layout.layer(layer.then(&base()));
    let image = layout.finish("v1", &json!({"Entrypoint": ["/init"]}));
    let id = images.sandbox.id.clone();
    let needed = needed(&images, &["run", "--image", &image, &id, "--", "true"], 150);
    assert_eq!(needed.code, 0, "{}", needed.said);
    assert!(needed.time.as_secs() < 8, "{needed:?}");
}

#[test]
fn a_commit_to_a_full_disk_leaves_the_container_running_and_no_blob() {
    brig_only!();
    let images = Images::new();
    let Some(image) = images.shell() else { return };
    let (store, id) = (images.store(), images.sandbox.id.clone());
    fs::create_dir(&store).unwrap();
    let size = Some("size=32m");
    mount(Some("tmpfs"), &store, Some("tmpfs"), MsFlags::empty(), size).unwrap();
    images.start(&[], &image, "echo ready; while :; do sleep 1; done");
    let mut noise = Vec::new();
    File::open("/dev/urandom").unwrap().take(6 << 20).read_to_end(&mut noise).unwrap();
    fs::write(images.own_bundle(&id).join("data/upper/noise"), noise).unwrap();
    let out = store.join("out");
    let target = format!("{}:v1", out.display());
    // Full immediately, in the layer, at its end.
    for free in [0, 64 << 10, 3 << 20, 6 << 20] {
        let filler = fill(&store, free);
        let done = images.brig(&["commit", &id, &target]);
        let said = done.fails();
        assert!(said.contains("No space left"), "{free}: {said}");
        assert_eq!(images.sandbox.status(), "running", "{free}: {said}");
        let left = || walk(&out);
        assert_eq!(left(), Vec::<String>::new(), "{free}: {said}");
        fs::remove_file(filler).unwrap();
    }
    images.brig(&["commit", &id, &target]).ok();
    images.brig(&["delete", "--force", &id]).ok();
    umount(&store).unwrap();
}

/// Fills a filesystem until this many bytes are free.
pub fn fill(dir: &Path, free: u64) -> std::path::PathBuf {
    let path = dir.join("filler");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(free)).unwrap();
    path
}

/// The files below a directory, if it exists.
fn walk(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(walk(&entry.path())),
            false => found.push(entry.path().display().to_string()),
        }
    }
    found
}
